"""Products with, and solutions of, a Schur complement that is never formed."""

import numpy as np

from libc.stdint cimport int32_t, int64_t


cdef extern from "flm_common.h":
    ctypedef enum flm_status:
        FLM_OK
        FLM_NO_MEMORY
        FLM_NOT_POSITIVE


cdef extern from "flm_iterative.h" nogil:
    enum:
        FLM_ITERATIVE_MAX_K
    ctypedef struct flm_iterative:
        int64_t levels
        int64_t m
        int32_t k
        int32_t width_max
        int32_t n_stacked
        int32_t n_threads
        const int64_t *offset
        const int32_t *width
        const int32_t *unit_width
        const int64_t *row_ptr
        const int32_t *index
        const float *N_single
        const double *N
        const int64_t *own_ptr
        const int32_t *own_index
        const double *own_value
        const int64_t *level_chunk
        const int64_t *column_chunk
        int32_t n_level_chunks
        int32_t n_column_chunks
        const double *J
        const double *D

    flm_status flm_iterative_apply(const flm_iterative *, int, const double *, double *) noexcept
    void flm_iterative_multiply(const flm_iterative *, int, const double *, double *) noexcept
    void flm_iterative_own(const flm_iterative *, int, const double *, double *) noexcept
    flm_status flm_iterative_reduce(const flm_iterative *, int, const double *, double *) noexcept
    flm_status flm_iterative_diagonal(const flm_iterative *, double *) noexcept
    void flm_iterative_level_blocks(const flm_iterative *, const double *, const double *, double *) noexcept
    void flm_iterative_samples(const flm_iterative *, int, const double *, const double *, const double *,
                               const double *, double *, double *) noexcept
    flm_status flm_iterative_solve(const flm_iterative *, int, int, const double *, const double *, double,
                                   int, double *, double *, double *, int32_t *, double *) noexcept


MAX_K = FLM_ITERATIVE_MAX_K

cdef double LEAST_SINGLE_TOL = 1e-6


def aligned(shape):
    """An empty array of doubles whose first one begins a cache line."""
    size = int(np.prod(shape))
    memory = np.empty(size + 8)
    first = (-memory.ctypes.data % 64) // 8
    return memory[first : first + size].reshape(shape)


cdef check(flm_status status):
    if status == FLM_NO_MEMORY:
        raise MemoryError("no memory for a block of right-hand sides")
    if status != FLM_OK:
        raise ArithmeticError("the Schur complement is not positive definite")


