from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from crossprod.crossprod_designs import ONE, assert_same_statistics, dense_u, design, factor, grouped

from fastlmm_core.crossprod import gram
from fastlmm_core.crossprod.gram import accumulate, build_cross_products
from fastlmm_core.crossprod.layout import build_layout, layout_of_batch
from fastlmm_core.crossprod.merge import merge
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.errors import DataError, ModelError
from fastlmm_core.formula.terms import Atom, Column, RandomTerm

SCATTER = ["copies", "shared", "owned"]


def force(monkeypatch, way):
    """Choose how R is scattered whatever its size, with pieces and tiles small enough to have borders."""
    monkeypatch.setattr(gram, "PIECE_ROWS", 100)
    monkeypatch.setattr(gram, "DIRECT_BYTES", 1 << 20 if way == "copies" else 0)
    monkeypatch.setattr(gram, "MIN_TILE", 200)
    monkeypatch.setattr(gram, "MAX_TILE", 200)


@pytest.mark.parametrize("way", SCATTER)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("n", [40, 511, 513, 1700])
def test_one_factor_matches_the_oracle(monkeypatch, way, weighted, q, n):
    force(monkeypatch, way)
    example = grouped(n, [37], q=q, p=4, weighted=weighted, shuffle=way != "shared")
    products, standardization, layout = build_cross_products(example, n_threads=2)
    assert layout.is_sorted == (way == "shared",)
    assert products.structure == "tree" and products.order == (0,) and products.parent == ()
    assert len(layout.columns) == 5  # Z shares its columns with X
    assert_same_statistics(products, example, layout)


@pytest.mark.parametrize("p", [1, 2, 6, 8, 9, 11, 14])
@pytest.mark.parametrize("way", ["copies", "owned"])
def test_any_width(monkeypatch, p, way):
    force(monkeypatch, way)
    example = grouped(700, [30], q=min(2, p), p=p)
    products, _, layout = build_cross_products(example)
    assert_same_statistics(products, example, layout)


