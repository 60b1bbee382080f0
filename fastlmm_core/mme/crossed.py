"""Mixed-model equations of crossed factors (`fastlmm_core.mme.engine.Engine`).

The factor ``order[0]``, the leaf, is block-diagonal and is eliminated exactly;
the others leave a Schur complement in m = sum of levels x columns unknowns,
which is factored as one dense matrix.  In symbols, with T_f = D_f D_f':

    M_i = I + D'A_i D = L_i L_i'            leaf level i
    W_i = L_i^-1 D'N_i D_c,  Y_i = L_i^-1 D'B_i
    M_c = I + D_c'A_cc D_c - sum W_i'W_i,  t = D_c'B_c - sum W_i'Y_i
    log|V0| = sum log|M_i| + log|M_c|
    S = C - sum Y_i'Y_i - t'M_c^-1 t

the block Cholesky factorization of Bates, Maechler, Bolker & Walker (2015,
doi:10.18637/jss.v067.i01, eq. 18) with the response as a last column.

D_f is not the triangular Lambda_f but U s of its singular value decomposition
U s V', with the singular values held above `SMALLEST_SCALE`.  The columns of
D_f are then orthogonal and every quantity in D coordinates is computed to full
relative precision column by column, so Z'V0^-1 Z = D^-T (P M^-1) D^-1 and
Z'V0^-1[X y] = D^-T M^-1 D'Z'W[X y] are right also where T_f is singular or
zero, from one and the same factorization; 1e-30 itself changes nothing that
double precision can see.
"""

import numpy as np

from fastlmm_core._kernels._crossed import DenseSchur, Leaf, downdate
from fastlmm_core._typing import Float, Int64
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.blas_threads import single_blas
from fastlmm_core.mme.crossed_arrays import PANEL_COLUMNS, CrossedArrays, crossed_arrays
from fastlmm_core.mme.engine import Direction, SecondMoments

SMALLEST_SCALE = 1e-30
"""Singular values of Lambda_f are held above this, so that D_f has an inverse."""

LEAST_SHRINKAGE = 1e-3
"""Below this mean of diag(I - M_c^-1) the difference loses digits and P_c M_c^-1 is summed instead."""

LEAST_PARALLEL_WORK = 1e7
"""Sparse multiplications per factorization (about 1 ns each) from which threads pay: waiting for the
next parallel region, through a BLAS call, keeps their cores busy."""


