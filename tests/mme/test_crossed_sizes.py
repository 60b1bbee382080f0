"""The crossed engine at sizes where every path is taken: light and heavy levels, chunks, threads."""

import numpy as np
import pytest
from oracle.henderson import Henderson, everything, sparse_design
from oracle.sparse import cross_products

from fastlmm_core.mme import crossed, crossed_arrays
from fastlmm_core.mme.crossed import CrossedEngine


@pytest.mark.parametrize("size", [1.0, 1e-3])
@pytest.mark.parametrize("widths", [(1, 1), (2, 1), (1, 2, 1)])
def test_medium_against_henderson(widths, size):
    sizes = (500, 80, 12)[: len(widths)]
    Xy, factors = sparse_design(5000, sizes, widths)
    cp = cross_products(Xy, factors)
    rng = np.random.default_rng(2)
    Lambda = [size * np.tril(rng.uniform(0.2, 0.9, (k, k))) for k in widths]
    engine = CrossedEngine(cp, np.arange(3), 2)
    logdet, S = engine.factorize(Lambda)
    direct = Henderson(Xy, factors, Lambda)
    assert logdet == pytest.approx(direct.logdet, rel=1e-11)
    VXy = direct.solve(Xy)
    np.testing.assert_allclose(S, Xy.T @ VXy, rtol=1e-10, atol=1e-8)

    F, GG = engine.moments()
    for actual, expected in zip(F, direct.F()):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    G = direct.split(direct.Z.T @ VXy)
    for actual, g in zip(GG, G):
        expected = np.einsum("iau,ibv->abuv", g, g)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())

    Q = np.linalg.inv(S[:-1, :-1])
    v = np.append(-Q @ S[:-1, -1], 1.0)
    directions = [(f, np.eye(k)) for f, k in enumerate(widths)]
    starts = np.cumsum([0, *direct.sizes])
    W = np.column_stack([direct.Z[:, a:b] @ (g @ v).ravel() for a, b, g in zip(starts, starts[1:], G)])
    XVW = VXy[:, :-1].T @ W
    expected = W.T @ direct.solve(W) - XVW.T @ Q @ XVW
    np.testing.assert_allclose(engine.average_information(Q, v, directions), expected, rtol=1e-9)

    b = direct.split(direct.Lambda @ (direct.Lambda.T @ (direct.Z.T @ (VXy @ v)))[:, None])
    cov = direct.Lambda @ direct.Minv @ direct.Lambda.T
    for f, (actual, start, k) in enumerate(zip(engine.random_effects(v), starts, widths)):
        np.testing.assert_allclose(actual, b[f][:, :, 0], rtol=1e-8, atol=1e-10)
        some = engine.conditional_covariance(f)[7]
        own = slice(start + 7 * k, start + 8 * k)
        np.testing.assert_allclose(some, cov[own, own], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("widths", [(1, 1), (2, 3)])
@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_threads_do_not_change_a_bit(widths, size, monkeypatch):
    monkeypatch.setattr(crossed, "LEAST_PARALLEL_WORK", 0)
    cp = cross_products(*sparse_design(6000, (700, 60), widths))
    Lambda = [size * np.tril(np.full((k, k), 0.5)) for k in widths]
    first = everything(CrossedEngine(cp, np.arange(3), 1), Lambda)
    for n_threads in (2, 3):
        for one, other in zip(first, everything(CrossedEngine(cp, np.arange(3), n_threads), Lambda)):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("widths", [(1, 1), (2, 1)])
@pytest.mark.parametrize("choice", [False, True])
def test_heavy_and_light_levels_agree(widths, choice, monkeypatch):
    """The dense update of frequent levels and the scattered one give the same equations."""
    cp = cross_products(*sparse_design(4000, (300, 40), widths))
    Lambda = [np.tril(np.full((k, k), 0.5)) for k in widths]
    mixed = everything(CrossedEngine(cp, np.arange(3), 1), Lambda)
    monkeypatch.setattr(crossed_arrays, "_heavy_levels", lambda degree, m, k: np.full(len(degree), choice))
    for one, other in zip(mixed, everything(CrossedEngine(cp, np.arange(3), 1), Lambda)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(one).max())


def test_gradient_sign_at_zero_is_the_limit():
    """F at T_f = 0 is the limit of F for T_f -> 0: no jump between the two ways of summing it."""
    cp = cross_products(*sparse_design(3000, (300, 40), (1, 1)))
    engine = CrossedEngine(cp, np.arange(3), 1)
    values = []
    for t in (0.0, 1e-14, 1e-10):
        engine.factorize([np.array([[0.8]]), np.array([[np.sqrt(t)]])])
        values.append(engine.moments()[0][1][0, 0])
    np.testing.assert_allclose(values[1:], values[0], rtol=1e-6)
    np.testing.assert_allclose(values[1], values[0], rtol=1e-10)
