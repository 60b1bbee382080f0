import numpy as np
import pytest
from crossprod.crossprod_designs import ONE, design

from fastlmm_core.crossprod.gram import build_cross_products
from fastlmm_core.crossprod.rank import check_rank
from fastlmm_core.formula.terms import Atom, Column

N = 3000


def kept_of(columns, weights=None, ones="first", rows=True):
    atoms = [Atom(f"x{i}", values) for i, values in enumerate(columns)]
    fixed = [ONE] * (ones is not None) + [Column(atom.name, (i,)) for i, atom in enumerate(atoms)]
    example = design(atoms, fixed, [], [], np.arange(len(columns[0]), dtype=float), weights, ones)
    products, standardization, layout = build_cross_products(example)
    kept, dropped = check_rank(products, standardization, layout, example if rows else None)
    return kept.tolist(), dropped


def test_full_rank_keeps_everything():
    x = np.random.default_rng(0).normal(size=(4, N))
    assert kept_of(list(x)) == ([0, 1, 2, 3, 4], [])


@pytest.mark.parametrize("weighted", [False, True])
def test_later_columns_of_an_exact_dependency_go(weighted):
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, N)) + [[1e6], [0], [3]]
    weights = rng.uniform(0.1, 2, N) if weighted else None
    kept, dropped = kept_of([a, b, 2 * a - 3 * b + 1, c, np.full(N, 7.0)], weights)
    assert kept == [0, 1, 2, 4] and dropped == ["x2", "x4"]


@pytest.mark.parametrize(
    "distance, is_kept",
    [(1e-4, True), (1e-6, True), (3e-7, True), (5e-8, False), (1e-8, False), (1e-12, False)],
)
def test_near_dependencies_are_decided_on_the_rows(distance, is_kept):
    """R's qr drops a column when its residual norm is below 1e-7 of its norm."""
    rng = np.random.default_rng(2)
    a, noise = rng.normal(size=(2, N))
    kept, _ = kept_of([a, a + distance * noise])
    assert (2 in kept) == is_kept


def test_many_columns_with_one_near_copy():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, N)) + 0.9 * rng.normal(size=N)
    combination = rng.normal(size=30) @ x
    for distance, is_kept in ((1e-6, True), (1e-8, False)):
        noisy = combination + distance * np.linalg.norm(combination) / np.sqrt(N) * rng.normal(size=N)
        kept, _ = kept_of([*x, noisy])
        assert (31 in kept) == is_kept and len(kept) == 31 + is_kept


def test_constant_up_to_round_off_is_aliased_with_the_intercept():
    x = np.full(N, 0.3)
    x[::2] = 0.1 + 0.2
    assert kept_of([x])[1] == ["x0"]
    assert kept_of([x], ones=None) == ([0], [])


def test_offset_does_not_make_a_column_look_aliased():
    x = np.random.default_rng(4).normal(size=N)
    assert kept_of([x + 1e7])[0] == [0, 1]


def test_without_rows_pivots_decide():
    a = np.random.default_rng(5).normal(size=N)
    assert kept_of([a, 2 * a], rows=False)[0] == [0, 1]
