"""Orders, elimination trees and counts of the factor."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from factorization.sparse_matrices import SHAPES, arrow, blocks_of, dense, grid, pattern_of, random_sparse

from fastlmm_core.sparse.ordering import BlockPattern, order_pattern
from fastlmm_core.sparse.symbolic import analyse_pattern


def filled(A, order):
    """The pattern of the factor by elimination: what ``L`` can be at most."""
    full = A.toarray()[np.ix_(order, order)] != 0
    for j in range(len(full)):
        below = np.flatnonzero(full[j + 1 :, j]) + j + 1
        full[np.ix_(below, below)] = True
    return np.tril(full)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", ["natural", "minimum degree", "given"])
def test_counts_are_those_of_elimination(shape, rule):
    A = SHAPES[shape]()
    n = A.shape[0]
    wanted = np.random.default_rng(0).permutation(n) if rule == "given" else rule
    symbolic = analyse_pattern(pattern_of(A)[0], wanted)
    assert symbolic.rule == rule
    np.testing.assert_array_equal(np.sort(symbolic.order), np.arange(n))
    L = filled(A, symbolic.order)
    np.testing.assert_array_equal(symbolic.count, L.sum(axis=0))
    assert symbolic.nnz == L.sum()
    assert symbolic.flops == pytest.approx((L.sum(axis=0).astype(float) ** 2).sum())
    for j in range(n):
        below = np.flatnonzero(L[j + 1 :, j])
        assert symbolic.parent[j] == (below[0] + j + 1 if len(below) else -1)


@pytest.mark.parametrize("widths", [(1, 2), (3, 3), (2, 5)])
def test_counts_of_units_are_those_of_their_columns(widths):
    rng = np.random.default_rng(1)
    width = rng.choice(widths, 60)
    G = random_sparse(60, 0.05, 4).toarray() != 0
    unit = np.repeat(np.arange(60), width)
    A = sp.csc_matrix(G[np.ix_(unit, unit)].astype(float))
    pattern, _ = blocks_of(A, width)
    symbolic = analyse_pattern(pattern)
    order = np.concatenate([np.arange(*pattern.unit_column[v : v + 2]) for v in symbolic.order])
    L = filled(A, order)
    first = np.cumsum(width[symbolic.order]) - width[symbolic.order]
    np.testing.assert_array_equal(symbolic.count, L.sum(axis=0)[first])
    assert symbolic.nnz == L.sum()
    assert symbolic.flops == pytest.approx((L.sum(axis=0).astype(float) ** 2).sum())


@pytest.mark.parametrize(
    "A", [grid(60), grid(14, 3), random_sparse(2000, 0.0008)], ids=["grid", "cube", "random"]
)
def test_fill_is_that_of_another_minimum_degree(A):
    """SuperLU's multiple minimum degree on the same symmetric pattern."""
    ours = analyse_pattern(pattern_of(A)[0]).nnz
    theirs = spla.splu(
        A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True}
    ).L.nnz
    assert ours <= 1.15 * theirs
    assert ours < 0.8 * analyse_pattern(pattern_of(A)[0], "natural").nnz


def test_trees_and_stars_do_not_fill():
    for A in (arrow(500), grid(400, 1)):
        assert analyse_pattern(pattern_of(A)[0]).nnz == 2 * A.shape[0] - 1


def test_frequent_levels_go_last():
    """Units that touch most others would make every degree large."""
    A = grid(70).tolil()
    A[:3, :] = A[:, :3] = 0.01
    A.setdiag(50)
    order = order_pattern(pattern_of(A)[0]).order
    assert set(order[-3:]) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(20))
def test_small_graphs_of_all_kinds(seed):
    """Hashing, absorption and compaction of the lists, over many densities."""
    rng = np.random.default_rng(seed)
    for n in (3, 8, 20, 60, 150):
        A = random_sparse(n, rng.choice([0.01, 0.05, 0.2, 0.6]), seed)
        symbolic = analyse_pattern(pattern_of(A)[0])
        assert sorted(symbolic.order) == list(range(n))
        natural = analyse_pattern(pattern_of(A)[0], "natural").nnz
        assert symbolic.nnz <= 1.1 * natural + 3


def test_bad_patterns_are_refused():
    with pytest.raises(ValueError, match="begins with itself"):
        BlockPattern.from_units([0, 1, 2], [1, 1], [1, 1])
    with pytest.raises(ValueError):
        analyse_pattern(BlockPattern.from_units(np.zeros(1, int), [], []))
    pattern = pattern_of(dense(4))[0]
    with pytest.raises(ValueError, match="permutation"):
        analyse_pattern(pattern, np.array([0, 1, 1, 2]))
    with pytest.raises(ValueError, match="unknown ordering"):
        analyse_pattern(pattern, "best")
