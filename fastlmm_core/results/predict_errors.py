"""Standard errors and intervals of predictions, and predictions given rows of new levels."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fastlmm_core.data.table import Table
from fastlmm_core.errors import DataError, ModelError
from fastlmm_core.inference.distributions import t_quantile
from fastlmm_core.inference.prediction import satterthwaite_df, update_by_rows
from fastlmm_core.results.predict import chosen_factors, predict_new, refuse_unknown
from fastlmm_core.results.rowblocks import (
    RowSource,
    equations,
    fit_source,
    level_keys,
    name_new_levels,
    new_source,
    new_weights,
)

INTERVALS = ("mean", "observation", "new_cluster")
MOST_GIVEN = 4000
"""Rows to condition on: their covariance is one dense matrix."""


CORRECTIONS = {None: 0.0, "kackar-harville": 1.0, "prasad-rao": 2.0}
"""How often g3, the variance from the estimation of the variance parameters, is added."""


def check_options(interval, level, new_levels, correction=None) -> None:
    if interval is not None and interval not in INTERVALS:
        raise ValueError(f"interval is one of {', '.join(map(repr, INTERVALS))} or None, found {interval!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, found {level!r}")
    if new_levels not in ("error", "population", "missing"):
        raise ValueError(f"new_levels is 'error', 'population' or 'missing', found {new_levels!r}")
    if correction not in CORRECTIONS:
        known = ", ".join(map(repr, CORRECTIONS))
        raise ValueError(f"correction is one of {known}, found {correction!r}")


def predict_table(fit, newdata, re, new_levels, interval, level, correction=None) -> pd.DataFrame:
    """Columns ``mean, se`` and, with an interval, ``lower, upper``; see `LMMResults.predict`."""
    groups = fit._facts.factors
    if interval == "new_cluster" and isinstance(re, str):
        re = "none"
    factors = chosen_factors(re, groups)
    source, mean = _source_and_mean(fit, newdata, factors, interval, new_levels)
    if factors:
        variance, df = random_errors(fit, source, factors, interval)
    else:
        variance, df = fixed_errors(fit, source, interval)
    if correction is not None:
        variance = variance + CORRECTIONS[correction] * estimation_part(fit, source, factors)
    return error_table(mean, np.where(np.isnan(mean), np.nan, variance), df, interval, level)


def error_table(mean: pd.Series, variance, df, interval, level) -> pd.DataFrame:
    se = np.sqrt(np.maximum(variance, 0.0))
    table = pd.DataFrame({"mean": mean.to_numpy(), "se": se}, index=mean.index)
    if interval is not None:
        reach = t_quantile(0.5 + level / 2.0, df) * se
        table["lower"], table["upper"] = table["mean"] - reach, table["mean"] + reach
    return table


def _source_and_mean(fit, newdata, factors, interval, new_levels):
    spec, groups = fit._spec, fit._facts.factors
    if newdata is None:
        design = fit._rows.design
        source = fit_source(design, fit._rows.labels)
        return source, fit._rows.series(fit._rows.mean(factors), "predicted")
    table = Table(newdata)
    effects = fit._solved.random_effects if factors else ()
    mean = predict_new(spec, table, fit._beta, effects, factors, groups, new_levels)
    if interval in ("observation", "new_cluster"):
        # z of effects that are drawn anew is needed, their groups are not
        extra = [c for term in spec.terms if term.factor not in factors for c in term.columns]
        spec = replace(spec, fixed=(*spec.fixed, *extra))
    rows = spec.evaluate(table, random=[groups[f] for f in factors])
    return new_source(spec, rows, new_weights(spec, table)), mean


def residual_part(fit, source: RowSource, rows, interval) -> np.ndarray:
    """``sigma^2 / weight`` of new observations, else 0."""
    m = rows.stop - rows.start
    if interval != "observation":
        return np.zeros(m)
    return np.full(m, fit.scale) if source.weights is None else fit.scale / source.weights[rows]


def estimation_part(fit, source, factors) -> np.ndarray:
    """Kackar and Harville's g3 (n,): what the estimation of theta adds to the variance of the mean."""
    solved, out = equations(fit), np.empty(source.n)
    for rows in source.slices():
        out[rows] = fit.scale * fit._estimation_errors.variance(source.block(solved, factors, rows))
    return out


def random_errors(fit, source, factors, interval) -> tuple[np.ndarray, np.ndarray]:
    """Variances (n,) with predicted random effects, and degrees of freedom where an interval needs them."""
    solved, every = equations(fit), range(len(fit._facts.factors))
    anew = interval in ("observation", "new_cluster")

    def variance(errors):
        out = np.empty(source.n)
        for rows in source.slices():
            out[rows] = errors.variance(source.block(solved, factors, rows))
            if anew:
                unseen = source.block(solved, every, rows)
                for f, codes in enumerate(unseen.codes):
                    if f not in factors:
                        codes[:] = -1
                out[rows] += errors.new_level_variance(unseen, errors.levels.T)
        return out

    base = variance(fit._prediction_errors)
    noise = residual_part(fit, source, slice(0, source.n), interval)
    df = np.inf if interval is None else degrees_of_freedom(fit, base, noise, variance)
    return fit.scale * base + noise, df


def degrees_of_freedom(fit, base, noise, variance):
    """Satterthwaite's; infinite for fits by probes, whose gradient in theta is noisy."""
    if fit._facts.engine == "iterative":
        return np.inf
    return satterthwaite_df(fit._varied_errors, base, noise, variance)


