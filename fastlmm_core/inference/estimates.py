"""The estimates of a mixed model in the units of the data, and the calculus of its variance parameters.

The engine works with ``X~ = X A`` and ``y~ = (y - X a_y) / s_y``, so
``beta = a_y + s_y A beta~``, ``Q = A Q~ A'``, ``r2 = s_y^2 r2~`` and
``log|X'V0^-1 X| = log|S~_XX| - 2 log|det A|``.

The variance parameters are ``(theta, log sigma^2)``.  With the logarithm the
information has no units, so its rank can be judged by its eigenvalues; degrees
of freedom do not depend on the choice, since the criterion is stationary.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log, pi

import numpy as np

from fastlmm_core.criterion.information import (
    is_averaged,
    natural_scales,
    quadratic_forms,
    theta_hessian,
)
from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.mme.covariance import ThetaMap


@dataclass(frozen=True, eq=False)
class FixedCoordinates:
    """How the fixed effects of the engine map to those of the data.

    ``kept`` (r,) are the columns of X that are not aliased, of ``p``.  ``A``
    (r, r), ``shift`` (r,) and ``scale``: ``beta[kept] = shift + scale A beta~``.
    """

    p: int
    kept: np.ndarray
    A: np.ndarray
    shift: np.ndarray
    scale: float


@dataclass(frozen=True, eq=False)
class VarianceCalculus:
    """First and second order facts about ``(theta, log sigma^2)``, m + 1 parameters.

    ``information`` (m+1, m+1): Hessian of -2 log-likelihood (REML criterion).
    ``covariance`` (m+1, m+1): 2 times its pseudo-inverse.
    ``jacobian`` (m+1, r, r): derivatives of the covariance of beta[kept].

    In the interior theta is that of standardized columns, because far from the
    centre of x the original one makes the information singular to rounding.
    ``to_theta`` (m, m) holds the derivatives of the original theta in it, None for the identity.
    ``averaged``: average information stands in for the observed one, see `theta_hessian`.
    """

    information: np.ndarray
    covariance: np.ndarray
    jacobian: np.ndarray
    to_theta: np.ndarray | None = None
    averaged: bool = False

    def gradient(self, g: np.ndarray) -> np.ndarray:
        """Gradients ``g`` (..., m) in the original theta, in the parameters used here."""
        return g if self.to_theta is None else g @ self.to_theta


@dataclass(frozen=True, eq=False)
class Estimates:
    """What a fit found, in original units.

    ``beta`` (p,) is NaN for aliased columns; ``Q`` (r, r) is
    ``(X'V0^-1X)^-1`` of the kept ones, so their covariance is ``sigma^2 Q``.
    ``terms`` holds T (q, q), relative to sigma^2, per random term.  ``r2`` is
    the penalised residual sum of squares, ``N`` is n - r (REML) or n (ML).
    """

    reml: bool
    n: int
    kept: np.ndarray
    beta: np.ndarray
    Q: np.ndarray
    theta: np.ndarray
    theta_lower: np.ndarray
    terms: tuple[np.ndarray, ...]
    r2: float
    logdet_V0: float
    logdet_XX: float
    sum_log_weights: float

    @property
    def N(self) -> int:
        return self.n - len(self.kept) if self.reml else self.n

    @property
    def sigma2(self) -> float:
        return self.r2 / self.N

    @property
    def sigma(self) -> float:
        return self.sigma2**0.5

    @cached_property
    def vcov(self) -> np.ndarray:
        """Covariance of beta[kept], (r, r)."""
        return self.sigma2 * self.Q

    @cached_property
    def reml_criterion(self) -> float:
        """-2 restricted log-likelihood at theta, beta and sigma profiled out."""
        N = self.n - len(self.kept)
        return self._profiled(N) + self.logdet_XX

    @cached_property
    def deviance(self) -> float:
        """-2 log-likelihood at theta, beta and sigma profiled out (also for a REML fit, as lme4)."""
        return self._profiled(self.n)

    @property
    def objective(self) -> float:
        return self.reml_criterion if self.reml else self.deviance

    def _profiled(self, N: int) -> float:
        return self.logdet_V0 + N * (1.0 + log(2.0 * pi * self.r2 / N)) - self.sum_log_weights


def build_estimates(
    point: Point,
    theta: np.ndarray,
    theta_map: ThetaMap,
    reml: bool,
    n: int,
    sum_log_weights: float,
    fixed: FixedCoordinates,
) -> Estimates:
    """Undo the standardization of a `Point` found by the search."""
    beta = np.full(fixed.p, np.nan)
    beta[fixed.kept] = fixed.shift + fixed.scale * (fixed.A @ point.beta)
    logdet_A = np.linalg.slogdet(fixed.A)[1] if len(fixed.A) else 0.0
    return Estimates(
        reml=reml,
        n=n,
        kept=fixed.kept,
        beta=beta,
        Q=fixed.A @ point.Q @ fixed.A.T,
        theta=np.array(theta, float),
        theta_lower=theta_map.lower,
        terms=tuple(theta_map.term_T(theta)),
        r2=fixed.scale**2 * point.r2,
        logdet_V0=point.logdet_V0,
        logdet_XX=point.logdet_XX - 2.0 * logdet_A,
        sum_log_weights=sum_log_weights,
    )


def variance_calculus(
    objective: ProfiledObjective,
    point: Point,
    theta_map: ThetaMap,
    estimates: Estimates,
    fixed: FixedCoordinates,
) -> VarianceCalculus:
    """Information and Jacobian at the estimates, found at ``point``.

    With sigma^2 free, ``-2 log L = log|V0| + N log(2 pi s2) + r2 / s2 (+ log|S_XX|)``;
    in eta = log s2 its second derivatives at the optimum are N (eta, eta) and
    ``a_j / s2`` (theta_j, eta), ``a_j = -dr2/dtheta_j``, so the profiled Hessian
    lacks ``a a' N / r2^2``.  Jacobian: ``dQ/dtheta_j = Q H_j Q``,
    ``H_j = sum_i G_i'(dT/dtheta_j) G_i``.

    Costs one exact Hessian for one grouping factor, m (one-sided) or 2 m gradients otherwise.
    """
    objective.gradient(point)
    theta_map, theta, to_theta = inner_coordinates(theta_map, estimates.theta, point)
    directions = theta_map.directions(theta)
    profiled = theta_hessian(objective, theta_map, theta, point, directions)
    m, p = len(theta), len(estimates.kept)
    a = quadratic_forms(point, directions) / point.s2
    information = np.empty((m + 1, m + 1))
    information[:m, :m] = profiled + np.outer(a, a) / point.N
    information[:m, m] = information[m, :m] = a
    information[m, m] = point.N
    AQ = fixed.A @ point.Q
    jacobian = np.empty((m + 1, p, p))
    for f, GG in enumerate(point.GG):
        places = [j for j, (factor, _) in enumerate(directions) if factor == f]
        X = np.array([directions[j][1] for j in places]).reshape(len(places), -1)
        H = (X @ GG.reshape(X.shape[1], -1)).reshape(len(places), *GG.shape[2:])[:, :p, :p]
        jacobian[places] = estimates.sigma2 * (AQ @ H @ AQ.T)
    jacobian[m] = estimates.vcov
    scales = np.append(natural_scales(theta_map, theta), 1.0)
    covariance = 2.0 * pseudo_inverse(information, scales)
    return VarianceCalculus(information, covariance, jacobian, to_theta, is_averaged(objective))


def inner_coordinates(theta_map: ThetaMap, theta: np.ndarray, point: Point):
    """Coordinates for the calculus: ``(map, theta, derivatives of the original theta)``.

    Those of the standardized columns where a covariate is far from 0, unless a
    diagonal theta is at its bound, which is a matter of the original columns.  With ``L L' = B T~ B'``,
    ``dL = L Phi(L^-1 B dT~ B' L^-T)``, Phi the lower triangle with half the diagonal.
    """
    if not any(_far(B) for B in theta_map.maps):
        return theta_map, theta, None
    inner = ThetaMap(theta_map.blocks, theta_map.k)
    place = inner.theta_from_Lambda(point.Lambda)
    if ((inner.lower == 0) & (place <= 1e-6 * natural_scales(inner, place))).any():
        return theta_map, theta, None
    factors = theta_map.term_L(theta)
    to_theta = np.zeros((len(theta), len(theta)))
    for j, ((t, _, _), (_, X)) in enumerate(zip(inner.entries, inner.directions(place), strict=True)):
        L, B, rows = factors[t], theta_map.maps[t], theta_map.blocks[t].rows
        half = np.linalg.solve(L, B @ X[rows, rows] @ B.T)
        W = np.tril(np.linalg.solve(L, half.T))
        W[np.diag_indices(len(W))] *= 0.5
        dL = L @ W
        for i, (term, a, b) in enumerate(theta_map.entries):
            if term == t:
                to_theta[i, j] = dL[a, b]
    return inner, place, to_theta


def _far(B: np.ndarray) -> bool:
    """Whether a column of Z is centred by many of its standard deviations."""
    size = np.abs(B)
    return len(B) > 1 and bool((size > 30.0 * size.diagonal()[:, None]).any())


def pseudo_inverse(H: np.ndarray, scales: np.ndarray, tol: float = 1e-10) -> np.ndarray:
    """Inverse of symmetric H on the eigenvalues above ``tol`` times the largest, as lmerTest.

    Eigenvalues are those of ``diag(scales) H diag(scales)``, free of units.  A
    direction the data do not inform, e.g. theta at its bound, contributes nothing.
    """
    values, vectors = np.linalg.eigh(H * np.outer(scales, scales))
    used = values > tol * values.max()
    V = vectors[:, used] * scales[:, None]
    return (V / values[used]) @ V.T
