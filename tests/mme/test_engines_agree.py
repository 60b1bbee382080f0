"""Every shape of crossed model in every engine: n x n oracle, finite differences, accessors of fits."""

import warnings

import numpy as np
import pandas as pd
import pytest
from oracle.dense import DenseEngine, statistics

import fastlmm_core as flm
from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import ModelError, MonteCarloWarning
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.optimize import score

N, A, B, C = 300, 24, 12, 5
SHAPES = {
    "scalar": "y ~ x + (1 | a) + (1 | b)",
    "slopes": "y ~ x + (x | a) + (x | b)",
    "three columns": "y ~ x + z + (x + z | a) + (1 | b)",
    "several terms": "y ~ x + z + (1 | a) + (0 + x | a) + (z | b) + (0 + x | b)",
    "nested and crossed": "y ~ x + (1 | a / inner) + (1 | b)",
    "three factors": "y ~ x + (1 | a) + (1 | b) + (1 | c)",
    "three factors, slopes": "y ~ x + (x | a) + (1 | b) + (0 + x | c)",
}
COLUMNS = {
    "scalar": {"a": ["1"], "b": ["1"]},
    "slopes": {"a": ["1", "x"], "b": ["1", "x"]},
    "three columns": {"a": ["1", "x", "z"], "b": ["1"]},
    "several terms": {"a": ["1", "x"], "b": ["1", "z", "x"]},
    "nested and crossed": {"inner": ["1"], "a": ["1"], "b": ["1"]},
    "three factors": {"a": ["1"], "b": ["1"], "c": ["1"]},
    "three factors, slopes": {"a": ["1", "x"], "b": ["1"], "c": ["x"]},
}
ENGINES = ("dense", "sparse", "iterative")


def draw(n=N, levels=(A, B, C), seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.integers(0, G, n) for G in levels)
    inner = 3 * a + rng.integers(0, 3, n)
    x, z = rng.normal(size=(2, n))
    y = 1 + x + rng.normal(size=n)
    for codes, size, slope in ((a, 0.8, 0.4), (b, 0.6, 0.3), (c, 0.5, 0.3), (inner, 0.5, 0.0)):
        effects = scale * rng.normal(size=(codes.max() + 1, 2)) * (size, slope)
        y += effects[codes, 0] + effects[codes, 1] * x
    frame = {"y": y, "x": x, "z": z, "a": a, "b": b, "c": c, "inner": inner, "w": rng.uniform(0.5, 2, n)}
    return pd.DataFrame(frame)


def pieces(shape, weighted):
    """X, y, factors, weights of a shape, and Lambda with a zero variance in the last factor's last column."""
    frame = draw()
    names = COLUMNS[shape]
    values = {"1": np.ones(N), "x": frame["x"].to_numpy(), "z": frame["z"].to_numpy()}
    factors = []
    for name, columns in names.items():
        codes = pd.factorize(frame[name], sort=True)[0]
        factors.append((codes, np.column_stack([values[column] for column in columns])))
    rng = np.random.default_rng(3)
    Lambda = []
    for _, Z in factors:
        k = Z.shape[1]
        Lambda.append(np.tril(0.3 * rng.normal(size=(k, k))) + 0.6 * np.eye(k))
    if shape == "several terms":  # terms of one factor are independent
        Lambda[0][1, 0] = Lambda[1][2, 0] = Lambda[1][2, 1] = 0.0
    X = np.column_stack([np.ones(N), frame["x"]])
    return X, frame["y"].to_numpy(), factors, frame["w"].to_numpy() if weighted else None, Lambda


