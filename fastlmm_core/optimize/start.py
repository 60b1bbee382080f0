"""Where searches begin, and how many there are.

From a multiple of the standardized identity one evaluation gives a much better start.

One factor: minimum norm quadratic unbiased estimation (Rao 1971) with that T as
the prior, which is one step of Fisher scoring in (Sigma, sigma^2).  With
``V_X = sum Z_i X Z_i'`` it solves, for the free directions X of T and the identity,

    sum_Y tr(P V_X P V_Y) s_Y = y'P V_X P y,

and is the REML estimate itself when the data are balanced.  Several factors,
whose traces across factors no engine forms: Schall's (1991) update per term,
``T <- M A^-1/2 B A^-1/2 M'`` with ``T = M M'``, ``A = M'(sum F_i - sum P_i) M`` and
``B = M'(sum g_i g_i' / s2) M``.

The criterion may have several minima: where a variance is zero, where terms of one
factor have nearly collinear columns (an intercept and a slope kept apart, on a
covariate far from 0), or where there are almost as many random effects as rows.
Further searches then begin from variances so large that every direction of Z
matters, from small ones, from one large variance at a time, and at random.
"""

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.covariance import ThetaMap, lower_factor

SMALL_WORK = 2e5
"""Flops of one gradient below which further starts cost less than parsing the formula."""
FEW_LEVELS = 50
FAR = 30.0
"""Growth of the trace of T that makes an estimate depend on where it was made."""
CROWDED = 4
"""Levels per column of Z up to which local minima of one term were seen: in 2 of 200 simulated
models with 3 columns on 6 levels; none of 300 models with more levels had a second minimum."""
AMPLE = (1e5, 100.0)
"""``T a`` of ample starts, a the smallest eigenvalue of the mean of A_i = Z_i'Z_i."""
MOST_STARTS = 8
ALL_AMPLE = 3
"""The first start after those with ample variances of every term."""
ROWS_PER_EFFECT = 4
"""Below it second minima were seen away from the boundary, and below half of it most of them."""
SMALL_SD = 0.1
TELLING = 10.0
"""``n r^2`` of a mean that is no fixed effect, from which an expensive search is repeated for it."""
COLLINEAR = 0.1
"""Smallest eigenvalue, unit diagonal, of the mean of A_i below which terms of a factor compete."""


def wanted_starts(objective: ProfiledObjective, theta_map: ThetaMap) -> int:
    """How many starts, where the surface may have several minima and a search costs little.

    One term: four where it has about as many covariance parameters as levels, eight where there are
    twice as many at most and the mean of its effects is no fixed effect, two where there are few
    levels and few rows to each, else one.  Several terms: eight with two rows or fewer to a random
    effect or where the mean of some is no fixed effect, four with few rows or where they share a
    factor, else two, of which the first may be enough.  A search that is expensive is repeated only
    where terms of one factor compete, and for each term that may take the place of a fixed effect.
    """
    if theta_map.n_theta < 2:
        return 1
    beyond = unmatched(objective, theta_map)
    if objective.work > SMALL_WORK:
        return len(beyond) + (ALL_AMPLE if _compete(objective, theta_map) else 1)
    if beyond:
        return MOST_STARTS
    if len(theta_map.blocks) == 1:
        if crowded(objective, theta_map):
            return 4
        few_levels = min(objective.engine.levels) <= FEW_LEVELS
        return 2 if few_levels and few_data(objective, theta_map) else 1
    if 2 * n_effects(objective, theta_map) > objective.n:
        return MOST_STARTS
    return 4 if shares_factor(theta_map) or few_data(objective, theta_map) else 2


def unmatched(objective: ProfiledObjective, theta_map: ThetaMap) -> list[int]:
    """Terms with random effects whose mean is no fixed effect (`unmatched_means`).

    Where a search is expensive, those of which it would explain something; none where one term has
    levels enough to tell.
    """
    expensive = objective.work > SMALL_WORK
    apart = shares_factor(theta_map) or crowded(objective, theta_map, 2 * CROWDED)
    if len(theta_map.k) == 1 and (expensive or not apart):
        return []
    find = getattr(objective.engine, "unmatched", None)
    if objective.unmatched is None:
        objective.unmatched = [np.zeros(k) for k in theta_map.k] if find is None else find()
    gains, least = objective.unmatched, TELLING if expensive else 0.0
    return [t for t, b in enumerate(theta_map.blocks) if (gains[b.factor][b.rows] > least).any()]


def n_effects(objective: ProfiledObjective, theta_map: ThetaMap) -> int:
    """Number of random effects."""
    return sum(objective.engine.levels[b.factor] * b.q for b in theta_map.blocks)


