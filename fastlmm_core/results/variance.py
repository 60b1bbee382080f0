"""Shares of variance: intraclass correlation and R squared."""

import numpy as np


def icc_values(fixed: float, random: float, residual: float) -> dict[str, float]:
    """Adjusted (given the fixed effects) and unadjusted share of the random variance."""
    return {
        "adjusted": random / (random + residual),
        "unadjusted": random / (fixed + random + residual),
    }


def r2_values(fixed: float, random: float, residual: float) -> dict[str, float]:
    """Share of the fixed, and of the fixed and random, variance (Nakagawa & Schielzeth 2013, eqs. 29, 30)."""
    total = fixed + random + residual
    return {"marginal": fixed / total, "conditional": (fixed + random) / total}


def variances_of_sums(spec, solved) -> tuple[float, float]:
    """As `FitRows.variances`, from the statistics of a solved model.

    NaN where sums without weights, or of the columns of X, are not known.
    """
    cp, theta_map, fixed = solved.products, solved.theta_map, solved.fixed
    sizes = column_sizes(solved)
    ones = [j for j, column in enumerate(spec.fixed) if not column.atoms]
    if sizes is None:
        return float("nan"), float("nan")
    terms = zip(theta_map.blocks, solved.estimates.terms, strict=True)
    random = 0.0
    for (block, T), Binv in zip(terms, theta_map.inverse_maps, strict=True):
        z = cp.z[block.factor][block.rows]
        random += float((T * (Binv.T @ cp.C[np.ix_(z, z)] @ Binv)).sum())
    random *= solved.estimates.sigma2 / cp.n
    if not ones:
        return float("nan"), random
    x, beta = cp.x[fixed.kept], solved.point.beta
    total = cp.C[cp.x[ones[0]], x] @ beta
    square = beta @ cp.C[np.ix_(x, x)] @ beta
    return max(0.0, (square - total**2 / cp.n) / (cp.n - 1)) * fixed.scale**2, random


def column_sizes(solved, moments=None) -> list[np.ndarray] | None:
    """Mean squares (q,) of the columns of Z of each term, in original units.

    ``moments`` are sums of products without weights, by default those of the model; None if it has weights.
    """
    cp, theta_map = solved.products, solved.theta_map
    if moments is None and cp.weighted:
        return None
    C = cp.C if moments is None else moments
    out = []
    for block, Binv in zip(theta_map.blocks, theta_map.inverse_maps, strict=True):
        z = cp.z[block.factor][block.rows]
        out.append(np.diag(Binv.T @ C[np.ix_(z, z)] @ Binv) / cp.n)
    return out
