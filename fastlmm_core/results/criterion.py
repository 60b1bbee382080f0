"""The same model by the other criterion, from the statistics of the fit."""

import warnings
from dataclasses import replace

import numpy as np

from fastlmm_core.errors import ConvergenceWarning
from fastlmm_core.inference.refit import fresh_objective, solve_again
from fastlmm_core.results.fitrows import AbsentRows, FitRows
from fastlmm_core.results.resampling import solved_model, theta_names
from fastlmm_core.results.streamrows import SourceRows, StatisticsRows
from fastlmm_core.results.summary import ending
from fastlmm_core.results.variance import variances_of_sums


def by_criterion(fit, reml: bool):
    """See `LMMResults.to_ml` and `LMMResults.to_reml`."""
    if fit._estimates.reml == reml:
        return fit
    solved = solved_model(fit, f"a refit by {'REML' if reml else 'ML'}")
    theta = solved.estimates.theta
    again, optimum = solve_again(
        solved,
        fresh_objective(solved, reml=reml),
        start=theta if theta.any() else None,
        names=theta_names(fit._facts),
    )
    if not optimum.certificate.converged:
        warnings.warn(ending(optimum.certificate), ConvergenceWarning, stacklevel=3)
    facts = replace(fit._facts, reml=reml)
    return type(fit)(facts, again, optimum.certificate, _rows(fit, again), fit._spec)


def criterion_at(fit, theta: np.ndarray) -> float:
    """The criterion of a fit at another theta, in the units of the data."""
    solved = solved_model(fit, "the criterion at another theta")
    with solved._lock:
        value = solved.objective.evaluate(solved.theta_map.to_Lambda(theta)).value
    return value - solved.point.value + solved.estimates.objective


def _rows(fit, again) -> FitRows | StatisticsRows | AbsentRows:
    """The rows of the fit, at other estimates."""
    rows, found = fit._rows, again.estimates
    if isinstance(rows, FitRows):
        covariances = [found.sigma2 * T for T in found.terms]
        return FitRows(rows.design, rows.source, found.beta, again, found.sigma, covariances, rows.n_threads)
    if isinstance(rows, StatisticsRows):
        scales = (found.sigma, rows.scales[1])
        known = (
            rows.moments, rows.layout, again.point.beta, rows.kept, standardized_terms(again), rows.n, scales,
            rows.fixed_map,
        )  # fmt: skip
        if not isinstance(rows, SourceRows):
            return StatisticsRows(*known)
        return SourceRows(
            *known, source=rows.source, plan=rows.plan, spec=rows.spec,
            effects=lambda: again.random_effects, beta_original=found.beta,
        )  # fmt: skip
    known = {"variances": variances_of_sums(fit._spec, again), "quantiles": np.full(5, np.nan)}
    known |= {name: value for name, value in vars(rows).items() if name in ("triangle", "numbers")}
    return AbsentRows(known)


def standardized_terms(solved) -> list[np.ndarray]:
    """T~ of each term, ``T = B T~ B'``."""
    inverses, terms = solved.theta_map.inverse_maps, solved.estimates.terms
    return [Binv @ T @ Binv.T for Binv, T in zip(inverses, terms, strict=True)]
