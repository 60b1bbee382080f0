"""The tree engine against n x n matrices: one factor and chains of nested factors."""

from dataclasses import replace

import numpy as np
import pytest
from oracle.dense import DenseEngine, statistics

from fastlmm_core._kernels._tree import Levels
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.tree import NestedEngine, OneFactorEngine, TreeEngine

VALUE, DERIVED = 1e-10, 1e-9


def covariates(rng, n, k):
    """An intercept and k - 1 normal columns."""
    return np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])


def problem(seed, n=120, p=3, sizes=((15, 2),), weighted=False):
    """(X, y, factors, weights) with nested factors, innermost first: sizes = ((levels, k), ...)."""
    rng = np.random.default_rng(seed)
    X = covariates(rng, n, p) if p else np.empty((n, 0))
    codes = np.concatenate([np.arange(sizes[0][0]), rng.integers(sizes[0][0], size=n - sizes[0][0])])
    factors = []
    for depth, (levels, k) in enumerate(sizes):
        if depth:
            rest = rng.integers(levels, size=sizes[depth - 1][0] - levels)
            above = np.concatenate([np.arange(levels), rest])
            codes = rng.permutation(above)[codes]
        factors.append((codes, covariates(rng, n, k)))
    y = X.sum(1) + rng.normal(size=sizes[-1][0])[codes] + rng.normal(size=n)
    return X, y, factors, rng.uniform(0.2, 3, n) if weighted else None


def random_lambda(rng, k):
    return np.tril(rng.normal(size=(k, k)))


def compare(engine, oracle, Lambda, rng):
    """Every method of the protocol at one Lambda."""
    logdet, S = engine.factorize(Lambda)
    want_logdet, want_S = oracle.factorize(Lambda)
    np.testing.assert_allclose(logdet, want_logdet, rtol=VALUE, atol=1e-12)
    np.testing.assert_allclose(S, want_S, rtol=VALUE, atol=VALUE * np.abs(want_S).max())
    for got, want in zip(engine.moments(), oracle.moments(), strict=True):
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=DERIVED, atol=DERIVED * np.abs(w).max())
    Q = np.linalg.inv(want_S[:-1, :-1])
    v = np.append(-Q @ want_S[:-1, -1], 1.0)
    got, want = engine.second_moments(Q, v), oracle.second_moments(Q, v)
    assert (got is None) == (want is None)
    if got is not None:
        for name in ("FF", "FP", "Fg"):
            g, w = getattr(got, name), getattr(want, name)
            np.testing.assert_allclose(g, w, rtol=DERIVED, atol=DERIVED * np.abs(w).max())
    directions = [(f, D + D.T) for f, k in enumerate(engine.k) for D in rng.normal(size=(2, k, k))]
    got, want = (e.average_information(Q, v, directions) for e in (engine, oracle))
    np.testing.assert_allclose(got, want, rtol=DERIVED, atol=DERIVED * np.abs(want).max())
    for got, want in zip(engine.random_effects(v), oracle.random_effects(v), strict=True):
        np.testing.assert_allclose(got, want, rtol=DERIVED, atol=DERIVED * np.abs(want).max())
    for f in range(len(engine.k)):
        got, want = engine.conditional_covariance(f), oracle.conditional_covariance(f)
        np.testing.assert_allclose(got, want, rtol=DERIVED, atol=VALUE * max(1.0, np.abs(oracle.T[f]).max()))


def check(data, keep=None):
    X, y, factors, weights = data
    rng = np.random.default_rng(1)
    cp = statistics(X, y, factors, weights)
    keep = np.arange(X.shape[1]) if keep is None else keep
    engine, oracle = TreeEngine(cp, keep), DenseEngine(X[:, keep], y, factors, weights)
    assert (engine.k, engine.levels, engine.p) == (oracle.k, oracle.levels, oracle.p)
    regular = [random_lambda(rng, k) for k in engine.k]
    singular = [L.copy() for L in regular]
    for L in singular:
        L[-1, -1] = 0.0
    first_zero = [L.copy() for L in regular]
    first_zero[0][:] = 0.0
    zero = [np.zeros_like(L) for L in regular]
    for Lambda in (regular, singular, first_zero, zero, [3.0 * L for L in regular]):
        compare(engine, oracle, Lambda, rng)
    return engine


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_factor(k, weighted):
    assert isinstance(check(problem(k, sizes=((15, k),), weighted=weighted)), OneFactorEngine)


