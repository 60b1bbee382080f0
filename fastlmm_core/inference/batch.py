"""Newton's method on many responses at once, for one grouping factor.

The responses of a bootstrap share X, Z and weights, and their optima are near
the one they were simulated from.  Each is searched in the entries of a lower
triangular Lambda~ without bounds: the criterion is even in the columns of
Lambda~ and smooth through zero, so a vanishing variance is a regular minimum
there.  Gradient and Hessian are those of `criterion.information`, with a
leading axis for the responses.  What does not converge is left to the general
search.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.criterion.profiled import EPS
from fastlmm_core.mme.covariance import ThetaMap
from fastlmm_core.mme.replicates import ReplicateEngine

TOLERANCE = 1e-9
"""Newton decrement at which a response is done."""
MAX_EVALUATIONS = 40
SMALLEST_START = 0.05
"""Diagonal entries start no closer to zero, where the gradient vanishes whatever the likelihood wants."""
ZERO = 1e-6
"""Entries of Lambda~ below this are zero."""


@dataclass(eq=False)
class BatchOptimum:
    """Optima of r responses: ``Lambda`` (r, k, k), ``beta`` (r, p), ``s2`` and ``value`` (r,), the criterion
    without the sum of log weights; ``found`` (r,) bool."""

    Lambda: np.ndarray
    beta: np.ndarray
    s2: np.ndarray
    value: np.ndarray
    found: np.ndarray


@dataclass(eq=False)
class _Points:
    """`Point` for several responses."""

    value: np.ndarray
    beta: np.ndarray
    Q: np.ndarray
    v: np.ndarray
    r2: np.ndarray
    F: np.ndarray
    GG: np.ndarray
    bad: np.ndarray

    def __getitem__(self, at):
        return _Points(**{name: part[at] for name, part in vars(self).items()})


def fit_batch(
    engine: ReplicateEngine, theta_map: ThetaMap, start: np.ndarray, N: int, reml: bool, r: int
) -> BatchOptimum:
    """Minimise the criterion for the first r responses of ``engine`` from Lambda~ ``start`` (k, k)."""
    rows, cols = _entries(theta_map)
    k, m = engine.k, len(rows)
    Lambda = np.repeat(_start(start, theta_map)[None], r, axis=0)
    base, base_value, slope = Lambda.copy(), np.full(r, np.inf), np.zeros(r)
    step, length = np.zeros((r, m)), np.ones(r)
    zeros = np.zeros(r)
    result = BatchOptimum(
        np.zeros((r, k, k)), np.zeros((r, engine.p)), zeros, zeros.copy(), np.zeros(r, bool)
    )
    active = np.arange(r)
    for _ in range(MAX_EVALUATIONS):
        if not len(active):
            break
        points = _evaluate(engine, active, Lambda[active], N, reml)
        noise = 10 * EPS * np.maximum(np.abs(points.value), N)
        limit = base_value[active] + 1e-4 * length[active] * slope[active] + noise
        good = ~points.bad & (points.value <= limit)
        back = active[~good]
        length[back] *= 0.3
        Lambda[back] = _moved(base[back], rows, cols, step[back] * length[back, None])
        on, points = active[good], points[good]
        g, H, bad = _derivatives(engine, on, Lambda[on], points, N, reml, rows, cols)
        on, points, g, H = on[~bad], points[~bad], g[~bad], H[~bad]
        new, decrement, lowest = _newton(g, H)
        ended = decrement < TOLERANCE
        done = ended & (lowest > -1e-6)
        at = on[done]
        result.Lambda[at], result.beta[at] = Lambda[at], points.beta[done]
        result.s2[at], result.value[at] = points.r2[done] / N, points.value[done]
        result.found[at] = True
        go, new, decrement, value = on[~ended], new[~ended], decrement[~ended], points.value[~ended]
        new *= _cut(base=Lambda[go], step=new)[:, None]
        base[go], base_value[go], step[go], length[go] = Lambda[go], value, new, 1.0
        slope[go] = (g[~ended] * new).sum(1)
        Lambda[go] = _moved(Lambda[go], rows, cols, new)
        active = np.sort(np.concatenate([back[length[back] > 1e-4], go]))
    result.Lambda[np.abs(result.Lambda) < ZERO] = 0.0
    return result


def _entries(theta_map: ThetaMap) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the free entries in the (k, k) matrix of the one factor."""
    starts = np.array([theta_map.blocks[t].start for t, _, _ in theta_map.entries])
    where = np.array([(a, b) for _, a, b in theta_map.entries])
    return starts + where[:, 0], starts + where[:, 1]


def _start(Lambda: np.ndarray, theta_map: ThetaMap) -> np.ndarray:
    L = np.array(Lambda, float)
    diagonal = np.einsum("ii->i", L)
    diagonal[:] = np.maximum(diagonal, SMALLEST_START)
    return L


def _moved(L, rows, cols, step):
    L = L.copy()
    L[:, rows, cols] += step
    return L


