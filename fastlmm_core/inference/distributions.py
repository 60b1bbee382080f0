"""Tails and quantiles of t and F, accurate in the far tail and for infinite degrees of freedom.

Thin layer over ``scipy.special``, whose import is cheap next to ``scipy.stats``.
"""

import numpy as np
from scipy import special

HUGE = 1e10
"""Degrees of freedom from which t is taken as normal."""


def t_two_sided(t, df) -> np.ndarray:
    """``P(|T| > |t|)`` elementwise; NaN where t or df is."""
    t, df = np.broadcast_arrays(np.asarray(t, float), np.asarray(df, float))
    finite = np.where(df < HUGE, df, 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        # P(|T| > t) = I_{df/(df+t^2)}(df/2, 1/2)
        p = special.betainc(finite / 2.0, 0.5, finite / (finite + t * t))
    p = np.where(df < HUGE, p, 2.0 * special.ndtr(-np.abs(t)))
    return np.where(np.isnan(t) | np.isnan(df), np.nan, p)


def t_quantile(probability: float, df) -> np.ndarray:
    """Quantile of t elementwise in df."""
    df = np.asarray(df, float)
    with np.errstate(invalid="ignore"):
        small = special.stdtrit(np.where(df < HUGE, df, 1.0), probability)
    return np.where(np.isnan(df), np.nan, np.where(df < HUGE, small, special.ndtri(probability)))


def f_upper(F: float, df1: float, df2: float) -> float:
    """``P(F' > F)`` for F' with (df1, df2) degrees of freedom."""
    if df2 >= HUGE:
        return float(special.gammaincc(df1 / 2.0, df1 * F / 2.0))
    return float(special.betainc(df2 / 2.0, df1 / 2.0, df2 / (df2 + df1 * F)))


def upper_quantile(upper, p: float) -> float:
    """x > 0 with ``upper(x) = p`` for a decreasing function of x, such as a tail probability."""
    from scipy.optimize import brentq  # its import takes longer than a fit

    high = 2.0
    while upper(high) > p:
        high *= 2.0
    return float(brentq(lambda x: upper(x) - p, 0.0, high, xtol=1e-10))
