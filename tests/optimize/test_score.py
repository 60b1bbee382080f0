"""Searches by probes against exact ones."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.criterion.information import theta_hessian
from fastlmm_core.errors import ConvergenceWarning, ModelError, MonteCarloWarning
from fastlmm_core.inference.estimated import check_likelihood
from fastlmm_core.mme.iterative import IterativeEngine
from fastlmm_core.optimize import score


def ratings(n=30_000, users=3000, items=300, seed=1, slope=0.0, item_sd=0.55):
    rng = np.random.default_rng(seed)
    user = np.concatenate([np.arange(users), rng.integers(0, users, n - users)])
    weight = np.arange(1, items + 1) ** -0.6
    item = np.concatenate([np.arange(items), rng.choice(items, n - items, p=weight / weight.sum())])
    user, item, x = rng.permutation(user), rng.permutation(item), rng.normal(size=n)
    effect = 0.7 * rng.normal(size=users)[user] + item_sd * rng.normal(size=items)[item]
    y = 1 + 0.5 * x + effect + slope * rng.normal(size=users)[user] * x + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "user": user, "item": item})


def fits(data, formula, seeds=(0,), **control):
    exact = flm.lmer(formula, data, control=flm.Control(engine="dense"))
    settings = [flm.Control(engine="iterative", seed=seed, **control) for seed in seeds]
    return exact, [flm.lmer(formula, data, control=one) for one in settings]


def standard_errors(fit):
    H = theta_hessian(fit._solved.objective, fit._solved.theta_map, fit._estimates.theta)
    free = np.diag(H) > 0
    se = np.full(len(H), np.inf)
    se[free] = np.sqrt(2 * np.diag(np.linalg.pinv(H[np.ix_(free, free)])))
    return se


def test_close_to_the_exact_fit_and_as_close_as_it_says():
    exact, estimated = fits(ratings(), "y ~ x + (1 | user) + (1 | item)", seeds=range(6))
    se = standard_errors(exact)
    errors = np.array([(fit._estimates.theta - exact._estimates.theta) / se for fit in estimated])
    said = np.array([fit.convergence.monte_carlo.theta for fit in estimated])
    assert np.abs(errors).max() < 5e-3
    assert 0.4 < np.sqrt((errors**2).mean()) / np.sqrt((said**2).mean()) < 2.5
    for fit in estimated:
        assert fit.convergence.converged
        np.testing.assert_allclose(fit.params, exact.params, atol=1e-4)
        np.testing.assert_allclose(fit.bse, exact.bse, rtol=1e-4)
        assert abs(fit.llf - exact.llf) < 6 * fit.convergence.monte_carlo.loglik_sd


def test_slopes():
    exact, (fit,) = fits(ratings(12_000, 1500, 150, slope=0.3), "y ~ x + (1 + x | user) + (1 | item)")
    errors = (fit._estimates.theta - exact._estimates.theta) / standard_errors(exact)
    assert np.abs(errors).max() < 2e-2
    assert np.abs(errors).max() < 6 * fit.convergence.monte_carlo.worst


def test_a_variance_of_zero_is_found():
    data = ratings(20_000, 2000, 200, item_sd=0.0, seed=3)
    exact, (fit,) = fits(data, "y ~ x + (1 | user) + (1 | item)")
    assert exact.convergence.boundary == fit.convergence.boundary != ()
    assert fit._estimates.theta[1] == 0.0
    assert fit.convergence.iterations < 12
    assert fit.convergence.kkt_min_eigenvalue > 0
    np.testing.assert_allclose(fit._estimates.theta, exact._estimates.theta, atol=1e-6)


def test_a_slope_that_vanishes():
    exact, (fit,) = fits(ratings(15_000, 1500, 150, seed=3), "y ~ x + (1 + x | user) + (1 | item)")
    assert exact.convergence.boundary == fit.convergence.boundary != ()
    assert fit.convergence.converged
    np.testing.assert_allclose(fit._estimates.theta, exact._estimates.theta, atol=1e-3)


def test_the_score_is_the_gradient_of_the_exact_objective():
    """With unit vectors for probes, against differences of the exact engine's objective."""
    data = ratings(2000, 150, 40)
    exact = flm.lmer("y ~ x + (1 + x | user) + (1 | item)", data, control=flm.Control(engine="dense"))
    solved = exact._solved
    objective = driver_objective(solved, probes=150)
    theta = np.array([0.6, 0.05, 0.2, 0.5])

    def value(at):
        return solved.objective.evaluate(solved.theta_map.to_Lambda(at)).value

    point = objective.evaluate(solved.theta_map.to_Lambda(theta))
    D = objective.gradient(point)
    found = [np.sum(D[f] * X) for f, X in solved.theta_map.directions(theta)]
    steps = 1e-5 * np.eye(4)
    expected = [(value(theta + h) - value(theta - h)) / 2e-5 for h in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def driver_objective(solved, probes):
    engine = IterativeEngine(solved.products, solved.fixed.kept, probes=probes, tol=1e-11)
    return score.ProfiledObjective(engine, solved.objective.n, True, solved.products.sum_log_weights)


def test_more_probes_until_the_error_holds():
    data = ratings(20_000, 2000, 1000)
    formula = "y ~ x + (1 | user) + (1 | item)"
    few = flm.lmer(formula, data, control=flm.Control(engine="iterative", probes=10))
    goal = few.convergence.monte_carlo.worst / 3
    more = flm.lmer(formula, data, control=flm.Control(engine="iterative", probes=10, mc_error=goal))
    assert more.convergence.monte_carlo.worst <= goal
    assert more.convergence.monte_carlo.probes > 10


def test_an_error_out_of_reach_is_said(monkeypatch):
    monkeypatch.setattr(score, "MAX_PROBES", 20)
    control = flm.Control(engine="iterative", probes=10, mc_error=1e-9)
    with pytest.warns(ConvergenceWarning, match="needs more than 20 probes"):
        fit = flm.lmer("y ~ x + (1 | user) + (1 | item)", ratings(5000, 500, 100), control=control)
    assert not fit.convergence.converged


def test_the_summary_and_the_log_likelihood_say_what_they_are():
    data = ratings(9000, 3000, 2000)
    formula = "y ~ x + (1 | user) + (1 | item)"
    fit = flm.lmer(formula, data, control=flm.Control(engine="iterative", probes=4))
    text = str(fit.summary())
    assert "(an estimate, sd" in text and "Monte Carlo: 4 probes" in text and "information by probes" in text
    assert fit.convergence.monte_carlo.loglik_sd > 0.05
    with pytest.warns(MonteCarloWarning, match="estimate with sd"):
        assert np.isfinite(fit.llf)
    with pytest.warns(MonteCarloWarning):
        assert np.isfinite(fit.aic)


def test_long_gradients_by_probes_are_not_differentiated_and_the_summary_says_so(monkeypatch):
    data = ratings(3000, 300, 100)
    control = flm.Control(engine="iterative", probes=120)
    differences = flm.lmer("y ~ x + (1 | user) + (1 | item)", data, control=control)
    exact = flm.lmer("y ~ x + (1 | user) + (1 | item)", data, control=flm.Control(engine="dense"))
    np.testing.assert_allclose(differences._df, exact._df, rtol=2e-3)
    assert "information by probes" in str(differences.summary())
    monkeypatch.setattr("fastlmm_core.criterion.information.LONG", 1.0)
    averaged = flm.lmer("y ~ x + (1 | user) + (1 | item)", data, control=control)
    assert "average information" in str(averaged.summary())
    assert (averaged._df != differences._df).any()


def test_saved_and_loaded(tmp_path):
    fit = flm.lmer(
        "y ~ x + (1 | user) + (1 | item)",
        ratings(3000, 300, 100),
        control=flm.Control(engine="iterative", probes=20),
    )
    flm.save(fit, tmp_path / "fit")
    assert flm.load(tmp_path / "fit").convergence.monte_carlo == fit.convergence.monte_carlo


def test_a_large_exact_search_starts_from_probes(monkeypatch):
    from fastlmm_core.mme import choose

    data, formula = ratings(20_000, 2000, 400), "y ~ x + (1 | user) + (1 | item)"
    plain = flm.lmer(formula, data)
    monkeypatch.setattr(choose, "SCOUT_SECONDS", 0.0)
    monkeypatch.setattr(choose, "scout_seconds", lambda sizes: 0.0)
    scouted = flm.lmer(formula, data)
    np.testing.assert_allclose(scouted._estimates.theta, plain._estimates.theta, rtol=1e-6)
    assert scouted.convergence.n_gradients < plain.convergence.n_gradients
    assert scouted.convergence.monte_carlo is None


def test_comparisons_of_estimated_likelihoods_are_refused_or_flagged():
    data = ratings(9000, 3000, 2000)
    fit = flm.lmer("y ~ x + (1 | user) + (1 | item)", data, control=flm.Control(engine="iterative", probes=4))
    with pytest.raises(ModelError, match="compares log-likelihoods"):
        check_likelihood(fit._solved.objective, "this")
    with pytest.warns(MonteCarloWarning, match="chisq has a standard deviation"):
        flm.anova(fit, flm.lmer("y ~ x + (1 | user)", data))
    exact = flm.lmer("y ~ x + (1 | user)", data)
    check_likelihood(exact._solved.objective, "this")