def built(name, X, y, factors, weights):
    cp = statistics(X, y, factors, weights, structure="crossed")
    engine = choose_engine(cp, np.arange(2), engine=name)
    if name == "iterative":
        engine.set_probes(200)  # unit vectors: no Monte Carlo error is left
        assert engine.exact
    return engine


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_variances_are_those_of_the_oracle(shape, name, weighted):
    X, y, factors, weights, Lambda = pieces(shape, weighted)
    Lambda[-1][-1, :] = 0.0  # a variance of zero
    engine, oracle = built(name, X, y, factors, weights), DenseEngine(X, y, factors, weights)
    (logdet, S), (logdet0, S0) = engine.factorize(Lambda), oracle.factorize(Lambda)
    tol = 1e-7 if name == "iterative" else 1e-10
    assert logdet == pytest.approx(logdet0, abs=1e-3 if name == "iterative" else 1e-8)
    np.testing.assert_allclose(S, S0, rtol=tol, atol=tol * np.abs(S0).max())
    v = np.append(-np.linalg.solve(S0[:2, :2], S0[:2, 2]), 1.0)
    for mine, theirs in zip(engine.random_effects(v), oracle.random_effects(v), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    for f in range(len(factors)):
        levels = np.arange(engine.levels[f])
        variances = engine.exact_covariance(f, levels) if name == "iterative" else None
        mine = engine.conditional_covariance(f) if variances is None else variances
        np.testing.assert_allclose(mine, oracle.conditional_covariance(f), atol=1e-7)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_that_of_the_exact_objective_by_differences(shape, name):
    X, y, factors, weights, Lambda = pieces(shape, True)
    logs = float(np.log(weights).sum())
    exact = ProfiledObjective(DenseEngine(X, y, factors, weights), N, True, logs)
    objective = ProfiledObjective(built(name, X, y, factors, weights), N, True, logs)
    D = objective.gradient(objective.evaluate(Lambda))
    step = 1e-5
    for f, L in enumerate(Lambda):
        for a in range(len(L)):
            for b in range(a + 1):

                def value(h, f=f, a=a, b=b):
                    moved = [M.copy() for M in Lambda]
                    moved[f][a, b] += h
                    return exact.evaluate(moved).value

                difference = (value(step) - value(-step)) / (2 * step)
                mine = 2.0 * (D[f] @ L)[a, b]
                assert mine == pytest.approx(difference, rel=2e-4, abs=2e-3), (f, a, b)


ACCESSORS = {
    "theta": lambda fit: fit.theta,
    "sigma": lambda fit: [fit.sigma],
    "params": lambda fit: fit.params.to_numpy(),
    "bse": lambda fit: fit.bse.to_numpy(),
    "df": lambda fit: fit._df,
    "llf": lambda fit: [fit.llf],
    "ranef": lambda fit: np.concatenate([b.to_numpy().ravel() for b in fit.ranef().values()]),
    "conditional variances": lambda fit: np.concatenate(
        [V.ravel() for V in fit.ranef(cond_var=True)[1].values()]
    ),
    "fitted": lambda fit: fit.fittedvalues,
    "predict": lambda fit: fit.predict(draw(seed=9)),
    "conf_int": lambda fit: fit.conf_int().to_numpy(),
    "r2": lambda fit: fit.r2().to_numpy(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_fits_by_all_engines_agree(shape):
    frame = draw(600)
    fits = {
        name: flm.lmer(SHAPES[shape], frame, weights="w", control=flm.Control(engine=name, probes=300))
        for name in ENGINES
    }
    assert [fit.engine for fit in fits.values()] == ["crossed", "sparse", "iterative"]
    for what, read in ACCESSORS.items():
        expected = np.asarray(read(fits["dense"]), float)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(read(fits["sparse"]), expected, atol=1e-5 * scale, err_msg=what)
        atol = (2e-2 if what in ("df", "conf_int", "conditional variances") else 2e-3) * scale
        np.testing.assert_allclose(read(fits["iterative"]), expected, atol=atol, err_msg=what)


@pytest.mark.parametrize("name", ENGINES)
def test_a_variance_of_zero_is_found_in_a_few_steps(name):
    frame = draw(1200, levels=(100, 40, 15), scale=0.0)
    frame["y"] += np.random.default_rng(1).normal(size=100)[frame["a"]]
    found = []
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        frame["null"] = rng.integers(0, 50, len(frame))
        control = flm.Control(engine=name, probes=200)
        fit = flm.lmer("y ~ x + (1 | a) + (1 | null) + (0 + z | null)", frame, control=control)
        assert fit.converged and fit.convergence.n_gradients <= 16
        found.append(len(fit.convergence.boundary))
        errors = fit.convergence.kkt_min_eigenvalue
        assert not fit.convergence.boundary or errors >= 0
    assert max(found) >= 1


def test_more_probes_are_taken_until_the_error_asked_for_holds(monkeypatch):
    frame = draw(2400, levels=(600, 300, 20), seed=4)
    formula = SHAPES["scalar"]
    rough = flm.lmer(formula, frame, control=flm.Control(engine="iterative", probes=16))
    wanted = rough.convergence.monte_carlo.worst / 2
    fine = flm.lmer(formula, frame, control=flm.Control(engine="iterative", probes=16, mc_error=wanted))
    errors = fine.convergence.monte_carlo
    assert errors.worst <= wanted and errors.probes >= 3 * 16
    monkeypatch.setattr(score, "MAX_PROBES", 32)
    with pytest.warns(flm.ConvergenceWarning, match="needs more than 32 probes"):
        never = flm.lmer(formula, frame, control=flm.Control(engine="iterative", probes=16, mc_error=1e-9))
    assert not never.converged and never.convergence.monte_carlo.probes == 32


def test_two_seeds_differ_within_the_errors_they_state_and_from_the_exact_fit():
    frame = draw(2400, levels=(600, 300, 20), seed=4)
    formula = SHAPES["three factors"]
    exact = flm.lmer(formula, frame, control=flm.Control(engine="sparse"))
    se = np.sqrt(np.diag(exact._solved.calculus.covariance)[: len(exact.theta)])
    thetas, stated, logs = [], [], []
    for seed in range(8):
        fit = flm.lmer(formula, frame, control=flm.Control(engine="iterative", probes=24, seed=seed))
        errors = fit.convergence.monte_carlo
        thetas.append((fit.theta - exact.theta) / se)
        stated.append(errors.theta)
        logs.append((fit._estimates.objective - exact._estimates.objective) / 2 / errors.loglik_sd)
    ratio = np.sqrt((np.square(thetas) / np.square(stated)).mean(0))
    assert (ratio < 2.5).all() and (ratio > 0.2).all()
    assert np.sqrt(np.mean(np.square(logs))) < 2.5
    assert np.ptp(thetas, axis=0).min() > 0


def test_uncertain_likelihoods_warn_and_are_not_compared():
    frame = draw(9000, levels=(3000, 2000, 20), seed=4, scale=4.0)
    control = flm.Control(engine="iterative", probes=8)
    fit = flm.lmer(SHAPES["scalar"], frame, control=control)
    assert fit.convergence.monte_carlo.loglik_sd > fit.convergence.monte_carlo.NOTABLE_SD
    for name in ("llf", "aic", "bic"):
        with pytest.warns(MonteCarloWarning, match="sd|standard deviation"):
            getattr(fit, name)
    with pytest.warns(MonteCarloWarning):
        flm.anova(fit, flm.lmer("y ~ x + (1 | a)", frame))
    with warnings.catch_warnings(), pytest.raises(ModelError, match="log-likelihood"):
        warnings.simplefilter("ignore", MonteCarloWarning)
        fit.ranova()
