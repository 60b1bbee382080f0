"""The iterative engine against n x n linear algebra, and its probes against exact traces."""

import numpy as np
import pytest
from oracle.dense import DenseEngine, statistics

from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme import iterative
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.crossed import CrossedEngine
from fastlmm_core.mme.forecast import forecast
from fastlmm_core.mme.iterative import IterativeEngine
from fastlmm_core.mme.probes import controlled, probe_sets, second_order_log

RNG = np.random.default_rng

CASES = [
    ((25, 6), (1, 1)),
    ((25, 6), (2, 1)),
    ((20, 8), (1, 3)),
    ((12, 9), (3, 2)),
    ((30, 12, 5), (1, 1, 1)),
    ((15, 9, 5), (2, 3, 1)),
    ((5, 9, 15), (1, 2, 2)),
]


def design(sizes, widths, n=150, p=3, seed=0, weighted=False):
    rng = RNG(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    factors = []
    for G, k in zip(sizes, widths):
        codes = rng.permutation(np.concatenate([np.arange(G), rng.integers(0, G, n - G)])).astype(np.int32)
        factors.append((codes, np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])))
    return X, rng.normal(size=n), factors, rng.uniform(0.2, 3, n) if weighted else None


def random_factor(k, rng):
    L = np.tril(rng.normal(size=(k, k)))
    L[np.diag_indices(k)] = rng.uniform(0.3, 1.5, k)
    return L


def close(actual, expected, rtol):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max(initial=0.0))


def profile(S):
    Q = np.linalg.inv(S[:-1, :-1])
    return Q, np.append(-Q @ S[:-1, -1], 1.0)


def sides(sizes, widths, weighted=False, **settings):
    X, y, factors, weights = design(sizes, widths, weighted=weighted)
    cp = statistics(X, y, factors, weights, structure="crossed")
    return IterativeEngine(cp, np.arange(X.shape[1]), **settings), DenseEngine(X, y, factors, weights)


def agree(engine, oracle, Lambda, rtol):
    logdet, S = engine.factorize(Lambda)
    expected_logdet, expected_S = oracle.factorize(Lambda)
    assert logdet == pytest.approx(expected_logdet, rel=1e-9)
    close(S, expected_S, 1e-9)
    Q, v = profile(expected_S)
    rng = RNG(1)
    directions = [(f, A + A.T) for f, k in enumerate(engine.k) for A in rng.normal(size=(2, k, k))]
    close(engine.average_information(Q, v, directions), oracle.average_information(Q, v, directions), 1e-6)
    F, GG = engine.moments()
    expected_F, expected_GG = oracle.moments()
    for f in range(len(engine.k)):
        close(F[f], expected_F[f], rtol)
        close(GG[f], expected_GG[f], 1e-8)
        close(engine.random_effects(v)[f], oracle.random_effects(v)[f], 1e-8)
        close(engine.conditional_covariance(f), oracle.conditional_covariance(f), rtol)
        few = np.array([0, engine.levels[f] - 1])
        close(engine.exact_covariance(f, few), oracle.conditional_covariance(f)[few], 1e-8)


