"""One grouping factor and many responses: drawn, and solved as in `OneFactorEngine`, in one call.

Responses are drawn where they are used, in the packed levels ``(La, E)`` of
`flm_tree.h`: with ``A_i = La La'`` and ``E_i = La^+ Z_i'W [X y]``,

    E_i,y = E_i,X beta + La'b_i + s xi_i,      C_y - sum E_i'E_i,y = C_rest beta + s C_rest^1/2 eta,

``C_rest = C_XX - sum E_i,X'E_i,X``, b_i = s Lambda z_i, and z, xi, eta standard normal.  What is left
of y'Wy is the squared length of the right-hand side's error, s2 (|eta|^2 + a chi-square).  This is the
distribution that summing simulated rows gives.
"""

from collections.abc import Sequence

import numpy as np

from fastlmm_core._kernels._resample import Replicates, pack_bytes
from fastlmm_core.crossprod.statistics import CrossProducts

RANK = 1e-10
"""Eigenvalues of C_rest below this, relative to the trace of C_XX, are zero."""


class ReplicateEngine:
    """Mixed-model equations of several simulated responses that share X, Z and weights.

    Parameters
    ----------
    cp : CrossProducts
        With one grouping factor; its own response is not used.
    keep : (p,) int, positions in ``cp.x`` of the columns of X to use
    r : number of responses held at once

    Nothing is threaded here: every thread needs an engine of its own.
    """

    def __init__(self, cp: CrossProducts, keep, r: int):
        (factor,) = cp.order
        self._x = x = np.asarray(cp.x)[np.asarray(keep, np.int64)]
        z = np.asarray(cp.z[factor])
        self.p, self.k, self.r = len(x), len(z), r
        self.levels, self._u = cp.levels[factor], cp.C.shape[0]
        R = np.zeros((self.levels, self.k, self.k + self.p + 1))
        R[:, :, : self.k] = cp.R[factor][:, :, z]
        R[:, :, self.k : -1] = cp.R[factor][:, :, x]
        self._packed = Replicates(R, r)
        C = cp.C[np.ix_(x, x)]
        self._rest = C - self._packed.within[: self.p, : self.p]
        values, vectors = np.linalg.eigh(self._rest) if self.p else (np.zeros(0), np.zeros((0, 0)))
        used = values > RANK * np.trace(C)
        self._root = vectors[:, used] * np.sqrt(values[used])
        self.df = cp.n - self._packed.rank - int(used.sum())
        self._within = np.zeros((r, self.p + 1, self.p + 1))
        self._within[:, : self.p, : self.p] = self._rest
        self._normals = np.empty(2 * self.levels * self.k + self._root.shape[1])
        a, b = np.indices((self.k, self.k))
        high, low = np.maximum(a, b), np.minimum(a, b)
        self._vech = high * (high + 1) // 2 + low

    def draw(self, beta: np.ndarray, Lambda: np.ndarray, sigma: float, generators: Sequence) -> None:
        """Set the first responses, one per generator, to draws from the model (beta~, Lambda~, s~)."""
        p = self.p
        beta, L = np.ascontiguousarray(beta), np.ascontiguousarray(sigma * np.tril(Lambda))
        for s, generator in enumerate(generators):
            generator.standard_normal(out=self._normals)
            square = generator.chisquare(self.df) if self.df > 0 else 0.0
            self._packed.draw(s, beta, L, sigma, self._normals)
            eta = self._normals[2 * self.levels * self.k :]
            mean, error = self._rest @ beta, sigma * (self._root @ eta)
            self._within[s, :p, p] = self._within[s, p, :p] = mean + error
            length = float(eta @ eta) + square
            self._within[s, p, p] = float(beta @ mean + 2.0 * (beta @ error)) + sigma**2 * length

    def statistics(self, s: int) -> tuple[np.ndarray, float, list[np.ndarray]]:
        """U'Wy (u,), with entries at the columns kept only, y'Wy, and [Z'Wy (levels, k)] of response s."""
        Zy, Xy, square = self._packed.products(s)
        Uy = np.zeros(self._u)
        Uy[self._x] = Xy + self._within[s, : self.p, self.p]
        return Uy, square + float(self._within[s, self.p, self.p]), [Zy]

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
    return pack_bytes(cp.levels[factor], len(cp.z[factor]), len(keep) + 1)
