"""The largest of correlated t statistics: the multivariate t distribution of a family of contrasts.

With ``t = A z / s``, ``A A'`` the correlations (m, m) of rank r, z standard normal (r,) and
``s^2 = chi2_df / df``, write ``z = rho u`` with u on the unit sphere.  Then ``(rho / s)^2 / r`` is F on
r and df degrees of freedom, and with ``M(u) = max_i |a_i'u|``

    P(max |t_i| > x) = mean over u of P(F_{r, df} > (x / M(u))^2 / r)

(Deak 1980, doi:10.1007/BF01399017).  The mean is over the fixed points of a Kronecker sequence, so that
results repeat, and correlations may be singular, as those of all pairs are.
"""

import numpy as np
from scipy import special

from fastlmm_core.inference.distributions import HUGE, upper_quantile

POINTS = 1 << 16
"""Points on the sphere; p values are then good to a thousandth of themselves, near one half to 4e-4."""
BLOCK = 1 << 22
"""Numbers held at a time."""
RANK = 1e-10
BINS = 4096
"""Values that M(u) is summed up in, for ranks and sizes where evaluating all points would be slow."""


class LargestT:
    """Distribution of ``max |t_i|`` of statistics with correlations ``corr`` (m, m), any rank."""

    def __init__(self, corr: np.ndarray):
        values, vectors = np.linalg.eigh(0.5 * (corr + corr.T))
        used = values > RANK * max(float(values[-1]), 1.0)
        A = vectors[:, used] * np.sqrt(values[used])
        A /= np.maximum(np.linalg.norm(A, axis=1, keepdims=True), np.finfo(float).tiny)
        self.rank = A.shape[1]
        self.size, self.share = _condensed(_largest(A))

    def upper(self, x: float, df: float) -> float:
        """``P(max |t| > x)``; ``df`` may be infinite and need not be an integer."""
        ratio = (x / self.size) ** 2
        if df >= HUGE:
            tail = special.gammaincc(0.5 * self.rank, 0.5 * ratio)
        else:
            # F above f is a beta variable below df / (df + r f)
            tail = special.betainc(0.5 * df, 0.5 * self.rank, df / (df + ratio))
        return float(min(1.0, self.share @ tail))

    def quantile(self, level: float, df: float) -> float:
        """x with ``P(max |t| <= x) = level``."""
        return upper_quantile(lambda x: self.upper(x, df), 1.0 - level)


def _largest(A: np.ndarray) -> np.ndarray:
    """``max_i |a_i'u|`` (POINTS,) for unit rows a_i of ``A`` (m, r)."""
    m, r = A.shape
    if r == 1:
        return np.ones(1)
    steps = np.sqrt(_primes(r)) % 1.0
    out, block = np.empty(POINTS), max(1, BLOCK // max(m, r))
    for start in range(0, POINTS, block):
        index = np.arange(start + 1, min(start + block, POINTS) + 1, dtype=float)
        z = special.ndtri(np.clip((index[:, None] * steps + 0.5) % 1.0, 1e-15, 1.0 - 1e-15))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        out[start : start + len(index)] = np.abs(z @ A.T).max(1)
    return out


def _condensed(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbouring sorted values and their shares: tails are smooth, so few of them do."""
    size = np.sort(size)
    parts = np.array_split(size, min(len(size), BINS))
    count = np.array([len(part) for part in parts], float)
    return np.array([part.mean() for part in parts]), count / count.sum()


def _primes(count: int) -> np.ndarray:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found if p * p <= candidate):
            found.append(candidate)
        candidate += 1
    return np.array(found, float)
