"""Random effects whose mean is no fixed effect.

Where a column z of Z, one value per row whatever the level, is not a combination of the columns of X,
as in ``y ~ 1 + (x | g)`` or ``y ~ 0 + x + (1 | g)``, the mean of its random effects has to be
small beside their standard deviation.  Data with a mean far from 0 are fitted in two ways, by a
large variance or by other columns, and the criterion may have a minimum for each.
"""

import numpy as np

from fastlmm_core._typing import Int64
from fastlmm_core.crossprod.statistics import CrossProducts

TOLERANCE = 1e-6
"""Of a column's sum of squares, what the columns of X may leave of it."""


def unmatched_means(cp: CrossProducts, keep: Int64) -> list[np.ndarray]:
    """What the mean of each column's random effects would explain as a fixed effect, from the cross-products.

    Per factor (k,): ``n r^2`` with r the partial correlation of z and y given X, about the square of a
    t statistic, but at least 1e-6; 0 where z is a combination of the columns of X.

    Parameters
    ----------
    keep : (p,) int, positions in ``cp.x`` of the columns of X to use
    """
    x = np.asarray(cp.x)[np.asarray(keep, np.int64)]
    rest = sorted({int(j) for z in cp.z for j in z}.difference(x.tolist()))
    found = np.zeros(len(cp.C))
    if rest:
        both = [*rest, cp.y]
        fitted = np.linalg.lstsq(cp.C[np.ix_(x, x)], cp.C[np.ix_(x, both)], rcond=1e-13)[0]
        left = cp.C[np.ix_(both, both)] - fitted.T @ cp.C[np.ix_(x, both)]
        squares = left.diagonal()[:-1]
        beyond = squares > TOLERANCE * cp.C[rest, rest]
        gain = cp.n * left[:-1, -1] ** 2 / np.where(beyond, squares * max(left[-1, -1], 1e-300), 1.0)
        found[rest] = np.where(beyond, np.maximum(gain, 1e-6), 0.0)
    return [found[z] for z in cp.z]
