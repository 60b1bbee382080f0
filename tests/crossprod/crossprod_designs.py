"""Small designs built by hand, and their dense twins."""

import numpy as np
import pandas as pd
from oracle.dense import statistics

from fastlmm_core.crossprod.layout import row_atoms
from fastlmm_core.crossprod.rows import column_program
from fastlmm_core.formula.terms import Atom, Column, Design, GroupingFactor, RandomTerm

ONE = Column("Intercept")


def factor(name, codes, levels=None):
    codes = np.ascontiguousarray(codes, np.int32)
    return GroupingFactor(name, codes, pd.RangeIndex(int(codes.max()) + 1 if levels is None else levels))


def design(atoms, fixed, terms, factors, y, weights=None, ones="first"):
    """`Design` with the intercept as first column unless ``ones`` says otherwise."""
    if isinstance(ones, str):
        ones = np.eye(len(fixed))[0]
    return Design(
        n=len(y),
        atoms=tuple(atoms),
        fixed=tuple(fixed),
        ones=ones,
        terms=tuple(terms),
        factors=tuple(factors),
        response=y,
        response_name="y",
        offset=None,
        weights=weights,
    )


def grouped(n, levels, q=1, p=3, seed=0, weighted=False, shuffle=True, slope_mean=5.0):
    """Random data: p fixed columns, each factor with q columns (1, x0, x1, ...), every level present."""
    rng = np.random.default_rng(seed)
    atoms = [Atom(f"x{i}", rng.normal(slope_mean, 2, n)) for i in range(p - 1)]
    slopes = [Column(atom.name, (i,)) for i, atom in enumerate(atoms)]
    factors, terms = [], []
    for f, G in enumerate(levels):
        codes = np.concatenate([np.arange(G), rng.integers(0, G, n - G)])
        codes = rng.permutation(codes) if shuffle else np.sort(codes)
        factors.append(factor(f"g{f}", codes))
        terms.append(RandomTerm(f, (ONE, *slopes[: q - 1])))
    y = rng.normal(3, 1, n)
    weights = rng.uniform(0.5, 2, n) if weighted else None
    return design(atoms, [ONE, *slopes], terms, factors, y, weights)


def dense_u(example, layout):
    """The standardized columns U (n, u)."""
    return column_program(row_atoms(example), layout.columns, example.n).dense(0, example.n)


def oracle_statistics(example, layout, structure=None):
    U = dense_u(example, layout)
    pairs = [(f.codes, U[:, z]) for f, z in zip(example.factors, layout.z, strict=True)]
    return statistics(U[:, layout.x], U[:, layout.y], pairs, example.weights, structure)


def assert_same_statistics(products, example, layout, rtol=1e-12):
    """Against the oracle, whose U has columns [X, y, Z_1, ..., Z_F] without sharing."""
    oracle = oracle_statistics(example, layout, products.structure)
    to_oracle = np.concatenate([products.x, [products.y], *products.z]).astype(int)
    scale = np.sqrt(np.diag(products.C))[to_oracle] + 1e-300
    np.testing.assert_allclose(
        products.C[np.ix_(to_oracle, to_oracle)] / np.outer(scale, scale),
        oracle.C / np.outer(scale, scale),
        rtol=0,
        atol=rtol,
    )
    for R, expected in zip(products.R, oracle.R, strict=True):
        np.testing.assert_allclose(
            R[:, :, to_oracle], expected, rtol=rtol, atol=rtol * np.abs(expected).max()
        )
    for counts, expected in zip(products.counts, oracle.counts, strict=True):
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, expected)
    for (f, g), pairs in products.pairs.items():
        expected = oracle.pairs[f, g]
        np.testing.assert_array_equal(pairs.indptr, expected.indptr)
        np.testing.assert_array_equal(pairs.indices, expected.indices)
        np.testing.assert_allclose(
            pairs.blocks, expected.blocks, rtol=rtol, atol=rtol * np.abs(expected.blocks).max()
        )
    assert products.n == example.n
    np.testing.assert_allclose(products.sum_log_weights, oracle.sum_log_weights, rtol=1e-12, atol=1e-12)
