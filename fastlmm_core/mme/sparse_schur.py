"""Mixed-model equations of crossed factors whose Schur complement is sparse.

The equations are those of `crossed.CrossedEngine`: the leaf ``order[0]`` is
eliminated exactly and ``M_c = I + D_c'A_cc D_c - sum W_i'W_i`` is left.  Here its
pattern is found once from the pairs of levels, ordered by minimum degree (the
columns of a level stay together) and factored by supernodes; every evaluation
fills the same memory.  The pattern holds all pairs within a leaf level and within
a row, so the traces and variances need no more of ``M_c^-1`` than its selected
inverse: Takahashi, Fagan & Chin (1973); Misztal & Perez-Enciso (1993,
doi:10.3168/jds.S0022-0302(93)77478-0) for its use in REML.
"""

import numpy as np

from fastlmm_core._kernels._crossed import Leaf
from fastlmm_core._kernels._schur import SchurValues
from fastlmm_core._typing import Float, Int64
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.crossed import LEAST_PARALLEL_WORK, CrossedEngine
from fastlmm_core.mme.crossed_arrays import balanced_chunks, crossed_arrays
from fastlmm_core.mme.schur_counts import SchurAnalysis, analyse_schur
from fastlmm_core.sparse.cholesky import Factor
from fastlmm_core.sparse.selinv import SelectedInverse


class SparseSchurEngine(CrossedEngine):
    """Engine for ``structure == "crossed"`` with a sparse Schur complement.

    Parameters
    ----------
    cp : CrossProducts
        Statistics with at least two factors; ``cp.order[0]`` is eliminated.
    keep : (p,) int
        Positions in ``cp.x`` of the columns of X that are kept.
    n_threads : int
        Threads of the kernels; results do not depend on it.  BLAS has its own.
    analysis : SchurAnalysis, optional
        From `analyse_schur` of the same ``cp``, when it is known already.

    Attributes
    ----------
    counts : SchurCounts
        Sizes of S and of its factor.

    Raises
    ------
    ModelError
        The sparse equations do not fit in memory.
    NumericalError
        From `factorize`: Lambda is not finite, or a pivot is not positive.

    Notes
    -----
    One `factorize` costs sum_i d_i^2 / 2 multiplications (d_i: stacked columns that meet
    leaf level i) and the flops of the factor, `moments` twice that.
    """

    name = "sparse"

    def __init__(
        self, cp: CrossProducts, keep: Int64, n_threads: int = 1, analysis: SchurAnalysis | None = None
    ):
        if len(cp.order) < 2 or sorted(cp.order) != list(range(len(cp.z))):
            raise ValueError("the sparse engine needs two or more factors, all in order")
        if analysis is None or analysis.symbolic is None:
            analysis = analyse_schur(cp, n_threads, always=True)
        self.counts, symbolic = analysis.counts, analysis.symbolic
        if symbolic is None or not self.counts.sparse_fits:
            raise ModelError(f"the sparse equations do not fit in memory: {self.counts.describe()}")
        columns = np.append(cp.x[np.asarray(keep, np.intp)], cp.y).astype(np.int64)
        arrays = crossed_arrays(cp, columns, dense=False)
        self._nnz = symbolic.nnz
        self._take(cp, columns, arrays)
        work = arrays.work * self.k[self._order[0]] + (self.counts.flops or 0)
        threads = n_threads if work >= LEAST_PARALLEL_WORK else 1
        self._leaf = Leaf(arrays.kernel, threads)
        self._schur: SparseSchur = SparseSchur(arrays.kernel, symbolic, threads)  # type: ignore[assignment]

    @property
    def columns_work(self) -> float:
        """Multiplications for all columns of Z'V0^-1 Z by `inverse_columns`."""
        columns = sum(G * k for G, k in zip(self.levels, self.k))
        return columns * (2.0 * self._nnz + 4.0 * self._entries * self.k[self._order[0]])

    def _scales(self, Lambda: list[Float]) -> tuple[list[Float], Float]:
        inverse, scales = super()._scales(Lambda)
        k2 = self.k[self._order[0]] ** 2
        stacked = sum(self.k[f] ** 2 for f in self._order[1:])
        self._schur.scales = np.concatenate([scales[:k2], scales[2 * k2 : 2 * k2 + stacked]])
        return inverse, scales


