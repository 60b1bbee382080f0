"""Factors, solutions, determinants and selected inverses against dense linear algebra."""

import numpy as np
import pytest
from factorization.sparse_matrices import SHAPES, blocks_of, dense, grid, pattern_of, places, random_sparse

from fastlmm_core.errors import NumericalError
from fastlmm_core.sparse.cholesky import Factor
from fastlmm_core.sparse.selinv import SelectedInverse
from fastlmm_core.sparse.symbolic import analyse_pattern


def check(A, pattern, values, rule="minimum degree", shift=0.0):
    full = A.toarray() + shift * np.eye(A.shape[0])
    factor = Factor(analyse_pattern(pattern, rule))
    assert factor.update(values, shift) == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-12, abs=1e-12)
    b = np.random.default_rng(0).normal(size=(A.shape[0], 7))
    x = factor.solve(b)
    np.testing.assert_allclose(full @ x, b, rtol=1e-9, atol=1e-10)
    half = factor.halfsolve(b)
    np.testing.assert_allclose(half.T @ half, b.T @ x, rtol=1e-9, atol=1e-9)
    inverse = np.linalg.inv(full)
    rows, columns = places(pattern)
    below = rows >= columns
    selected = SelectedInverse(factor).update()
    np.testing.assert_allclose(
        selected[below], inverse[rows, columns][below], rtol=1e-9, atol=1e-12 * np.abs(inverse).max()
    )
    return factor


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", ["natural", "minimum degree"])
def test_shapes(shape, rule):
    A = SHAPES[shape]()
    check(A, *pattern_of(A), rule)
    check(A, *pattern_of(A), rule, shift=0.7)


@pytest.mark.parametrize("widths", [(1, 2), (3,), (1, 4)])
@pytest.mark.parametrize("density", [0.01, 0.1])
def test_units_of_several_columns(widths, density):
    width = np.random.default_rng(2).choice(widths, 50)
    A = random_sparse(width.sum(), density, 5)
    check(A, *blocks_of(A, width))


@pytest.mark.parametrize(
    "A", [random_sparse(1500, 0.003), grid(45), grid(11, 3)], ids=["random", "grid", "cube"]
)
def test_large_nodes_take_the_blas_paths(A):
    factor = check(A, *pattern_of(A))
    first = factor.supernodes.panels.arrays["first"]
    assert np.diff(first).max() > 40


def test_every_unit_touches_most_others():
    """All are set aside by the ordering; one node is left."""
    A = dense(300)
    factor = check(A, *pattern_of(A))
    assert factor.supernodes.nodes == 1


def test_factor_is_overwritten_in_place():
    A = grid(20)
    pattern, values = pattern_of(A)
    factor = Factor(analyse_pattern(pattern))
    inverse = SelectedInverse(factor)
    memory = factor.L.ctypes.data
    for scale in (1.0, 3.0, 0.2):
        expected = np.linalg.slogdet(scale * A.toarray())[1]
        assert factor.update(scale * values) == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(inverse.update()[0], np.linalg.inv(scale * A.toarray())[0, 0], rtol=1e-10)
    assert factor.L.ctypes.data == memory


@pytest.mark.parametrize("A", [random_sparse(3000, 0.0012), grid(120)], ids=["random", "grid"])
def test_threads_do_not_change_a_bit(A, monkeypatch):
    from fastlmm_core._kernels import _sparse

    monkeypatch.setattr(_sparse, "LEAST_SHARE", -1.0)
    pattern, values = pattern_of(A)
    symbolic = analyse_pattern(pattern)
    results = []
    for n_threads in (1, 2, 3):
        factor = Factor(symbolic, n_threads)
        logdet = factor.update(values)
        results.append((logdet, factor.L.copy(), SelectedInverse(factor).update().copy()))
    for logdet, L, Z in results[1:]:
        assert logdet == results[0][0]
        np.testing.assert_array_equal(L, results[0][1])
        np.testing.assert_array_equal(Z, results[0][2])


@pytest.mark.parametrize("shape", ["one", "arrow", "dense", "grid", "half full"])
@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_what_is_not_positive_definite_is_refused(shape, bad):
    A = SHAPES[shape]()
    pattern, values = pattern_of(A)
    factor = Factor(analyse_pattern(pattern))
    for column in (0, A.shape[0] - 1):
        spoiled = values.copy()
        spoiled[pattern.ptr[column]] = bad
        with pytest.raises(NumericalError):
            factor.update(spoiled)
        with pytest.raises(NumericalError):
            factor.solve(np.ones((A.shape[0], 1)))
        factor.update(values)


def test_wrong_sizes_are_refused():
    pattern, values = pattern_of(SHAPES["grid"]())
    factor = Factor(analyse_pattern(pattern))
    with pytest.raises(ValueError, match="pattern"):
        factor.update(values[:-1])
    factor.update(values)
    with pytest.raises((ValueError, IndexError)):
        factor.solve(np.ones((3, 1)))