cdef class Operator:
    """K = A_cc - N'J N and S = I + D'K D for blocks of 8 or 16 columns.

    Parameters
    ----------
    arrays : dict
        ``k``, ``offset``, ``width``, ``unit_width``, ``row_ptr``, ``index``, ``N`` (entries, k) float32 or
        float64, ``own_ptr``, ``own_index``, ``own_value``, ``level_chunk``, ``column_chunk``.
    n_threads : int
        Results do not depend on it.
    """

    cdef flm_iterative s
    cdef dict arrays
    cdef double[:, :, ::1] J
    cdef double[::1] D

    def __init__(self, dict arrays not None, int n_threads):
        self.arrays = arrays
        cdef const int64_t[::1] offset = arrays["offset"], row_ptr = arrays["row_ptr"]
        cdef const int64_t[::1] own_ptr = arrays["own_ptr"]
        cdef const int32_t[::1] width = arrays["width"], unit_width = arrays["unit_width"]
        cdef const int32_t[::1] index = arrays["index"], own_index = arrays["own_index"]
        cdef const double[::1] own_value = arrays["own_value"]
        cdef const int64_t[::1] level_chunk = arrays["level_chunk"], column_chunk = arrays["column_chunk"]
        cdef const float[:, ::1] single
        cdef const double[:, ::1] double_
        cdef flm_iterative *s = &self.s
        s.levels, s.n_stacked, s.n_threads = row_ptr.shape[0] - 1, width.shape[0], max(n_threads, 1)
        s.k, s.width_max = arrays["k"], np.max(width)
        s.m = unit_width.shape[0]
        s.n_level_chunks, s.n_column_chunks = level_chunk.shape[0] - 1, column_chunk.shape[0] - 1
        N = arrays["N"]
        if (
            min(s.levels, s.m, s.n_stacked, s.k, <int64_t>s.n_level_chunks, <int64_t>s.n_column_chunks) < 1
            or max(s.k, s.width_max) > FLM_ITERATIVE_MAX_K
            or offset.shape[0] != s.n_stacked + 1
            or offset[s.n_stacked] != s.m
            or N.shape[1] != s.k
            or min(index.shape[0], <int64_t>N.shape[0]) < max(row_ptr[s.levels], 1)
            or own_ptr.shape[0] != s.m + 1
            or min(own_index.shape[0], own_value.shape[0]) < max(own_ptr[s.m], 1)
            or level_chunk[s.n_level_chunks] != s.levels
            or column_chunk[s.n_column_chunks] != s.m
        ):
            raise ValueError("Operator: sizes do not agree")
        if row_ptr[s.levels] and (np.min(index) < 0 or np.max(index) >= s.m):
            raise ValueError("Operator: a stacked column is out of range")
        if own_ptr[s.m] and (np.min(own_index) < 0 or np.max(own_index) >= s.m):
            raise ValueError("Operator: a column of A is out of range")
        if N.dtype == np.float32:
            single = N
            s.N_single, s.N = &single[0, 0], NULL
        else:
            double_ = N
            s.N_single, s.N = NULL, &double_[0, 0]
        s.offset, s.width, s.unit_width = &offset[0], &width[0], &unit_width[0]
        s.row_ptr, s.index = &row_ptr[0], &index[0]
        s.own_ptr, s.own_index, s.own_value = &own_ptr[0], &own_index[0], &own_value[0]
        s.level_chunk, s.column_chunk = &level_chunk[0], &column_chunk[0]
        s.J = s.D = NULL

    def place(self, double[:, :, ::1] J not None, double[::1] D not None):
        """Set J (levels, k, k) and the D_f, one after the other."""
        if J.shape[0] != self.s.levels or J.shape[1] != self.s.k or J.shape[2] != self.s.k:
            raise ValueError("place: J does not fit")
        if D.shape[0] != sum(int(w) ** 2 for w in self.arrays["width"]):
            raise ValueError("place: D does not fit")
        self.J, self.D = J, D
        self.s.J, self.s.D = &self.J[0, 0, 0], &self.D[0]

    cdef int lanes(self, int64_t rows, int64_t expected, int64_t lanes) except -1:
        if rows != expected or (lanes != 8 and lanes != 16):
            raise ValueError(f"a block is {expected} x 8 or 16, not {rows} x {lanes}")
        return <int>lanes

    cdef int ready(self) except -1:
        if self.s.J == NULL:
            raise ValueError("no J and D yet: call place")
        return 0

    def apply(self, const double[:, ::1] X not None):
        """K X."""
        cdef int lanes = self.lanes(X.shape[0], self.s.m, X.shape[1])
        cdef double[:, ::1] out = aligned((self.s.m, lanes))
        cdef flm_status status
        self.ready()
        with nogil:
            status = flm_iterative_apply(&self.s, lanes, &X[0, 0], &out[0, 0])
        check(status)
        return np.asarray(out)

    def own(self, const double[:, ::1] X not None):
        """A_cc X."""
        cdef int lanes = self.lanes(X.shape[0], self.s.m, X.shape[1])
        cdef double[:, ::1] out = aligned((self.s.m, lanes))
        with nogil:
            flm_iterative_own(&self.s, lanes, &X[0, 0], &out[0, 0])
        return np.asarray(out)

    def multiply(self, const double[:, ::1] X not None):
        """N X, (levels, k, lanes)."""
        cdef int lanes = self.lanes(X.shape[0], self.s.m, X.shape[1])
        cdef double[:, :, ::1] out = aligned((self.s.levels, self.s.k, lanes))
        with nogil:
            flm_iterative_multiply(&self.s, lanes, &X[0, 0], &out[0, 0, 0])
        return np.asarray(out)

    def reduce(self, const double[:, :, ::1] Y not None):
        """N'Y, (m, lanes)."""
        cdef int lanes = self.lanes(Y.shape[0] * Y.shape[1], self.s.levels * self.s.k, Y.shape[2])
        cdef double[:, ::1] out = aligned((self.s.m, lanes))
        cdef flm_status status
        with nogil:
            status = flm_iterative_reduce(&self.s, lanes, &Y[0, 0, 0], &out[0, 0])
        check(status)
        return np.asarray(out)

    def diagonal(self):
        """Diagonal blocks of N'J N, (m, widest): row c is row c of its unit's block."""
        cdef double[:, ::1] out = np.empty((self.s.m, self.s.width_max))
        cdef flm_status status
        self.ready()
        with nogil:
            status = flm_iterative_diagonal(&self.s, &out[0, 0])
        check(status)
        return out.base

    def level_blocks(self, const double[:, :, ::1] B not None, const double[:, ::1] Q not None):
        """B_i (sum over units of N_ij Q_j N_ij') B_i', (levels, k, k); Q as from `diagonal`."""
        self.blocks_fit(B)
        if Q.shape[0] != self.s.m or Q.shape[1] != self.s.width_max:
            raise ValueError("level_blocks: Q does not fit")
        cdef double[:, :, ::1] out = np.empty((self.s.levels, self.s.k, self.s.k))
        with nogil:
            flm_iterative_level_blocks(&self.s, &B[0, 0, 0], &Q[0, 0], &out[0, 0, 0])
        return out.base

    def samples(self, const double[:, :, ::1] B not None, const double[:, ::1] X not None,
                const double[:, ::1] Y not None, const double[::1] weight=None,
                double[:, :, ::1] by_level=None):
        """Per lane sum_i (B_i N_i x)(B_i N_i y)', (k, k, lanes); by_level += its terms, weighted."""
        cdef int lanes = self.lanes(X.shape[0], self.s.m, X.shape[1])
        cdef double[:, :, :, ::1] partial = np.empty((self.s.n_level_chunks, self.s.k, self.s.k, lanes))
        cdef const double *w = NULL
        cdef double *levels = NULL
        self.blocks_fit(B)
        if Y.shape[0] != X.shape[0] or Y.shape[1] != lanes:
            raise ValueError("samples: blocks differ")
        if by_level is not None:
            self.blocks_fit(by_level)
            if weight is None or weight.shape[0] != lanes:
                raise ValueError("samples: one weight per lane is needed")
            w, levels = &weight[0], &by_level[0, 0, 0]
        with nogil:
            flm_iterative_samples(&self.s, lanes, &B[0, 0, 0], &X[0, 0], &Y[0, 0], w, &partial[0, 0, 0, 0],
                                  levels)
        return partial.base.sum(axis=0)

    cdef int blocks_fit(self, const double[:, :, ::1] B) except -1:
        if B.shape[0] != self.s.levels or B.shape[1] != self.s.k or B.shape[2] != self.s.k:
            raise ValueError("one k x k block per leaf level is needed")
        return 0

    def solve(self, const double[:, ::1] rhs not None, const double[:, ::1] inverse not None, double tol,
              int max_iter):
        """S^-1 rhs by conjugate gradients; 16 columns to 1e-6 or less partly in single precision.

        Returns
        -------
        x (m, lanes); steps, ratios (iterations, lanes); used (lanes,), -1 where not converged;
        norm2 (lanes,) = rhs'P^-1 rhs.

        Raises
        ------
        ArithmeticError
            S is not positive definite to working precision.
        """
        cdef int lanes = self.lanes(rhs.shape[0], self.s.m, rhs.shape[1])
        self.ready()
        if inverse.shape[0] != self.s.m or inverse.shape[1] != self.s.width_max or max_iter < 1:
            raise ValueError("solve: the preconditioner does not fit")
        cdef int single = lanes == 16 and tol >= LEAST_SINGLE_TOL
        cdef double[:, ::1] x = aligned((self.s.m, lanes))
        cdef double[:, ::1] step = np.zeros((max_iter, lanes)), ratio = np.zeros((max_iter, lanes))
        cdef int32_t[::1] used = np.empty(lanes, np.int32)
        cdef double[::1] norm2 = np.empty(lanes)
        cdef flm_status status
        with nogil:
            status = flm_iterative_solve(&self.s, lanes, single, &inverse[0, 0], &rhs[0, 0], tol, max_iter,
                                         &x[0, 0], &step[0, 0], &ratio[0, 0], &used[0], &norm2[0])
        check(status)
        n = max_iter if np.min(used) < 0 else int(np.max(used))
        return np.asarray(x), step.base[:n], ratio.base[:n], used.base, norm2.base