def few_data(objective: ProfiledObjective, theta_map: ThetaMap) -> bool:
    """Whether there are few rows to a random effect, or about as many covariance parameters as levels."""
    many = ROWS_PER_EFFECT * n_effects(objective, theta_map) > objective.n
    return many or crowded(objective, theta_map)


def crowded(objective: ProfiledObjective, theta_map: ThetaMap, most: int = CROWDED) -> bool:
    """Whether a term has about as many covariance parameters as levels."""
    levels = objective.engine.levels
    return any(b.q > 1 and levels[b.factor] <= most * b.q for b in theta_map.blocks)


def shares_factor(theta_map: ThetaMap) -> bool:
    """Whether a grouping factor has several terms."""
    return len(theta_map.blocks) > len(theta_map.k)


def _compete(objective: ProfiledObjective, theta_map: ThetaMap) -> bool:
    """Whether the columns of several terms of one factor are nearly collinear."""
    if not shares_factor(theta_map):
        return False
    for A in mean_products(objective, theta_map):
        d = np.sqrt(np.maximum(A.diagonal(), 1e-300))
        if np.linalg.eigvalsh(A / np.outer(d, d))[0] < COLLINEAR:
            return True
    return False


def mean_products(objective: ProfiledObjective, theta_map: ThetaMap) -> list[np.ndarray]:
    """Mean of ``Z_i'W Z_i`` (k, k) over the levels of each factor: F where V0 = I."""
    if objective.mean_products is None:
        point = objective.evaluate([np.zeros((k, k)) for k in theta_map.k])
        objective.gradient(point)
        sums = zip(point.F or (), objective.engine.levels, strict=True)
        objective.mean_products = [F / levels for F, levels in sums]
    return objective.mean_products


def ample_sd(objective: ProfiledObjective, theta_map: ThetaMap, ample: float) -> list[float]:
    """Per term a standard deviation at which no combination of its factor's columns is negligible."""
    found = []
    for A in mean_products(objective, theta_map):
        values = np.linalg.eigvalsh(A)
        found.append(float(np.sqrt(ample / max(values[0], 1e-8 * values[-1], 1e-300))))
    return [found[b.factor] for b in theta_map.blocks]