@pytest.mark.parametrize(
    "sizes", [((12, 1), (4, 1)), ((30, 2), (9, 1)), ((25, 1), (6, 3)), ((24, 2), (8, 2), (3, 3))]
)
def test_nested(sizes):
    assert isinstance(check(problem(len(sizes), sizes=sizes, weighted=len(sizes) == 3)), NestedEngine)


def test_nested_one_root():
    check(problem(7, sizes=((20, 2), (5, 2), (1, 2))))


@pytest.mark.parametrize("sizes", [((40, 3),), ((40, 3), (8, 2))])
def test_fewer_rows_than_columns_per_level(sizes):
    check(problem(3, n=70, sizes=sizes))


def test_covariate_constant_within_levels():
    X, y, [(codes, Z)], _ = problem(4, sizes=((15, 3),))
    Z[:, 1] = np.linspace(-1, 1, 15)[codes]
    Z[:, 2] = 0.0
    check((X, y, [(codes, Z)], None))


@pytest.mark.parametrize("sizes", [((15, 2),), ((12, 2), (4, 1))])
def test_no_fixed_columns(sizes):
    check(problem(5, p=0, sizes=sizes))


@pytest.mark.parametrize("sizes", [((15, 2),), ((12, 2), (4, 1))])
def test_many_fixed_columns(sizes):
    check(problem(6, p=40, sizes=sizes))


@pytest.mark.parametrize("sizes", [((15, 2),), ((12, 2), (4, 1))])
def test_kept_columns(sizes):
    check(problem(8, p=5, sizes=sizes), keep=np.array([0, 2, 3]))


def test_shared_columns_of_U():
    """X, y and Z of both factors may point at the same columns of U."""
    X, y, [(inner, _), (outer, _)], _ = problem(9, sizes=((20, 1), (5, 1)))
    factors = [(inner, X[:, :2]), (outer, X[:, [0, 2]])]
    cp = statistics(X, y, factors)
    shared = replace(
        cp, C=cp.C[:4, :4], R=tuple(R[:, :, :4] for R in cp.R), z=(np.array([0, 1]), np.array([0, 2]))
    )
    rng = np.random.default_rng(2)
    Lambda = [random_lambda(rng, 2), random_lambda(rng, 2)]
    compare(TreeEngine(shared, np.arange(3)), DenseEngine(X, y, factors), Lambda, rng)


@pytest.mark.parametrize("sizes", [((15, 2),), ((30, 2), (9, 1))])
def test_moments_are_the_derivatives(sizes):
    """d log|V0| = tr(F dT), dS = -sum G_i' dT G_i."""
    X, y, factors, _ = problem(10, sizes=sizes)
    engine = TreeEngine(statistics(X, y, factors), np.arange(3))
    rng = np.random.default_rng(3)
    Lambda = [random_lambda(rng, k) for k in engine.k]
    step = [1e-5 * random_lambda(rng, k) for k in engine.k]
    high = engine.factorize([L + d for L, d in zip(Lambda, step, strict=True)])
    low = engine.factorize([L - d for L, d in zip(Lambda, step, strict=True)])
    engine.factorize(Lambda)
    logdet = S = 0
    for L, d, F, GG in zip(Lambda, step, *engine.moments(), strict=True):
        dT = 2 * (L @ d.T + d @ L.T)
        logdet = logdet + np.vdot(F, dT)
        S = S - np.einsum("ab,abuv->uv", dT, GG)
    np.testing.assert_allclose(high[0] - low[0], logdet, rtol=1e-7)
    np.testing.assert_allclose(high[1] - low[1], S, rtol=1e-6, atol=1e-8)


def big(rng, sizes):
    """Statistics of a few thousand levels, without rows: each level a random Gram matrix."""
    data = problem(11, sizes=((8, 2),) if len(sizes) == 1 else ((8, 2), (3, 1)), p=3)
    cp = statistics(*data[:3])
    order = cp.order
    R, counts = list(cp.R), list(cp.counts)
    for f, G in zip(order, sizes, strict=True):
        rows = rng.normal(size=(G, 6, cp.C.shape[0]))
        rows[:, :, cp.z[f][0]] = 1.0
        R[f] = rows[:, :, cp.z[f]].transpose(0, 2, 1) @ rows
        counts[f] = np.full(G, 6)
    C = np.eye(cp.C.shape[0]) * 1e5
    parent = tuple(rng.integers(b, size=a).astype(np.int32) for a, b in zip(sizes, sizes[1:], strict=False))
    levels = tuple(sizes[order.index(f)] for f in range(len(order)))
    return replace(cp, C=C, R=tuple(R), counts=tuple(counts), parent=parent, levels=levels)


