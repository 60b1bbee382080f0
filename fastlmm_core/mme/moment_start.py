"""A start for scalar crossed effects from the cross-products alone, without any factorization.

With r the least-squares residuals, A_fi = Z_fi'W Z_fi and N the couplings of pairs of levels, the
quadratic forms sum_i (Z_fi'W r)^2 / A_fi have, but for the estimation of the fixed effects, expectations

    sigma^2 G_f + sum_g tau_g^2 sum_ij N_ij^2 / A_fi,     r'W r:  sigma^2 n + sum_g tau_g^2 sum_i A_gi,

and are solved for the variances: Henderson's (1953, doi:10.2307/3001853) first method, in one pass over
the pairs as Gao & Owen (2017, doi:10.1214/17-EJS1236) for crossed factors.
"""

import numpy as np

from fastlmm_core._typing import Float, Int64
from fastlmm_core.crossprod.statistics import CrossProducts

LEAST = 1e-3
"""Of tau^2 / sigma^2: nearer to zero the search would have to find its way back."""

MOST = 1e4


def moment_ratios(cp: CrossProducts, keep: Int64) -> Float | None:
    """``tau_f^2 / sigma^2`` (factors,); None unless every factor has one column of Z."""
    if any(len(z) != 1 for z in cp.z):
        return None
    columns = np.append(cp.x[np.asarray(keep, np.intp)], cp.y)
    C = cp.C[np.ix_(columns, columns)]
    beta = np.linalg.lstsq(C[:-1, :-1], C[:-1, -1], rcond=1e-12)[0]
    v = np.append(-beta, 1.0)
    A = [cp.R[f][:, 0, z[0]] for f, z in enumerate(cp.z)]
    factors = len(A)
    left, right = np.zeros((factors + 1, factors + 1)), np.zeros(factors + 1)
    for f in range(factors):
        good = A[f] > 0
        r = cp.R[f][:, 0, columns] @ v
        right[f] = float((r[good] ** 2 / A[f][good]).sum())
        left[f, factors], left[f, f] = good.sum(), A[f].sum()
        left[factors, f] = A[f].sum()
    for (f, g), pairs in cp.pairs.items():
        squares = pairs.blocks.ravel() ** 2
        rows = np.repeat(np.arange(cp.levels[f]), np.diff(pairs.indptr))
        for a, b, place in ((f, g, rows), (g, f, pairs.indices)):
            sums = np.bincount(place, squares, cp.levels[a])
            good = A[a] > 0
            left[a, b] = float((sums[good] / A[a][good]).sum())
    left[factors, factors], right[factors] = cp.n, float(v @ C @ v)
    try:
        solution = np.linalg.solve(left, right)
    except np.linalg.LinAlgError:
        return None
    residual = max(solution[factors], 1e-3 * right[factors] / cp.n)
    if not np.isfinite(solution).all() or not residual > 0:
        return None
    return np.clip(solution[:factors] / residual, LEAST, MOST)
