"""theta <-> Lambda <-> T, directions, and singular covariances."""

import numpy as np
import pytest

from fastlmm_core.mme.covariance import TermBlock, ThetaMap, lower_factor

BLOCKS = (TermBlock(1, 0, 2), TermBlock(0, 0, 3), TermBlock(1, 2, 1))
MAPS = (
    np.array([[1.0, -3.0], [0.0, 1.0]]) @ np.diag([1.0, 0.2]),
    np.array([[1.0, 2.0, -1.0], [0, 1, 0], [0, 0, 1]]) @ np.diag([1.0, 5.0, 0.3]),
    np.array([[0.7]]),
)


@pytest.fixture
def theta_map():
    return ThetaMap(BLOCKS, (3, 3), MAPS)


@pytest.fixture
def theta():
    return np.array([1.2, -0.4, 0.5, 0.9, 0.3, -0.2, 0.6, 0.1, 0.8, 0.35])


def test_theta_is_the_column_major_lower_triangle(theta_map, theta):
    assert theta_map.n_theta == 10
    T = theta_map.term_T(theta)
    L = np.array([[0.9, 0, 0], [0.3, 0.6, 0], [-0.2, 0.1, 0.8]])
    np.testing.assert_allclose(T[1], L @ L.T)
    assert list(theta_map.lower) == [0, -np.inf, 0, 0, -np.inf, -np.inf, 0, -np.inf, 0, 0]


def test_standardized_blocks_map_back(theta_map, theta):
    Lambda, T = theta_map.to_Lambda(theta), theta_map.to_T(theta)
    for L, Tf in zip(Lambda, T):
        np.testing.assert_allclose(np.triu(L, 1), 0)
        np.testing.assert_allclose(L @ L.T, Tf, atol=1e-14)
    for block, B, Tt in zip(BLOCKS, MAPS, theta_map.term_T(theta)):
        back = B @ T[block.factor][block.rows, block.rows] @ B.T
        np.testing.assert_allclose(back, Tt, rtol=1e-12, atol=1e-15)
    assert T[1][0, 2] == T[1][1, 2] == 0
    np.testing.assert_allclose(theta_map.theta_from_Lambda(Lambda), theta, rtol=1e-12)


def test_lost_rank_gives_exact_zeros(theta_map, theta):
    theta[[2, 6, 7, 8, 9]] = 0.0  # rank 1 in the first two terms, nothing in the third
    back = theta_map.theta_from_Lambda(theta_map.to_Lambda(theta))
    np.testing.assert_allclose(back, theta, rtol=1e-10)
    assert (back[[2, 6, 7, 8, 9]] == 0).all()


def test_zero_intercept_variance_keeps_the_slope_on_the_diagonal():
    theta_map = ThetaMap([TermBlock(0, 0, 2)], [2])
    assert list(theta_map.theta_from_Lambda([np.array([[0.0, 0], [2.0, 0]])])) == [0, 0, 2]


def test_factors_of_semidefinite_matrices():
    rng = np.random.default_rng(1)
    for rank in range(5):
        M = rng.normal(size=(4, rank))
        L = lower_factor(M)
        np.testing.assert_allclose(L @ L.T, M @ M.T, atol=1e-13)
        assert (np.diag(L) > 0).sum() == rank


def test_a_large_shift_does_not_cost_the_small_pivot():
    theta_map = ThetaMap([TermBlock(0, 0, 2)], [2], [np.array([[1.0, -1e6], [0, 1.0]])])
    Lambda = np.array([[0.5, 0], [0.1, 0.3]])
    theta = theta_map.theta_from_Lambda([Lambda])
    back = theta_map.to_Lambda(theta)[0]
    np.testing.assert_allclose(back, Lambda, rtol=1e-8)


def test_directions_are_derivatives(theta_map, theta):
    directions, step = theta_map.directions(theta), 1e-6
    for j, (factor, X) in enumerate(directions):
        ahead, behind = theta.copy(), theta.copy()
        ahead[j] += step
        behind[j] -= step
        for f in range(2):
            change = (theta_map.to_T(ahead)[f] - theta_map.to_T(behind)[f]) / (2 * step)
            np.testing.assert_allclose(change, X if f == factor else 0 * X, atol=1e-6)


def test_curvature_is_made_of_second_derivatives(theta_map, theta):
    rng, step = np.random.default_rng(3), 0.5
    D = [A + A.T for A in (rng.normal(size=(k, k)) for k in theta_map.k)]
    curvature = theta_map.curvature(D)
    for j in range(theta_map.n_theta):
        ahead, behind = theta.copy(), theta.copy()
        ahead[j] += step
        behind[j] -= step
        up, down = theta_map.directions(ahead), theta_map.directions(behind)
        # T is quadratic in theta: differences are exact
        expected = [(D[f] * (X - Y)).sum() / (2 * step) for (f, X), (_, Y) in zip(up, down, strict=True)]
        np.testing.assert_allclose(curvature[j], expected, atol=1e-11)


def test_t_basis_spans_the_blocks(theta_map):
    assert [f for f, _ in theta_map.t_basis] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    total = sum(X for f, X in theta_map.t_basis if f == 1)
    np.testing.assert_array_equal(total, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_wrong_length_is_refused(theta_map):
    with pytest.raises(ValueError, match="10 parameters"):
        theta_map.to_T(np.ones(3))