def fixed_errors(fit, source, interval) -> tuple[np.ndarray, np.ndarray]:
    """Variances (n,) of ``x'beta`` and of new levels and observations, and Satterthwaite's df.

    ``f = x'C x + z'Sigma z + sigma^2 / w`` has gradient g in ``(theta, log sigma^2)``, and
    ``df = 2 f^2 / g'A g`` with A the covariance of those parameters.
    """
    estimates, calculus = fit._estimates, fit._solved.calculus
    f, df = np.empty(source.n), np.empty(source.n)
    for rows in source.slices():
        X = source.X(estimates.kept, rows)
        value = np.einsum("ni,ij,nj->n", X, fit._vcov, X, optimize=True)
        g = np.einsum("ni,mij,nj->nm", X, calculus.jacobian, X, optimize=True)
        if interval in ("observation", "new_cluster"):
            value += _new_levels(fit, source, rows, g)
        noise = residual_part(fit, source, rows, interval)
        f[rows], g[:, -1] = value + noise, g[:, -1] + noise
        spread = np.einsum("nm,mk,nk->n", g, calculus.covariance, g)
        with np.errstate(divide="ignore", invalid="ignore"):
            df[rows] = np.where(spread > 0, 2.0 * f[rows] ** 2 / spread, np.inf)
    return f, df


def _new_levels(fit, source, rows, g) -> np.ndarray:
    """``z'Sigma z`` (m,) over all terms; its gradient is added to ``g`` (m, parameters)."""
    estimates, total, j = fit._estimates, 0.0, 0
    own = np.zeros((g.shape[0], g.shape[1] - 1))
    for term, T in zip(source.terms, estimates.terms, strict=True):
        Z, q = source.Z(term, rows), len(T)
        entries = [(a, b) for b in range(q) for a in range(b, q)]
        L = np.zeros((q, q))
        for place, (a, b) in enumerate(entries):
            L[a, b] = estimates.theta[j + place]
        ZL = Z @ L
        total = total + fit.scale * (ZL**2).sum(1)
        for a, b in entries:  # d(L L') = e_a e_b'L' + L e_b e_a'
            own[:, j] = 2.0 * fit.scale * Z[:, a] * ZL[:, b]
            j += 1
    g[:, :-1] += fit._solved.calculus.gradient(own)
    g[:, -1] += total
    return total


def predict_given(fit, newdata, given, re, new_levels, interval, level, se):
    """Predictions for ``newdata`` after the rows ``given`` were seen too, variances as fitted."""
    groups, spec, solved = fit._facts.factors, fit._spec, equations(fit)
    if interval == "new_cluster":
        raise ValueError(
            "condition_on is for levels that are known by some rows: interval 'new_cluster' is not"
        )
    if newdata is None:
        raise ValueError("condition_on needs newdata: the rows to predict")
    factors = chosen_factors(re, groups)
    if len(factors) != len(groups):
        raise ValueError("condition_on predicts with all random effects: re='all'")
    tables = [Table(newdata), Table(given)]
    evaluated = [spec.evaluate(table) for table in tables]
    sources = [new_source(spec, rows, new_weights(spec, t)) for rows, t in zip(evaluated, tables)]
    residual = spec.response_values(tables[1])
    if sources[1].missing is not None or np.isnan(residual).any():
        raise DataError("rows to condition on miss values: leave those rows out")
    if not 0 < sources[1].n <= MOST_GIVEN:
        raise ModelError(f"condition_on has {sources[1].n} rows; between 1 and {MOST_GIVEN} are possible")
    if fit._facts.weights_name is not None and sources[1].weights is None:
        raise DataError("the fit has weights: name their column in lmer and give it in condition_on")
    name_new_levels(spec, sources, tables, factors)
    if new_levels == "error":
        _refuse_unnamed(spec, sources, tables[0])
    means = [
        predict_new(spec, table, fit._beta, solved.random_effects, factors, groups, "population")
        for table in tables
    ]
    rows, conditions = (source.block(solved, factors) for source in sources)

    def update(errors):
        return update_by_rows(errors, rows, conditions, residual - means[1].to_numpy(), sources[1].weights)

    updated = update(fit._prediction_errors)
    mean = means[0] + updated.shift
    if new_levels == "missing":
        mean[_unnamed(spec, sources)] = np.nan
    if not se and interval is None:
        return mean
    noise = residual_part(fit, sources[0], slice(0, sources[0].n), interval)
    df = np.inf
    if interval is not None:
        df = degrees_of_freedom(fit, updated.variance, noise, lambda errors: update(errors).variance)
    variance = np.where(np.isnan(mean), np.nan, fit.scale * updated.variance + noise)
    return error_table(mean, variance, df, interval, level)


def _unnamed(spec, sources) -> np.ndarray:
    """Rows (n,) of levels with no rows at all, neither in the fit nor given."""
    codes = [(new.codes[f], known.codes[f]) for new, known in [sources] for f in range(len(spec.groups))]
    return np.any([(new < -1) & ~np.isin(new, known) for new, known in codes], axis=0)


def _refuse_unnamed(spec, sources, table) -> None:
    """DataError naming such levels."""
    for f, group in enumerate(spec.groups):
        new = sources[0].codes[f]
        bad = (new < -1) & ~np.isin(new, sources[1].codes[f])
        if sources[0].missing is not None:
            bad &= ~sources[0].missing
        if bad.any():
            keys = level_keys(spec, group, table, np.flatnonzero(bad))
            refuse_unknown({group.name: list(dict.fromkeys(":".join(key) for key in keys))})
