"""The sparse engine against n x n linear algebra, and against the dense one at larger sizes."""

import dataclasses
import re

import numpy as np
import pytest
from oracle.dense import DenseEngine, statistics
from oracle.sparse import cross_products

from fastlmm_core._kernels import _sparse
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme import schur_counts, sparse_schur
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.crossed import CrossedEngine
from fastlmm_core.mme.schur_counts import analyse_schur
from fastlmm_core.mme.sparse_schur import SparseSchurEngine

RNG = np.random.default_rng


def design(sizes, widths, n=150, seed=0, weighted=False, local=0):
    """X, y, factors, weights; with ``local`` > 0 the factors partly nest: level and position go together."""
    rng = RNG(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    position = rng.random(n)
    factors = []
    for G, k in zip(sizes, widths):
        u = np.clip(position + local * rng.normal(size=n), 0, 1 - 1e-9) if local else rng.random(n)
        codes = np.unique((G * u).astype(np.int64), return_inverse=True)[1].astype(np.int32)
        factors.append((codes, np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])))
    return X, rng.normal(size=n), factors, rng.uniform(0.2, 3, n) if weighted else None


def random_factor(k, rng):
    L = np.tril(rng.normal(size=(k, k)))
    L[np.diag_indices(k)] = rng.uniform(0.3, 1.5, k)
    return L


def close(actual, expected, rtol):
    scale = np.abs(expected).max() if np.size(expected) else 0.0
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * scale)


def agree(engine, other, Lambda, rtol=1e-8):
    """Every method of the protocol, in an order that asks for solutions before and after the inverse."""
    logdet, S = engine.factorize(Lambda)
    expected_logdet, expected_S = other.factorize(Lambda)
    assert logdet == pytest.approx(expected_logdet, rel=1e-10, abs=1e-10)
    close(S, expected_S, 1e-10)
    Q = np.linalg.inv(expected_S[:-1, :-1])
    v = np.append(-Q @ expected_S[:-1, -1], 1.0)
    rng = RNG(1)
    directions = [(f, X + X.T) for f, k in enumerate(engine.k) for X in (rng.normal(size=(k, k)),)]
    AI = other.average_information(Q, v, directions)
    close(engine.average_information(Q, v, directions), AI, rtol)
    F, GG = engine.moments()
    expected_F, expected_GG = other.moments()
    for f in range(len(engine.k)):
        close(F[f], expected_F[f], rtol)
        close(GG[f], expected_GG[f], rtol)
        close(engine.random_effects(v)[f], other.random_effects(v)[f], rtol)
        close(engine.conditional_covariance(f), other.conditional_covariance(f), rtol)
    close(engine.average_information(Q, v, directions), AI, rtol)


def both(X, y, factors, weights=None):
    cp = statistics(X, y, factors, weights, structure="crossed")
    return SparseSchurEngine(cp, np.arange(X.shape[1])), DenseEngine(X, y, factors, weights)


CASES = [
    ((25, 6), (1, 1)),
    ((30, 20), (2, 1)),
    ((20, 18), (1, 3)),
    ((12, 9), (3, 2)),
    ((40, 25, 10), (1, 1, 1)),
    ((20, 15, 9), (2, 3, 1)),
    ((9, 12, 15), (1, 2, 2)),
    ((14, 12, 9, 6), (1, 2, 1, 1)),
]


@pytest.mark.parametrize(("sizes", "widths"), CASES)
@pytest.mark.parametrize("local", [0, 0.02])
@pytest.mark.parametrize("weighted", [False, True])
def test_random_designs(sizes, widths, local, weighted):
    X, y, factors, weights = design(sizes, widths, weighted=weighted, local=local)
    agree(*both(X, y, factors, weights), [random_factor(k, RNG(3)) for k in widths])


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-12, 1e-6, 1e-3, 5.0])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_small_and_large_factors(scale, which):
    X, y, factors, _ = design((20, 15, 9), (2, 3, 1), local=0.03)
    Lambda = [random_factor(k, RNG(4)) for k in (2, 3, 1)]
    Lambda[which] = scale * Lambda[which]
    agree(*both(X, y, factors), Lambda)


