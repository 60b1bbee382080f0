"""One random intercept without weights: one record per distinct group size.

With k = 1 everything a level i contributes depends on ``A_i = Z_i'Z_i`` and on
``B_i'B_i``.  Levels with the same A are interchangeable, so their count c_m and
``S_m = sum B_i'B_i`` are all that is needed:

    log|V0| = sum c_m log(1 + A_m t)                    kappa_m = 1 / (1 + A_m t)
    S  = (C - sum S_m / A_m) + sum S_m kappa_m / A_m
    F  = sum c_m A_m kappa_m                            GG = sum kappa_m^2 S_m

An evaluation costs O(M u^2) for M distinct sizes, at any number of rows.
"""

import numpy as np

from fastlmm_core._kernels._tree import collapse, ratios
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.engine import Direction, SecondMoments
from fastlmm_core.mme.tree import kept_columns

ROUNDING = 1e-10
"""A_i / n_i may vary by this much, relative, and still count as one constant."""


def can_collapse(cp: CrossProducts, n_threads: int = 1) -> bool:
    """One factor, k = 1, no weights, and Z_i'Z_i a constant times the group size."""
    if cp.structure != "tree" or len(cp.order) != 1 or cp.weighted:
        return False
    (factor,) = cp.order
    if len(cp.z[factor]) != 1:
        return False
    R = np.ascontiguousarray(cp.R[factor], np.float64)
    counts = np.ascontiguousarray(cp.counts[factor], np.int64)
    low, high = ratios(R, int(cp.z[factor][0]), counts, n_threads)
    return 0.0 < low and high - low <= ROUNDING * high


def _group_sizes(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct counts, the place of each level's count (levels,) int32, and how many levels have it."""
    if counts.max() > 2 * len(counts) + 1024:
        sizes, place, levels = np.unique(counts, return_inverse=True, return_counts=True)
        return sizes, place.astype(np.int32), levels
    levels = np.bincount(counts)
    sizes = np.flatnonzero(levels)
    place = np.zeros(len(levels), np.int32)
    place[sizes] = np.arange(len(sizes), dtype=np.int32)
    return sizes, place[counts], levels[sizes]


class CollapsedEngine:
    """`fastlmm_core.mme.engine.Engine`; see `can_collapse` for when it applies."""

    name = "collapsed"

    def __init__(self, cp: CrossProducts, keep, n_threads: int = 1):
        if not can_collapse(cp, n_threads):
            raise ModelError("the collapsed engine needs one unweighted random intercept")
        (factor,) = cp.order
        self.xy, self.C = kept_columns(cp, keep)
        self.p, self.k, self.levels = len(self.xy) - 1, (1,), tuple(cp.levels)
        R = np.ascontiguousarray(cp.R[factor], np.float64)
        self._R, counts = R, np.asarray(cp.counts[factor])
        self._A_level = R[:, 0, cp.z[factor][0]]
        sizes, group, self._count = _group_sizes(counts)
        self._A = sizes * (self._A_level.sum() / counts.sum())
        S = collapse(R, self.xy, group, len(sizes), n_threads)
        if not np.isfinite(S.sum()):
            raise NumericalError("cross-products of the grouping factor are not finite")
        S += np.tril(S, -1).transpose(0, 2, 1)
        self._S = S.reshape(len(sizes), -1)
        self._S_over_A = self._S / self._A[:, None]
        self._within = self.C - self._S_over_A.sum(0).reshape(self.C.shape)
        self._cA = self._count * self._A

    def factorize(self, Lambda: list[np.ndarray]) -> tuple[float, np.ndarray]:
        self._t = t = float(Lambda[0][0, 0]) ** 2
        At = self._A * t
        self._kappa = 1.0 / (1.0 + At)
        logdet = float(self._count @ np.log1p(At))
        S = self._within + (self._kappa @ self._S_over_A).reshape(self.C.shape)
        if not np.isfinite(logdet + S.sum()):
            raise NumericalError("log|V0| or S is not finite")
        return logdet, S

    def moments(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        F = np.array([[self._cA @ self._kappa]])
        GG = (self._kappa * self._kappa) @ self._S
        return [F], [GG.reshape(1, 1, *self.C.shape)]

    def second_moments(self, Q: np.ndarray, v: np.ndarray) -> SecondMoments:
        F = self._A * self._kappa  # of one level of each size
        GG = ((F * self._kappa * self._kappa) @ self._S).reshape(self.C.shape)
        sums = (self._count @ (F * F), np.vdot(Q, GG[:-1, :-1]), v @ GG @ v)
        return SecondMoments(*(np.full((1, 1, 1, 1), total) for total in sums))

    def average_information(self, Q: np.ndarray, v: np.ndarray, directions: list[Direction]) -> np.ndarray:
        X = np.array([direction[0, 0] for _, direction in directions])
        cross = self.moments()[1][0][0, 0, :-1] @ v
        return np.outer(X, X) * (self.second_moments(Q, v).Fg[0, 0, 0, 0] - cross @ Q @ cross)

    def random_effects(self, v: np.ndarray) -> list[np.ndarray]:
        """``b_i = t kappa_i B_i v``."""
        wide = np.zeros(self._R.shape[2])
        wide[self.xy] = v
        b = self._R[:, 0] @ wide
        b *= self._t
        b /= 1.0 + self._A_level * self._t
        return [b[:, None]]

    def conditional_covariance(self, factor: int = 0) -> np.ndarray:
        """``t / (1 + A_i t)``."""
        return (self._t / (1.0 + self._A_level * self._t))[:, None, None]
