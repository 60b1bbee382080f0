"""Nodes with hundreds of rows below them, where a whole BLAS call is quicker than tiles by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from factorization.sparse_matrices import diagonally_dominant, pattern_of, places

from fastlmm_core.sparse.cholesky import Factor
from fastlmm_core.sparse.selinv import SelectedInverse
from fastlmm_core.sparse.symbolic import analyse_pattern

CLIQUES, LEAF, SEPARATOR = 6, 110, 560


def cliques():
    """Sets of columns that meet only through a last one that everything meets."""
    rng = np.random.default_rng(8)
    leaves = sp.block_diag([rng.normal(size=(LEAF, LEAF)) for _ in range(CLIQUES)])
    across = rng.normal(size=(CLIQUES * LEAF, SEPARATOR))
    W = sp.bmat([[leaves, across], [None, rng.normal(size=(SEPARATOR, SEPARATOR))]])
    return diagonally_dominant(W + W.T)


def test_inverse_below_a_separator():
    A = cliques()
    pattern, values = pattern_of(A)
    factor = Factor(analyse_pattern(pattern, "natural"))
    full = A.toarray()
    assert factor.update(values) == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-12)
    arrays = factor.supernodes.panels.arrays
    own, below = np.diff(arrays["first"]), np.diff(arrays["row_ptr"])
    assert (below.astype(float) ** 2 * own).max() > 3e7
    inverse = np.linalg.inv(full)
    rows, columns = places(pattern)
    lower = rows >= columns
    selected = SelectedInverse(factor).update()[lower]
    np.testing.assert_allclose(selected, inverse[rows, columns][lower], rtol=1e-9, atol=1e-16)
