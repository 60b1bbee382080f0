"""The objective against the n x n likelihood, its derivatives against differences."""

import numpy as np
import pytest
from oracle.dense import DenseEngine

from fastlmm_core.criterion.information import (
    average_hessian,
    difference_hessian,
    hessian_T,
    theta_gradient,
    theta_hessian,
)
from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.covariance import TermBlock, ThetaMap


def data(seed=0, n=90, crossed=False, p=3):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])[:, :p]
    codes = rng.integers(0, 9, n)
    codes[:9] = np.arange(9)
    factors = [(codes, np.column_stack([np.ones(n), rng.normal(size=n)]))]
    y = rng.normal(size=n) + rng.normal(size=9)[codes]
    if crossed:
        other = rng.integers(0, 5, n)
        other[:5] = np.arange(5)
        factors.append((other, np.ones((n, 1))))
        y += rng.normal(size=5)[other]
    return X, y, factors, rng.uniform(0.5, 2, n)


def model(reml, crossed=False, p=3):
    X, y, factors, w = data(crossed=crossed, p=p)
    objective = ProfiledObjective(DenseEngine(X, y, factors, w), len(y), reml, np.log(w).sum())
    blocks = [TermBlock(0, 0, 2)] + [TermBlock(1, 0, 1)] * crossed
    maps = [np.array([[1.0, 0.4], [0, 1.5]])] + [np.array([[2.0]])] * crossed
    theta = np.array([0.8, 0.3, 0.5] + [0.7] * crossed)
    return objective, ThetaMap(blocks, [2, 1][: 1 + crossed], maps), theta


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("p", [0, 3])
def test_value_is_the_density_with_beta_and_sigma_profiled_out(reml, p):
    objective, theta_map, theta = model(reml, p=p)
    point = objective.evaluate(theta_map.to_Lambda(theta))
    X, y, factors, w = data(p=p)
    engine = objective.engine
    V = point.s2 * np.diag(1 / w)
    root = 1 / np.sqrt(w)
    for Z, T, G in zip(engine.Z, theta_map.to_T(theta), engine.levels):
        V += point.s2 * (Z * root[:, None]) @ np.kron(np.eye(G), T) @ (Z * root[:, None]).T
    Vi = np.linalg.inv(V)
    XVX = X.T @ Vi @ X
    beta = np.linalg.solve(XVX, X.T @ Vi @ y) if p else np.zeros(0)
    r = y - X @ beta
    expected = point.N * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ Vi @ r
    if reml:
        expected += np.linalg.slogdet(XVX)[1]
    np.testing.assert_allclose(point.value, expected, rtol=1e-12)
    np.testing.assert_allclose(point.beta, beta, rtol=1e-10)
    np.testing.assert_allclose(point.Q * point.s2, np.linalg.inv(XVX) if p else point.Q, rtol=1e-9)


def differences(function, theta, step=1e-5):
    """Fourth-order central differences, one row per parameter."""
    rows = []
    for j in range(len(theta)):
        e = np.zeros(len(theta))
        e[j] = step
        near, far = (function(theta + m * e) - function(theta - m * e) for m in (1, 2))
        rows.append((8 * near - far) / (12 * step))
    return np.array(rows)


def gradient_at(objective, theta_map, theta):
    point = objective.evaluate(theta_map.to_Lambda(theta))
    objective.gradient(point)
    return theta_gradient(point, theta_map.directions(theta))


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("crossed,p", [(False, 3), (True, 3), (False, 0)])
def test_gradient_and_theta_hessian(reml, crossed, p):
    objective, theta_map, theta = model(reml, crossed, p)
    gradient = gradient_at(objective, theta_map, theta)
    by_difference = differences(lambda t: objective.evaluate(theta_map.to_Lambda(t)).value, theta, 1e-3)
    np.testing.assert_allclose(gradient, by_difference, rtol=1e-6, atol=1e-7)
    H = theta_hessian(objective, theta_map, theta)
    by_difference = differences(lambda t: gradient_at(objective, theta_map, t), theta, 1e-3)
    np.testing.assert_allclose(H, by_difference, rtol=1e-6, atol=1e-6 * abs(H).max())


