"""Comparison of models: information criteria, leave-out prediction, a table of fits."""

import warnings
from math import log, pi

import numpy as np
import pandas as pd

from fastlmm_core.criterion.information import natural_scales
from fastlmm_core.errors import DataError
from fastlmm_core.inference.conditional import is_exact, leverage_sum, moves_with_theta, weighted_squares
from fastlmm_core.inference.estimates import pseudo_inverse
from fastlmm_core.results.coefficients import choose
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.influence import GroupedRows
from fastlmm_core.results.rowblocks import equations


def corrected_aic(fit) -> float:
    """AIC with Hurvich & Tsai's correction, ``+ 2 k (k + 1) / (n - k - 1)``; infinite without room for it."""
    k, n = fit.df_modelwc, fit.nobs
    return fit.aic + 2.0 * k * (k + 1) / (n - k - 1) if n > k + 1 else float("inf")


def conditional_aic(fit, method: str) -> float:
    """See `LMMResults.caic`."""
    parameters = choose(method, {"greven-kneib": estimated_df, "vaida-blanchard": known_df}, "method")
    solved, n = equations(fit), fit.nobs
    if is_exact(solved):
        squares = weighted_squares(solved)
    else:
        rows = _rows_of_probes(fit)
        w = 1.0 if rows.design.weights is None else rows.design.weights
        squares = float((w * rows.residuals**2).sum()) / fit.scale
    deviance = n * log(2.0 * pi * fit.scale) - fit._estimates.sum_log_weights + squares
    return deviance + 2.0 * (parameters(fit) + 1.0)


def _rows_of_probes(fit) -> FitRows:
    """A fit by probes has estimates of the sums that others are exact in."""
    if not isinstance(fit._rows, FitRows):
        raise DataError(
            "the conditional AIC of a fit by probes needs the data rows, which this fit does not have: fit "
            "rows with lmer, or use another engine"
        )
    return fit._rows


def known_df(fit) -> float:
    """``tr(d fitted / d y)`` at fixed theta: the sum of the leverages."""
    return leverage_sum(equations(fit)) if is_exact(equations(fit)) else known_df_by_rows(fit)


def known_df_by_rows(fit) -> float:
    """The same, leverage by leverage."""
    _rows_of_probes(fit)
    return float(GroupedRows(fit, None).rows[1].sum())


def estimated_df(fit) -> float:
    """``tr(d fitted / d y)`` with theta following y.

    With ``w_j = Z (dT/dtheta_j) Z'P y`` the fitted values move by ``W^-1 P w_j`` per unit of theta_j,
    and by the implicit function theorem theta by ``-H^-1 d(gradient)/dy``, H the profiled Hessian;
    ``d(gradient_j)/dy = (2 N / r2) (a_j / r2 P y - P w_j)``.  Parameters at a bound do not move.
    """
    solved = equations(fit)
    if not is_exact(solved):
        return estimated_df_by_rows(fit)

    def products():
        return moves_with_theta(solved, fit._prediction_errors.levels)

    return _following(fit, leverage_sum(solved), products)


def estimated_df_by_rows(fit) -> float:
    """The same, from how each fitted value moves."""
    _rows_of_probes(fit)
    grouped = GroupedRows(fit, None)
    d, leverage, _ = grouped.rows

    def products():
        psi = _moves(fit, grouped, d, fit._solved.theta_map.directions(fit._estimates.theta))
        weighted = grouped.w[:, None] * psi
        return psi.T @ weighted, weighted.T @ (fit._rows.residuals / fit._solved.fixed.scale)

    return _following(fit, float(leverage.sum()), products)


def _following(fit, known: float, products) -> float:
    """Adds what theta contributes; ``products()`` are ``psi'W psi`` (m, m) and ``psi'W e`` (m,)."""
    solved = fit._solved
    information, point = solved.calculus.information, solved.point
    m = len(information) - 1
    a = information[:m, m]
    profiled = information[:m, :m] - np.outer(a, a) / point.N
    theta, lower = fit._estimates.theta, fit._estimates.theta_lower
    inner = solved.calculus.to_theta is not None
    free = np.arange(m) if inner else np.flatnonzero((lower != 0) | (theta > 1e-4))
    if not len(free):
        return known
    gram, along = products()
    J = solved.calculus.gradient(np.eye(m))[:, free]
    moved = J.T @ gram @ J - np.outer(a[free] / point.N, J.T @ along)
    scales = np.ones(m) if inner else natural_scales(solved.theta_map, theta)
    H_inverse = pseudo_inverse(profiled[np.ix_(free, free)], scales[free])
    return known + 2.0 / point.s2 * float((H_inverse * moved).sum())


def _moves(fit, grouped, d, directions) -> np.ndarray:
    """``W^-1 P w_j`` (n, m): ``w_j - Z K Z'W w_j - d Q d'W w_j``, in standardized units of y."""
    solved, source, w = fit._solved, grouped.source, grouped.w
    levels, Q = grouped.errors.levels, grouped.errors.Q
    blocks = [(rows, grouped._block(rows)) for rows in source.slices()]
    e = fit._rows.residuals / solved.fixed.scale
    g = [np.zeros((G, k)) for G, k in zip(levels.levels, levels.k)]
    for rows, block in blocks:
        for f, z in enumerate(block.z):
            for j in range(z.shape[1]):
                g[f][:, j] += np.bincount(block.codes[f], w[rows] * e[rows] * z[:, j], levels.levels[f])
    change = np.empty((source.n, len(directions)))
    rhs = [np.zeros((G, k, len(directions))) for G, k in zip(levels.levels, levels.k)]
    for rows, block in blocks:
        for j, (f, X) in enumerate(directions):
            change[rows, j] = np.einsum("nk,nk->n", block.z[f], (g[f] @ X)[block.codes[f]])
            for h, z in enumerate(block.z):
                for a in range(z.shape[1]):
                    value = w[rows] * change[rows, j] * z[:, a]
                    rhs[h][:, a, j] += np.bincount(block.codes[h], value, levels.levels[h])
    b = levels.apply(rhs)
    change -= d @ (Q @ (d.T @ (w[:, None] * change)))
    for rows, block in blocks:
        for f, z in enumerate(block.z):
            change[rows] -= np.einsum("nk,nkm->nm", z, b[f][block.codes[f]])
    return change


