# cython: language_level=3
"""Many responses at once for one grouping factor: the kernels of `flm_tree.h` in a loop without the GIL."""

from libc.stdint cimport int64_t

import numpy as np

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


cdef int check(bint right, str what) except -1:
    if not right:
        raise ValueError(f"{what} has the wrong shape")
    return 0


def pack_bytes(Py_ssize_t levels, int k, int u):
    """Memory of one response's packed levels."""
    return 8 * ((flm_levels_pack_size(levels, k, u) + 7) // 8 * 8)


cdef class Replicates:
    """Packed levels of r responses that share A_i and the columns of X.

    R (levels, k, k + u) float64, columns [Z, X, y]; its last column is overwritten.
    Y (r, levels, k): ``Z_i'W y`` of each response.  ``within`` (r, u, u) is what the
    levels explain of ``C`` when T is infinite, ``failed`` (r,) where packing failed.
    """

    cdef flm_index levels
    cdef flm_index stride
    cdef int k
    cdef int u
    cdef object memory
    cdef double[::1] pack
    cdef readonly object within
    cdef readonly object failed

    def __init__(self, double[:, :, ::1] R not None, const double[:, :, ::1] Y not None):
        cdef Py_ssize_t r = Y.shape[0], i, s, a
        self.levels = R.shape[0]
        self.k = <int> R.shape[1]
        self.u = <int> (R.shape[2] - R.shape[1])
        check(self.levels > 0 and self.k > 0 and self.u > 0, "R")
        check(r > 0 and Y.shape[1] == R.shape[0] and Y.shape[2] == R.shape[1], "Y")
        self.stride = (flm_levels_pack_size(self.levels, self.k, self.u) + 7) // 8 * 8
        memory = np.empty(r * self.stride + 8)
        skip = (-memory.ctypes.data // 8) % 8
        self.memory = memory
        self.pack = memory[skip : skip + r * self.stride]
        self.within = np.empty((r, self.u, self.u))
        self.failed = np.zeros(r, np.uint8)
        cdef int64_t[::1] z = np.arange(self.k, dtype=np.int64)
        cdef int64_t[::1] xy = np.arange(self.k, self.k + self.u, dtype=np.int64)
        cdef double[:, :, ::1] within = self.within
        cdef unsigned char[::1] failed = self.failed
        cdef flm_index level = -1
        cdef Py_ssize_t last = R.shape[2] - 1
        with nogil:
            for s in range(r):
                for i in range(self.levels):
                    for a in range(self.k):
                        R[i, a, last] = Y[s, i, a]
                failed[s] = flm_levels_pack(self.levels, self.k, self.u, R.shape[2], &R[0, 0, 0], &z[0], &xy[0],
                                            &self.pack[s * self.stride], &within[s, 0, 0], &level, 1) != FLM_OK

    cdef int check_which(self, const int64_t[::1] which) except -1:
        cdef Py_ssize_t s
        for s in range(which.shape[0]):
            if which[s] < 0 or which[s] >= self.within.shape[0]:
                raise IndexError(f"response {which[s]} of {self.within.shape[0]}")
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
                failed[s] = flm_levels_sweep(&one, &Lambda[s, 0, 0], &logdet[s], &between[s, 0, 0], &F[s, 0, 0],
                                             &GG[s, 0, 0, 0, 0], &level, 1) != FLM_OK
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
