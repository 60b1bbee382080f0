"""Dense equations of several factors against products of explicit Z."""

import numpy as np
import pytest
from oracle.dense import indicator, statistics

from fastlmm_core.inference.dense import dense_equations, eliminate


@pytest.fixture(scope="module", params=["tree", "crossed"])
def model(request):
    rng = np.random.default_rng(0)
    n = 60
    a = np.repeat(np.arange(20), 3)
    b, c = (a // 2, a // 10) if request.param == "tree" else (rng.integers(0, 9, n), rng.integers(0, 4, n))
    Z = [np.column_stack([np.ones(n), rng.normal(size=n)]), rng.normal(size=(n, 2)), np.ones((n, 1))]
    X, w = rng.normal(size=(n, 3)), rng.uniform(0.5, 2, n)
    products = statistics(X, rng.normal(size=n), list(zip((a, b, c), Z)), w)
    assert products.structure == request.param
    return products, X, [indicator(codes, z) for codes, z in zip((a, b, c), Z)], w


def test_blocks_of_every_pair_of_factors(model):
    products, X, Z, w = model
    A, B, parts = dense_equations(products, products.x)
    full = np.column_stack(Z)
    np.testing.assert_allclose(A, (full.T * w) @ full, atol=1e-12)
    np.testing.assert_allclose(B, (full.T * w) @ X, atol=1e-12)
    assert [part.stop - part.start for part in parts] == [z.shape[1] for z in Z]


def test_elimination_is_woodbury_also_at_zero_variance(model):
    products, X, Z, w = model
    Lambda = [np.array([[0.7, 0.0], [0.2, 0.4]]), np.array([[1.1, 0.0], [0.5, 0.0]]), np.zeros((1, 1))]
    A, B, parts = dense_equations(products, products.x)
    K, G = eliminate(A, B, parts, Lambda)
    V0 = np.diag(1 / w)
    for z, L, levels in zip(Z, Lambda, products.levels):
        V0 = V0 + z @ np.kron(np.eye(levels), L @ L.T) @ z.T
    full = np.column_stack(Z)
    np.testing.assert_allclose(K, full.T @ np.linalg.solve(V0, full), atol=1e-10)
    np.testing.assert_allclose(G, full.T @ np.linalg.solve(V0, X), atol=1e-10)