class LeaveOut:
    """Predictions of each group from the others, at the variances of the fit; made by `LMMResults.loo`.

    Attributes
    ----------
    table : DataFrame by group: ``n``, ``mse`` (weighted mean squared error) and ``log_score``, the joint
        log density of the group's rows given all others.
    predicted : Series, each row's mean given the rows outside its group.
    elpd, se : float, sum of the log scores and its standard error over groups.
    rmse : float, root of the weighted mean squared error over rows.
    """

    def __init__(self, fit, by):
        grouped, rows = GroupedRows(fit, by), fit._rows
        gamma, w, s2 = grouped.gamma, grouped.w, fit.scale
        n = grouped.by_group(np.ones(grouped.source.n))
        squares = grouped.by_group(w * gamma**2)
        form = grouped.by_group(w * rows.residuals * gamma) / s2
        score = -0.5 * (n * log(2.0 * pi * s2) - grouped.logdet + form)
        self.by = by
        self.table = pd.DataFrame(
            {"n": n.astype(int), "mse": squares / grouped.by_group(w), "log_score": score},
            index=grouped.labels,
        )
        offset = 0.0 if rows.design.offset is None else rows.design.offset
        self.predicted = rows.series(rows.design.response + offset - gamma, "predicted")
        self.elpd = float(score.sum())
        self.se = float(np.std(score, ddof=1) * len(score) ** 0.5) if len(score) > 1 else float("nan")
        self.rmse = float((squares.sum() / w.sum()) ** 0.5)

    def __repr__(self) -> str:
        what = "rows" if self.by is None else f"groups of {self.table.index.name!r}"
        numbers = f"elpd {self.elpd:.2f} (se {self.se:.2f}), rmse {self.rmse:.4g}"
        return f"<LeaveOut of {len(self.table)} {what}: {numbers}>"


def compare(*fits, names=None) -> pd.DataFrame:
    """Several fits side by side, the best AIC first.

    Parameters
    ----------
    fits : LMMResults or LMResults, of one response on the same rows.
    names : labels of the rows, by default the formulas.

    Returns
    -------
    DataFrame : ``method, nobs, df, llf, aic, delta, weight, aicc, bic, sigma, r2_marginal, r2_conditional``;
        ``weight`` is ``exp(-delta / 2)`` over its sum (Burnham & Anderson 2002, section 2.9).

    Raises
    ------
    DataError : different responses or numbers of rows.

    Warns
    -----
    UserWarning : REML likelihoods of models with different fixed effects, or REML beside ML.
    """
    if not fits:
        raise ValueError("compare needs at least one fit")
    names = [fit.formula for fit in fits] if names is None else list(names)
    if len(names) != len(fits):
        raise ValueError(f"{len(names)} names for {len(fits)} fits")
    for fit in fits[1:]:
        for what in ("nobs", "response_name"):
            mine, first = getattr(fit, what), getattr(fits[0], what)
            if mine != first:
                raise DataError(f"these fits are not of the same data: {what} is {first!r} and {mine!r}")
    _warn_of_reml(fits)
    rows = []
    for fit in fits:
        r2 = _shares(fit)
        df = fit.df_modelwc if hasattr(fit, "df_modelwc") else len(fit._kept) + 1
        rows.append(
            {
                "method": getattr(fit, "method", "OLS"),
                "nobs": fit.nobs,
                "df": df,
                "llf": fit.llf,
                "aic": fit.aic,
                "aicc": fit.aic + 2.0 * df * (df + 1) / (fit.nobs - df - 1) if fit.nobs > df + 1 else np.inf,
                "bic": fit.bic,
                "sigma": fit.scale**0.5,
                "r2_marginal": r2[0],
                "r2_conditional": r2[1],
            }
        )
    table = pd.DataFrame(rows, index=names)
    delta = table["aic"] - table["aic"].min()
    table.insert(5, "delta", delta)
    table.insert(6, "weight", np.exp(-0.5 * delta) / np.exp(-0.5 * delta).sum())
    return table.sort_values("aic", kind="stable")


def _shares(fit) -> tuple[float, float]:
    if hasattr(fit, "r2"):
        return tuple(fit.r2())
    return fit.rsquared, fit.rsquared


def _warn_of_reml(fits) -> None:
    methods = {getattr(fit, "method", "OLS") for fit in fits}
    if "REML" in methods and len(methods) > 1:
        warnings.warn(
            "REML and other likelihoods are not comparable: refit with reml=False", UserWarning, stacklevel=3
        )
    elif "REML" in methods and len({tuple(sorted(fit._names)) for fit in fits}) > 1:
        warnings.warn(
            "REML likelihoods of different fixed effects are not comparable: refit with reml=False",
            UserWarning,
            stacklevel=3,
        )
