"""Residuals of a mixed model: conditional, marginal, standardized and decorrelated."""

import numpy as np

from fastlmm_core.inference.robust import check_clusters, check_size
from fastlmm_core.results.influence import GroupedRows
from fastlmm_core.results.robust import marginal, outermost
from fastlmm_core.results.rowblocks import equations, fit_source

NUMBERS = 4_000_000


def marginal_residuals(fit) -> np.ndarray:
    """``y - X beta - offset``."""
    return fit._rows.design.response - fit._rows.linear()


def studentized_residuals(fit) -> np.ndarray:
    """``sqrt(w) e / (sigma sqrt(1 - leverage))``; NaN where a row is fitted exactly."""
    leverage = GroupedRows(fit, None).rows[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return fit._rows.scaled_residuals / np.sqrt(np.where(leverage < 1.0, 1.0 - leverage, np.nan))


def cluster_residuals(fit) -> np.ndarray:
    """``L_i^-1 (y_i - X_i beta)`` with ``V_i = L_i L_i'`` the fitted covariance of a cluster."""
    equations(fit)
    source, design = fit_source(fit._rows.design, fit._rows.labels), fit._rows.design
    clusters = np.asarray(design.factors[outermost(design)].codes)
    if len(fit._facts.levels[outermost(design)]) > 1:
        check_clusters(clusters, source.codes, fit._facts.factors)
    sizes = np.bincount(clusters)
    check_size(int(sizes.max()))
    T = fit._prediction_errors.levels.T
    order, starts = np.argsort(clusters, kind="stable"), np.cumsum(sizes) - sizes
    residual, out = marginal_residuals(fit), np.empty(design.n)
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        step = max(1, NUMBERS // int(size) ** 2)
        for place in range(0, len(alike), step):
            rows = order[starts[alike[place : place + step]][:, None] + np.arange(size)]
            block = source.block(fit._solved, range(len(source.codes)), rows.ravel())
            L = np.linalg.cholesky(marginal(block, source, rows, T))
            out[rows] = np.linalg.solve(L, residual[rows][:, :, None])[:, :, 0] / fit.sigma
    return out


KINDS = {
    "response": lambda fit: fit._rows.residuals,
    "pearson": lambda fit: fit._rows.scaled_residuals,
    "marginal": marginal_residuals,
    "studentized": studentized_residuals,
    "cluster": cluster_residuals,
}