def check_start(start, n_theta: int, names) -> np.ndarray:
    """``start`` as (n_theta,) float64; ValueError says what is expected."""
    listed = f" ({', '.join(names)})" if names is not None and len(names) else ""
    plural = "s" if n_theta > 1 else ""
    expected = f"start must be {n_theta} finite number{plural}, the value{plural} of theta{listed}"
    try:
        values = np.asarray(start, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{expected}; found {start!r}") from None
    if values.shape != (n_theta,):
        found = f"{values.size} of them" if values.ndim == 1 else f"an array of shape {values.shape}"
        raise ValueError(f"{expected}; found {found}")
    if not np.isfinite(values).all():
        raise ValueError(f"{expected}; found {values.tolist()}")
    return values


def starting_factors(
    objective: ProfiledObjective,
    theta_map: ThetaMap,
    start: np.ndarray | None,
    number: int,
    seed: int,
) -> list[np.ndarray]:
    """Per-term factors (q, r), standardized, of start ``number``.

    First the user's, or the estimate from the identity.  One term: the estimate from small
    variances next, ample ones where the mean of effects is no fixed effect, then random ones.
    Several: ample variances, twice, the estimate from small ones, each term ample in turn while the
    others are small, random ones (`ample_terms`).
    """
    blocks = theta_map.blocks
    if number == 0 and start is not None:
        Lambda = theta_map.to_Lambda(start)
        return [nonzero(Lambda[b.factor][b.rows, b.rows]) for b in blocks]
    moments = getattr(objective.engine, "moment_ratios", None)
    if number == 0 and moments is not None and objective.work > SMALL_WORK:
        ratios = moments()  # of scalar crossed effects, closer than what an evaluation elsewhere gives
        if ratios is not None:
            return [np.full((1, 1), np.sqrt(ratios[b.factor])) for b in blocks]
    if number == 0:
        return improved(objective, theta_map, 1.0)
    chosen, ample = ample_terms(objective, theta_map, number)
    if chosen:
        sd = ample_sd(objective, theta_map, ample)
        return [(sd[t] if t in chosen else SMALL_SD) * np.eye(b.q) for t, b in enumerate(blocks)]
    if number == (1 if len(blocks) == 1 else 3):
        return improved(objective, theta_map, SMALL_SD)
    rng = np.random.default_rng((seed, number))
    return [rng.normal(size=(b.q, b.q)) * 10.0 ** rng.uniform(-1.5, 1.0) for b in blocks]


def ample_terms(objective: ProfiledObjective, theta_map: ThetaMap, number: int) -> tuple[list[int], float]:
    """Terms with ample variances in start ``number``, and how ample; none in starts of another kind.

    Where a search is expensive and terms may take the place of fixed effects, each of these alone.
    """
    every, beyond = list(range(len(theta_map.blocks))), unmatched(objective, theta_map)
    alone, first = every, 4
    if objective.work > SMALL_WORK and beyond:
        alone, first = beyond, ALL_AMPLE if _compete(objective, theta_map) else 1
    if len(every) == 1:
        return (every if beyond and number == 2 else []), AMPLE[0]
    if number < 1:
        return [], 0.0
    if number < min(first, ALL_AMPLE):
        return every, AMPLE[number > 1]
    return alone[number - first : number - first + 1] if number >= first else [], AMPLE[not beyond]


def nonzero(L: np.ndarray, tol: float = 1e-3) -> np.ndarray:
    """Directions of L (q, q) that matter: those below ``tol`` of the largest, or of 1, are dropped.

    Near a diagonal of zero the gradient in theta vanishes whatever the
    likelihood wants; from exactly zero the Karush-Kuhn-Tucker check tells.
    """
    u, d, _ = np.linalg.svd(L)
    keep = d > tol * min(1.0, d[0]) if d[0] > 0 else d > 0
    return (u * d)[:, keep]


def improved(objective: ProfiledObjective, theta_map: ThetaMap, sd: float) -> list[np.ndarray]:
    """Per-term factors of the estimate that one evaluation at Lambda = sd I gives.

    Where it is far larger than it was thought to be, once more from there.
    """
    blocks = theta_map.blocks
    factors = [sd * np.eye(b.q) for b in blocks]
    for attempt in range(3):
        before = [float((M * M).sum()) for M in factors]
        try:
            factors = estimate(objective, theta_map, factors)
        except NumericalError:
            if attempt == 0:
                raise
            break
        after = [float((M * M).sum()) for M in factors]
        if not any(new > FAR * max(old, 1.0) for old, new in zip(before, after)):
            break
    return factors


def estimate(
    objective: ProfiledObjective, theta_map: ThetaMap, factors: list[np.ndarray]
) -> list[np.ndarray]:
    """Scoring for one factor, Schall's update for several, from per-term ``factors`` (q, r)."""
    Lambda = [np.zeros((k, k)) for k in theta_map.k]
    for b, M in zip(theta_map.blocks, factors):
        Lambda[b.factor][b.rows, b.rows] = lower_factor(M)
    point = objective.evaluate(Lambda)
    D = objective.gradient(point)
    if len(theta_map.k) == 1:
        T = scoring(objective, theta_map, point)
        if T is not None:
            return [positive_root(T[b.rows, b.rows]) for b in theta_map.blocks]
    result = []
    for b, M in zip(theta_map.blocks, factors):
        B = M.T @ ((point.GG[b.factor] @ point.v) @ point.v)[b.rows, b.rows] @ M / point.s2
        if not len(B):
            result.append(M)
            continue
        # D = A - B
        values, vectors = np.linalg.eigh(M.T @ D[b.factor][b.rows, b.rows] @ M + 0.5 * (B + B.T))
        root = vectors / np.sqrt(np.maximum(values, 1e-3 * max(values[-1], 1e-300))) @ vectors.T
        values, vectors = np.linalg.eigh(root @ B @ root)
        keep = values > 1e-6
        result.append(M @ (vectors[:, keep] * np.sqrt(values[keep])))
    return result


def scoring(objective: ProfiledObjective, theta_map: ThetaMap, point: Point) -> np.ndarray | None:
    """T (k, k) of one factor by Fisher scoring from ``point``; None if it fails."""
    objective.at(point)
    sums = objective.engine.second_moments(point.Q, point.v)
    if sums is None:
        return None
    k, p, Q, v, reml = theta_map.k[0], objective.p, point.Q, point.v, objective.reml
    X = np.array([direction for _, direction in theta_map.t_basis] + [point.Lambda[0] @ point.Lambda[0].T])
    X = X.reshape(-1, k * k)
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
    """``M`` (q, r), ``M M'`` the positive part of T without what is negligible."""
    values, vectors = np.linalg.eigh(0.5 * (T + T.T))
    keep = values > 1e-6
    return vectors[:, keep] * np.sqrt(values[keep])
