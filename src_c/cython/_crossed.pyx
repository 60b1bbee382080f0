"""Mixed-model equations of crossed factors: leaf levels and a dense Schur complement.

`Leaf` holds the structure, the leaf's k x k factors and everything sparse;
`DenseSchur` holds the m x m matrix.  Arrays are checked here, the arithmetic is
in ``src_c/numeric/crossed_*.c``; `flm_crossed.h` states the equations.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from scipy.linalg cimport cython_blas, cython_lapack

from fastlmm_core.errors import NumericalError


cdef extern from "flm_blas.h" nogil:
    ctypedef struct flm_blas:
        void (*dpotrf)(char *, int *, double *, int *, int *) noexcept nogil
        void (*dpotri)(char *, int *, double *, int *, int *) noexcept nogil
        void (*dtrsm)(char *, char *, char *, char *, int *, int *, double *, double *, int *, double *,
                      int *) noexcept nogil
        void (*dsymm)(char *, char *, int *, int *, double *, double *, int *, double *, int *, double *,
                      double *, int *) noexcept nogil
        void (*dsyrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *,
                      int *) noexcept nogil
        void (*dgemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *,
                      double *, double *, int *) noexcept nogil


cdef extern from "flm_crossed.h" nogil:
    ctypedef enum flm_status:
        FLM_OK
        FLM_NO_MEMORY
        FLM_NOT_POSITIVE

    int FLM_CROSSED_MAX_K

    ctypedef struct flm_crossed:
        int64_t levels, m, n_units, n_heavy
        int32_t k, n_stacked, n_threads, n_level_chunks, n_column_chunks
        const int64_t *offset
        const int64_t *unit
        const int32_t *width
        const double *A
        const int64_t *row_ptr
        const int32_t *index
        const double *N
        const int64_t *col_ptr
        const int64_t *light_end
        const int64_t *entry
        const int32_t *level
        const int32_t *heavy
        const int64_t *stacked_ptr
        const int32_t *stacked_unit
        const int64_t *stacked_start
        const double *stacked_value
        const int64_t *level_chunk
        const int64_t *column_chunk
        const double *D
        const double *D_inverse
        const double *Dc
        const double *Dc_inverse
        double *L
        double *W

    flm_status flm_crossed_transpose(int64_t, int64_t, const int64_t *, const int32_t *, const uint8_t *,
                                     int64_t *, int64_t *, int64_t *, int32_t *, int64_t *) noexcept
    flm_status flm_crossed_leaf_factor(const flm_crossed *, double *) noexcept
    void flm_crossed_forward(const flm_crossed *, int64_t, const double *, double *) noexcept
    void flm_crossed_backward(const flm_crossed *, int64_t, const double *, const double *, double *) noexcept
    void flm_crossed_multiply(const flm_crossed *, int64_t, const double *, const double *, double *) noexcept
    void flm_crossed_information(const flm_crossed *, double *) noexcept
    void flm_crossed_leaf_covariance(const flm_crossed *, const double *, double *) noexcept
    void flm_crossed_reduce(const flm_crossed *, int64_t, double, const double *, const double *,
                            double *) noexcept
    void flm_crossed_assemble(const flm_crossed *, int, double *) noexcept
    void flm_crossed_gather(const flm_crossed *, const double *, double *) noexcept
    void flm_crossed_scale(const flm_crossed *, int, int64_t, const double *, double *) noexcept
    void flm_crossed_stacked_multiply(const flm_crossed *, int64_t, const double *, double *) noexcept
    void flm_crossed_block_sum(const flm_crossed *, int, const double *, double *) noexcept
    void flm_crossed_blocks(const flm_crossed *, int, const double *, double *) noexcept
    void flm_crossed_product_sum(const flm_crossed *, int, const double *, const double *, double *,
                                 double *) noexcept
    void flm_crossed_heavy_update(const flm_crossed *, const flm_blas *, int, int64_t, double *,
                                  double *, int) noexcept
    void flm_crossed_heavy_gather(const flm_crossed *, const flm_blas *, int64_t, double *, double *,
                                  double *, double *, int) noexcept
    flm_status flm_crossed_dense_factor(const flm_blas *, int64_t, double *, double *, int) noexcept
    flm_status flm_crossed_dense_invert(const flm_blas *, int64_t, double *, int) noexcept
    void flm_crossed_dense_halfsolve(const flm_blas *, int64_t, int64_t, int, double *, double *) noexcept
    void flm_crossed_dense_apply(const flm_blas *, int64_t, int64_t, double *, double *, double *) noexcept
    void flm_crossed_downdate(const flm_blas *, int64_t, int64_t, double *, double *) noexcept


MAX_K = FLM_CROSSED_MAX_K

cdef flm_blas BLAS
BLAS.dpotrf = cython_lapack.dpotrf
BLAS.dpotri = cython_lapack.dpotri
BLAS.dtrsm = cython_blas.dtrsm
BLAS.dsymm = cython_blas.dsymm
BLAS.dsyrk = cython_blas.dsyrk
BLAS.dgemm = cython_blas.dgemm


def transpose_entries(int64_t m, const int64_t[::1] row_ptr not None, const int32_t[::1] index not None,
                      const uint8_t[::1] heavy not None):
    """Entries by stacked column: (col_ptr, light_end, entry, level, cost per column)."""
    cdef int64_t levels = row_ptr.shape[0] - 1, entries = index.shape[0]
    if levels < 1 or m < 1 or heavy.shape[0] != levels or row_ptr[levels] != entries:
        raise ValueError("transpose_entries: sizes do not agree")
    if entries and (np.min(index) < 0 or np.max(index) >= m):
        raise ValueError("transpose_entries: a stacked column is out of range")
    cdef int64_t[::1] col_ptr = np.empty(m + 1, np.int64)
    cdef int64_t[::1] light_end = np.empty(m, np.int64)
    cdef int64_t[::1] work = np.empty(m, np.int64)
    cdef int64_t[::1] entry = np.empty(max(entries, 1), np.int64)
    cdef int32_t[::1] level = np.empty(max(entries, 1), np.int32)
    cdef const int32_t *first = &index[0] if entries else NULL
    cdef flm_status status
    with nogil:
        status = flm_crossed_transpose(levels, m, &row_ptr[0], first, &heavy[0], &col_ptr[0], &light_end[0],
                                       &entry[0], &level[0], &work[0])
    if status != FLM_OK:
        raise MemoryError("no memory for a list of stacked columns")
    return col_ptr.base, light_end.base, entry.base, level.base, work.base


cdef class Leaf:
    """The sparse part of the equations; see `fastlmm_core.mme.crossed` for the arrays."""

    cdef flm_crossed s
    cdef dict arrays
    cdef double[::1] partial, scales
    cdef int64_t n_scales, widest
    cdef bint factored

    def __init__(self, dict arrays not None, int n_threads):
        self.arrays = arrays
        cdef const double[:, :, ::1] A = arrays["A"]
        cdef const int32_t[::1] width = arrays["width"]
        cdef const int64_t[::1] offset = arrays["offset"], unit = arrays["unit"]
        cdef const int64_t[::1] row_ptr = arrays["row_ptr"], col_ptr = arrays["col_ptr"]
        cdef const int64_t[::1] light_end = arrays["light_end"], entry = arrays["entry"]
        cdef const int32_t[::1] index = arrays["index"], level = arrays["level"], heavy = arrays["heavy"]
        cdef const double[:, ::1] N = arrays["N"]
        cdef const int64_t[::1] stacked_ptr = arrays["stacked_ptr"], stacked_start = arrays["stacked_start"]
        cdef const int32_t[::1] stacked_unit = arrays["stacked_unit"]
        cdef const double[::1] stacked_value = arrays["stacked_value"]
        cdef const int64_t[::1] level_chunk = arrays["level_chunk"], column_chunk = arrays["column_chunk"]
        cdef flm_crossed *s = &self.s
        s.levels, s.k, s.n_stacked, s.n_threads = A.shape[0], A.shape[1], width.shape[0], max(n_threads, 1)
        if s.levels < 1 or s.k < 1 or s.k > FLM_CROSSED_MAX_K or A.shape[2] != s.k or s.n_stacked < 1:
            raise ValueError("Leaf: impossible sizes")
        s.m, s.n_units = offset[s.n_stacked], unit[s.n_stacked]
        s.n_heavy = heavy.shape[0]
        s.n_level_chunks, s.n_column_chunks = level_chunk.shape[0] - 1, column_chunk.shape[0] - 1
        cdef int64_t entries = row_ptr[s.levels]
        if (
            row_ptr.shape[0] != s.levels + 1
            or col_ptr.shape[0] != s.m + 1
            or light_end.shape[0] != s.m
            or min(index.shape[0], N.shape[0], entry.shape[0], level.shape[0]) < max(entries, 1)
            or N.shape[1] != s.k
            or stacked_ptr.shape[0] != s.n_units + 1
            or min(stacked_unit.shape[0], stacked_start.shape[0]) < stacked_ptr[s.n_units]
            or level_chunk[s.n_level_chunks] != s.levels
            or column_chunk[s.n_column_chunks] != s.m
            or s.m < 1
        ):
            raise ValueError("Leaf: sizes do not agree")
        s.offset, s.unit, s.width, s.A = &offset[0], &unit[0], &width[0], &A[0, 0, 0]
        s.row_ptr, s.index, s.N = &row_ptr[0], &index[0], &N[0, 0]
        s.col_ptr, s.light_end, s.entry, s.level = &col_ptr[0], &light_end[0], &entry[0], &level[0]
        s.heavy = &heavy[0] if s.n_heavy else NULL
        s.stacked_ptr, s.stacked_unit = &stacked_ptr[0], &stacked_unit[0]
        s.stacked_start, s.stacked_value = &stacked_start[0], &stacked_value[0]
        s.level_chunk, s.column_chunk = &level_chunk[0], &column_chunk[0]
        cdef double[::1] L = np.empty(s.levels * s.k * s.k), W = np.empty(max(entries, 1) * s.k)
        arrays["L"], arrays["W"] = L, W
        s.L, s.W = &L[0], &W[0]
        widths = arrays["width"].tolist()
        self.n_scales = sum([w * w for w in widths])
        self.widest = max(s.k, max(widths))
        if self.widest > FLM_CROSSED_MAX_K:
            raise ValueError("Leaf: a term has too many columns")
        self.scales = np.zeros(2 * (s.k * s.k + self.n_scales))
        s.D, s.D_inverse = &self.scales[0], &self.scales[s.k * s.k]
        s.Dc = &self.scales[2 * s.k * s.k]
        s.Dc_inverse = s.Dc + self.n_scales
        self.partial = np.empty(max(s.n_level_chunks, s.n_column_chunks) * self.widest**2)
        self.factored = False

    def factor(self, const double[::1] scales not None):
        """Factor with scales = (D, D^-1, all D_f, all D_f^-1) row-major; return sum log|M_i|."""
        if scales.shape[0] != self.scales.shape[0]:
            raise ValueError("Leaf.factor: scales have the wrong size")
        cdef int64_t q
        cdef flm_status status
        cdef double total = 0
        self.scales[:] = scales
        with nogil:
            status = flm_crossed_leaf_factor(&self.s, &self.partial[0])
        self.factored = status == FLM_OK
        if status != FLM_OK:
            raise NumericalError(
                "I + Lambda'Z'WZ Lambda of a level is not positive definite; "
                "a covariance factor is too large for the precision of the data"
            )
        for q in range(self.s.n_level_chunks):
            total += self.partial[q]
        return total

    cdef int check(self, Py_ssize_t leaf_rows, Py_ssize_t stacked_rows) except -1:
        if leaf_rows != self.s.levels * self.s.k or stacked_rows != self.s.m:
            raise ValueError("a right-hand side has the wrong number of rows")
        if not self.factored:
            raise ValueError("call factor first")
        return 0

    def forward(self, const double[:, ::1] leaf not None, const double[:, ::1] stacked not None):
        """(Y, t) = (L^-1 D' leaf, D_c' stacked - sum W_i'Y_i), right-hand sides (levels k, r), (m, r)."""
        self.check(leaf.shape[0], stacked.shape[0])
        cdef int64_t r = leaf.shape[1]
        if r < 1 or stacked.shape[1] != r:
            raise ValueError("right-hand sides differ in columns")
        cdef double[:, ::1] Y = np.empty((leaf.shape[0], r)), t = np.empty((stacked.shape[0], r))
        with nogil:
            flm_crossed_forward(&self.s, r, &leaf[0, 0], &Y[0, 0])
            flm_crossed_scale(&self.s, 0, r, &stacked[0, 0], &t[0, 0])
            flm_crossed_reduce(&self.s, r, -1.0, self.s.W, &Y[0, 0], &t[0, 0])
        return Y.base, t.base

    def backward(self, const double[:, ::1] Y not None, const double[:, ::1] x not None):
        """Z'V0^-1 times what `forward` began with, from x = M_c^-1 t: leaf (levels k, r), stacked (m, r)."""
        self.check(Y.shape[0], x.shape[0])
        cdef int64_t r = Y.shape[1]
        if r < 1 or x.shape[1] != r:
            raise ValueError("right-hand sides differ in columns")
        cdef double[:, ::1] leaf = np.empty((Y.shape[0], r)), stacked = np.empty((x.shape[0], r))
        with nogil:
            flm_crossed_backward(&self.s, r, &Y[0, 0], &x[0, 0], &leaf[0, 0])
            flm_crossed_scale(&self.s, 1, r, &x[0, 0], &stacked[0, 0])
        return leaf.base, stacked.base

    def multiply(self, const double[:, ::1] h not None, const double[:, ::1] hc not None):
        """Z'WZ h: leaf rows (levels k, r) and stacked rows (m, r)."""
        cdef int64_t r = h.shape[1]
        if h.shape[0] != self.s.levels * self.s.k or hc.shape[0] != self.s.m or hc.shape[1] != r or r < 1:
            raise ValueError("Leaf.multiply: sizes do not agree")
        cdef double[:, ::1] t = np.empty((h.shape[0], r)), tc = np.zeros((hc.shape[0], r))
        with nogil:
            flm_crossed_multiply(&self.s, r, &h[0, 0], &hc[0, 0], &t[0, 0])
            flm_crossed_stacked_multiply(&self.s, r, &hc[0, 0], &tc[0, 0])
            flm_crossed_reduce(&self.s, r, 1.0, self.s.N, &h[0, 0], &tc[0, 0])
        return t.base, tc.base

    def information(self):
        """sum_i M_i^-1 D'A_i D (k, k)."""
        cdef int64_t q, a, k2 = self.s.k * self.s.k
        cdef double[:, ::1] total = np.zeros((self.s.k, self.s.k))
        cdef double *out = &total[0, 0]
        with nogil:
            flm_crossed_information(&self.s, &self.partial[0])
            for q in range(self.s.n_level_chunks):
                for a in range(k2):
                    out[a] += self.partial[q * k2 + a]
        return total.base


cdef class DenseSchur:
    """P_c of a `Leaf` as one m x m array: assembled, factored and inverted in place."""

    cdef Leaf leaf
    cdef double[::1] A, panel, product
    cdef int64_t panel_columns
    cdef int state  # 0 nothing, 1 Cholesky factor, 2 inverse
    cdef int n_threads

    def __init__(self, Leaf leaf not None, int64_t panel_columns, int n_threads=1):
        self.n_threads = max(n_threads, 1)
        self.leaf = leaf
        self.A = np.empty(leaf.s.m * leaf.s.m)
        self.panel_columns = max(panel_columns, leaf.s.k)
        cdef int64_t panel = self.panel_columns * leaf.s.m if leaf.s.n_heavy else 1
        self.panel, self.product = np.empty(panel), np.empty(panel)
        self.state = 0

    cdef void assemble(self, int upper) noexcept nogil:
        flm_crossed_assemble(&self.leaf.s, upper, &self.A[0])
        flm_crossed_heavy_update(&self.leaf.s, &BLAS, upper, self.panel_columns, &self.panel[0], &self.A[0],
                                 self.n_threads)

    def factor(self):
        """Assemble, factor; return log|M_c|."""
        cdef double logdet = 0
        cdef flm_status status
        if not self.leaf.factored:
            raise ValueError("call Leaf.factor first")
        with nogil:
            self.assemble(0)
            status = flm_crossed_dense_factor(&BLAS, self.leaf.s.m, &self.A[0], &logdet, self.n_threads)
        self.state = 1 if status == FLM_OK else 0
        if status != FLM_OK:
            raise NumericalError(
                "the Schur complement of the crossed factors is not positive definite; "
                "a covariance factor is not finite or too large for the precision of the data"
            )
        return logdet

    def halfsolve(self, double[:, ::1] t not None):
        """t (m, r) -> L^-1 t in place, L the Cholesky factor of M_c."""
        if self.state != 1 or t.shape[0] != self.leaf.s.m:
            raise ValueError("halfsolve needs the factor and m rows")
        with nogil:
            flm_crossed_dense_halfsolve(&BLAS, self.leaf.s.m, t.shape[1], 0, &self.A[0], &t[0, 0])

    def unsolve(self, const double[:, ::1] t not None):
        """L^-T t, a new array."""
        cdef double[:, ::1] x = np.array(t)
        if self.state != 1 or t.shape[0] != self.leaf.s.m:
            raise ValueError("unsolve needs the factor and m rows")
        with nogil:
            flm_crossed_dense_halfsolve(&BLAS, self.leaf.s.m, x.shape[1], 1, &self.A[0], &x[0, 0])
        return x.base

    def solve(self, double[:, ::1] t not None):
        """M_c^-1 t, a new array."""
        if self.state == 0 or t.shape[0] != self.leaf.s.m:
            raise ValueError("solve needs the factor or the inverse, and m rows")
        cdef double[:, ::1] x
        if self.state == 1:
            x = np.array(t)
            self.halfsolve(x)
            return self.unsolve(x)
        x = np.empty((t.shape[0], t.shape[1]))
        with nogil:
            flm_crossed_dense_apply(&BLAS, self.leaf.s.m, t.shape[1], &self.A[0], &t[0, 0], &x[0, 0])
        return x.base

    def invert(self):
        """Replace the factor by M_c^-1; nothing to do when that was done."""
        cdef flm_status status
        if self.state == 2:
            return
        if self.state != 1:
            raise ValueError("call factor first")
        with nogil:
            status = flm_crossed_dense_invert(&BLAS, self.leaf.s.m, &self.A[0], self.n_threads)
        self.state = 2 if status == FLM_OK else 0
        if status != FLM_OK:
            raise NumericalError("the Schur complement of the crossed factors is singular")

    cdef int need_inverse(self, int f) except -1:
        if self.state != 2:
            raise ValueError("call invert first")
        if f < 0 or f >= self.leaf.s.n_stacked:
            raise ValueError("no such stacked factor")
        return 0

    def block_sum(self, int f):
        """sum_j (M_c^-1)_jj over the levels of stacked factor f, (k_f, k_f)."""
        self.need_inverse(f)
        cdef int kf = self.leaf.s.width[f]
        cdef double[:, ::1] out = np.empty((kf, kf))
        flm_crossed_block_sum(&self.leaf.s, f, &self.A[0], &out[0, 0])
        return out.base

    def product_sums(self, factors):
        """[sum_j (P_c M_c^-1)_jj for f in factors]: assembles P_c again, beside the inverse."""
        cdef int64_t c, m = self.leaf.s.m
        cdef int f, kf
        cdef double[:, ::1] out
        cdef double[::1] diagonal = np.empty(m)
        self.need_inverse(0)
        for c in range(m):
            diagonal[c] = self.A[c + c * m]
        with nogil:
            self.assemble(1)
        sums = []
        for f in factors:
            self.need_inverse(f)
            kf = self.leaf.s.width[f]
            out = np.empty((kf, kf))
            with nogil:
                flm_crossed_product_sum(&self.leaf.s, f, &self.A[0], &diagonal[0], &self.leaf.partial[0],
                                        &out[0, 0])
            sums.append(out.base)
        for c in range(m):
            self.A[c + c * m] = diagonal[c]
        return sums

    def gather(self):
        """sum_i L_i^-T W_i M_c^-1 W_i' L_i^-1 (k, k)."""
        self.need_inverse(0)
        cdef int64_t q, a, k2 = self.leaf.s.k * self.leaf.s.k
        cdef double[:, ::1] total = np.zeros((self.leaf.s.k, self.leaf.s.k))
        cdef double *out = &total[0, 0]
        with nogil:
            flm_crossed_gather(&self.leaf.s, &self.A[0], &self.leaf.partial[0])
            for q in range(self.leaf.s.n_column_chunks):
                for a in range(k2):
                    out[a] += self.leaf.partial[q * k2 + a]
            flm_crossed_heavy_gather(&self.leaf.s, &BLAS, self.panel_columns, &self.panel[0],
                                     &self.product[0], &self.A[0], out, self.n_threads)
        return total.base

    def leaf_covariance(self):
        """D (M^-1)_ii D' for every leaf level, (levels, k, k)."""
        self.need_inverse(0)
        cdef double[:, :, ::1] out = np.empty((self.leaf.s.levels, self.leaf.s.k, self.leaf.s.k))
        with nogil:
            flm_crossed_leaf_covariance(&self.leaf.s, &self.A[0], &out[0, 0, 0])
        return out.base

    def stacked_covariance(self, int f):
        """D_f (M_c^-1)_jj D_f' for every level of stacked factor f, (levels, k_f, k_f)."""
        self.need_inverse(f)
        cdef int64_t levels = self.leaf.s.unit[f + 1] - self.leaf.s.unit[f]
        cdef int kf = self.leaf.s.width[f]
        cdef double[:, :, ::1] out = np.empty((levels, kf, kf))
        with nogil:
            flm_crossed_blocks(&self.leaf.s, f, &self.A[0], &out[0, 0, 0])
        return out.base


def downdate(double[:, ::1] S not None, double[:, ::1] t not None):
    """S -= t't in place, t (rows, r)."""
    if S.shape[0] != S.shape[1] or t.shape[1] != S.shape[0] or t.shape[0] < 1 or S.shape[0] < 1:
        raise ValueError("downdate: sizes do not agree")
    with nogil:
        flm_crossed_downdate(&BLAS, t.shape[0], t.shape[1], &t[0, 0], &S[0, 0])
