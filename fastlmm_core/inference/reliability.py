"""How well random effects are predicted: Henderson's error variances, reliabilities, the joint covariance.

``Var(b^ - b) = sigma^2 (K + T G Q G'T)`` with ``K = Var(b | y, beta) / sigma^2`` and ``G = Z'V0^-1 X``
(Henderson 1975, doi:10.2307/2529430): what lme4's conditional variances leave out is the
uncertainty of beta.  The reliability of an effect is ``1 - PEV / variance``, its squared correlation
with the prediction (Mrode 2014, section 3.4, and the psychometric reliability of Raudenbush & Bryk 2002).
"""

import numpy as np

from fastlmm_core.errors import ModelError
from fastlmm_core.inference.dense import dense_equations
from fastlmm_core.mme.covariance import ThetaMap

JOINT_LIMIT = 3000
"""Largest joint covariance of fixed and random effects that is formed."""


def error_variances(solved) -> list[np.ndarray]:
    """Per factor ``Var(b^_i - b_i)`` (levels, k, k) of a `SolvedModel`, in the units of the data."""
    engine, point = solved.objective.engine, solved.point
    p = len(point.beta)
    with solved._lock:
        solved.objective.at(point)
        # T G column by column: T Z'V0^-1 [X y] e_j, the random effects of the response X_j
        columns = [engine.random_effects(unit) for unit in np.eye(p + 1)[:p]]
    out = []
    for f in range(len(solved.theta_map.k)):
        variance = solved.conditional_covariance(f).copy()
        if p:
            TG = solved._map(f) @ np.stack([column[f] for column in columns], 2)
            half = TG @ np.linalg.cholesky(point.Q)
            variance += solved.estimates.sigma2 * (half @ half.transpose(0, 2, 1))
        out.append(variance)
    return out


def reliabilities(pev: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """``1 - PEV / variance`` (levels, k) from (levels, k, k) and (k,); NaN where the variance is 0."""
    own = np.diagonal(pev, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, 1.0 - own / variance, np.nan)


def factor_variances(theta_map: ThetaMap, terms, sigma2: float) -> list[np.ndarray]:
    """Per factor the variances (k,) of its random effects, ``sigma^2 diag(T)``."""
    out = [np.empty(k) for k in theta_map.k]
    for block, T in zip(theta_map.blocks, terms, strict=True):
        out[block.factor][block.rows] = sigma2 * np.diag(T)
    return out


def joint_covariance(solved) -> np.ndarray:
    """Covariance of ``(beta^, b^ - b)``, (r + q) square: kept fixed effects, then factors, levels, terms.

    Raises
    ------
    ModelError : more than `JOINT_LIMIT` effects.
    """
    cp, point, fixed = solved.products, solved.point, solved.fixed
    r = len(fixed.kept)
    size = r + sum(G * k for G, k in zip(cp.levels, solved.theta_map.k))
    if size > JOINT_LIMIT:
        raise ModelError(
            f"the joint covariance of {size} effects takes {8e-6 * size * size:.0f} MB and "
            f"{size**3 / 1e9:.0f}e9 operations; the limit is {JOINT_LIMIT} effects; ranef_table() and "
            "predict(se=True) have what most uses need"
        )
    A, B, parts = dense_equations(cp, cp.x[fixed.kept])
    L, back = np.zeros_like(A), np.zeros((size, size))
    back[:r, :r] = fixed.A
    for f, part in enumerate(parts):
        eye = np.eye(cp.levels[f])
        L[part, part] = np.kron(eye, point.Lambda[f])
        back[r + part.start : r + part.stop, r + part.start : r + part.stop] = np.kron(eye, solved._map(f))
    K = L @ np.linalg.solve(np.eye(len(A)) + L.T @ A @ L, L.T)
    TG, Q = K @ B, point.Q
    C = np.block([[Q, -Q @ TG.T], [-TG @ Q, K + TG @ Q @ TG.T]])
    C = solved.estimates.sigma2 * (back @ C @ back.T)
    return 0.5 * (C + C.T)
