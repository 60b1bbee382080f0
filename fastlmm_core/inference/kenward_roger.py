"""Kenward & Roger's adjusted covariance and degrees of freedom, without an n x n matrix.

With ``V = s2 I + sum_r sigma_r Z E_r Z'`` (E_r a basis of the random covariance,
sigma_0 = s2), ``Phi = (X'V^-1 X)^-1`` and

    P_r = -X'V^-1 V_r V^-1 X,   Q_rs = X'V^-1 V_r V^-1 V_s V^-1 X,
    2 I_rs = tr(V^-1 V_r V^-1 V_s) - 2 tr(Phi Q_rs) + tr(Phi P_r Phi P_s),   W = I^-1,

the adjusted covariance is ``Phi + 2 Phi (sum_rs W_rs (Q_rs - P_r Phi P_s)) Phi``
(Kenward & Roger 1997, doi:10.2307/2533558; Halekoh & Hojsgaard 2014,
doi:10.18637/jss.v059.i09).

For one grouping factor ``Z'V0^-1 Z`` is block diagonal with blocks F_i, and
``I = V0 - Z T Z'`` removes the last n x n term, so everything is a sum over levels
of products of F_i and G_i = Z_i'V0^-1 X.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.inference.estimates import FixedCoordinates
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

    def df(self, L: np.ndarray) -> tuple[float, float]:
        """Denominator degrees of freedom and the factor on F, for the joint test of ``L beta`` (q, r)."""
        L = np.atleast_2d(np.asarray(L, float))
        q = np.linalg.matrix_rank(L)
        Theta = L.T @ np.linalg.pinv(L @ self.Phi @ L.T) @ L
        TP = Theta @ self.Phi @ self.P @ self.Phi  # (m, r, r)
        traces = np.trace(TP, axis1=1, axis2=2)
        A1 = traces @ self.W @ traces
        A2 = float(np.einsum("rs,rij,sji->", self.W, TP, TP))
        if not A2 > 0:
            return np.inf, 1.0
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        d = 3.0 * q + 2.0 * (1.0 - g)
        V0, V1, V2 = 1.0 + g / d * B, 1.0 - (q - g) / d * B, 1.0 - (q + 2 - g) / d * B
        # E* and V* of the scaled F, matched to an F distribution
        mean = 1.0 - A2 / q
        ratio = mean / V1 if abs(V1) > 1e-10 or abs(mean) > 1e-10 else 1.0
        rho = ratio**2 * (V0 / V2 if abs(V2) > 1e-10 else np.inf) / q
        df = 4.0 + (q + 2.0) / (q * rho - 1.0) if np.isfinite(rho) else 4.0
        factor = 1.0 if abs(df - 2.0) < 1e-2 else df * mean / (df - 2.0)
        return float(df), float(factor)

    def coefficient_df(self) -> np.ndarray:
        """Degrees of freedom (r,) of each coefficient."""
        return np.array([self.df(row)[0] for row in np.eye(len(self.Phi))])


def kenward_roger(
    objective: ProfiledObjective, point: Point, theta_map: ThetaMap, fixed: FixedCoordinates
) -> KenwardRoger | None:
    """Kenward-Roger quantities at a REML optimum, or None with several grouping factors.

    Costs r (r + 1) / 2 passes over the levels.
    """
    if len(theta_map.k) != 1:
        return None
    objective.gradient(point)
    objective.at(point)
    Q, v, p, k = point.Q, point.v, objective.p, theta_map.k[0]
    sums = objective.engine.second_moments(Q, v)
    if sums is None:
        return None
    s2, F, GG, FF = point.s2, point.F[0], point.GG[0][:, :, :p, :p], sums.FF
    FG = _weighted_products(objective, v, p, k)
    T = point.Lambda[0] @ point.Lambda[0].T
    E = np.array([X for _, X in theta_map.t_basis])
    directions = np.concatenate([T[None], E])  # place 0 stands for Z T Z' = V0 - I
    GEG = np.einsum("rab,abuv->ruv", directions, GG)
    GEFEG = np.einsum("rca,abcduv,sbd->rsuv", directions, FG, directions, optimize=True)
    trace_EF = np.einsum("rab,ab->r", directions, F)
    trace_EFEF = np.einsum("rab,bcda,scd->rs", directions, FF, directions, optimize=True)
    # direction 0 becomes the identity: I = V0 - Z T Z'
    S = np.linalg.inv(Q) if p else Q
    products, traces = GEFEG.copy(), trace_EFEF.copy()
    products[0, 1:] = GEG[1:] - GEFEG[0, 1:]
    products[1:, 0] = GEG[1:] - GEFEG[1:, 0]
    products[0, 0] = S - 2.0 * GEG[0] + GEFEG[0, 0]
    traces[0, 1:] = traces[1:, 0] = trace_EF[1:] - trace_EFEF[0, 1:]
    traces[0, 0] = objective.n - 2.0 * trace_EF[0] + trace_EFEF[0, 0]
    P = -GEG / s2**2
    P[0] = -(S - GEG[0]) / s2**2
    return _adjust(s2 * Q, P, products / s2**3, traces / s2**2, fixed)


def _weighted_products(objective, v, p: int, k: int) -> np.ndarray:
    """``sum_i F_i[a, b] G_i[c, u] G_i[d, v]``, symmetrised in (u, v): (k, k, k, k, p, p).

    The engine's ``FP`` is linear in the matrix between the two G; unit matrices read off its entries.
    """
    result = np.empty((k, k, k, k, p, p))
    for i in range(p):
        for j in range(i + 1):
            unit = np.zeros((p, p))
            unit[i, j] += 0.5
            unit[j, i] += 0.5
            result[..., i, j] = result[..., j, i] = objective.engine.second_moments(unit, v).FP
    return result


def _adjust(Phi, P, products, traces, fixed: FixedCoordinates) -> KenwardRoger:
    """The adjustment, and back to original units: covariances by ``s_y A . A' s_y``, P by the inverse."""
    PhiP = Phi @ P
    information = 0.5 * (
        traces
        - 2.0 * np.einsum("uv,rsvu->rs", Phi, products)
        + np.einsum("ruv,svu->rs", PhiP, PhiP)
    )
    W = np.linalg.pinv(information, rcond=1e-10, hermitian=True)
    middle = np.einsum("rs,rsuv->uv", W, products) - np.einsum("rs,ruv,svw->uw", W, P, PhiP)
    adjusted = Phi + 2.0 * Phi @ (0.5 * (middle + middle.T)) @ Phi
    A = fixed.scale * fixed.A
    inverse = np.linalg.inv(A)
    return KenwardRoger(A @ Phi @ A.T, A @ adjusted @ A.T, W, inverse.T @ P @ inverse)
