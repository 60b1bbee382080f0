"""What deleting rows does to the fixed effects, at the variances of the fit.

For rows D, with ``P = V0^-1 - V0^-1 X Q X'V0^-1`` and ``B = (V0^-1 X)_D``, the mean-shift model gives

    gamma = P_DD^-1 (P y)_D            = y_D - E(y_D | the other rows)
    beta - beta_(D) = Q B'gamma,  Q_(D) = Q + Q B'P_DD^-1 B Q

(Haslett 1999, J. R. Statist. Soc. B 61, 603-609; Demidenko & Stukel 2005, doi:10.1002/sim.1974).  With
``Q = R R'`` everything is a function of the r x r matrix ``E_D = I + R'B'P_DD^-1 B R``, the deleted
covariance in units of the full one, and of ``zeta = R'B'gamma``:

    Cook's distance  |zeta|^2 / (r s2)            MDFFITS   zeta'E^-1 zeta / (r s2)
    COVRATIO         det E                        COVTRACE  tr E - r

For clusters that are independent of the other rows, ``H = R'S_D R`` with ``S_D = X_D'V0_D^-1 X_D`` and
``eta = R'X_D'V0_D^-1 e_D`` give ``E = (I - H)^-1``, ``zeta = E eta``: no matrix of the size of a cluster.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtrs

LOST = 1e-10
"""A group carries all information on some combination when I - H has an eigenvalue below this."""


@dataclass(frozen=True, eq=False)
class Deletions:
    """J deletions, in the coordinates of the engine whitened by R (``Q = R R'``); NaN if not estimable.

    ``zeta`` (J, r) in units of the response; ``E`` (J, r, r), or for single rows ``u`` (J, r)
    and ``pivot`` (J,): ``E = I + u u'/pivot``.
    """

    R: np.ndarray
    zeta: np.ndarray
    E: np.ndarray | None = None
    u: np.ndarray | None = None
    pivot: np.ndarray | None = None

    def shift(self, A: np.ndarray) -> np.ndarray:
        """``beta - beta_(D)`` (J, r), ``beta = A beta~``."""
        return self.zeta @ (A @ self.R).T

    def variances(self, A: np.ndarray) -> np.ndarray:
        """Diagonals (J, r) of ``A Q_(D) A'``."""
        AR = A @ self.R
        if self.E is not None:
            return np.einsum("au,juv,av->ja", AR, self.E, AR, optimize=True)
        return (AR**2).sum(1) + (self.u @ AR.T) ** 2 / self.pivot[:, None]

    def cooks_distance(self, s2: float) -> np.ndarray:
        return (self.zeta**2).sum(1) / (max(1, self.zeta.shape[1]) * s2)

    def mdffits(self, s2: float) -> np.ndarray:
        scale = max(1, self.zeta.shape[1]) * s2
        if self.E is not None:
            ok = np.isfinite(self.zeta).all(1)
            out = np.full(len(ok), np.nan)
            solved = np.linalg.solve(self.E[ok], self.zeta[ok][:, :, None])[:, :, 0]
            out[ok] = np.einsum("jr,jr->j", self.zeta[ok], solved) / scale
            return out
        length = (self.u**2).sum(1)
        return (self.zeta**2).sum(1) * self.pivot / (self.pivot + length) / scale

    def covratio(self) -> np.ndarray:
        if self.E is not None:
            with np.errstate(invalid="ignore"):
                return np.linalg.det(self.E)
        return 1.0 + (self.u**2).sum(1) / self.pivot

    def covtrace(self) -> np.ndarray:
        if self.E is not None:
            return np.trace(self.E, axis1=1, axis2=2) - self.E.shape[1]
        return (self.u**2).sum(1) / self.pivot


def delete_clusters(Q: np.ndarray, S: np.ndarray, score: np.ndarray) -> Deletions:
    """Independent clusters from ``S_D`` (J, r, r) and ``X_D'V0_D^-1 e_D`` (J, r)."""
    R = np.linalg.cholesky(Q)
    r = len(R)
    H = R.T @ S @ R
    rest = np.eye(r) - 0.5 * (H + H.transpose(0, 2, 1))
    try:
        E = np.linalg.inv(rest)
        # the trace of the inverse bounds its largest eigenvalue; I - H is at most I, so E at least I
        size = np.trace(E, axis1=1, axis2=2)
        lost = ~((size < 1.0 / LOST) & (np.diagonal(E, axis1=1, axis2=2) > 0.5).all(1))
    except np.linalg.LinAlgError:
        lost = np.linalg.eigvalsh(rest)[:, 0] < LOST
        E = np.empty_like(rest)
        E[~lost] = np.linalg.inv(rest[~lost])
    E[lost] = np.nan
    return Deletions(R, np.einsum("juv,jv->ju", E, score @ R), E)


def delete_rows(Q, d, w, leverage, residual) -> tuple[Deletions, np.ndarray]:
    """Single rows: GLS rows d (n, r), ``leverage = w Var(fitted) / s2`` (n,), conditional residuals (n,).

    ``P_jj = w (1 - leverage)`` and ``(P y)_j = w residual``.  Also returns gamma (n,).
    """
    R = np.linalg.cholesky(Q)
    rest = np.where(1.0 - leverage > LOST, 1.0 - leverage, np.nan)
    gamma = residual / rest
    u = (w[:, None] * d) @ R
    return Deletions(R, u * gamma[:, None], None, u, w * rest), gamma


def delete_block(R, d, w, covariance, residual):
    """One group of rows of any kind, its ``covariance`` (m, m) of fitted values over s2.

    ``P_DD = W - W covariance W``, taken as ``W^1/2 (I - W^1/2 covariance W^1/2) W^1/2``.  Returns zeta, E,
    gamma (m,) and ``log|P_DD|``; NaN where the rows' mean is not estimable without them.
    """
    root = np.sqrt(w)
    inner = np.eye(len(w)) - root[:, None] * covariance * root
    r = len(R)
    L, info = dpotrf(inner, lower=1)
    pivots = np.diag(L) ** 2
    if info != 0 or not pivots.min() > LOST:
        return np.full(r, np.nan), np.full((r, r), np.nan), np.full(len(w), np.nan), np.nan
    solved = dtrtrs(L, np.column_stack([(root[:, None] * d) @ R, root * residual]), lower=1)[0]
    b, g = solved[:, :r], solved[:, r]
    gamma = dtrtrs(L, g, lower=1, trans=1)[0] / root
    return b.T @ g, np.eye(r) + b.T @ b, gamma, float(np.log(pivots).sum() + np.log(w).sum())


def delete_low_rank(R: np.ndarray, N: np.ndarray, A: np.ndarray, Ue: np.ndarray):
    """Groups whose rows share all their random effects, any number at once.

    With ``U = [z d]`` of a group (m, s), N (J, s, s) the covariance of their coefficients over s2
    (K of those levels, and Q), ``A = U'WU`` (J, s, s) and ``Ue = U'W residual`` (J, s):

        P_DD = W - W U N U'W,  P_DD^-1 = W^-1 + U (I - N A)^-1 N U'

    Returns `Deletions`, t (J, s) with ``gamma = residual + U t``, and ``log|P_DD| - log|W|`` (J,); None
    where some I - N A is exactly singular.
    """
    r, s = len(R), N.shape[1]
    M = np.eye(s) - N @ A
    try:
        solved = np.linalg.solve(M, N @ np.concatenate([A[:, :, s - r :], Ue[:, :, None]], 2))
    except np.linalg.LinAlgError:
        return None
    sign, logdet = np.linalg.slogdet(M)
    rows = A[:, s - r :]
    E = np.eye(r) + R.T @ (rows[:, :, s - r :] + rows @ solved[:, :, :r]) @ R
    zeta = (Ue[:, s - r :] + np.einsum("jus,js->ju", rows, solved[:, :, r])) @ R
    lost = (sign <= 0) | ~(np.trace(E, axis1=1, axis2=2) < 1.0 / LOST)
    t = solved[:, :, r]
    for values in (zeta, E, t, logdet):
        values[lost] = np.nan
    return Deletions(R, zeta, E), t, logdet
