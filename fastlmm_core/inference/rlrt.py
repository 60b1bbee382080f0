"""The exact restricted likelihood-ratio test of one variance.

Crainiceanu & Ruppert (2004, doi:10.1111/j.1467-9868.2004.00438.x, equation 9).
With ``mu_s`` the K nonzero eigenvalues of ``Z'P0 Z``, ``P0`` the projection off
X, and w_s independent standard normal, 2 log RLR of ``lambda = 0`` has under the
hypothesis exactly the distribution of

    sup_l (n - p) log(1 + N(l) / D(l)) - sum_s log(1 + l mu_s),
    N(l) = sum_s l mu_s w_s^2 / (1 + l mu_s),
    D(l) = sum_s w_s^2 / (1 + l mu_s) + sum_{s = K+1}^{n-p} w_s^2.
"""

import numpy as np

from fastlmm_core.errors import ModelError
from fastlmm_core.inference.solved import SolvedModel

LARGEST = 4000
"""Order of the matrix whose eigenvalues are computed densely."""
GRID = 400
"""Values of lambda the supremum is first sought over."""


def spectrum(solved: SolvedModel) -> tuple[np.ndarray, np.ndarray]:
    """Distinct eigenvalues of ``Z'P0 Z`` and how often each occurs, for one factor with one column.

    ``Z'P0 Z = diag(a) - B Q B'``.  On the levels that share a value of a, the part
    orthogonal to the rows of B is an eigenspace of that value; what is left has the
    order (number of distinct a) x (p), at most the number of levels.

    Raises
    ------
    ModelError : that order is above 4000.
    """
    products, kept = solved.products, solved.fixed.kept
    x = np.asarray(products.x)[kept]
    R = products.R[0][:, 0, :]
    a, B = R[:, products.z[0][0]], R[:, x]
    scale = a.max()
    values, which = np.unique(np.round(a / scale, 12), return_inverse=True)
    order = int(np.minimum(np.bincount(which), len(x)).sum())
    if order > LARGEST:
        raise ModelError(
            f"the exact test needs the eigenvalues of a matrix of order {order}, above {LARGEST}"
        )
    root = np.linalg.cholesky(products.C[np.ix_(x, x)]) if len(x) else np.zeros((0, 0))
    half = np.linalg.solve(root, B.T).T if len(x) else B
    mu, multiplicity, diagonal, rows = [], [], [], []
    for v, value in enumerate(values * scale):
        part = half[which == v]
        triangle = np.linalg.qr(part, mode="r") if len(x) else part[:0]
        if len(part) > len(triangle):
            mu.append(value)
            multiplicity.append(len(part) - len(triangle))
        diagonal += [value] * len(triangle)
        rows.append(triangle)
    rest = np.concatenate(rows) if rows else np.zeros((0, len(x)))
    eigenvalues = np.linalg.eigvalsh(np.diag(diagonal) - rest @ rest.T)
    mu = np.concatenate([mu, eigenvalues])
    multiplicity = np.concatenate([np.array(multiplicity, int), np.ones(len(eigenvalues), int)])
    used = mu > 1e-10 * mu.max()
    return mu[used], multiplicity[used]


def simulate_rlrt(
    mu: np.ndarray, multiplicity: np.ndarray, df: int, nsim: int, rng: np.random.Generator
) -> np.ndarray:
    """``nsim`` draws of the statistic under the hypothesis; ``df = n - p``.

    The supremum is sought on a grid in log lambda and improved by Newton steps in it.
    """
    result = np.empty(nsim)
    block = max(1, int(2e6 / (len(mu) + GRID)))
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 1e6, GRID) / np.average(mu, weights=multiplicity)])
    shrink = 1.0 / (1.0 + np.outer(mu, grid))
    logdet = multiplicity @ -np.log(shrink)
    for start in range(0, nsim, block):
        m = min(block, nsim - start)
        w2 = rng.chisquare(np.broadcast_to(multiplicity, (m, len(mu))))
        free = df - int(multiplicity.sum())
        rest = rng.chisquare(free, m) if free > 0 else np.zeros(m)
        total = w2.sum(1) + rest
        D = w2 @ shrink + rest[:, None]
        profile = df * np.log(total[:, None] / D) - logdet
        best = profile.argmax(1)
        value = profile[np.arange(m), best]
        inside = best > 0
        refined = _refine(mu, multiplicity, df, w2[inside], rest[inside], total[inside], grid[best[inside]])
        value[inside] = np.maximum(value[inside], refined)
        result[start : start + m] = np.maximum(value, 0.0)
    return result


def _refine(mu, multiplicity, df, w2, rest, total, at):
    """Newton's method in t = log lambda from the best grid points, steps at most one grid cell."""
    t = np.log(at)
    reach = np.log(1e10) / (GRID - 1)
    best = np.full(len(t), -np.inf)
    for _ in range(4):
        u = 1.0 / (1.0 + mu * np.exp(t)[:, None])
        D = (w2 * u).sum(1) + rest
        best = np.maximum(best, df * np.log(total / D) + np.log(u) @ multiplicity)
        # d/dt of u is -u (1 - u)
        first = (w2 * u * (1 - u)).sum(1)
        second = (w2 * u * (1 - u) * (1 - 2 * u)).sum(1)
        slope = df * first / D - (1 - u) @ multiplicity
        curvature = df * (first**2 / D**2 - second / D) - (u * (1 - u)) @ multiplicity
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(curvature < 0, -slope / curvature, np.sign(slope) * reach)
        t = t + np.clip(step, -reach, reach)
    return best
