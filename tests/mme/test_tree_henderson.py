"""The engine's effects and variances are those of Henderson's equations."""

import numpy as np
import pytest
from oracle.dense import indicator, statistics

from fastlmm_core.mme import henderson
from fastlmm_core.mme.tree import TreeEngine


@pytest.fixture
def data():
    rng = np.random.default_rng(20)
    n = 90
    inner = np.concatenate([np.arange(18), rng.integers(18, size=n - 18)])
    outer = (np.arange(18) % 5)[inner]
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = X.sum(1) + rng.normal(size=5)[outer] + rng.normal(size=n)
    return X, y, [(inner, X), (outer, X[:, :1])], rng.uniform(0.5, 2, n)


def blocks(Lambda, levels):
    """Block-diagonal Lambda over all levels of all factors."""
    parts = [np.kron(np.eye(G), L) for L, G in zip(Lambda, levels, strict=True)]
    full = np.zeros((sum(map(len, parts)),) * 2)
    at = 0
    for part in parts:
        full[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return full


def engine_solution(cp, Lambda):
    """beta, b (q,), PEV: conditional variance of each level plus what estimating beta adds."""
    engine = TreeEngine(cp, np.arange(2))
    _, S = engine.factorize(Lambda)
    Q = np.linalg.inv(S[:-1, :-1])
    beta = Q @ S[:-1, -1]
    b = engine.random_effects(np.append(-beta, 1.0))
    per_column = [engine.random_effects(column) for column in np.eye(3)[:2]]
    pev = []
    for f in range(2):
        TG = np.stack([effects[f] for effects in per_column], axis=-1)
        pev.append(engine.conditional_covariance(f) + TG @ Q @ TG.transpose(0, 2, 1))
    return beta, np.concatenate([part.ravel() for part in b]), pev


@pytest.mark.parametrize("singular", [False, True])
def test_effects_and_prediction_error(data, singular):
    X, y, factors, weights = data
    Lambda = [np.array([[0.8, 0.0], [-0.3, 0.0 if singular else 0.5]]), np.array([[0.6]])]
    cp = statistics(X, y, factors, weights)
    Z = np.hstack([indicator(*factor) for factor in factors])
    full = blocks(Lambda, cp.levels)
    beta, b, pev = engine_solution(cp, Lambda)
    for form in ("G",) if singular else ("G", "inverse"):
        want_beta, want_b = henderson.solve(X, y, Z, full @ full.T, weights, form=form)
        np.testing.assert_allclose(beta, want_beta, rtol=1e-8)
        np.testing.assert_allclose(b, want_b, rtol=1e-7, atol=1e-9)
    if not singular:
        want = henderson.prediction_error_variance(X, Z, full @ full.T, weights)
        for i in range(18):
            np.testing.assert_allclose(
                pev[0][i], want[2 * i : 2 * i + 2, 2 * i : 2 * i + 2], rtol=1e-9, atol=1e-12
            )
        np.testing.assert_allclose(pev[1].ravel(), np.diag(want)[36:], rtol=1e-9)


def test_congruence_to_the_scaled_system(data):
    X, _, factors, weights = data
    Lambda = blocks([np.array([[0.8, 0.0], [-0.3, 0.5]]), np.array([[0.6]])], (18, 5))
    Z = np.hstack([indicator(*factor) for factor in factors])
    P = np.eye(2 + len(Lambda))
    P[2:, 2:] = Lambda
    C = henderson.coefficient_matrix(X, Z, Lambda @ Lambda.T, weights)
    scaled = henderson.scaled_matrix(X, Z, Lambda, weights)
    np.testing.assert_allclose(P.T @ C @ P, scaled, rtol=1e-10, atol=1e-10)


def test_scaled_system_gives_the_log_determinant(data):
    """|Lambda'Z'WZ Lambda + I| = |V0|, also at a singular Lambda."""
    X, y, factors, weights = data
    Lambda = [np.array([[0.8, 0.0], [-0.3, 0.0]]), np.array([[0.6]])]
    Z = np.hstack([indicator(*factor) for factor in factors])
    scaled = henderson.scaled_matrix(X, Z, blocks(Lambda, (18, 5)), weights)
    logdet, _ = TreeEngine(statistics(X, y, factors, weights), np.arange(2)).factorize(Lambda)
    np.testing.assert_allclose(np.linalg.slogdet(scaled[2:, 2:])[1], logdet, rtol=1e-11)
