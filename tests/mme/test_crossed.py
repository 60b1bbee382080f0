"""The crossed engine against n x n linear algebra."""

import dataclasses

import numpy as np
import pytest
from oracle.dense import DenseEngine, statistics

from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme import crossed_arrays
from fastlmm_core.mme.crossed import CrossedEngine

RNG = np.random.default_rng


def design(sizes, widths, n=150, p=3, seed=0, weighted=False, nested=False):
    """X, y, factors, weights of a random design; ``nested`` makes factor 1 a coarsening of factor 0."""
    rng = RNG(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    y = rng.normal(size=n)
    factors = []
    for q, (G, k) in enumerate(zip(sizes, widths)):
        codes = np.concatenate([np.arange(G), rng.integers(0, G, n - G)]) if G > 2 else np.arange(n) % G
        codes = rng.permutation(codes).astype(np.int32)
        if nested and q == 1:
            codes = (factors[0][0] % G).astype(np.int32)
        Z = np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))]) if k > 1 else np.ones((n, 1))
        factors.append((codes, Z))
    weights = rng.uniform(0.2, 3, n) if weighted else None
    return X, y, factors, weights


def random_factor(k, rng):
    L = np.tril(rng.normal(size=(k, k)))
    L[np.diag_indices(k)] = rng.uniform(0.3, 1.5, k)
    return L


def both(X, y, factors, weights=None, n_threads=1):
    cp = statistics(X, y, factors, weights, structure="crossed")
    return CrossedEngine(cp, np.arange(X.shape[1]), n_threads), DenseEngine(X, y, factors, weights)


def close(actual, expected, rtol):
    scale = np.abs(expected).max() if np.size(expected) else 0.0
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * scale)


def profile(S):
    """Q = S_XX^-1 and v = (-beta, 1)."""
    Q = np.linalg.inv(S[:-1, :-1])
    return Q, np.append(-Q @ S[:-1, -1], 1.0)


