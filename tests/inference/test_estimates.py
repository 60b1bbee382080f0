"""Estimates and the calculus of variance parameters against explicit n x n likelihoods."""

import numpy as np
import pytest
from oracle.dense import DenseEngine, indicator, statistics

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import ModelError
from fastlmm_core.inference.estimates import (
    FixedCoordinates,
    build_estimates,
    pseudo_inverse,
    variance_calculus,
)
from fastlmm_core.inference.satterthwaite import coefficient_df, contrast_df, joint_test
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.driver import minimize

SLOPE = np.array([[1.0, 0.0], [0.5, 0.8]])


def data(crossed):
    rng = np.random.default_rng(4)
    n = 72
    g, h = np.repeat(np.arange(12), 6), np.tile(np.arange(6), 12)
    x = rng.normal(3, 1, n)
    X = np.column_stack([np.ones(n), x])
    b = rng.normal(size=(12, 2)) @ SLOPE.T
    y = X @ [4.0, 1.0] + b[g, 0] + b[g, 1] * x + rng.normal(size=n)
    if crossed:
        y = y + rng.normal(size=6)[h]
        return X, y, [(g, X), (h, np.ones((n, 1)))], [TermBlock(0, 0, 2), TermBlock(1, 0, 1)]
    return X, y, [(g, X)], [TermBlock(0, 0, 2)]


def weights(n, use):
    return np.random.default_rng(8).uniform(0.5, 2, n) if use else None


class Dense:
    """-2 log-likelihood and Var(beta) as functions of (theta, log sigma^2), by n x n matrices."""

    def __init__(self, X, y, factors, blocks, w, reml):
        self.X, self.y, self.reml = X, y, reml
        self.W_inv = np.eye(len(y)) if w is None else np.diag(1 / w)
        self.Z = [indicator(codes, Z) for codes, Z in factors]
        self.levels = [int(codes.max()) + 1 for codes, _ in factors]
        self.map = ThetaMap(blocks, [Z.shape[1] for _, Z in factors])

    def V(self, parameters):
        T = self.map.to_T(parameters[:-1])
        V0 = self.W_inv + sum(Z @ np.kron(np.eye(G), Tf) @ Z.T for Z, Tf, G in zip(self.Z, T, self.levels))
        return np.exp(parameters[-1]) * V0

    def vcov(self, parameters):
        return np.linalg.inv(self.X.T @ np.linalg.solve(self.V(parameters), self.X))

    def criterion(self, parameters):
        V = self.V(parameters)
        C = self.vcov(parameters)
        beta = C @ self.X.T @ np.linalg.solve(V, self.y)
        r = self.y - self.X @ beta
        value = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
        if self.reml:
            return value - np.linalg.slogdet(C)[1] + (len(r) - len(beta)) * np.log(2 * np.pi)
        return value + len(r) * np.log(2 * np.pi)


def derivative(f, x, j, h=1e-4):
    step = np.zeros(len(x))
    step[j] = h
    return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * h)


@pytest.fixture(
    scope="module", params=[(c, r, w) for c in (0, 1) for r in (0, 1) for w in (0, 1) if c * w == 0]
)
def solved(request):
    crossed, reml, weighted = (bool(v) for v in request.param)
    X, y, factors, blocks = data(crossed)
    w = weights(len(y), weighted)
    # standardized coordinates: X~ = X A, y~ = (y - 5) / 3, Z~ = Z B
    A = np.array([[1.0, -1.5], [0.0, 0.5]])
    B = A.copy()
    scaled = [(codes, Z @ B if Z.shape[1] == 2 else 2.0 * Z) for codes, Z in factors]
    maps = [B if b.q == 2 else np.array([[2.0]]) for b in blocks]
    theta_map = ThetaMap(blocks, [Z.shape[1] for _, Z in factors], maps)
    engine = DenseEngine(X @ A, (y - 5) / 3, scaled, w)
    sum_log = 0.0 if w is None else float(np.log(w).sum())
    objective = ProfiledObjective(engine, len(y), reml, sum_log)
    optimum = minimize(objective, theta_map)
    products = statistics(X @ A, (y - 5) / 3, scaled, w)
    fixed = FixedCoordinates(2, np.arange(2), A, np.array([5.0, 0.0]), 3.0)
    estimates = build_estimates(optimum.point, optimum.theta, theta_map, reml, len(y), sum_log, fixed)
    return SolvedModel(objective, optimum.point, theta_map, estimates, fixed, products), Dense(
        X, y, factors, blocks, w, reml
    )


