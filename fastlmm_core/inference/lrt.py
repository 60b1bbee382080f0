"""Likelihood-ratio tests, with the boundary of the parameter space in mind.

A variance cannot be negative, so under the hypothesis that one variance is zero
twice the log-likelihood ratio is no chi-square.  Where the smaller model lacks
one variance and the c covariances that go with it (and r fixed effects), its
limit is the equal mixture of chi-squares on ``r + c`` and ``r + c + 1`` degrees
of freedom (Self & Liang 1987, doi:10.1080/01621459.1987.10478472, case 5 and 6;
Stram & Lee 1994, doi:10.2307/2533455, case 3).  Where several variances vanish
at once the weights depend on the information, and no value is given.
"""

from collections.abc import Iterable

import numpy as np
from scipy import special


def chi2_upper(x: float, df: int) -> float:
    """``P(chi2_df > x)``; no degrees of freedom put all mass at 0."""
    if df == 0:
        return 0.0 if x > 0 else 1.0
    return float(special.chdtrc(df, max(x, 0.0)))


def mixture_upper(x: float, df: int) -> float:
    """Tail of the equal mixture of chi-squares on ``df - 1`` and ``df`` degrees of freedom."""
    return 0.5 * (chi2_upper(x, df - 1) + chi2_upper(x, df))


def naive_p(x: float, df: int) -> float:
    """The chi-square p-value, NaN where nothing is tested."""
    return chi2_upper(x, df) if df > 0 else float("nan")


def parameters(terms: Iterable[tuple[str, tuple[str, ...]]]) -> tuple[set, set]:
    """Variances and covariances of random terms (group, columns): sets of what each is of."""
    variances, covariances = set(), set()
    for group, names in terms:
        variances |= {(group, name) for name in names}
        covariances |= {(group, frozenset((a, b))) for a in names for b in names if a != b}
    return variances, covariances


def boundary_p(x: float, df: int, smaller: tuple[set, set], larger: tuple[set, set]) -> float:
    """p-value that knows the boundary, from `parameters` of both models.

    The chi-square one where no variance is tested, the mixture where one is, NaN
    where several are or the models are not nested by the names of their parameters.
    """
    nested = smaller[0] <= larger[0] and smaller[1] <= larger[1]
    lost = len(larger[0]) - len(smaller[0])
    if not nested or lost > 1 or df < 1:
        return float("nan")
    return mixture_upper(x, df) if lost else chi2_upper(x, df)


def reml_of_least_squares(least_squares) -> float:
    """-2 restricted log-likelihood of a linear model, with the constants of mixed models."""
    N = least_squares.df_resid
    logdet = -float(np.linalg.slogdet(least_squares.Q)[1]) if len(least_squares.Q) else 0.0
    profiled = N * (1.0 + np.log(2.0 * np.pi * least_squares.rss / N))
    return float(profiled + logdet - least_squares.sum_log_weights)