def agree(engine, oracle, Lambda, rtol=1e-8):
    logdet, S = engine.factorize(Lambda)
    expected_logdet, expected_S = oracle.factorize(Lambda)
    assert logdet == pytest.approx(expected_logdet, rel=1e-10, abs=1e-10)
    close(S, expected_S, 1e-10)
    Q, v = profile(expected_S)
    rng = RNG(1)
    directions = []
    for f, k in enumerate(engine.k):
        for _ in range(min(k * (k + 1) // 2, 2)):
            X = rng.normal(size=(k, k))
            directions.append((f, X + X.T))
    close(engine.average_information(Q, v, directions), oracle.average_information(Q, v, directions), rtol)
    F, GG = engine.moments()
    expected_F, expected_GG = oracle.moments()
    for f in range(len(engine.k)):
        close(F[f], expected_F[f], rtol)
        close(GG[f], expected_GG[f], rtol)
        close(engine.random_effects(v)[f], oracle.random_effects(v)[f], rtol)
        close(engine.conditional_covariance(f), oracle.conditional_covariance(f), rtol)
    close(engine.average_information(Q, v, directions), oracle.average_information(Q, v, directions), rtol)


CASES = [
    ((25, 6), (1, 1)),
    ((6, 25), (1, 1)),
    ((25, 6), (2, 1)),
    ((20, 8), (1, 3)),
    ((12, 9), (3, 2)),
    ((12, 7), (5, 1)),
    ((30, 12, 5), (1, 1, 1)),
    ((15, 9, 5), (2, 3, 1)),
    ((5, 9, 15), (1, 2, 2)),
    ((12, 8, 6, 3), (1, 2, 1, 1)),
]


@pytest.mark.parametrize(("sizes", "widths"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_random_designs(sizes, widths, weighted):
    X, y, factors, weights = design(sizes, widths, weighted=weighted, seed=len(sizes))
    engine, oracle = both(X, y, factors, weights)
    rng = RNG(3)
    agree(engine, oracle, [random_factor(k, rng) for k in widths])


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-12, 1e-6, 1e-3, 5.0])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_small_and_large_factors(scale, which):
    X, y, factors, _ = design((15, 9, 5), (2, 3, 1))
    engine, oracle = both(X, y, factors)
    rng = RNG(4)
    Lambda = [random_factor(k, rng) for k in engine.k]
    Lambda[which] = scale * Lambda[which]
    agree(engine, oracle, Lambda)


@pytest.mark.parametrize("where", ["all zero", "rank one", "first column zero", "near singular"])
def test_singular_factors(where):
    X, y, factors, _ = design((15, 9, 5), (2, 3, 2), weighted=True)
    engine, oracle = both(X, y, factors)
    rng = RNG(5)
    Lambda = [random_factor(k, rng) for k in engine.k]
    for L in Lambda:
        if where == "all zero":
            L[:] = 0
        elif where == "rank one":
            L[:, 1:] = 0
        elif where == "first column zero":
            L[:, 0] = 0
        else:
            L[np.diag_indices(len(L))] = 1e-9
    agree(engine, oracle, Lambda)


def test_crossed_engine_fits_nested_factors():
    X, y, factors, _ = design((24, 6), (2, 1), nested=True)
    agree(*both(X, y, factors), [random_factor(2, RNG(6)), np.array([[0.7]])])


def test_sparse_and_disconnected_levels():
    """Two blocks of levels that never meet, and levels with one row."""
    n = 200
    rng = RNG(7)
    half = np.arange(n) % 2
    a = (rng.integers(0, 45, n) + 45 * half).astype(np.int32)
    b = (rng.integers(0, 20, n) + 20 * half).astype(np.int32)
    a, b = (np.unique(codes, return_inverse=True)[1].astype(np.int32) for codes in (a, b))
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.normal(size=n)
    for widths in ((1, 1), (2, 2), (1, 3)):
        factors = [(codes, rng.normal(size=(n, k))) for codes, k in zip((a, b), widths)]
        agree(*both(X, y, factors), [random_factor(k, rng) for k in widths])


def test_shared_and_dropped_columns():
    """Z and X may be the same columns of U, and X may have aliased ones."""
    X, y, factors, _ = design((25, 6), (2, 1), p=4)
    factors[0] = (factors[0][0], X[:, :2])
    cp = statistics(X, y, factors, structure="crossed")
    keep = np.array([0, 1, 3])
    positions = np.r_[0:5, 0, 1, 7]  # the columns of factor 0 read from X's place
    R = tuple(r[:, :, positions] for r in cp.R)
    C = cp.C[np.ix_(positions, positions)]
    shared = dataclasses.replace(cp, z=(np.array([0, 1]), cp.z[1]), R=R, C=C)
    oracle = DenseEngine(X[:, keep], y, factors)
    agree(CrossedEngine(shared, keep, 1), oracle, [random_factor(2, RNG(8)), np.array([[0.7]])])


@pytest.mark.parametrize(("sizes", "widths"), [((25, 6), (1, 1)), ((15, 9, 5), (2, 3, 1))])
def test_moments_are_derivatives(sizes, widths):
    """d log|V0| = tr(F dT) and dS = -sum G_i'dT G_i, by central differences in T."""
    X, y, factors, _ = design(sizes, widths)
    engine, _ = both(X, y, factors)
    rng = RNG(9)
    Lambda = [random_factor(k, rng) for k in widths]
    engine.factorize(Lambda)
    F, GG = engine.moments()
    for f, k in enumerate(widths):
        direction = rng.normal(size=(k, k))
        direction += direction.T
        h, ends = 1e-4, []
        for sign in (1, -1):
            moved = list(Lambda)
            moved[f] = np.linalg.cholesky(Lambda[f] @ Lambda[f].T + sign * h * direction)
            ends.append(engine.factorize(moved))
        assert (ends[0][0] - ends[1][0]) / (2 * h) == pytest.approx(np.sum(F[f] * direction), rel=1e-5)
        expected = -np.einsum("ab,abuv->uv", direction, GG[f])
        close((ends[0][1] - ends[1][1]) / (2 * h), expected, 1e-5)


def test_unusable_lambda():
    X, y, factors, _ = design((25, 6), (1, 2))
    engine, _ = both(X, y, factors)
    for bad in (np.nan, np.inf):
        for Lambda in ([np.array([[bad]]), np.eye(2)], [np.eye(1), np.array([[1.0, 0], [bad, 1]])]):
            with pytest.raises(NumericalError, match="finite"):
                engine.factorize(Lambda)
    with pytest.raises(NumericalError):
        engine.moments()
    with pytest.raises(NumericalError):
        engine.factorize([np.array([[1e200]]), np.eye(2)])
    with pytest.raises(ValueError, match="shape"):
        engine.factorize([np.eye(2), np.eye(2)])


def test_memory_is_checked_before_it_is_taken(monkeypatch):
    X, y, factors, _ = design((25, 6), (1, 2))
    monkeypatch.setattr(crossed_arrays, "available_bytes", lambda: 1000)
    with pytest.raises(ModelError, match="12 random-effect columns.*GB"):
        both(X, y, factors)


@pytest.mark.parametrize("spoil", ["range", "order", "pointer"])
def test_pairs_are_checked(spoil):
    X, y, factors, _ = design((25, 6), (1, 1))
    cp = statistics(X, y, factors, structure="crossed")
    pair = cp.pairs[0, 1]
    if spoil == "range":
        pair.indices[3] = 6
    elif spoil == "order":
        pair.indices[:2] = pair.indices[1::-1].copy()
    else:
        pair.indptr[2] = pair.indptr[3] + 1
    with pytest.raises(ValueError, match="pair blocks"):
        CrossedEngine(cp, np.arange(3), 1)


def test_other_calls_before_factorize():
    X, y, factors, _ = design((25, 6), (1, 1))
    engine, _ = both(X, y, factors)
    assert engine.second_moments(np.eye(3), np.ones(4)) is None
    for call in (
        engine.moments,
        lambda: engine.random_effects(np.ones(4)),
        lambda: engine.conditional_covariance(0),
    ):
        with pytest.raises(NumericalError):
            call()
