"""Where searches begin, and how many there are.

From the standardized identity one evaluation gives a much better start.

One factor: minimum norm quadratic unbiased estimation (Rao 1971) with that T as
the prior, which is one step of Fisher scoring in (Sigma, sigma^2).  With
``V_X = sum Z_i X Z_i'`` it solves, for the free directions X of T and the identity,

    sum_Y tr(P V_X P V_Y) s_Y = y'P V_X P y,

and is the REML estimate itself when the data are balanced.  Several factors,
whose traces across factors no engine forms: Schall's (1991) update per term,
``T <- M A^-1/2 B A^-1/2 M'`` with ``T = M M'``, ``A = M'(sum F_i - sum P_i) M`` and
``B = M'(sum g_i g_i' / s2) M``.
"""

from collections.abc import Iterator

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.mme.covariance import ThetaMap

SMALL_WORK = 2e5
"""Flops of one gradient below which a second start costs less than the formula's parsing."""
FEW_LEVELS = 50


def wanted_starts(objective: ProfiledObjective, theta_map: ThetaMap) -> int:
    """Two where the surface may have several minima and a search costs little, else one.

    Several variance parameters on few levels: local minima are then not rare.
    """
    engine = objective.engine
    if theta_map.n_theta < 2 or objective.work > SMALL_WORK:
        return 1
    crossed = len(theta_map.blocks) > 1
    few = any(
        engine.levels[block.factor] <= FEW_LEVELS and (block.q > 1 or crossed) for block in theta_map.blocks
    )
    return 2 if few else 1


def starting_factors(
    objective: ProfiledObjective,
    theta_map: ThetaMap,
    start: np.ndarray | None,
    n_starts: int,
    seed: int,
) -> Iterator[list[np.ndarray]]:
    """Per-term factors (q, r), standardized: the user's or the identity, a small one, random ones."""
    rng = np.random.default_rng(seed)
    for number in range(n_starts):
        if number == 0 and start is not None:
            Lambda = theta_map.to_Lambda(start)
            yield [nonzero(Lambda[b.factor][b.rows, b.rows]) for b in theta_map.blocks]
        elif number == 0:
            yield improved(objective, theta_map)
        elif number == 1:
            yield [0.1 * np.eye(b.q) for b in theta_map.blocks]
        else:
            yield [rng.normal(size=(b.q, b.q)) * 10.0 ** rng.uniform(-1.5, 1.0) for b in theta_map.blocks]


def nonzero(L: np.ndarray, tol: float = 1e-3) -> np.ndarray:
    """Directions of L (q, q) that matter: those below ``tol`` of the largest, or of 1, are dropped.

    Near a diagonal of zero the gradient in theta vanishes whatever the
    likelihood wants; from exactly zero the Karush-Kuhn-Tucker check tells.
    """
    u, d, _ = np.linalg.svd(L)
    keep = d > tol * min(1.0, d[0]) if d[0] > 0 else d > 0
    return (u * d)[:, keep]


def improved(objective: ProfiledObjective, theta_map: ThetaMap) -> list[np.ndarray]:
    """Per-term factors of the estimate that one evaluation at the identity gives."""
    point = objective.evaluate([np.eye(k) for k in theta_map.k])
    D = objective.gradient(point)
    if len(theta_map.k) == 1:
        T = scoring(objective, theta_map, point)
        if T is not None:
            return [positive_root(T[b.rows, b.rows]) for b in theta_map.blocks]
    factors = []
    for b in theta_map.blocks:
        B = ((point.GG[b.factor] @ point.v) @ point.v)[b.rows, b.rows] / point.s2
        # D = A - B
        values, vectors = np.linalg.eigh(D[b.factor][b.rows, b.rows] + 0.5 * (B + B.T))
        root = vectors / np.sqrt(np.maximum(values, 1e-3 * max(values[-1], 1e-300))) @ vectors.T
        factors.append(positive_root(root @ B @ root))
    return factors


def scoring(objective: ProfiledObjective, theta_map: ThetaMap, point: Point) -> np.ndarray | None:
    """T (k, k) of one factor by Fisher scoring from ``point``, where T = I; None if it fails."""
    objective.at(point)
    sums = objective.engine.second_moments(point.Q, point.v)
    if sums is None:
        return None
    k, p, Q, v, reml = theta_map.k[0], objective.p, point.Q, point.v, objective.reml
    X = np.array([direction for _, direction in theta_map.t_basis] + [np.eye(k)]).reshape(-1, k * k)
    GG = point.GG[0].reshape(k * k, -1)
    B = GG @ np.outer(v, v).ravel()
    # FP = F - sum P_i flat, information = tr(P V_X P V_Y) over the basis and, last, T itself
    FP, moments = point.F[0].ravel(), sums.FF
    if reml:
        FP = point.D[0].ravel() + B / point.s2
        moments = sums.FF - 2.0 * sums.FP
    information = X @ moments.transpose(3, 0, 1, 2).reshape(k * k, k * k) @ X.T
    if reml and p:
        H = (X @ GG).reshape(len(X), p + 1, p + 1)[:, :p, :p]
        information += (Q @ H @ Q).reshape(len(X), -1) @ H.transpose(0, 2, 1).reshape(len(X), -1).T
    traces, squares = X @ FP, X @ B / point.s2
    # the last row becomes the identity: I = V0 - V_T, P V0 P = P, tr(P V0) = N
    N, last = point.N, information[-1].copy()
    corner = N - 2.0 * traces[-1] + last[-1]
    information[-1] = information[:, -1] = traces - last
    information[-1, -1] = corner
    squares[-1] = N - squares[-1]
    solution = np.linalg.lstsq(information, squares, rcond=1e-10)[0]
    if not np.isfinite(solution).all() or solution[-1] <= 1e-3:
        return None
    return (solution[:-1] @ X[:-1]).reshape(k, k) / solution[-1]


def positive_root(T: np.ndarray) -> np.ndarray:
    """``M`` (q, r), ``M M'`` the positive part of T without what is negligible; never empty by rounding."""
    values, vectors = np.linalg.eigh(0.5 * (T + T.T))
    keep = values > 1e-6
    return vectors[:, keep] * np.sqrt(values[keep])
