"""Coordinates of the positive semidefinite matrices of fixed rank."""

import numpy as np
import pytest

from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.chart import Chart, pivot
from fastlmm_core.optimize.newton import descent

BLOCKS = (TermBlock(0, 0, 2), TermBlock(1, 0, 3), TermBlock(0, 2, 2))
MAP = ThetaMap(BLOCKS, (4, 3))


def chart(ranks, seed=3):
    rng = np.random.default_rng(seed)
    return Chart(MAP, [rng.normal(size=(b.q, r)) for b, r in zip(BLOCKS, ranks)])


@pytest.mark.parametrize("ranks", [(2, 3, 2), (1, 2, 2), (0, 1, 1), (2, 0, 0), (0, 0, 0)])
def test_coordinates(ranks):
    c = chart(ranks)
    assert c.layout.size == sum(b.q * r - r * (r - 1) // 2 for b, r in zip(BLOCKS, ranks))
    np.testing.assert_array_equal(
        np.concatenate([M.ravel() for M in c.moved(c.x)]), np.concatenate([M.ravel() for M in c.M])
    )
    for L, M in zip(c.Lambda(c.M), c.M):
        assert L.shape == (len(M), len(M))
        np.testing.assert_array_equal(np.triu(L, 1), 0)
        np.testing.assert_allclose(L @ L.T, M @ M.T, atol=1e-13)


@pytest.mark.parametrize("ranks", [(2, 3, 2), (1, 2, 1), (0, 1, 2)])
def test_derivatives_of_T(ranks):
    """f = sum tr(C T) has gradient, directions and curvature known by differences."""
    c, rng = chart(ranks), np.random.default_rng(0)
    C = [A + A.T for A in (rng.normal(size=(4, 4)), rng.normal(size=(3, 3)))]

    def f(x):
        return sum(float(np.trace(Cf @ M @ M.T)) for Cf, M in zip(C, c.moved(x)))

    m = c.layout.size
    units = np.eye(m)
    slope = np.array([f(c.x + u) - f(c.x - u) for u in units]) / 2  # quadratic: exact
    np.testing.assert_allclose(c.gradient(C), slope, atol=1e-11)
    by_direction = [float((Cf * X).sum()) for Cf, Xf in zip(C, c.directions()) for X in Xf]
    np.testing.assert_allclose(by_direction, slope, atol=1e-11)
    H = np.zeros((m, m))
    c.add_curvature(H, C)
    second = [[f(c.x + u + w) - f(c.x + u) - f(c.x + w) + f(c.x) for u in units] for w in units]
    np.testing.assert_allclose(H, second, atol=1e-10)


def test_the_largest_pivot_comes_first():
    M, perm = pivot(np.array([[0.1, 0.0], [3.0, 4.0]]))
    assert perm == (1, 0)
    np.testing.assert_allclose(M, [[0.06, 0.08], [5.0, 0.0]], atol=1e-15)


def test_lost_directions_are_orthogonal_to_what_is_left():
    c = chart((1, 3, 0))
    D = [np.diag([1.0, 2.0, 5.0, -3.0]), np.eye(3)]
    lost = c.lost(D)
    assert [t for t, _, _ in lost] == [0, 2]
    term = c.terms(c.M)[0]
    assert abs(lost[0][2] @ term[:, 0]) < 1e-14
    np.testing.assert_allclose(lost[1][1], -3.0)
    np.testing.assert_allclose(np.abs(lost[1][2]), [0, 1], atol=1e-15)


def test_descent_goes_down_where_the_hessian_is_indefinite():
    H, g = np.array([[2.0, 1.0], [1.0, -3.0]]), np.array([0.3, -0.4])
    step, decrement, low, vector, worst = descent(g, H)
    assert g @ step < 0 and low < 0 and decrement > 0 and worst > 0
    assert vector @ H @ vector < 0
    H = np.array([[2.0, 1.0], [1.0, 3.0]])
    step, decrement, *_ = descent(g, H)
    np.testing.assert_allclose(step, -np.linalg.solve(H, g))
    np.testing.assert_allclose(decrement, g @ np.linalg.solve(H, g) / 2)
