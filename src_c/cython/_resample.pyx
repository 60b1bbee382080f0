# cython: language_level=3
"""Many responses at once for one grouping factor: the kernels of `flm_tree.h` in a loop without the GIL."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

import numpy as np

from fastlmm_core.errors import NumericalError

cdef extern from "flm_tree.h" nogil:
    ctypedef int64_t flm_index
    ctypedef enum flm_status:
        FLM_OK
    ctypedef struct flm_levels:
        flm_index levels
        int k
        int u
        const double *pack
    flm_index flm_levels_pack_size(flm_index levels, int k, int u)
    flm_status flm_levels_pack(flm_index levels, int k, int u, flm_index ld, const double *R,
                               const int64_t *z, const int64_t *xy, double *pack, double *within,
                               flm_index *level, int n_threads)
    flm_status flm_levels_sweep(const flm_levels *self, const double *Lambda, double *logdet, double *between,
                                double *F, double *GG, flm_index *level, int n_threads)
    flm_status flm_levels_second(const flm_levels *self, const double *Lambda, const double *Q,
                                 const double *v, double *FF, double *FP, double *Fg, int n_threads)

cdef extern from "flm_resample.h" nogil:
    void flm_resample_draw(flm_index levels, int k, int u, const double *beta, const double *L, double s,
                           const double *z, const double *xi, double *pack)
    double flm_resample_products(flm_index levels, int k, int u, const double *pack, double *Zy, double *Xy)
    flm_index flm_resample_rank(flm_index levels, int k, int u, const double *pack)


cdef int check(bint right, str what) except -1:
    if not right:
        raise ValueError(f"{what} has the wrong shape")
    return 0


def pack_bytes(Py_ssize_t levels, int k, int u):
    """Memory of one response's packed levels."""
    return 8 * ((flm_levels_pack_size(levels, k, u) + 7) // 8 * 8)


cdef class Replicates:
    """Packed levels of r responses that share A_i and the columns of X.

    R (levels, k, k + u) float64, columns [Z, X, any y].  ``within`` (u, u) is what the
    levels explain of ``C`` when T is infinite, with that y; ``rank`` the sum of the
    ranks of all A_i.  Responses are set by `draw`.
    """

    cdef flm_index levels
    cdef flm_index stride
    cdef int k
    cdef int u
    cdef int r
    cdef object memory
    cdef double[::1] pack
    cdef readonly object within
    cdef readonly Py_ssize_t rank

    def __init__(self, const double[:, :, ::1] R not None, int r):
        self.levels = R.shape[0]
        self.k = <int> R.shape[1]
        self.u = <int> (R.shape[2] - R.shape[1])
        self.r = r
        check(self.levels > 0 and self.k > 0 and self.u > 0 and r > 0, "R")
        cdef flm_index size = flm_levels_pack_size(self.levels, self.k, self.u)
        self.stride = (size + 7) // 8 * 8
        memory = np.empty(r * self.stride + 8)
        skip = (-memory.ctypes.data // 8) % 8
        self.memory = memory
        self.pack = memory[skip : skip + r * self.stride]
        self.within = np.empty((self.u, self.u))
        cdef int64_t[::1] z = np.arange(self.k, dtype=np.int64)
        cdef int64_t[::1] xy = np.arange(self.k, self.k + self.u, dtype=np.int64)
        cdef double[:, ::1] within = self.within
        cdef flm_index level = -1
        cdef Py_ssize_t s
        cdef flm_status status
        with nogil:
            status = flm_levels_pack(self.levels, self.k, self.u, R.shape[2], &R[0, 0, 0], &z[0], &xy[0],
                                     &self.pack[0], &within[0, 0], &level, 1)
            if status == FLM_OK:
                for s in range(1, r):
                    memcpy(&self.pack[s * self.stride], &self.pack[0], size * sizeof(double))
                self.rank = flm_resample_rank(self.levels, self.k, self.u, &self.pack[0])
        if status != FLM_OK:
            raise NumericalError(f"the cross-products of level {level} cannot be packed")

    def draw(self, Py_ssize_t s, const double[::1] beta not None, const double[:, ::1] L not None,
             double sigma, const double[::1] normals not None):
        """Set response s from 2 levels k standard normals: those of the random effects, then of e.

        ``L`` (k, k) is sigma Lambda.
        """
        cdef Py_ssize_t half = self.levels * self.k
        check(0 <= s < self.r, "the response")
        check(beta.shape[0] == self.u - 1, "beta")
        check(L.shape[0] == self.k and L.shape[1] == self.k, "L")
        check(normals.shape[0] >= 2 * half, "normals")
        cdef const double *first = &beta[0] if self.u > 1 else NULL
        with nogil:
            flm_resample_draw(self.levels, self.k, self.u, first, &L[0, 0], sigma, &normals[0],
                              &normals[half], &self.pack[s * self.stride])

    def products(self, Py_ssize_t s):
        """Of response s: ``Z_i'W y`` (levels, k), and sum E_X'E_y (p,), sum E_y'E_y."""
        check(0 <= s < self.r, "the response")
        Zy, Xy = np.empty((self.levels, self.k)), np.empty(max(self.u - 1, 1))
        cdef double[:, ::1] one = Zy
        cdef double[::1] two = Xy
        cdef double square
        with nogil:
            square = flm_resample_products(self.levels, self.k, self.u, &self.pack[s * self.stride],
                                           &one[0, 0], &two[0])
        return Zy, Xy[: self.u - 1], square

    cdef int check_which(self, const int64_t[::1] which) except -1:
        cdef Py_ssize_t s
        for s in range(which.shape[0]):
            if which[s] < 0 or which[s] >= self.r:
                raise IndexError(f"response {which[s]} of {self.r}")
        return 0

    def sweep(self, const int64_t[::1] which not None, const double[:, :, ::1] Lambda not None):
        """For the responses ``which`` (s,) at Lambda (s, k, k): log|V0| (s,), between (s, u, u), F (s, k, k),
        GG (s, k, k, u, u), failed (s,) uint8."""
        cdef Py_ssize_t m = which.shape[0], s
        cdef int k = self.k, u = self.u
        check(Lambda.shape[0] == m and Lambda.shape[1] == k and Lambda.shape[2] == k, "Lambda")
        self.check_which(which)
        out = (np.empty(m), np.empty((m, u, u)), np.empty((m, k, k)), np.empty((m, k, k, u, u)),
               np.zeros(m, np.uint8))
        cdef double[::1] logdet = out[0]
        cdef double[:, :, ::1] between = out[1]
        cdef double[:, :, ::1] F = out[2]
        cdef double[:, :, :, :, ::1] GG = out[3]
        cdef unsigned char[::1] failed = out[4]
        cdef flm_levels one
        cdef flm_index level = -1
        one.levels = self.levels
        one.k = k
        one.u = u
        with nogil:
            for s in range(m):
                one.pack = &self.pack[which[s] * self.stride]
                failed[s] = flm_levels_sweep(&one, &Lambda[s, 0, 0], &logdet[s], &between[s, 0, 0],
                                             &F[s, 0, 0], &GG[s, 0, 0, 0, 0], &level, 1) != FLM_OK
        return out

    def second(self, const int64_t[::1] which not None, const double[:, :, ::1] Lambda not None,
               const double[:, :, ::1] Q not None, const double[:, ::1] v not None):
        """Sums of vech(F_i) vech(.)' for F_i, P_i, g_i g_i': (s, 3, m, m), m = k (k + 1) / 2; failed (s,)."""
        cdef Py_ssize_t n = which.shape[0], s
        cdef int k = self.k, u = self.u, m = self.k * (self.k + 1) // 2
        check(Lambda.shape[0] == n and Lambda.shape[1] == k and Lambda.shape[2] == k, "Lambda")
        check(Q.shape[0] == n and Q.shape[1] == u - 1 and Q.shape[2] == u - 1, "Q")
        check(v.shape[0] == n and v.shape[1] == u, "v")
        self.check_which(which)
        out, bad = np.empty((n, 3, m, m)), np.zeros(n, np.uint8)
        cdef double[:, :, :, ::1] sums = out
        cdef unsigned char[::1] failed = bad
        cdef flm_levels one
        cdef const double *q = NULL
        one.levels = self.levels
        one.k = k
        one.u = u
        with nogil:
            for s in range(n):
                one.pack = &self.pack[which[s] * self.stride]
                if u > 1:
                    q = &Q[s, 0, 0]
                failed[s] = flm_levels_second(&one, &Lambda[s, 0, 0], q, &v[s, 0], &sums[s, 0, 0, 0],
                                              &sums[s, 1, 0, 0], &sums[s, 2, 0, 0], 1) != FLM_OK
        return out, bad
