"""Simultaneous inference: p values and critical values for a family of comparisons.

The methods of R's emmeans: ``"tukey"`` (all pairs), ``"dunnett"`` (against a control, emmeans'
``dunnettx`` approximation), ``"mvt"`` (exact for any family, by the multivariate t), ``"sidak"``,
``"scheffe"``, ``"bonferroni"``, ``"holm"`` and ``"fdr"`` (limits: Bonferroni), ``"none"``.
"""

from functools import lru_cache

import numpy as np
from scipy import special

from fastlmm_core.inference.distributions import (
    HUGE,
    f_upper,
    t_quantile,
    t_two_sided,
    upper_quantile,
)
from fastlmm_core.inference.maxima import LargestT

METHODS = ("tukey", "dunnett", "mvt", "sidak", "scheffe", "bonferroni", "holm", "fdr", "none")
BY_COVARIANCE = ("mvt", "scheffe")
"""Methods that need the covariance of the family."""

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


class Family:
    """Comparisons that are judged together.

    Parameters
    ----------
    df : (m,) degrees of freedom, NaN where not estimable
    method : one of `METHODS`
    means : number of means that are compared, for Tukey's
    covariance : (m, m) of the estimates, for the methods in `BY_COVARIANCE`
    """

    def __init__(self, df: np.ndarray, method: str, means: int = 2, covariance: np.ndarray | None = None):
        self.df, self.m, self.means = df, len(df), means
        self.method = "none" if self.m == 1 and method != "scheffe" else method
        self.known = np.isfinite(df) | np.isposinf(df)
        if self.method in BY_COVARIANCE and self.known.any():
            if covariance is None:
                raise ValueError(f"adjustment {method!r} needs the covariance of the family")
            covariance = covariance[np.ix_(self.known, self.known)]
            se = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
            self.largest = LargestT(covariance / np.outer(se, se))

    def p_values(self, t: np.ndarray) -> np.ndarray:
        """Adjusted two-sided p values (m,) of statistics t (m,)."""
        p, m = t_two_sided(t, self.df), self.m
        count = int(np.isfinite(p).sum())
        if self.method == "none":
            return p
        if self.method == "bonferroni":
            return np.minimum(1.0, p * count)
        if self.method == "sidak":
            return -np.expm1(m * np.log1p(-p))
        if self.method in ("holm", "fdr"):
            return _stepwise(p, count, self.method)
        upper = self._upper()
        pairs = zip(t.tolist(), self.df.tolist())
        return np.array([upper(abs(x), _key(d)) if np.isfinite(x) else np.nan for x, d in pairs])

    def critical_values(self, level: float) -> np.ndarray:
        """Half widths (m,) of simultaneous confidence intervals in standard errors."""
        df, m = self.df, self.m
        if self.method == "none":
            return t_quantile(0.5 + level / 2.0, df)
        if self.method in ("bonferroni", "holm", "fdr"):
            return t_quantile(1.0 - (1.0 - level) / (2.0 * m), df)
        if self.method == "sidak":
            return t_quantile(0.5 + 0.5 * level ** (1.0 / m), df)
        upper, found = self._upper(), {}
        for d in {_key(d) for d in df[self.known].tolist()}:
            found[d] = upper_quantile(lambda x, d=d: upper(x, d), 1.0 - level)
        return np.array([found.get(_key(d), np.nan) for d in df.tolist()])

    def _upper(self):
        """``P(a statistic of the family > x)`` as a function of (x, df)."""
        m, means = self.m, self.means
        if self.method == "tukey":
            return lambda x, df: 1.0 - studentized_range(float(np.sqrt(2.0) * x), float(means), df)
        if self.method == "dunnett":
            return lambda x, df: 1.0 - _dunnett(x, m, df)
        largest = self.largest
        if self.method == "mvt":
            return largest.upper
        return lambda x, df: float(f_upper(x * x / largest.rank, largest.rank, df))


def _stepwise(p: np.ndarray, count: int, method: str) -> np.ndarray:
    """Holm's step-down p values, or Benjamini & Hochberg's for the false discovery rate."""
    order = np.argsort(p)[:count]  # NaN last
    sorted_p = p[order]
    if method == "holm":
        steps = np.maximum.accumulate(sorted_p * (count - np.arange(count)))
    else:
        steps = np.minimum.accumulate((sorted_p * count / np.arange(1, count + 1))[::-1])[::-1]
    result = np.full(len(p), np.nan)
    result[order] = np.minimum(1.0, steps)
    return result


def _key(df: float) -> float:
    """Degrees of freedom without rounding noise, so that equal ones are computed once."""
    return float(f"{df:.9g}")
