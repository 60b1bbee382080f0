"""Weighted least squares from cross-products."""

from dataclasses import dataclass
from math import log, pi

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky

from fastlmm_core.errors import ModelError
from fastlmm_core.inference.estimates import FixedCoordinates

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """What least squares found, in original units.

    ``beta`` (p,) is NaN for aliased columns; ``Q`` (r, r) is ``(X'WX)^-1`` of the
    kept ones; ``rss`` the weighted residual sum of squares.
    """

    n: int
    kept: np.ndarray
    beta: np.ndarray
    Q: np.ndarray
    rss: float
    sum_log_weights: float

    @property
    def df_resid(self) -> int:
        return self.n - len(self.kept)

    @property
    def sigma2(self) -> float:
        return self.rss / self.df_resid

    @property
    def vcov(self) -> np.ndarray:
        """Covariance of beta[kept], (r, r)."""
        return self.sigma2 * self.Q

    @property
    def llf(self) -> float:
        """Log-likelihood at the maximum-likelihood variance rss / n."""
        return 0.5 * (self.sum_log_weights - self.n * (1.0 + log(2.0 * pi * self.rss / self.n)))


def least_squares(S: np.ndarray, n: int, sum_log_weights: float, fixed: FixedCoordinates) -> LeastSquares:
    """Solve from ``S = [X y]'W[X y]`` (r + 1, r + 1) in standardized coordinates.

    Raises
    ------
    ModelError : no residual degrees of freedom, or no residual variance.
    """
    r = len(fixed.kept)
    if n <= r:
        raise ModelError(f"no residual degrees of freedom: {n} rows and {r} coefficients")
    try:
        RX = cholesky(S[:r, :r], lower=True) if r else np.zeros((0, 0))
    except LinAlgError:
        raise ModelError("the fixed-effect columns are linearly dependent") from None
    s, syy = S[:r, r], S[r, r]
    standardized = cho_solve((RX, True), s) if r else np.zeros(0)
    rss = syy - s @ standardized
    if not rss > 4 * EPS * syy:
        raise ModelError(
            "the residual variance is zero: the fixed effects fit the response exactly; was it "
            "computed from columns of the formula?"
        )
    Q = cho_solve((RX, True), np.eye(r)) if r else np.zeros((0, 0))
    beta = np.full(fixed.p, np.nan)
    beta[fixed.kept] = fixed.shift + fixed.scale * (fixed.A @ standardized)
    return LeastSquares(n, fixed.kept, beta, fixed.A @ Q @ fixed.A.T, fixed.scale**2 * rss, sum_log_weights)