@pytest.mark.parametrize("where", ["all zero", "rank one", "first column zero", "near singular"])
def test_singular_factors(where):
    X, y, factors, _ = design((20, 15, 9), (2, 3, 2), weighted=True, local=0.03)
    Lambda = [random_factor(k, RNG(5)) for k in (2, 3, 2)]
    for L in Lambda:
        if where == "all zero":
            L[:] = 0
        elif where == "rank one":
            L[:, 1:] = 0
        elif where == "first column zero":
            L[:, 0] = 0
        else:
            L[np.diag_indices(len(L))] = 1e-9
    agree(*both(X, y, factors), Lambda)


def test_nested_factors_do_not_fill():
    rng = RNG(6)
    X, y, factors, _ = design((60, 12), (2, 1), n=300)
    factors[1] = ((factors[0][0] // 5).astype(np.int32), factors[1][1])
    engine, oracle = both(X, y, factors)
    assert engine.counts.nnz_S == engine.counts.nnz_L == engine.m
    agree(engine, oracle, [random_factor(k, rng) for k in (2, 1)])


def mobility(n=20000, workers=4000, firms=600, movers=0.05, widths=(1, 1), sites=0, seed=0):
    """Workers in firms, a share of the rows elsewhere; ``sites`` > 0 adds a third factor."""
    rng = RNG(seed)
    worker = np.concatenate([np.arange(workers), rng.integers(0, workers, n - workers)])
    home = np.concatenate([np.arange(firms), rng.integers(0, firms, workers - firms)])
    firm = np.where(rng.random(n) < movers, rng.integers(0, firms, n), home[worker])
    codes = [worker, firm]
    if sites:
        codes.append(np.where(rng.random(n) < 0.01, rng.integers(0, sites, n), firm % sites))
    Xy = np.column_stack([np.ones(n), rng.normal(size=(n, 3))])
    return Xy, [
        (
            np.unique(c, return_inverse=True)[1].astype(np.int32),
            np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))]),
        )
        for c, k in zip(codes, (*widths, 1)[: len(codes)])
    ]


@pytest.mark.parametrize(("widths", "sites"), [((1, 1), 0), ((2, 1), 0), ((1, 2), 0), ((1, 1), 40)])
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_agrees_with_the_dense_engine(widths, sites, size):
    cp = cross_products(*mobility(widths=widths, sites=sites))
    sparse, dense = SparseSchurEngine(cp, np.arange(3)), CrossedEngine(cp, np.arange(3))
    agree(sparse, dense, [size * random_factor(k, RNG(2)) for k in sparse.k], rtol=1e-7)
    panel, expected = sparse.inverse_columns(1, 5, 8), dense.inverse_columns(1, 5, 8)
    for one, other in zip(panel, expected):
        close(one, other, 1e-7)


def test_any_order_gives_the_same_equations():
    cp = cross_products(*mobility(n=5000, workers=1000, firms=200))
    Lambda = [np.array([[0.8]]), np.array([[0.5]])]
    analysis = schur_counts.analyse_schur(cp, always=True, rule="natural")
    natural = SparseSchurEngine(cp, np.arange(3), analysis=analysis)
    engine = SparseSchurEngine(cp, np.arange(3))
    assert engine.counts.nnz_L < natural.counts.nnz_L
    agree(engine, natural, Lambda)


def everything(engine, Lambda):
    logdet, S = engine.factorize(Lambda)
    Q, v = np.linalg.inv(S[:-1, :-1]), np.append(np.zeros(len(S) - 1), 1.0)
    F, GG = engine.moments()
    AI = engine.average_information(Q, v, [(f, np.eye(k)) for f, k in enumerate(engine.k)])
    covariances = [engine.conditional_covariance(f) for f in range(len(engine.k))]
    return [np.array(logdet), S, *F, *GG, AI, *engine.random_effects(v), *covariances]


@pytest.mark.parametrize("widths", [(1, 1), (2, 2)])
@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_threads_do_not_change_a_bit(widths, size, monkeypatch):
    monkeypatch.setattr(sparse_schur, "LEAST_PARALLEL_WORK", 0)
    monkeypatch.setattr(_sparse, "LEAST_SHARE", -1.0)
    cp = cross_products(*mobility(movers=0.02, widths=widths))
    Lambda = [size * np.tril(np.full((k, k), 0.5)) for k in widths]
    first = everything(SparseSchurEngine(cp, np.arange(3), 1), Lambda)
    for n_threads in (2, 3):
        for one, other in zip(first, everything(SparseSchurEngine(cp, np.arange(3), n_threads), Lambda)):
            np.testing.assert_array_equal(one, other)


