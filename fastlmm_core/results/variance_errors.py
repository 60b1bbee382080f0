"""Standard errors of variances, standard deviations and correlations, by the delta method.

The covariance of ``(theta, log sigma^2)`` is twice the inverse of the Hessian of the criterion (of REML fits
the restricted one); ``Sigma = sigma^2 L L'`` has ``dSigma/dtheta_ab = sigma^2 (e_a l_b' + l_b e_a')``.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.results.bootstrapped import natural_names

SCALES = ("sd", "var")


def component_covariance(fit, scale: str) -> pd.DataFrame:
    """Covariance of the variance parameters of a fit; see `LMMResults.cov_varcorr`."""
    values, gradient = _entries(fit)
    names = natural_names(fit._facts.keys, fit._facts.terms)
    if scale == "sd":
        gradient, names = _to_sdcor(values, gradient), [*names, "sigma"]
    else:
        names = [name.replace("sd_", "var_", 1).replace("cor_", "cov_", 1) for name in names] + ["sigma^2"]
    calculus = fit._solved.calculus
    g = np.column_stack([calculus.gradient(gradient[:, :-1]), gradient[:, -1]])
    C = g @ calculus.covariance @ g.T
    return pd.DataFrame(C, index=names, columns=names)


def with_errors(fit, table: pd.DataFrame, level: float) -> pd.DataFrame:
    """`varcorr` with ``se_vcov, se_sdcor, lower, upper``; the limits are those of ``sdcor``."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, found {level!r}")
    order = _order_of_table(fit)
    out = table.copy()
    for column, scale in (("se_vcov", "var"), ("se_sdcor", "sd")):
        variance = np.diag(component_covariance(fit, scale))
        with np.errstate(invalid="ignore"):
            out[column] = np.sqrt(variance)[order]
    z, is_cor = ndtri(0.5 + level / 2.0), out["var2"].notna().to_numpy()
    value, se = out["sdcor"].to_numpy(), out["se_sdcor"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(is_cor, se / (1.0 - value**2), se / value)
        for column, sign in (("lower", -z), ("upper", z)):
            shifted = np.tanh(np.arctanh(np.where(is_cor, value, 0.0)) + sign * reach)
            out[column] = np.where(is_cor, shifted, value * np.exp(sign * reach))
    return out


def _order_of_table(fit) -> np.ndarray:
    """Places in the order of theta of the table's rows: of each term variances, then covariances."""
    order, at = [], 0
    for term in fit._facts.terms:
        q = len(term.names)
        entries = [(a, b) for b in range(q) for a in range(b, q)]
        order += [at + entries.index((a, a)) for a in range(q)]
        order += [at + entries.index((a, b)) for b in range(q) for a in range(b + 1, q)]
        at += len(entries)
    return np.array([*order, at])


def _entries(fit) -> tuple[list[np.ndarray], np.ndarray]:
    """Sigma per term, and derivatives (m + 1, m + 1) of its triangles and sigma^2 in (theta, log sigma^2).

    Rows of entries of which the data say nothing, as of a variance at its bound, are NaN.
    """
    theta, s2 = fit.theta, fit.scale
    m, at, values = len(theta), 0, []
    gradient = np.zeros((m + 1, m + 1))
    for L in fit._solved.theta_map.term_L(theta):
        q = len(L)
        entries = [(a, b) for b in range(q) for a in range(b, q)]
        values.append(s2 * L @ L.T)
        for place, (a, b) in enumerate(entries):
            d = np.zeros((q, q))
            d[a] += s2 * L[:, b]
            d[:, a] += s2 * L[:, b]
            for row, (i, j) in enumerate(entries):
                gradient[at + row, at + place] = d[i, j]
        for row, (i, j) in enumerate(entries):
            gradient[at + row, m] = values[-1][i, j]
            if min(L[i, i], L[j, j]) <= 0.0:
                gradient[at + row] = np.nan
        at += len(entries)
    gradient[m, m] = s2
    return values, gradient


def _to_sdcor(values, gradient) -> np.ndarray:
    """Derivatives of standard deviations, correlations and sigma, from those of (co)variances."""
    out, at = gradient.copy(), 0
    with np.errstate(divide="ignore", invalid="ignore"):
        for S in values:
            q = len(S)
            entries = [(a, b) for b in range(q) for a in range(b, q)]
            place = {entry: at + i for i, entry in enumerate(entries)}
            sd = np.sqrt(np.diag(S))
            for a, b in entries:
                own = gradient[place[a, b]]
                if a == b:
                    out[place[a, b]] = own / (2.0 * sd[a])
                else:
                    r = S[a, b] / (sd[a] * sd[b])
                    half = gradient[place[a, a]] / S[a, a] + gradient[place[b, b]] / S[b, b]
                    out[place[a, b]] = own / (sd[a] * sd[b]) - 0.5 * r * half
            at += len(entries)
        out[-1] = gradient[-1] / (2.0 * np.sqrt(gradient[-1, -1]))
    return out