def test_threads_give_the_same_bits():
    cp = big(np.random.default_rng(4), (18_003,))
    Lambda = [np.array([[0.7, 0.0], [-0.2, 0.4]])]
    Q, v = np.eye(3), np.array([0.1, -0.2, 0.3, 1.0])
    outcomes = []
    for n_threads in (1, 2, 3):
        engine = TreeEngine(cp, np.arange(3), n_threads)
        logdet, S = engine.factorize(Lambda)
        second = engine.second_moments(Q, v)
        outcomes.append(
            [logdet, S, *engine.moments()[0], *engine.moments()[1], second.FF, second.FP, second.Fg]
        )
        outcomes[-1] += [*engine.random_effects(v), engine.conditional_covariance(0)]
    for other in outcomes[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(outcomes[0], other, strict=True))


def test_threads_give_the_same_bits_nested():
    rng = np.random.default_rng(5)
    X, y, factors, _ = problem(12, n=18_000, sizes=((9000, 2), (200, 1)))
    codes = [c for c, _ in factors]
    U = np.column_stack([X, y, *(Z for _, Z in factors)])
    R = []
    for c, Z in factors:  # statistics() by levels is too slow here
        block = np.zeros((c.max() + 1, Z.shape[1], U.shape[1]))
        np.add.at(block, c, Z[:, :, None] * U[:, None, :])
        R.append(block)
    parent = np.empty(9000, np.int32)
    parent[codes[0]] = codes[1]
    small = statistics(*problem(12, sizes=((12, 2), (4, 1)))[:3])
    cp = replace(small, C=U.T @ U, R=tuple(R), levels=(9000, 200), parent=(parent,))
    Lambda = [random_lambda(rng, 2), random_lambda(rng, 1)]
    v = np.array([0.1, -0.2, 0.3, 1.0])
    outcomes = []
    for n_threads in (1, 2, 3):
        engine = TreeEngine(cp, np.arange(3), n_threads)
        logdet, S = engine.factorize(Lambda)
        F, GG = engine.moments()
        directions = [(0, np.eye(2)), (1, np.eye(1))]
        outcomes.append([logdet, S, *F, *GG, *engine.random_effects(v), engine.conditional_covariance(0)])
        outcomes[-1].append(engine.average_information(np.eye(3), v, directions))
    for other in outcomes[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(outcomes[0], other, strict=True))


def test_large_groups_and_variances_keep_their_digits():
    """F = sum 1 / (1/n + t) to full precision where I - A H would cancel."""
    cp = statistics(*problem(13, sizes=((15, 1),))[:3])
    n = 1e9
    R = np.zeros_like(cp.R[0])
    R[:, 0, cp.z[0][0]] = n
    engine = TreeEngine(replace(cp, R=(R,)), np.arange(3))
    engine.factorize([np.array([[1e3]])])
    np.testing.assert_allclose(engine.moments()[0][0], 15 / (1 / n + 1e6), rtol=1e-14)


@pytest.mark.parametrize("sizes", [((20, 2),), ((20, 2), (4, 1))])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_lambda_not_finite(sizes, value):
    X, y, factors, _ = problem(14, sizes=sizes)
    engine = TreeEngine(statistics(X, y, factors), np.arange(3))
    Lambda = [np.eye(k) for k in engine.k]
    Lambda[0][0, 0] = value
    with pytest.raises(NumericalError):
        engine.factorize(Lambda)


@pytest.mark.parametrize("sizes", [((20, 2),), ((20, 2), (4, 1))])
def test_statistics_not_finite(sizes):
    X, y, factors, _ = problem(15, sizes=sizes)
    cp = statistics(X, y, factors)
    R = [r.copy() for r in cp.R]
    R[0][13, 1, cp.y] = np.nan
    with pytest.raises(NumericalError):
        TreeEngine(replace(cp, R=tuple(R)), np.arange(3))
    C = cp.C.copy()
    C[0, cp.y] = np.inf
    with pytest.raises(NumericalError):
        TreeEngine(replace(cp, C=C), np.arange(3))