def test_evaluations_do_not_depend_on_what_came_before():
    cp = cross_products(*mobility(n=5000, workers=1000, firms=200))
    Lambda = [np.array([[0.8]]), np.array([[0.5]])]
    fresh = everything(SparseSchurEngine(cp, np.arange(3)), Lambda)
    engine = SparseSchurEngine(cp, np.arange(3))
    everything(engine, [np.array([[0.0]]), np.array([[3.0]])])
    for one, other in zip(fresh, everything(engine, Lambda)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("which", [0, 1])
def test_bad_lambda_is_refused(bad, which):
    X, y, factors, _ = design((25, 20), (1, 1))
    engine, _ = both(X, y, factors)
    Lambda = [np.array([[0.5]]), np.array([[0.5]])]
    engine.factorize(Lambda)
    Lambda[which] = np.array([[bad]])
    with pytest.raises(NumericalError):
        engine.factorize(Lambda)
    with pytest.raises(NumericalError):
        engine.moments()


def test_nan_in_the_statistics_is_refused():
    X, y, factors, _ = design((25, 20), (1, 1))
    cp = statistics(X, y, factors, None, structure="crossed")
    R = [r.copy() for r in cp.R]
    R[1][3, 0, cp.z[1][0]] = np.nan
    engine = SparseSchurEngine(dataclasses.replace(cp, R=tuple(R)), np.arange(3))
    with pytest.raises(NumericalError):
        engine.factorize([np.eye(1), np.eye(1)])


def test_counts_without_forming():
    """A dense S is recognised from a sample of its columns, a sparse one is counted exactly."""
    X, y, factors, _ = design((300, 60), (1, 1), n=6000)
    counts = analyse_schur(statistics_of(X, y, factors)).counts
    assert not counts.exact and counts.nnz_L is None
    assert counts.density_S == pytest.approx(1, abs=0.05)
    cp = cross_products(*mobility())
    counts = analyse_schur(cp).counts
    Z, N = (matrix(cp, 0, 1), matrix(cp, 1, 0))
    S = np.tril(N @ Z != 0)
    assert counts.exact and counts.nnz_S == S.sum()
    degree = np.diff(cp.pairs[0, 1].indptr).astype(float)
    assert counts.work == 0.5 * (degree**2).sum()
    engine = SparseSchurEngine(cp, np.arange(3))
    assert engine.counts == dataclasses.replace(counts, available=engine.counts.available)


def statistics_of(X, y, factors):
    return cross_products(np.column_stack([X, y]), factors)


def matrix(cp, f, g):
    """Co-occurrences of two factors as a dense 0/1 matrix, (levels_f, levels_g)."""
    pairs = cp.pairs[min(f, g), max(f, g)]
    out = np.zeros((cp.levels[min(f, g)], cp.levels[max(f, g)]))
    out[np.repeat(np.arange(len(out)), np.diff(pairs.indptr)), pairs.indices] = 1
    return out if f < g else out.T


def test_choice_and_its_reason():
    few = cross_products(*mobility(n=30000, workers=8000, firms=3000, movers=0.01))
    engine = choose_engine(few, np.arange(3))
    assert engine.name == "sparse"
    assert re.search(rf"m = {engine.m} columns.* entries.* flops.*dense .* GB.*sparse .* GB", engine.reason)
    X, y, factors, _ = design((900, 400), (1, 1), n=8000)
    full = statistics_of(X, y, factors)
    engine = choose_engine(full, np.arange(3))
    assert engine.name == "crossed" and "m = 400" in engine.reason
    forced = choose_engine(full, np.arange(3), engine="sparse")
    assert forced.name == "sparse" and forced.reason.startswith("asked for; ")
    Lambda = [np.array([[0.8]]), np.array([[0.5]])]
    agree(forced, choose_engine(full, np.arange(3), engine="dense"), Lambda)


def test_equations_beyond_memory_are_refused_with_figures(monkeypatch):
    cp = cross_products(*mobility(n=5000, workers=1000, firms=400))
    monkeypatch.setattr(schur_counts, "available_bytes", lambda: 20_000)
    with pytest.raises(ModelError, match="m = 400 columns.*GB available"):
        choose_engine(cp, np.arange(3), engine="sparse")