@pytest.mark.parametrize("reml", [False, True])
def test_exact_hessian_in_T(reml):
    objective, theta_map, theta = model(reml)
    point = objective.evaluate(theta_map.to_Lambda(theta))
    H = hessian_T(objective, point, theta_map.t_basis)
    T = theta_map.to_T(theta)[0]

    def gradient(entries):
        moved = T + sum(x * X for x, (_, X) in zip(entries, theta_map.t_basis))
        there = objective.evaluate([np.linalg.cholesky(moved)])
        objective.gradient(there)
        return theta_gradient(there, theta_map.t_basis)

    by_difference = differences(gradient, np.zeros(3), 1e-4)
    np.testing.assert_allclose(H, by_difference, rtol=1e-6, atol=1e-7 * abs(H).max())


def test_theta_hessian_across_a_zero_diagonal():
    for crossed in (False, True):
        objective, theta_map, theta = model(True, crossed)
        theta[2] = 0.0
        H = theta_hessian(objective, theta_map, theta)
        by_difference = differences(lambda t: gradient_at(objective, theta_map, t), theta, 1e-3)  # noqa: B023
        np.testing.assert_allclose(H, by_difference, rtol=1e-6, atol=1e-6 * abs(H).max())


@pytest.mark.parametrize("reml", [False, True])
def test_average_information_with_an_explicit_P(reml):
    objective, theta_map, theta = model(reml, crossed=True)
    point = objective.evaluate(theta_map.to_Lambda(theta))
    H = average_hessian(objective, point, theta_map.t_basis)
    engine = objective.engine
    Xw, yw = engine.Xy[:, :-1], engine.Xy[:, -1]
    P = engine.V0inv - engine.V0inv @ Xw @ np.linalg.inv(Xw.T @ engine.V0inv @ Xw) @ Xw.T @ engine.V0inv
    Vs = [engine.Z[f] @ np.kron(np.eye(engine.levels[f]), X) @ engine.Z[f].T for f, X in theta_map.t_basis]
    r2 = yw @ P @ yw
    a = np.array([yw @ P @ V @ P @ yw for V in Vs])
    W = np.array([[yw @ P @ V @ P @ U @ P @ yw for U in Vs] for V in Vs])
    np.testing.assert_allclose(H, objective.N * (W / r2 - np.outer(a, a) / r2**2), rtol=1e-8, atol=1e-10)
    assert np.linalg.eigvalsh(H)[0] > -1e-9 * abs(H).max()


def test_one_sided_differences():
    objective, theta_map, theta = model(True, crossed=True)
    base = gradient_at(objective, theta_map, theta)
    H = difference_hessian(
        lambda t: gradient_at(objective, theta_map, t), theta, np.ones(4), base, one_sided=True
    )
    np.testing.assert_allclose(H, theta_hessian(objective, theta_map, theta), atol=1e-3 * abs(H).max())


def test_returning_to_an_earlier_point():
    objective, theta_map, theta = model(True)
    first = objective.evaluate(theta_map.to_Lambda(theta))
    objective.evaluate(theta_map.to_Lambda(2 * theta))
    expected = gradient_at(objective, theta_map, theta)
    objective.evaluate(theta_map.to_Lambda(3 * theta))
    objective.gradient(first)
    np.testing.assert_allclose(theta_gradient(first, theta_map.directions(theta)), expected, rtol=1e-12)
    assert objective.n_gradients == 2


def test_a_perfect_fit_is_refused():
    X, _, factors, _ = data()
    engine = DenseEngine(X, X @ [1.0, 2.0, 3.0], factors)
    with pytest.raises(NumericalError, match="residual variance is zero"):
        ProfiledObjective(engine, len(X), True).evaluate([np.eye(2)])
    with pytest.raises(ModelError, match="degrees of freedom"):
        ProfiledObjective(engine, 3, True)
