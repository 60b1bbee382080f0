"""Simultaneous inference: p values and critical values for a family of comparisons.

The methods of R's emmeans: ``"tukey"`` (all pairs), ``"dunnett"`` (against a control, emmeans'
``dunnettx`` approximation), ``"sidak"``, ``"bonferroni"``, ``"holm"`` (limits: Bonferroni), ``"none"``.
"""

from functools import lru_cache

import numpy as np
from scipy import special
from scipy.optimize import brentq

from fastlmm_core.inference.distributions import HUGE, t_quantile, t_two_sided

METHODS = ("tukey", "dunnett", "holm", "bonferroni", "sidak", "none")

NODES, WEIGHTS = np.polynomial.legendre.leggauss(192)
Z = 9.0 * NODES
"""Nodes for the standard normal variable, beyond which it has probability 2e-19."""


def _range_probability(w: np.ndarray, k: float) -> np.ndarray:
    """``P(range of k standard normals <= w)``, ``k int phi(z) (Phi(z) - Phi(z - w))^(k - 1) dz``."""
    inside = special.ndtr(Z) - special.ndtr(Z - w[..., None])
    density = np.exp(-0.5 * Z * Z) / np.sqrt(2.0 * np.pi)
    return k * (inside ** (k - 1.0)) @ (9.0 * WEIGHTS * density)


@lru_cache(maxsize=4096)
def studentized_range(q: float, k: float, df: float) -> float:
    """``P(Q <= q)`` for the studentized range of ``k`` means; k need not be an integer.

    Integrates over the logarithm of ``s = sqrt(chi2_df / df)`` (Lund & Lund 1983,
    doi:10.2307/2347300, by quadrature).
    """
    if not q > 0:
        return 0.0
    if df >= HUGE:
        return float(_range_probability(np.array([q]), k)[0])
    low, high = (
        0.5 * np.log(2.0 * f(0.5 * df, 1e-17) / df) for f in (special.gammaincinv, special.gammainccinv)
    )
    low = max(low, np.log(1e-9))
    t = 0.5 * (high + low) + 0.5 * (high - low) * NODES
    log_density = np.log(2.0) + 0.5 * df * np.log(0.5 * df) - special.gammaln(0.5 * df)
    log_density += df * t - 0.5 * df * np.exp(2.0 * t)
    density = np.exp(log_density) * 0.5 * (high - low) * WEIGHTS
    return float(np.clip(density @ _range_probability(q * np.exp(t), k) / density.sum(), 0.0, 1.0))


def _dunnett(x: float, m: int, df: float) -> float:
    """``P(max |t| <= x)`` of m comparisons with a control: a mean of Tukey's and Sidak's, as emmeans."""
    share = (m - 1.0) / m
    tukey = studentized_range(np.sqrt(2.0) * x, (1.0 + np.sqrt(1.0 + 8.0 * m)) / 2.0, df)
    return share * tukey + (1.0 - share) * float(1.0 - t_two_sided(x, df)) ** m


def _family(method: str, m: int, means: int):
    """Distribution ``P(max |t| <= x)`` of a family as a function of (x, df), or None."""
    if method == "tukey":
        return lambda x, df: studentized_range(float(np.sqrt(2.0) * x), float(means), df)
    if method == "dunnett":
        return lambda x, df: _dunnett(x, m, df)
    return None


def adjusted_p(t: np.ndarray, df: np.ndarray, method: str, means: int) -> np.ndarray:
    """p values of one family.

    Parameters
    ----------
    t, df : (m,) statistics and degrees of freedom, NaN where not estimable
    method : one of `METHODS`
    means : number of means that are compared, for Tukey's
    """
    p, m = t_two_sided(t, df), len(t)
    if m == 1 or method == "none":
        return p
    if method == "bonferroni":
        return np.minimum(1.0, p * np.isfinite(p).sum())
    if method == "sidak":
        return -np.expm1(m * np.log1p(-p))
    if method == "holm":
        order = np.argsort(p)  # NaN last
        count = int(np.isfinite(p).sum())
        steps = np.maximum.accumulate(p[order][:count] * (count - np.arange(count)))
        result = np.full(m, np.nan)
        result[order[:count]] = np.minimum(1.0, steps)
        return result
    family = _family(method, m, means)
    return np.array(
        [1.0 - family(abs(x), _key(d)) if np.isfinite(x) else np.nan for x, d in zip(t.tolist(), df.tolist())]
    )


def critical_values(df: np.ndarray, level: float, method: str, means: int) -> np.ndarray:
    """Half widths (m,) of simultaneous confidence intervals in standard errors."""
    m = len(df)
    if m == 1 or method == "none":
        return t_quantile(0.5 + level / 2.0, df)
    if method in ("bonferroni", "holm"):
        return t_quantile(1.0 - (1.0 - level) / (2.0 * m), df)
    if method == "sidak":
        return t_quantile(0.5 + 0.5 * level ** (1.0 / m), df)
    family, known = _family(method, m, means), {}
    for d in {_key(d) for d in df[~np.isnan(df)].tolist()}:
        low, high = 0.0, float(t_quantile(1.0 - (1.0 - level) / (2.0 * m * max(means, 2)), d)) + 1.0
        known[d] = brentq(lambda x, d=d: family(x, d) - level, low, high, xtol=1e-9)
    return np.array([known.get(_key(d), np.nan) for d in df.tolist()])


def _key(df: float) -> float:
    """Degrees of freedom without rounding noise, so that equal ones are computed once."""
    return float(f"{df:.9g}")
