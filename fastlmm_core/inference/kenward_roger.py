"""Kenward & Roger's adjusted covariance and degrees of freedom, without an n x n matrix.

With ``V = s2 I + sum_r sigma_r Z E_r Z'`` (E_r a basis of the random covariance,
sigma_0 = s2), ``Phi = (X'V^-1 X)^-1`` and

    P_r = -X'V^-1 V_r V^-1 X,   Q_rs = X'V^-1 V_r V^-1 V_s V^-1 X,
    2 I_rs = tr(V^-1 V_r V^-1 V_s) - 2 tr(Phi Q_rs) + tr(Phi P_r Phi P_s),   W = I^-1,

the adjusted covariance is ``Phi + 2 Phi (sum_rs W_rs (Q_rs - P_r Phi P_s)) Phi``
(Kenward & Roger 1997, doi:10.2307/2533558; Halekoh & Hojsgaard 2014,
doi:10.18637/jss.v059.i09).

As V is linear in its parameters, any basis of the same directions gives the same
answer.  With V0 in place of the identity (``I = V0 - Z T Z'``) the terms of direction 0
are ``P_0 = -Q^-1``, ``Q_0r = -P_r``, ``tr_0r = tr(E_r Z'V0^-1 Z)``, ``tr_00 = n`` without
any n x n matrix, and the others are sums over pairs of levels (`kenward_roger_sums`).
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.inference.estimates import FixedCoordinates, pseudo_inverse
from fastlmm_core.inference.kenward_roger_sums import pair_sums
from fastlmm_core.mme.covariance import ThetaMap


@dataclass(frozen=True, eq=False)
class KenwardRoger:
    """In original units.

    ``Phi`` (r, r) unadjusted and ``adjusted`` covariance of beta[kept]; ``W``
    (m, m) covariance of the variance parameters; ``P`` (m, r, r).
    """

    Phi: np.ndarray
    adjusted: np.ndarray
    W: np.ndarray
    P: np.ndarray

    def single_df(self, L: np.ndarray) -> np.ndarray:
        """Degrees of freedom (c,) of single contrasts, the rows of ``L`` (c, r).

        For one contrast the method's factor is 1 and its degrees of freedom are
        ``2 / A``, ``A = t'W t``, ``t_r = l'Phi P_r Phi l / l'Phi l``.
        """
        LPhi = np.atleast_2d(np.asarray(L, float)) @ self.Phi
        t = np.einsum("ci,rij,cj->cr", LPhi, self.P, LPhi)
        f = np.einsum("ci,ci->c", LPhi, np.atleast_2d(L))
        A = np.einsum("cr,rs,cs->c", t, self.W, t)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(A > 0, 2.0 * f**2 / A, np.where(f > 0, np.inf, np.nan))

    def df(self, L: np.ndarray, tol: float = 1e-10) -> tuple[int, float, float]:
        """Of the joint test of ``L beta`` (c, r): rank, denominator degrees of freedom, factor on F.

        ``Theta = L'(L Phi L')^- L = R'R``, so traces are of matrices of the size of the rank.
        """
        L = np.atleast_2d(np.asarray(L, float))
        values, vectors = np.linalg.eigh(L @ self.Phi @ L.T)
        used = values > tol * values.max()
        q = int(used.sum())
        R = (vectors[:, used] / np.sqrt(values[used])).T @ L @ self.Phi
        if q == 1:
            return 1, float(self.single_df(vectors[:, used].T @ L)[0]), 1.0
        TP = R @ self.P @ R.T  # (m, q, q), similar to Theta Phi P_r Phi
        traces = np.trace(TP, axis1=1, axis2=2)
        A1 = traces @ self.W @ traces
        A2 = float(np.einsum("rs,rij,sji->", self.W, TP, TP))
        if not A2 > 0:
            return q, np.inf, 1.0
        return q, *matched_f(q, A1, A2)

    def joint_test(self, L: np.ndarray, beta: np.ndarray, rhs=0.0) -> tuple[float, int, float, float]:
        """Scaled F, its degrees of freedom (numerator, denominator) and the factor, for ``L beta = rhs``."""
        q, df, factor = self.df(L)
        values, vectors = np.linalg.eigh(L @ self.adjusted @ L.T)
        used = np.argsort(values)[len(values) - q :]
        t2 = (vectors[:, used].T @ (L @ beta - rhs)) ** 2 / values[used]
        return float(factor * t2.mean()), q, df, factor

    def coefficient_df(self) -> np.ndarray:
        """Degrees of freedom (r,) of each coefficient."""
        return self.single_df(np.eye(len(self.Phi)))


def matched_f(q: int, A1: float, A2: float) -> tuple[float, float]:
    """Degrees of freedom and factor whose F matches the moments (Kenward & Roger 1997, section 4)."""
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    d = 3.0 * q + 2.0 * (1.0 - g)
    V0, V1, V2 = 1.0 + g / d * B, 1.0 - (q - g) / d * B, 1.0 - (q + 2 - g) / d * B
    mean = 1.0 - A2 / q
    ratio = mean / V1 if abs(V1) > 1e-10 or abs(mean) > 1e-10 else 1.0
    rho = ratio**2 * (V0 / V2 if abs(V2) > 1e-10 else np.inf) / q
    df = 4.0 + (q + 2.0) / (q * rho - 1.0) if np.isfinite(rho) else 4.0
    factor = 1.0 if abs(df - 2.0) < 1e-2 else df * mean / (df - 2.0)
    return float(df), float(factor)


def kenward_roger(
    objective: ProfiledObjective,
    point: Point,
    theta_map: ThetaMap,
    fixed: FixedCoordinates,
    products: CrossProducts,
) -> KenwardRoger:
    """Kenward-Roger quantities at a REML optimum, prior weights included.

    One pass over the levels of one factor; for nested factors over the levels of the
    outermost (cubic in the random effects of one); for crossed factors one solution of
    the mixed-model equations per random effect.

    Raises
    ------
    ModelError : more work than a minute or two.
    """
    objective.at(point)
    directions, p = theta_map.t_basis, objective.p
    sums = pair_sums(objective.engine, products, products.x[fixed.kept], point.Lambda, directions)
    GEG = sums.GEG
    Q, m = point.Q, len(directions) + 1
    P = np.concatenate([-np.linalg.inv(Q)[None] if p else np.zeros((1, 0, 0)), -GEG])
    PQ = P @ Q
    products_QP = np.einsum("ruv,svu->rs", PQ, PQ)
    # 2 I in the directions V0, E_1, E_2, ...: the terms with V0 need first moments only
    information = np.empty((m, m))
    information[0, 0] = objective.n - p
    information[0, 1:] = information[1:, 0] = sums.trace_EK - np.einsum("uv,ruv->r", Q, GEG)
    information[1:, 1:] = sums.trace_EKEK - 2.0 * np.einsum("uv,rsvu->rs", Q, sums.GEKEG)
    information[1:, 1:] += products_QP[1:, 1:]
    scales = 1.0 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    W = 2.0 * pseudo_inverse(information, scales)
    # Q_0r - P_0 Q P_r = 0: the direction V0 adjusts nothing by itself
    middle = np.einsum("rs,rsuv->uv", W[1:, 1:], sums.GEKEG)
    middle -= np.einsum("rs,ruv,svw->uw", W[1:, 1:], PQ[1:], P[1:])
    adjusted = Q + Q @ (middle + middle.T) @ Q
    # from V0 back to the identity, I = V0 - sum_r t_r E_r, and to s2 and original units
    t = np.array([sum_of_basis(point.Lambda[f], E) for f, E in directions])
    P[0] -= np.tensordot(t, P[1:], 1)
    W[1:] += np.outer(t, W[0])
    W[:, 1:] += np.outer(W[:, 0], t)
    A = fixed.scale * fixed.A
    inverse = np.linalg.inv(A)
    s2 = point.s2
    return KenwardRoger(s2 * A @ Q @ A.T, s2 * A @ adjusted @ A.T, s2**2 * W, inverse.T @ P @ inverse / s2**2)


def sum_of_basis(Lambda: np.ndarray, E: np.ndarray) -> float:
    """Coefficient of ``E`` in ``T = Lambda Lambda'``: E holds one free entry of T."""
    a, b = np.argwhere(E)[0]
    return float(Lambda[a] @ Lambda[b])