@pytest.mark.parametrize("way", ["copies", "owned"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("q", [1, 2])
def test_crossed_factors(monkeypatch, way, weighted, q):
    force(monkeypatch, way)
    example = grouped(900, [20, 33, 7], q=q, weighted=weighted)
    products, _, layout = build_cross_products(example)
    assert products.structure == "crossed" and products.order == (1, 0, 2)
    assert set(products.pairs) == {(1, 0), (1, 2), (0, 2)}
    assert all(pairs.indptr.dtype == np.int64 for pairs in products.pairs.values())
    assert_same_statistics(products, example, layout)


def test_pairs_with_many_levels():
    """More levels than buckets, several radix digits, long and short lists."""
    rng = np.random.default_rng(5)
    n, G, H = 70_000, 3000, 5000
    f = np.concatenate([np.arange(G), (G * rng.random(n - G) ** 3).astype(int)])
    g = np.concatenate([(H * rng.random(n - H) ** 3).astype(int), np.arange(H)])
    x = rng.normal(size=n)
    factors = [factor("f", f), factor("g", g)]
    terms = [RandomTerm(0, (ONE, Column("x", (0,)))), RandomTerm(1, (ONE,))]
    example = design([Atom("x", x)], [ONE], terms, factors, rng.normal(size=n))
    products, _, layout = build_cross_products(example, n_threads=2)
    U = dense_u(example, layout)
    pairs = products.pairs[0, 1]
    key = f * H + g
    distinct, position = np.unique(key, return_inverse=True)
    np.testing.assert_array_equal(pairs.indices, distinct % H)
    np.testing.assert_array_equal(np.repeat(np.arange(G), np.diff(pairs.indptr)), distinct // H)
    for a, column in enumerate(layout.z[0]):
        expected = np.bincount(position, U[:, column])
        np.testing.assert_allclose(pairs.blocks[:, a, 0], expected, rtol=1e-12, atol=1e-12)


def test_nested_factors(monkeypatch):
    rng = np.random.default_rng(6)
    inner = np.concatenate([np.arange(30), rng.integers(0, 30, 500)])
    outer = (inner * 7 % 30) // 6
    example = design(
        [],
        [ONE],
        [RandomTerm(0, (ONE,)), RandomTerm(1, (ONE,))],
        [factor("outer", outer), factor("inner", inner)],
        rng.normal(size=530),
    )
    for way in ("copies", "owned"):
        force(monkeypatch, way)
        products, _, layout = build_cross_products(example)
        assert products.structure == "tree" and products.order == (1, 0) and not products.pairs
        np.testing.assert_array_equal(products.parent[0], (np.arange(30) * 7 % 30) // 6)
        assert_same_statistics(products, example, layout)


def test_no_factor():
    example = grouped(700, [], p=4, weighted=True)
    products, _, layout = build_cross_products(example)
    assert products.structure == "none" and products.R == ()
    assert_same_statistics(products, example, layout)


@pytest.mark.parametrize("way", SCATTER)
@pytest.mark.parametrize("levels", [[500], [300, 50]])
def test_bits_do_not_depend_on_threads(monkeypatch, way, levels):
    force(monkeypatch, way)
    example = grouped(80_000, levels, q=2, weighted=True, shuffle=way != "shared")
    one, *others = (build_cross_products(example, n_threads=t)[0] for t in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(one.C, other.C)
        for a, b in zip(one.R, other.R, strict=True):
            np.testing.assert_array_equal(a, b)
        for key in one.pairs:
            np.testing.assert_array_equal(one.pairs[key].blocks, other.pairs[key].blocks)


def test_read_only_and_narrow_inputs():
    example = grouped(300, [11], q=2, weighted=True)
    rng = np.random.default_rng(0)
    atoms = [
        Atom("a", rng.integers(0, 90, 300).astype(np.uint8)),
        Atom("b", rng.random(300).astype(np.float32)),
    ]
    y = rng.integers(0, 50, 300).astype(np.int16)
    for array in (atoms[0].values, atoms[1].values, y, example.weights, example.factors[0].codes):
        array.flags.writeable = False
    example = design(atoms, example.fixed, example.terms, example.factors, y, example.weights)
    products, _, layout = build_cross_products(example)
    assert_same_statistics(products, example, layout)


def test_codes_outside_the_levels_are_refused():
    example = grouped(50, [5])
    short = type(example.factors[0])("g", example.factors[0].codes, pd.RangeIndex(4))
    example = design(example.atoms, example.fixed, example.terms, [short], example.response)
    with pytest.raises(DataError, match="codes 0..4 for 4 levels"):
        build_cross_products(example)


def part_of(example, rows):
    pick = lambda array: np.ascontiguousarray(array[rows])  # noqa: E731
    return design(
        [Atom(a.name, pick(a.values)) for a in example.atoms],
        example.fixed,
        example.terms,
        [factor(f.name, pick(f.codes), len(f.levels)) for f in example.factors],
        pick(example.response),
        pick(example.weights),
    )


def test_merged_batches_equal_one_pass():
    example = grouped(600, [25, 9], q=2, weighted=True)
    layout = build_layout(example, standardize(example))
    whole = accumulate(example, layout)
    batches = [part_of(example, slice(lo, lo + 200)) for lo in (0, 200, 400)]
    parts = [accumulate(batch, layout_of_batch(layout, batch)) for batch in batches]
    for merged in (merge(merge(parts[0], parts[1]), parts[2]), merge(parts[2], merge(parts[1], parts[0]))):
        assert merged.n == 600
        np.testing.assert_allclose(merged.C, whole.C, rtol=1e-12, atol=1e-10)
        np.testing.assert_allclose(merged.sum_log_weights, whole.sum_log_weights, rtol=1e-12)
        for f in range(2):
            np.testing.assert_allclose(merged.R[f], whole.R[f], rtol=1e-12, atol=1e-10)
            np.testing.assert_array_equal(merged.counts[f], whole.counts[f])
        a, b = merged.pairs[0, 1], whole.pairs[0, 1]
        np.testing.assert_array_equal(a.indptr, b.indptr)
        np.testing.assert_array_equal(a.indices, b.indices)
        np.testing.assert_allclose(a.blocks, b.blocks, rtol=1e-12, atol=1e-12)
    with pytest.raises(ModelError, match="different layouts"):
        merge(whole, build_cross_products(grouped(600, [24, 9], q=2, weighted=True))[0])


def test_merged_batches_keep_parents():
    inner = np.repeat(np.arange(6), 4)
    factors = [factor("inner", inner), factor("outer", inner // 2)]
    terms = [RandomTerm(0, (ONE,)), RandomTerm(1, (ONE,))]
    example = design([], [ONE], terms, factors, np.arange(24.0), np.ones(24))
    layout = build_layout(example, standardize(example))
    batches = [part_of(example, slice(0, 10)), part_of(example, slice(10, 24))]
    first, second = (accumulate(batch, layout_of_batch(layout, batch)) for batch in batches)
    np.testing.assert_array_equal(first.parent[0], [0, 0, 1, -1, -1, -1])
    np.testing.assert_array_equal(merge(first, second).parent[0], [0, 0, 1, 1, 2, 2])
    moved = replace(second, parent=(np.array([1, 0, 1, 1, 2, 2], np.int32),))
    with pytest.raises(ModelError, match="not nested"):
        merge(first, moved)