class CrossedEngine:
    """Engine for ``structure == "crossed"`` with a dense Schur complement.

    Parameters
    ----------
    cp : CrossProducts
        Statistics with at least two factors; ``cp.order[0]`` is eliminated.
    keep : (p,) int
        Positions in ``cp.x`` of the columns of X that are kept.
    n_threads : int
        Threads of the kernels; results do not depend on it.  They share out calls of
        a BLAS that is kept to one thread meanwhile (`blas_threads`).

    Raises
    ------
    ModelError
        The dense equations (8 m^2 bytes and more) do not fit in memory.
    NumericalError
        From `factorize`: Lambda is not finite, or a pivot is not positive.

    Notes
    -----
    One `factorize` costs sum_i d_i^2 / 2 (d_i: stacked columns that meet leaf
    level i) plus m^3 / 3, `moments` the same sum plus 2 m^3 / 3 multiplications.
    """

    name = "crossed"

    def __init__(self, cp: CrossProducts, keep: Int64, n_threads: int = 1):
        if len(cp.order) < 2 or sorted(cp.order) != list(range(len(cp.z))):
            raise ValueError("the crossed engine needs two or more factors, all in order")
        columns = np.append(cp.x[np.asarray(keep, np.intp)], cp.y).astype(np.int64)
        arrays = crossed_arrays(cp, columns)
        self._take(cp, columns, arrays)
        parallel = arrays.work * self.k[self._order[0]] >= LEAST_PARALLEL_WORK
        self._leaf = Leaf(arrays.kernel, n_threads if parallel else 1)
        self._schur = DenseSchur(self._leaf, PANEL_COLUMNS, n_threads)

    def _take(self, cp: CrossProducts, columns: Int64, arrays: CrossedArrays) -> None:
        """What does not depend on how the Schur complement is kept."""
        self.k = tuple(len(z) for z in cp.z)
        self.levels = tuple(cp.levels)
        self.p = len(columns) - 1
        self.m = int(arrays.offset[-1])
        self._order = tuple(cp.order)
        self._rows = dict(zip(cp.order[1:], zip(arrays.offset[:-1].tolist(), arrays.offset[1:].tolist())))
        self._C = np.ascontiguousarray(cp.C[np.ix_(columns, columns)])
        self._B, self._Bc = arrays.B, arrays.Bc
        self._entries = len(arrays.kernel["index"])
        self._ready = False

    @single_blas
    def factorize(self, Lambda: list[Float]) -> tuple[float, Float]:
        """Return ``log|V0|`` and ``S`` (u x u) at the relative factors ``Lambda`` (k_f x k_f each)."""
        self._ready = False
        self._G: list[Float] | None = None
        self._D_inverse, scales = self._scales(Lambda)
        logdet = self._leaf.factor(scales) + self._schur.factor()
        self._Y, self._half = self._leaf.forward(self._B, self._Bc)
        self._schur.halfsolve(self._half)
        S = self._C.copy()
        downdate(S, self._Y)
        downdate(S, self._half)
        self._T = [L @ L.T for L in Lambda]
        self._ready = True
        return logdet, S

    @single_blas
    def moments(self) -> tuple[list[Float], list[Float]]:
        """Return per factor F = sum_i Z_i'V0^-1 Z_i (k, k) and sum_i of the outer products of G_i."""
        G = self._projections()
        self._schur.invert()
        leaf, stacked = self._order[0], self._order[1:]
        # D'F D: over the leaf sum_i M_i^-1 P_i - L_i^-T W_i M_c^-1 W_i' L_i^-1, else sum_j (P_c M_c^-1)_jj
        inner = {leaf: self._leaf.information() - self._schur.gather()}
        weak = []
        for q, f in enumerate(stacked):
            inner[f] = self.levels[f] * np.eye(self.k[f]) - self._schur.block_sum(q)
            if inner[f].diagonal().min() < LEAST_SHRINKAGE * self.levels[f]:
                weak.append(q)
        if weak:
            for q, product in zip(weak, self._schur.product_sums(weak)):
                inner[stacked[q]] = product
        F = []
        for f, inverse in enumerate(self._D_inverse):
            half = inverse.T @ inner[f] @ inverse
            F.append(0.5 * (half + half.T))
        return F, [_outer_sum(g) for g in G]

    def second_moments(self, Q: Float, v: Float) -> SecondMoments | None:
        """None: with several factors `average_information` serves."""
        return None

    @single_blas
    def average_information(self, Q: Float, v: Float, directions: list[Direction]) -> Float:
        """Return ``w_j'P w_k`` (r x r), ``w_j = Z_f X_j Z_f'P y``.

        Gilmour, Thompson & Cullis (1995, doi:10.2307/2533274, eq. 7).  The
        right-hand sides Z'W w_k are solved for like those of ``[X y]``, which
        gives Z'V0^-1 w_k; then w_j'V0^-1 w_k = h_j'(Z_f'V0^-1 w_k) and
        X'V0^-1 w_k = G_X'h_k, with w = Z_f h.
        """
        G, r = self._projections(), len(directions)
        leaf = self._order[0]
        if not r:
            return np.zeros((0, 0))
        h, hc = np.zeros((len(self._B), r)), np.zeros((self.m, r))
        XVw = np.zeros((self.p, r))
        for q, (f, X) in enumerate(directions):
            column = ((G[f] @ v) @ X).reshape(-1)  # h_j = Z_f'P y X_j, level by level
            XVw[:, q] = column @ G[f].reshape(len(column), -1)[:, :-1]
            (h if f == leaf else hc[slice(*self._rows[f])])[:, q] = column
        Y, t = self._leaf.forward(*self._leaf.multiply(h, hc))
        x, xc = self._leaf.backward(Y, self._schur.solve(t))
        wVw = h.T @ x + hc.T @ xc
        return 0.5 * (wVw + wVw.T) - XVw.T @ Q @ XVw

    @single_blas
    def random_effects(self, v: Float) -> list[Float]:
        """Return per factor ``b = T_f Z_f'V0^-1 [X y] v`` (levels, k)."""
        return [(g @ v) @ T for g, T in zip(self._projections(), self._T)]

    @single_blas
    def conditional_covariance(self, factor: int) -> Float:
        """Return ``Var(b_i | y, beta) / sigma^2`` (levels, k, k): diagonal blocks of D M^-1 D'."""
        self._projections()
        if not self._T[factor].any():
            return np.zeros((self.levels[factor], self.k[factor], self.k[factor]))
        self._schur.invert()
        if factor == self._order[0]:
            return self._schur.leaf_covariance()
        return self._schur.stacked_covariance(self._order.index(factor) - 1)

    @single_blas
    def projections(self) -> list[Float]:
        """Return per factor G = Z'V0^-1[X y] (levels, k, u)."""
        return self._projections()

    @property
    def columns_work(self) -> float:
        """Multiplications for all columns of Z'V0^-1 Z by `inverse_columns`."""
        columns = sum(G * k for G, k in zip(self.levels, self.k))
        return columns * (2.0 * self.m**2 + 4.0 * self._entries * self.k[self._order[0]])

    @single_blas
    def inverse_columns(self, factor: int, first: int, last: int) -> list[Float]:
        """Return Z_f'V0^-1 Z_g per factor f for levels ``first:last`` of g = ``factor``,
        (levels_f k_f, (last - first) k_g): solutions for the right-hand sides Z'WZ_g."""
        self._projections()
        k = self.k[factor]
        h, hc = (np.zeros((rows, (last - first) * k)) for rows in (len(self._B), self.m))
        rows = h if factor == self._order[0] else hc[slice(*self._rows[factor])]
        rows[np.arange(first * k, last * k), np.arange((last - first) * k)] = 1.0
        Y, t = self._leaf.forward(*self._leaf.multiply(h, hc))
        leaf, stacked = self._leaf.backward(Y, self._schur.solve(t))
        return [leaf if f == self._order[0] else stacked[slice(*self._rows[f])] for f in range(len(self.k))]

    def _scales(self, Lambda: list[Float]) -> tuple[list[Float], Float]:
        """D_f^-1 by factor, and the kernels' (D, D^-1, all D_f, all D_f^-1) with the leaf first."""
        if len(Lambda) != len(self.k):
            raise ValueError("one relative covariance factor per grouping factor is needed")
        D, inverse = [], []
        for L, k in zip(Lambda, self.k):
            if L.shape != (k, k):
                raise ValueError(f"a relative covariance factor has shape {L.shape}, not {(k, k)}")
            if not np.isfinite(L).all():
                raise NumericalError("a relative covariance factor is not finite")
            if k == 1:
                scale = max(abs(float(L[0, 0])), SMALLEST_SCALE)
                D.append(np.array([[scale]]))
                inverse.append(np.array([[1 / scale]]))
            else:
                U, s, _ = np.linalg.svd(L)
                s = np.maximum(s, SMALLEST_SCALE)
                D.append(U * s)
                inverse.append((U / s).T)
        leaf, stacked = self._order[0], self._order[1:]
        pieces = [D[leaf], inverse[leaf], *(D[f] for f in stacked), *(inverse[f] for f in stacked)]
        return inverse, np.concatenate([piece.ravel() for piece in pieces])

    def _projections(self) -> list[Float]:
        """G_f = Z_f'V0^-1[X y] of every factor, (levels, k, u); computed when first asked for."""
        if not self._ready:
            raise NumericalError("the equations are not factorized; call factorize with a valid Lambda first")
        if self._G is None:
            leaf, stacked = self._leaf.backward(self._Y, self._schur.unsolve(self._half))
            self._G = [
                (leaf if f == self._order[0] else stacked[slice(*self._rows[f])]).reshape(G, k, -1)
                for f, (G, k) in enumerate(zip(self.levels, self.k))
            ]
        return self._G


def _outer_sum(G: Float) -> Float:
    """[a, b] = sum_i G_i[a] G_i[b]' for G (levels, k, u)."""
    levels, k, u = G.shape
    rows = G.reshape(levels, k * u)
    return (rows.T @ rows).reshape(k, u, k, u).transpose(0, 2, 1, 3)