def _cut(base, step):
    """Share of each step that stays within a few lengths of Lambda."""
    size = np.sqrt((base**2).sum((1, 2)))
    return np.minimum(1.0, (2.0 * size + 1.0) / np.maximum(np.sqrt((step**2).sum(1)), 1e-300))


def _evaluate(engine, which, Lambda, N, reml) -> _Points:
    logdet, S, F, GG, failed = engine.sweep(which, Lambda)
    p = engine.p
    failed |= ~np.isfinite(S).all((1, 2)) | ~np.isfinite(logdet)
    S[failed] = np.eye(p + 1)
    try:
        R = np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        failed |= np.linalg.eigvalsh(S)[:, 0] <= 0
        S[failed] = np.eye(p + 1)
        R = np.linalg.cholesky(S + 0.0)
    r2 = R[:, p, p] ** 2
    failed |= ~(r2 > 4 * EPS * S[:, p, p])
    inverse = np.linalg.inv(R[:, :p, :p])
    Q = inverse.transpose(0, 2, 1) @ inverse
    beta = (R[:, p, None, :p] @ inverse)[:, 0]
    v = np.concatenate([-beta, np.ones((len(beta), 1))], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = logdet + N * (1.0 + np.log(2.0 * np.pi * r2 / N))
        if reml:
            value += 2.0 * np.log(np.einsum("rii->ri", R)[:, :p]).sum(1)
    value = np.where(failed, np.inf, value)
    return _Points(value, beta, Q, v, r2, F, GG, failed)


def _derivatives(engine, which, Lambda, points, N, reml, rows, cols):
    """Gradient (s, m), Hessian (s, m, m) in the free entries, and where they failed."""
    s, k, p = len(which), engine.k, engine.p
    if not s:
        return np.zeros((0, len(rows))), np.zeros((0, len(rows), len(rows))), np.zeros(0, bool)
    Q, v, r2 = points.Q, points.v, points.r2
    FF, FP, Fg, failed = engine.second_moments(which, Lambda, Q, v)
    ratio = N / r2
    Sbar = ratio[:, None, None] * (v[:, :, None] * v[:, None, :])
    if reml:
        Sbar[:, :p, :p] += Q
    D = points.F - np.einsum("sabuw,suw->sab", points.GG, Sbar)
    D = 0.5 * (D + D.transpose(0, 2, 1))
    # dT = E_j L' + L E_j' with E_j the unit matrix of entry (a, b)
    m = len(rows)
    half = np.zeros((s, m, k, k))
    half[:, np.arange(m), rows] = Lambda[:, :, cols].transpose(0, 2, 1)
    X = (half + half.transpose(0, 1, 3, 2)).reshape(s, m, k * k)
    moments = 2.0 * ratio[:, None, None, None, None] * Fg - FF
    if reml:
        moments += 2.0 * FP
    H = X @ moments.transpose(0, 4, 1, 2, 3).reshape(s, k * k, k * k) @ X.transpose(0, 2, 1)
    Full = (X @ points.GG.reshape(s, k * k, -1)).reshape(s, m, p + 1, p + 1)
    Fv = np.einsum("smuw,sw->smu", Full, v)
    a = np.einsum("smu,su->sm", Fv, v)
    if p:
        h = Fv[:, :, :p]
        H -= 2.0 * ratio[:, None, None] * (h @ Q @ h.transpose(0, 2, 1))
        if reml:
            HX = Full[:, :, :p, :p]
            QHQ = (Q[:, None] @ HX @ Q[:, None]).reshape(s, m, -1)
            H -= QHQ @ HX.transpose(0, 1, 3, 2).reshape(s, m, -1).transpose(0, 2, 1)
    H -= (ratio / r2)[:, None, None] * (a[:, :, None] * a[:, None, :])
    # tr(D d2T): 2 D[a, c] for entries (a, b), (c, b)
    H += 2.0 * (cols[:, None] == cols) * D[:, rows[:, None], rows]
    g = 2.0 * (D @ Lambda)[:, rows, cols]
    failed |= ~np.isfinite(H).all((1, 2)) | ~np.isfinite(g).all(1)
    return g, 0.5 * (H + H.transpose(0, 2, 1)), failed


def _newton(g, H):
    """Steps with eigenvalues by absolute value, their decrements, and the smallest scaled eigenvalues."""
    diagonal = np.abs(np.einsum("sii->si", H))
    largest = diagonal.max(1, initial=0.0)[:, None]
    d = 1.0 / np.sqrt(np.maximum(diagonal, np.maximum(1e-12 * largest, 1e-300)))
    values, vectors = np.linalg.eigh(H * d[:, :, None] * d[:, None, :])
    along = np.einsum("sij,si->sj", vectors, d * g)
    newton = along / np.maximum(np.abs(values), 1e-9 * np.maximum(1.0, np.abs(values[:, -1:])))
    step = -d * np.einsum("sij,sj->si", vectors, newton)
    return step, 0.5 * (along * newton).sum(1), values[:, 0]