def parameters(model):
    return np.append(model.estimates.theta, np.log(model.estimates.sigma2))


def test_estimates_are_in_original_units(solved):
    model, dense = solved
    found = parameters(model)
    assert model.estimates.objective == pytest.approx(dense.criterion(found), rel=1e-10)
    np.testing.assert_allclose(model.estimates.vcov, dense.vcov(found), rtol=1e-8)
    gradient = [derivative(dense.criterion, found, j) for j in range(len(found))]
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    V = dense.V(found)
    beta = dense.vcov(found) @ dense.X.T @ np.linalg.solve(V, dense.y)
    np.testing.assert_allclose(model.estimates.beta, beta, rtol=1e-9)


def test_information_and_jacobian(solved):
    model, dense = solved
    found, calculus = parameters(model), model.calculus
    m = len(found)
    to_found = np.eye(m)  # from the coordinates of the calculus to (theta, log sigma^2)
    if calculus.to_theta is not None:
        to_found[:-1, :-1] = np.linalg.inv(calculus.to_theta)
    information = to_found.T @ calculus.information @ to_found
    jacobian = np.einsum("ij,iab->jab", to_found, calculus.jacobian)
    for j in range(m):
        row = [
            derivative(lambda x, i=i: derivative(dense.criterion, x, i, 1e-3), found, j, 1e-3)
            for i in range(m)
        ]
        np.testing.assert_allclose(information[j], row, rtol=2e-5, atol=2e-4)
        np.testing.assert_allclose(
            jacobian[j], derivative(dense.vcov, found, j), rtol=1e-6, atol=1e-8
        )
    np.testing.assert_allclose(calculus.covariance, 2 * np.linalg.inv(calculus.information), rtol=1e-8)


def test_random_effects_and_their_covariance(solved):
    model, dense = solved
    found = parameters(model)
    V, T = dense.V(found), dense.map.to_T(found[:-1])
    residual = np.linalg.solve(V, dense.y - dense.X @ model.estimates.beta)
    for f, (Z, Tf, G) in enumerate(zip(dense.Z, T, dense.levels)):
        full = model.estimates.sigma2 * np.kron(np.eye(G), Tf)
        expected = (full @ Z.T @ residual).reshape(G, -1)
        np.testing.assert_allclose(model.random_effects[f], expected, rtol=1e-7, atol=1e-9)
        conditional = full - full @ Z.T @ np.linalg.solve(V, Z @ full)
        k = len(Tf)
        blocks = [conditional[i * k : (i + 1) * k, i * k : (i + 1) * k] for i in range(G)]
        np.testing.assert_allclose(model.conditional_covariance(f), blocks, rtol=1e-7, atol=1e-10)


def test_satterthwaite_by_its_definition(solved):
    model, dense = solved
    found, vcov = parameters(model), model.estimates.vcov
    L = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]])
    df = contrast_df(L, vcov, model.calculus)
    for row, value in zip(L, df):
        g = np.array([derivative(lambda x: row @ dense.vcov(x) @ row, found, j) for j in range(len(found))])  # noqa: B023
        g = np.append(model.calculus.gradient(g[:-1]), g[-1])
        variance = g @ model.calculus.covariance @ g
        assert value == pytest.approx(2 * (row @ vcov @ row) ** 2 / variance, rel=1e-5)
    np.testing.assert_allclose(coefficient_df(vcov, model.calculus), df[:2], rtol=1e-10)


