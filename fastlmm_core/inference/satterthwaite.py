"""Satterthwaite's denominator degrees of freedom.

For a contrast ``l``, ``f = l'C l`` estimates its variance, and
``df = 2 f^2 / (g'A g)`` with g the gradient of f in the variance parameters and A
their covariance (Giesbrecht & Burns 1985; Fai & Cornelius 1996,
doi:10.1080/00949659608811740, for the joint test).
"""

import numpy as np

from fastlmm_core.inference.estimates import VarianceCalculus


def contrast_df(L: np.ndarray, vcov: np.ndarray, calculus: VarianceCalculus) -> np.ndarray:
    """Degrees of freedom (c,) of the single contrasts in the rows of ``L`` (c, r)."""
    f = np.einsum("ci,ij,cj->c", L, vcov, L)
    g = np.einsum("ci,mij,cj->cm", L, calculus.jacobian, L)
    variance = np.einsum("cm,mk,ck->c", g, calculus.covariance, g)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, 2.0 * f**2 / variance, np.inf)


def coefficient_df(vcov: np.ndarray, calculus: VarianceCalculus) -> np.ndarray:
    """Degrees of freedom (r,) of each coefficient."""
    f = np.diag(vcov)
    g = np.diagonal(calculus.jacobian, axis1=1, axis2=2)
    variance = np.einsum("mi,mk,ki->i", g, calculus.covariance, g)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, 2.0 * f**2 / variance, np.inf)


def joint_test(
    L: np.ndarray, beta: np.ndarray, vcov: np.ndarray, calculus: VarianceCalculus, rhs=0.0, tol: float = 1e-10
) -> tuple[float, int, float]:
    """F statistic and its degrees of freedom (numerator, denominator) for ``L beta = rhs``.

    ``L`` (c, r) is turned to independent contrasts along the eigenvectors of
    ``L C L'``; their single degrees of freedom combine to ``2 E / (E - q)``,
    ``E = sum nu / (nu - 2)`` over nu > 2.
    """
    L = np.atleast_2d(np.asarray(L, float))
    values, vectors = np.linalg.eigh(L @ vcov @ L.T)
    used = values > tol * values.max()
    rotated = vectors[:, used].T @ L
    t2 = (vectors[:, used].T @ (L @ beta - rhs)) ** 2 / values[used]
    q = int(used.sum())
    nu = contrast_df(rotated, vcov, calculus)
    if q == 1:
        return float(t2[0]), 1, float(nu[0])
    if np.ptp(nu) < 1e-8 * nu.max():
        return float(t2.mean()), q, float(nu.mean())
    if nu.min() <= 2:
        return float(t2.mean()), q, 2.0
    with np.errstate(invalid="ignore"):
        E = float(np.where(np.isinf(nu), 1.0, nu / (nu - 2)).sum())
    return float(t2.mean()), q, (2 * E / (E - q) if E > q else np.inf)