@pytest.mark.parametrize(("sizes", "widths"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_unit_vectors_leave_no_error(sizes, widths, weighted):
    """With as many probes as levels everything is exact, also near and at T = 0."""
    engine, oracle = sides(sizes, widths, weighted, probes=30, tol=1e-12)
    assert engine.exact
    rng = RNG(3)
    Lambda = [random_factor(k, rng) for k in widths]
    agree(engine, oracle, Lambda, 1e-7)
    assert engine.logdet_sd == 0.0
    for which in range(len(sizes)):
        for scale in (1e-9, 0.0):
            moved = list(Lambda)
            moved[which] = scale * moved[which]
            agree(engine, oracle, moved, 1e-6)


@pytest.mark.parametrize("where", ["rank one", "near singular", "all zero"])
def test_singular_factors(where):
    engine, oracle = sides((15, 9, 5), (2, 3, 2), True, probes=15, tol=1e-12)
    Lambda = [random_factor(k, RNG(5)) for k in engine.k]
    for L in Lambda:
        if where == "all zero":
            L[:] = 0
        elif where == "rank one":
            L[:, 1:] = 0
        else:
            L[np.diag_indices(len(L))] = 1e-9
    agree(engine, oracle, Lambda, 1e-6)


def larger(widths=(1, 1), n=3000, sizes=(600, 120), seed=4):
    X, y, factors, _ = design(sizes, widths, n=n, seed=seed)
    cp = statistics(X, y, factors, structure="crossed")
    return cp, np.arange(X.shape[1]), [random_factor(k, RNG(6)) for k in widths]


@pytest.mark.parametrize("widths", [(1, 1), (2, 2)])
def test_estimates_scatter_around_the_exact_values_as_they_say(widths):
    """Mean over seeds within 4 standard errors of the exact one; reported errors match the spread."""
    cp, keep, Lambda = larger(widths)
    exact = CrossedEngine(cp, keep)
    logdet, _ = exact.factorize(Lambda)
    F, _ = exact.moments()
    directions = [(f, E) for f, k in enumerate(widths) for E in np.eye(k)[:, :, None] * np.eye(k)[:, None, :]]
    truth = np.array([logdet, *(np.sum(F[f] * X) for f, X in directions)])
    found, said = [], []
    for seed in range(30):
        engine = IterativeEngine(cp, keep, probes=20, seed=seed)
        value, _ = engine.factorize(Lambda)
        estimate, _ = engine.moments()
        found.append([value, *(np.sum(estimate[f] * X) for f, X in directions)])
        said.append([engine.logdet_sd, *np.sqrt(np.diag(engine.score_noise(directions)))])
    error, said = np.array(found) - truth, np.sqrt((np.array(said) ** 2).mean(0))
    assert (np.abs(error.mean(0)) < 4 * said / 30**0.5).all()
    ratio = error.std(0) / said
    assert (ratio > 0.6).all() and (ratio < 1.6).all()


def test_errors_fall_with_more_probes():
    cp, keep, Lambda = larger()
    engine = IterativeEngine(cp, keep, probes=10)
    engine.factorize(Lambda)
    few = engine.logdet_sd
    engine.set_probes(90)
    engine.factorize(Lambda)
    assert 0.2 < engine.logdet_sd / few < 0.6


def test_controls_have_no_bias_and_help():
    rng = RNG(8)
    controls = rng.exponential(size=(4000, 12, 1)) - 1.0
    samples = 1.5 + 3.0 * controls + 0.5 * controls**2 + 0.1 * rng.normal(size=controls.shape)
    means = np.array([controlled(s, c, False).mean[0] for s, c in zip(samples, controls)])
    plain = samples.mean(1)
    truth = 1.5 + 0.5  # E[c^2] = 1
    assert abs(means.mean() - truth) < 4 * means.std() / 4000**0.5
    assert means.std() < 0.5 * plain.std()


@pytest.mark.threads
def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(iterative, "LEAST_PARALLEL_PAIRS", 0)
    cp, keep, Lambda = larger((2, 1))
    results = []
    for threads in (1, 2, 3, 1):
        engine = IterativeEngine(cp, keep, threads, probes=20, seed=11)
        logdet, S = engine.factorize(Lambda)
        F, GG = engine.moments()
        covariance = engine.conditional_covariance(0)
        results.append(
            np.concatenate([[logdet], S.ravel(), *(x.ravel() for x in (*F, *GG)), covariance.ravel()])
        )
    for other in results[1:]:
        assert results[0].tobytes() == other.tobytes()
    other = IterativeEngine(cp, keep, 1, probes=20, seed=12).factorize(Lambda)[0]
    assert other != results[0][0]


def test_conditional_covariances_are_close_and_bounded():
    cp, keep, Lambda = larger((2, 1))
    exact = CrossedEngine(cp, keep)
    exact.factorize(Lambda)
    engine = IterativeEngine(cp, keep, probes=100)
    engine.factorize(Lambda)
    for f in (0, 1):
        truth, found = exact.conditional_covariance(f), engine.conditional_covariance(f)
        assert np.abs(found - truth).max() < 0.05 * np.abs(truth).max()
        T = Lambda[f] @ Lambda[f].T
        assert np.linalg.eigvalsh(T - found).min() > -0.02 * np.abs(T).max()


def test_probes_are_numbered():
    (first, *_), (same, *_) = (probe_sets([40], [2], count, 3) for count in (10, 20))
    np.testing.assert_array_equal(first.block(0, 8)[0], same.block(0, 8)[0])
    z, width = first.block(8, 8)
    assert width == 2 and not z[:, 2:].any()
    assert set(np.unique(z[0::2, :2])) == {-1.0, 1.0} and not z[1::2].any()


def test_second_order_log():
    x = np.array([-0.9, -1e-2, -1e-4, 0.0, 1e-7, 1e-4, 0.5, 3.0])
    expected = np.array([0.5 if v == 0 else 0.0 for v in x])
    big = np.abs(x) > 1e-3
    expected[big] = (x[big] - np.log1p(x[big])) / x[big] ** 2
    expected[~big] = 0.5 - x[~big] / 3 + x[~big] ** 2 / 4
    np.testing.assert_allclose(second_order_log(x), expected, rtol=1e-9)


def test_choice_and_refusals():
    X, y, factors, _ = design((25, 6), (1, 1))
    cp = statistics(X, y, factors, structure="crossed")
    engine = choose_engine(cp, np.arange(3), engine="iterative")
    assert engine.name == "iterative" and "probes" in engine.reason
    with pytest.raises(NumericalError, match="call factorize"):
        engine.moments()
    with pytest.raises(NumericalError, match="not finite"):
        engine.factorize([np.array([[np.nan]]), np.eye(1)])
    row = forecast(cp).row("iterative")
    assert row.bytes > 0 and row.step_seconds > 0
    tree = statistics(X, y, [factors[0]])
    with pytest.raises((ModelError, ValueError)):
        choose_engine(tree, np.arange(3), engine="iterative")


def test_where_nothing_exact_is_affordable_probes_are_chosen(monkeypatch):
    from fastlmm_core.mme import choose

    monkeypatch.setattr(choose, "SMALL", 1)
    monkeypatch.setattr(choose, "AFFORDABLE_SECONDS", 0.0)
    X, y, factors, _ = design((25, 6), (1, 1))
    cp = statistics(X, y, factors, structure="crossed")
    assert choose_engine(cp, np.arange(3)).name == "iterative"