def test_joint_test_of_one_contrast_is_its_t_squared(solved):
    model, _ = solved
    estimates = model.estimates
    F, q, df = joint_test(np.array([[0.0, 1.0]]), estimates.beta, estimates.vcov, model.calculus)
    assert (q, df) == (1, pytest.approx(coefficient_df(estimates.vcov, model.calculus)[1]))
    assert pytest.approx(estimates.beta[1] ** 2 / estimates.vcov[1, 1]) == F
    both, q, df = joint_test(np.eye(2), estimates.beta, estimates.vcov, model.calculus)
    assert q == 2 and 2 < df < 1e4
    assert both == pytest.approx(estimates.beta @ np.linalg.solve(estimates.vcov, estimates.beta) / 2)


def test_pseudo_inverse_leaves_out_what_is_not_informed():
    H = np.diag([4.0, 1e-14, 2.0])
    np.testing.assert_allclose(pseudo_inverse(H, np.ones(3)), np.diag([0.25, 0.0, 0.5]))
    units = np.array([1e-6, 1.0, 1e6])
    scaled = pseudo_inverse(H / np.outer(units, units), units)
    np.testing.assert_allclose(scaled, np.diag([0.25e-12, 0, 0.5e12]))


def test_calculus_is_computed_once(solved):
    model, _ = solved
    assert model.calculus is model.calculus
    again = variance_calculus(model.objective, model.point, model.theta_map, model.estimates, model.fixed)
    np.testing.assert_array_equal(again.jacobian, model.calculus.jacobian)


def explicit_kenward_roger(dense, found):
    """Kenward & Roger (1997) with V and its derivatives as n x n matrices."""
    V = dense.V(found)
    inverse = np.linalg.inv(V)
    derivatives = [dense.W_inv]
    for Z, k, G in zip(dense.Z, dense.map.k, dense.levels):
        for a in range(k):
            for b in range(a + 1):
                E = np.zeros((k, k))
                E[a, b] = E[b, a] = 1.0
                derivatives.append(Z @ np.kron(np.eye(G), E) @ Z.T)
    X, m = dense.X, len(derivatives)
    Phi = np.linalg.inv(X.T @ inverse @ X)
    D = [inverse @ dV for dV in derivatives]
    P = np.array([-X.T @ d @ inverse @ X for d in D])
    Q = np.array([[X.T @ a @ b @ inverse @ X for b in D] for a in D])
    two_I = np.array(
        [
            [
                np.trace(D[r] @ D[s]) - 2 * np.trace(Phi @ Q[r, s]) + np.trace(Phi @ P[r] @ Phi @ P[s])
                for s in range(m)
            ]
            for r in range(m)
        ]
    )
    W = 2 * np.linalg.inv(two_I)
    middle = sum(W[r, s] * (Q[r, s] - P[r] @ Phi @ P[s]) for r in range(m) for s in range(m))
    return Phi + 2 * Phi @ middle @ Phi, W, P, Phi


def test_kenward_roger_by_its_definition(solved):
    model, dense = solved
    if not dense.reml:
        with pytest.raises(ModelError, match="REML"):
            _ = model.kenward_roger
        return
    adjusted, W, P, Phi = explicit_kenward_roger(dense, parameters(model))
    found = model.kenward_roger
    np.testing.assert_allclose(found.adjusted, adjusted, rtol=1e-6)
    np.testing.assert_allclose(found.Phi, Phi, rtol=1e-8)
    # traces that enter the degrees of freedom do not depend on the basis of the covariance
    l = np.array([1.0, -2.0])
    Theta = np.outer(l, l) / (l @ Phi @ l)
    t = np.array([np.trace(Theta @ Phi @ p @ Phi) for p in P])
    A2 = t @ W @ t
    # one contrast: A1 = A2, and the matched df is 2 / A2 for a scale factor of 1
    assert found.single_df(l)[0] == pytest.approx(2 / A2, rel=1e-6)
    assert found.df(l) == (1, pytest.approx(2 / A2, rel=1e-6), 1.0)
    assert model.kenward_roger is found
