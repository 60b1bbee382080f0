"""Our factor against CHOLMOD's, where scikit-sparse is installed."""

import numpy as np
import pytest
from factorization.sparse_matrices import SHAPES, blocks_of, pattern_of, random_sparse

from fastlmm_core.errors import MissingDependencyError, NumericalError
from fastlmm_core.sparse.cholesky import Factor
from fastlmm_core.sparse.cholmod import CholmodFactor, cholmod_order
from fastlmm_core.sparse.symbolic import analyse_pattern


def installed():
    try:
        import sksparse.cholmod  # noqa: F401
    except ImportError:
        return False
    return True


needs_cholmod = pytest.mark.skipif(not installed(), reason="scikit-sparse is not installed")


def same(A, pattern, values):
    ours, theirs = Factor(analyse_pattern(pattern)), CholmodFactor(pattern)
    b = np.random.default_rng(0).normal(size=(A.shape[0], 3))
    for shift in (0.0, 0.4):
        assert ours.update(values, shift) == pytest.approx(theirs.update(values, shift), rel=1e-12, abs=1e-12)
        x = theirs.solve(b)
        np.testing.assert_allclose(ours.solve(b), x, rtol=1e-10, atol=1e-10 * np.abs(x).max())


@needs_cholmod
@pytest.mark.parametrize("shape", SHAPES)
def test_factors_agree(shape):
    A = SHAPES[shape]()
    same(A, *pattern_of(A))


@needs_cholmod
def test_factors_of_units_agree():
    width = np.random.default_rng(2).choice([1, 3], 40)
    A = random_sparse(width.sum(), 0.02, 5)
    same(A, *blocks_of(A, width))


@needs_cholmod
@pytest.mark.parametrize("method", ["amd", "default", "metis"])
def test_orders_serve_our_factor(method):
    A = SHAPES["grid"]()
    pattern, values = pattern_of(A)
    symbolic = analyse_pattern(pattern, cholmod_order(pattern, method))
    assert symbolic.rule == "given"
    named = analyse_pattern(pattern, f"cholmod {method}")
    assert named.rule == f"cholmod {method}" and named.nnz == symbolic.nnz
    assert symbolic.nnz < analyse_pattern(pattern, "natural").nnz
    assert Factor(symbolic).update(values) == pytest.approx(np.linalg.slogdet(A.toarray())[1], rel=1e-12)


@needs_cholmod
def test_indefinite_is_refused():
    pattern, values = pattern_of(SHAPES["grid"]())
    values[0] = -5
    factor = CholmodFactor(pattern)
    with pytest.raises(NumericalError):
        factor.update(values)
    with pytest.raises(NumericalError):
        factor.solve(np.ones((pattern.m, 1)))


def test_without_scikit_sparse_the_message_helps(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sksparse", None)
    with pytest.raises(MissingDependencyError, match="scikit-sparse"):
        cholmod_order(pattern_of(SHAPES["grid"]())[0])
