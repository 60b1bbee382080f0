"""One grouping factor and many responses: what `OneFactorEngine` computes, for all of them in one call."""

from collections.abc import Sequence

import numpy as np

from fastlmm_core._kernels._resample import Replicates, pack_bytes
from fastlmm_core.crossprod.statistics import CrossProducts


class ReplicateEngine:
    """Mixed-model equations of several responses that share X, Z and weights.

    Parameters
    ----------
    cp : CrossProducts
        With one grouping factor; its own response is not used.
    keep : (p,) int, positions in ``cp.x`` of the columns of X to use
    Uy : (r, u) ``U'W y`` of each response
    yy : (r,) ``y'W y``
    Zy : (r, levels, k) ``Z_i'W y``

    Nothing is threaded here: callers give each thread responses of its own.
    """

    def __init__(self, cp: CrossProducts, keep, Uy: np.ndarray, yy: np.ndarray, Zy: np.ndarray):
        (factor,) = cp.order
        x = np.asarray(cp.x)[np.asarray(keep, np.int64)]
        z = np.asarray(cp.z[factor])
        self.p, self.k, self.r = len(x), len(z), len(yy)
        R = np.empty((cp.levels[factor], self.k, self.k + self.p + 1))
        R[:, :, : self.k] = cp.R[factor][:, :, z]
        R[:, :, self.k : -1] = cp.R[factor][:, :, x]
        self._packed = Replicates(R, np.ascontiguousarray(Zy, np.float64))
        C = np.empty((self.r, self.p + 1, self.p + 1))
        C[:, : self.p, : self.p] = cp.C[np.ix_(x, x)]
        C[:, : self.p, self.p] = C[:, self.p, : self.p] = Uy[:, x]
        C[:, self.p, self.p] = yy
        self._within = C - self._packed.within
        self.failed = self._packed.failed.astype(bool)
        a, b = np.indices((self.k, self.k))
        high, low = np.maximum(a, b), np.minimum(a, b)
        self._vech = high * (high + 1) // 2 + low

    def sweep(self, which: Sequence[int], Lambda: np.ndarray):
        """``log|V0|`` (s,), S (s, u, u), F (s, k, k), GG (s, k, k, u, u) and failed (s,) bool."""
        which = np.ascontiguousarray(which, np.int64)
        logdet, S, F, GG, failed = self._packed.sweep(which, np.ascontiguousarray(Lambda))
        S += self._within[which]
        return logdet, S, F, GG, failed.astype(bool)

    def second_moments(self, which: Sequence[int], Lambda: np.ndarray, Q: np.ndarray, v: np.ndarray):
        """FF, FP, Fg, each (s, k, k, k, k) as in `SecondMoments`, and failed (s,) bool."""
        which = np.ascontiguousarray(which, np.int64)
        sums, failed = self._packed.second(
            which, np.ascontiguousarray(Lambda), np.ascontiguousarray(Q), np.ascontiguousarray(v)
        )
        full = sums[:, :, self._vech[:, :, None, None], self._vech]
        return full[:, 0], full[:, 1], full[:, 2], failed.astype(bool)


def replicate_bytes(cp: CrossProducts, keep) -> int:
    """Memory per response."""
    (factor,) = cp.order
    k, u = len(cp.z[factor]), len(keep) + 1
    return pack_bytes(cp.levels[factor], k, u) + 40 * cp.levels[factor] * k
