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
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.inference.dense import apply, dense_equations, eliminate
from fastlmm_core.inference.estimates import FixedCoordinates
from fastlmm_core.mme.covariance import ThetaMap

LARGEST = 3000
"""Random effects of several grouping factors up to which dense matrices are formed."""


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


@dataclass(frozen=True, eq=False)
class Moments:
    """For directions E_0 = T of all factors, then a basis E_r of T, with K = Z'V0^-1 Z, G = Z'V0^-1 X.

    ``GEG`` (m, r, r): G'E_r G.  ``GEKEG`` (m, m, r, r): G'E_r K E_s G.
    ``trace_EK`` (m,), ``trace_EKEK`` (m, m): tr(E_r K), tr(E_r K E_s K).
    """

    GEG: np.ndarray
    GEKEG: np.ndarray
    trace_EK: np.ndarray
    trace_EKEK: np.ndarray


def kenward_roger(
    objective: ProfiledObjective,
    point: Point,
    theta_map: ThetaMap,
    fixed: FixedCoordinates,
    products: CrossProducts,
) -> KenwardRoger:
    """Kenward-Roger quantities at a REML optimum.

    Costs r (r + 1) / 2 passes over the levels for one grouping factor; for several, a
    dense inverse of the order of the random effects.

    Raises
    ------
    ModelError : several grouping factors with more than 3000 random effects together.
    """
    one = len(theta_map.k) == 1
    moments = _one_factor(objective, point, theta_map) if one else _several(point, theta_map, fixed, products)
    GEG, middle, single, double = moments.GEG, moments.GEKEG, moments.trace_EK, moments.trace_EKEK
    s2, Q = point.s2, point.Q
    S = np.linalg.inv(Q) if len(Q) else Q
    # place 0 becomes the identity: I = V0 - Z T Z'
    QQ, traces = middle.copy(), double.copy()
    QQ[0, 1:] = GEG[1:] - middle[0, 1:]
    QQ[1:, 0] = GEG[1:] - middle[1:, 0]
    QQ[0, 0] = S - 2.0 * GEG[0] + middle[0, 0]
    traces[0, 1:] = traces[1:, 0] = single[1:] - double[0, 1:]
    traces[0, 0] = objective.n - 2.0 * single[0] + double[0, 0]
    P = -GEG / s2**2
    P[0] = -(S - GEG[0]) / s2**2
    return _adjust(s2 * Q, P, QQ / s2**3, traces / s2**2, fixed)


def _one_factor(objective, point, theta_map) -> Moments:
    """Sums over the levels of one factor, where K is block diagonal with blocks F_i."""
    objective.gradient(point)
    objective.at(point)
    v, p, k = point.v, objective.p, theta_map.k[0]
    F, GG, FF = point.F[0], point.GG[0][:, :, :p, :p], objective.engine.second_moments(point.Q, point.v).FF
    FG = _weighted_products(objective, v, p, k)
    T = point.Lambda[0] @ point.Lambda[0].T
    E = np.array([T, *(X for _, X in theta_map.t_basis)])
    return Moments(
        np.einsum("rab,abuv->ruv", E, GG),
        np.einsum("rca,abcduv,sbd->rsuv", E, FG, E, optimize=True),
        np.einsum("rab,ab->r", E, F),
        np.einsum("rab,bcda,scd->rs", E, FF, E, optimize=True),
    )


def _several(point, theta_map, fixed, products) -> Moments:
    """Explicit matrices of the order of all random effects."""
    m = sum(G * k for G, k in zip(products.levels, theta_map.k, strict=True))
    if m > LARGEST:
        raise ModelError(
            f"Kenward-Roger with several grouping factors needs a dense inverse: {m} random effects exceed "
            f"{LARGEST}: use Satterthwaite's method"
        )
    A, B, parts = dense_equations(products, products.x[fixed.kept])
    K, G = eliminate(A, B, parts, point.Lambda)
    T = [(f, L @ L.T) for f, L in enumerate(point.Lambda)]
    # each direction as the rows it touches: (rows, E K, E G)
    touched = [[(parts[f], apply(X, parts[f], K), apply(X, parts[f], G)) for f, X in T]]
    touched += [[(parts[f], apply(X, parts[f], K), apply(X, parts[f], G))] for f, X in theta_map.t_basis]
    n, p = len(touched), G.shape[1]
    GEG, middle = np.zeros((n, p, p)), np.zeros((n, n, p, p))
    single, double = np.zeros(n), np.zeros((n, n))
    for r, first in enumerate(touched):
        for rows, EK, EG in first:
            GEG[r] += G[rows].T @ EG
            single[r] += np.trace(EK[:, rows])
            for s, second in enumerate(touched):
                for others, EK2, EG2 in second:
                    middle[r, s] += EG.T @ K[rows, others] @ EG2
                    double[r, s] += np.einsum("ij,ji->", EK[:, others], EK2[:, rows])
    return Moments(GEG, middle, single, double)


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
        traces - 2.0 * np.einsum("uv,rsvu->rs", Phi, products) + np.einsum("ruv,svu->rs", PhiP, PhiP)
    )
    W = np.linalg.pinv(information, rcond=1e-10, hermitian=True)
    middle = np.einsum("rs,rsuv->uv", W, products) - np.einsum("rs,ruv,svw->uw", W, P, PhiP)
    adjusted = Phi + 2.0 * Phi @ (0.5 * (middle + middle.T)) @ Phi
    A = fixed.scale * fixed.A
    inverse = np.linalg.inv(A)
    return KenwardRoger(A @ Phi @ A.T, A @ adjusted @ A.T, W, inverse.T @ P @ inverse)