@pytest.mark.parametrize("levels", [3, 16, 29])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_levels_reduced_in_every_sweep_have_the_same_bits(k, levels):
    """As levels that are packed once; and those that are packed after some sweeps."""
    rng = np.random.default_rng(k)
    cp = statistics(*problem(k, sizes=((levels, k),))[:3])
    R, z, xy = cp.R[0], np.asarray(cp.z[0], np.int64), np.append(cp.x, cp.y).astype(np.int64)
    R[1] = 0.0  # a level without rows
    u = len(xy)
    packed, never, later = (Levels(R, z, xy, 1, readings) for readings in (0, 100, 3))
    assert packed.pack is not None and never.pack is None
    Q, v = np.eye(u - 1) + 0.1, rng.normal(size=u)
    for sweep in range(3):
        Lambda = random_lambda(rng, k)
        assert (later.pack is None) == (sweep < 2)
        expected = [*packed.sweep(Lambda, 1), packed.second(Lambda, Q, v, 1), packed.effects(Lambda, v, 1)]
        for found in (never, later):
            got = [*found.sweep(Lambda, 1), found.second(Lambda, Q, v, 1), found.effects(Lambda, v, 1)]
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)
    for found in (never, later):
        np.testing.assert_array_equal(found.within, packed.within)


@pytest.mark.parametrize("readings", [0, 5])
@pytest.mark.parametrize("level", [0, 13, 18])
def test_the_failing_level_is_named_however_it_was_reduced(level, readings):
    cp = statistics(*problem(16, sizes=((19, 2),))[:3])
    z, xy = np.asarray(cp.z[0], np.int64), np.append(cp.x, cp.y).astype(np.int64)
    for place, value in (((0, z[0]), -5.0), ((0, z[0]), np.nan), ((1, xy[-1]), np.inf)):
        R = cp.R[0].copy()
        R[level][place] = value
        with pytest.raises(NumericalError, match=f"level {level} "):
            Levels(R, z, xy, 1, readings)
    R = cp.R[0].copy()
    R[level] *= 1e303
    with pytest.raises(NumericalError, match=f"level {level} "):
        Levels(R, z, xy, 1, readings).sweep(np.eye(2), 1)


def test_the_failing_level_is_named():
    cp = statistics(*problem(16, sizes=((20, 2),))[:3])
    R = cp.R[0].copy()
    R[13, 0, cp.z[0][0]] = -5.0
    with pytest.raises(NumericalError, match="level 13 "):
        TreeEngine(replace(cp, R=(R,)), np.arange(3))
    R = cp.R[0].copy()
    R[13] *= 1e303
    engine = TreeEngine(replace(cp, R=(R,)), np.arange(3))
    with pytest.raises(NumericalError, match="level 13 "):
        engine.factorize([np.eye(2)])
    cp = statistics(*problem(16, sizes=((20, 2), (4, 1)))[:3])
    R = cp.R[0].copy()
    R[13, 0, cp.z[0][0]] = -5.0
    engine = TreeEngine(replace(cp, R=(R, cp.R[1])), np.arange(3))
    with pytest.raises(NumericalError, match="level 13 of grouping factor 0"):
        engine.factorize([np.eye(2), np.eye(1)])


@pytest.mark.parametrize("parent", [-1, 4, 2**31 - 1])
def test_parents_out_of_range(parent):
    X, y, factors, _ = problem(17, sizes=((20, 2), (4, 1)))
    cp = statistics(X, y, factors)
    bad = cp.parent[0].copy()
    bad[3] = parent
    with pytest.raises(ModelError):
        TreeEngine(replace(cp, parent=(bad,)), np.arange(3))
    with pytest.raises(ModelError):
        TreeEngine(replace(cp, parent=(bad[:-1],)), np.arange(3))


def test_read_only_and_fortran_inputs():
    X, y, factors, _ = problem(18, sizes=((20, 2),))
    cp = statistics(X, y, factors)
    R = np.asfortranarray(cp.R[0])
    R.setflags(write=False)
    rng = np.random.default_rng(6)
    Lambda = np.asfortranarray(random_lambda(rng, 2))
    Lambda.setflags(write=False)
    compare(TreeEngine(replace(cp, R=(R,)), np.arange(3)), DenseEngine(X, y, factors), [Lambda], rng)