class SparseSchur:
    """M_c of a leaf as a sparse matrix: what `_crossed.DenseSchur` offers, on the pattern of S."""

    def __init__(self, leaf_arrays: dict[str, np.ndarray], symbolic, n_threads: int):
        pattern = symbolic.pattern
        width = leaf_arrays["width"]
        self._unit, self._width = leaf_arrays["unit"], width.tolist()
        self._length, self._value_ptr = np.diff(pattern.row_ptr), pattern.value_ptr
        cost = np.diff(leaf_arrays["col_ptr"]) if (width == 1).all() else np.diff(pattern.value_ptr)
        values = {
            "unit_column": pattern.unit_column,
            "row_ptr": pattern.row_ptr,
            "rows": pattern.rows,
            "value_ptr": pattern.value_ptr,
            "chunk": balanced_chunks(cost + self._length),
        }
        self._numbers = SchurValues(leaf_arrays, values, n_threads)
        self._P = np.empty(pattern.n_values)
        self._factor = Factor(symbolic, n_threads)
        self._selected = SelectedInverse(self._factor)
        self._inverse: Float | None = None
        self.scales = np.zeros(0)

    def factor(self) -> float:
        """Assemble P_c, factor I + P_c; return its log-determinant."""
        self._inverse = None
        self._numbers.assemble(self.scales, self._P)
        try:
            return self._factor.update(self._P, 1.0)
        except NumericalError as error:
            raise NumericalError(
                "the Schur complement of the crossed factors is not positive definite; "
                "a covariance factor is not finite or too large for the precision of the data"
            ) from error

    def halfsolve(self, t: Float) -> None:
        """t (m, r) -> L^-1 P t in place."""
        t[:] = self._factor.halfsolve(t)

    def unsolve(self, t: Float) -> Float:
        """P'L^-T t, a new array."""
        return self._factor.unsolve(t)

    def solve(self, t: Float) -> Float:
        """M_c^-1 t, a new array."""
        return self._factor.solve(t)

    def invert(self) -> None:
        """Compute M_c^-1 on the pattern; nothing to do when that was done."""
        if self._inverse is None:
            self._inverse = self._selected.update()

    def _need_inverse(self) -> Float:
        if self._inverse is None:
            raise ValueError("call invert first")
        return self._inverse

    def _own_blocks(self, q: int) -> Float:
        """(M_c^-1)_jj for the levels of stacked factor q, (levels, k_q, k_q)."""
        inverse, k = self._need_inverse(), self._width[q]
        units = slice(self._unit[q], self._unit[q + 1])
        start, length = self._value_ptr[units], self._length[units]
        blocks = np.empty((len(start), k, k))
        for b in range(k):
            for a in range(b, k):
                blocks[:, a, b] = blocks[:, b, a] = inverse[start + b * length + a]
        return blocks

    def block_sum(self, q: int) -> Float:
        """sum_j (M_c^-1)_jj over the levels of stacked factor q."""
        return self._own_blocks(q).sum(axis=0)

    def product_sums(self, factors: list[int]) -> list[Float]:
        """[sum_j (P_c M_c^-1)_jj for q in factors]."""
        sums = self._numbers.product_sums(self._P, self._need_inverse())
        return [sums[q] for q in factors]

    def gather(self) -> Float:
        """sum_i L_i^-T W_i M_c^-1 W_i' L_i^-1."""
        return self._numbers.gather(self._need_inverse())

    def leaf_covariance(self) -> Float:
        """D (M^-1)_ii D' of every leaf level."""
        return self._numbers.leaf_covariance(self._need_inverse())

    def stacked_covariance(self, q: int) -> Float:
        """D_q (M_c^-1)_jj D_q' of every level of stacked factor q."""
        widths = self._width
        stop = len(self.scales) - sum(w * w for w in widths[q + 1 :])
        D = self.scales[stop - widths[q] ** 2 : stop].reshape(widths[q], widths[q])
        return D @ self._own_blocks(q) @ D.T
