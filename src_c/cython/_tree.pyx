# cython: language_level=3
"""Doors to the kernels of `flm_tree.h`: sizes are checked here, the GIL is released."""

from libc.stdint cimport int32_t, int64_t

import numpy as np

from fastlmm_core.errors import NumericalError

cdef extern from "flm_tree.h" nogil:
    ctypedef int64_t flm_index
    ctypedef enum flm_status:
        FLM_OK
        FLM_NO_MEMORY
        FLM_NOT_POSITIVE
        FLM_BAD_ARGUMENT
    enum:
        FLM_MAX_DEPTH
    ctypedef struct flm_levels:
        flm_index levels
        int k
        int u
        const double *pack
        const double *R
        flm_index ld
        const int64_t *z
        const int64_t *xy
    flm_index flm_levels_pack_size(flm_index levels, int k, int u)
    flm_status flm_levels_pack(flm_index levels, int k, int u, flm_index ld, const double *R,
                               const int64_t *z, const int64_t *xy, double *pack, double *within,
                               flm_index *level, int n_threads)
    flm_status flm_levels_sweep(const flm_levels *self, const double *Lambda, double *logdet, double *between,
                                double *F, double *GG, flm_index *level, int n_threads)
    flm_status flm_levels_second(const flm_levels *self, const double *Lambda, const double *Q,
                                 const double *v, double *FF, double *FP, double *Fg, int n_threads)
    flm_status flm_levels_effects(const flm_levels *self, const double *Lambda, const double *v, double *g,
                                  int n_threads)
    flm_status flm_levels_posterior(flm_index levels, int k, flm_index ld, const double *R, const int64_t *z,
                                    const double *Lambda, double *out, flm_index *level, int n_threads)
    void flm_levels_ratios(flm_index levels, flm_index stride, const double *A, const int64_t *counts,
                           double *low, double *high, int n_threads)
    flm_status flm_levels_collapse(flm_index levels, int u, flm_index ld, const double *R, const int64_t *xy,
                                   const int32_t *group, flm_index groups, double *sums, int n_threads)
    ctypedef struct flm_chain:
        int depth
        int u
        int offset[33]
        int k[32]
        int width[32]
        flm_index nodes[32]
        const double *R[32]
        const int32_t *parent[32]
        const flm_index *first[32]
        double *eliminated[32]
        double *H[32]
    flm_status flm_chain_factorize(const flm_chain *self, const double *const *Lambda, const double *C,
                                   double *logdet, double *S, flm_index *node, int *factor, int n_threads)
    flm_status flm_chain_backward(const flm_chain *self, const double *v, double *const *F, double *const *GG,
                                  double *const *g, double *const *posterior, int n_threads)
    flm_status flm_chain_inner(const flm_chain *self, const double *const *g, int r, const int32_t *factor,
                               const double *directions, flm_index stride, double *inner, double *cross,
                               int n_threads)

MAX_DEPTH = FLM_MAX_DEPTH

cdef enum:
    SMALL_PACK = 1 << 18  # numbers: 2 MB, which stay in a cache
    READINGS = 24  # more than most searches take; then packing fresh memory has cost about as much


cdef int refuse(flm_status status, flm_index level, str where) except -1:
    """The exception of a status other than FLM_OK."""
    if status == FLM_NO_MEMORY:
        raise MemoryError("no memory for the mixed-model equations")
    if status == FLM_BAD_ARGUMENT:
        raise NumericalError(f"the cross-products of level {level}{where} are not finite")
    raise NumericalError(f"a pivot of level {level}{where} is not positive and finite")


cdef int check_columns(const int64_t[::1] columns, Py_ssize_t n) except -1:
    cdef Py_ssize_t c
    for c in range(columns.shape[0]):
        if columns[c] < 0 or columns[c] >= n:
            raise IndexError(f"column {columns[c]} of {n}")
    return 0


cdef int check_shape(bint right, str what) except -1:
    if not right:
        raise ValueError(f"{what} has the wrong shape")
    return 0


cdef class Levels:
    """The levels of one grouping factor, reduced.

    R (levels, k, columns) float64, z (k,) and xy (u,) int64 positions in its
    last axis; R must not change.  ``within`` (u, u) is what the levels explain of
    ``C[xy, xy]`` when T is infinite.  ``readings`` sweeps reduce R anew before it is
    packed; by default none where it is small, else as many as most searches take.
    """

    cdef flm_levels self
    cdef const double[:, :, ::1] R
    cdef const int64_t[::1] z
    cdef const int64_t[::1] xy
    cdef readonly object pack
    cdef readonly object within
    cdef int readings

    def __init__(self, const double[:, :, ::1] R not None, const int64_t[::1] z not None,
                 const int64_t[::1] xy not None, int n_threads, int readings=-1):
        cdef int k = <int> z.shape[0], u = <int> xy.shape[0]
        cdef flm_index levels = R.shape[0]
        check_shape(levels > 0 and k > 0 and u > 0 and R.shape[1] == k, "R")
        check_columns(z, R.shape[2])
        check_columns(xy, R.shape[2])
        self.R, self.z, self.xy = R, z, xy
        self.self = flm_levels(levels, k, u, NULL, &R[0, 0, 0], R.shape[2], &z[0], &xy[0])
        self.pack = None
        self.within = np.empty((u, u))
        if readings < 0:
            readings = 0 if flm_levels_pack_size(levels, k, u) <= SMALL_PACK else READINGS
        self.readings = readings
        self.reduce(readings == 0, n_threads)

    cdef int reduce(self, bint keep, int n_threads) except -1:
        """Sum E'E, and look whether all is finite; ``keep``: with La and E of every level."""
        cdef flm_levels *own = &self.self
        cdef flm_index level = -1
        cdef double *pack = NULL
        cdef double[::1] view
        cdef double[:, ::1] within = self.within
        cdef flm_status status
        if keep:
            memory = np.empty(flm_levels_pack_size(own.levels, own.k, own.u) + 8)
            skip = (-memory.ctypes.data // 8) % 8
            view = memory[skip:]
            pack = &view[0]
            self.pack = memory
        with nogil:
            status = flm_levels_pack(own.levels, own.k, own.u, own.ld, own.R, own.z, own.xy, pack,
                                     &within[0, 0], &level, n_threads)
        if status != FLM_OK:
            refuse(status, level, "")
        own.pack = pack
        return 0

    cdef int read(self, int n_threads) except -1:
        """To be called before a sweep."""
        if self.self.pack == NULL:
            if self.readings == 0:
                self.reduce(True, n_threads)
            self.readings -= 1
        return 0

    def sweep(self, const double[:, ::1] Lambda not None, int n_threads):
        """log|V0|, between (u, u), F (k, k), GG (k, k, u, u)."""
        cdef Py_ssize_t k = self.self.k, u = self.self.u
        check_shape(Lambda.shape[0] == k and Lambda.shape[1] == k, "Lambda")
        self.read(n_threads)
        out = np.empty(u * u + k * k + k * k * u * u)
        cdef double[::1] sums = out
        cdef double *between = &sums[0]
        cdef double *F = between + u * u
        cdef double logdet = 0
        cdef flm_index level = -1
        cdef flm_status status
        with nogil:
            status = flm_levels_sweep(&self.self, &Lambda[0, 0], &logdet, between, F, F + k * k, &level,
                                      n_threads)
        if status != FLM_OK:
            refuse(status, level, "")
        cdef Py_ssize_t s = u * u, t = s + k * k
        return logdet, out[:s].reshape(u, u), out[s:t].reshape(k, k), out[t:].reshape(k, k, u, u)

    def second(self, const double[:, ::1] Lambda not None, const double[:, ::1] Q not None,
               const double[::1] v not None, int n_threads):
        """Sums of vech(F_i) vech(.)' for F_i, P_i, g_i g_i': (3, m, m), m = k (k + 1) / 2."""
        cdef Py_ssize_t k = self.self.k, u = self.self.u, m = k * (k + 1) // 2
        check_shape(Lambda.shape[0] == k and Lambda.shape[1] == k, "Lambda")
        check_shape(Q.shape[0] == u - 1 and Q.shape[1] == u - 1, "Q")
        check_shape(v.shape[0] == u, "v")
        self.read(n_threads)
        out = np.empty((3, m, m))
        cdef double[:, :, ::1] sums = out
        cdef const double *q = &Q[0, 0] if u > 1 else NULL
        cdef flm_status status
        with nogil:
            status = flm_levels_second(&self.self, &Lambda[0, 0], q, &v[0], &sums[0, 0, 0], &sums[1, 0, 0],
                                       &sums[2, 0, 0], n_threads)
        if status != FLM_OK:
            refuse(status, -1, "")
        return out

    def effects(self, const double[:, ::1] Lambda not None, const double[::1] v not None, int n_threads):
        """g (levels, k) = G_i v."""
        cdef int k = self.self.k
        check_shape(Lambda.shape[0] == k and Lambda.shape[1] == k, "Lambda")
        check_shape(v.shape[0] == self.self.u, "v")
        out = np.empty((self.self.levels, k))
        cdef double[:, ::1] g = out
        cdef flm_status status
        with nogil:
            status = flm_levels_effects(&self.self, &Lambda[0, 0], &v[0], &g[0, 0], n_threads)
        if status != FLM_OK:
            refuse(status, -1, "")
        return out


def posterior(const double[:, :, ::1] R not None, const int64_t[::1] z not None,
              const double[:, ::1] Lambda not None, int n_threads):
    """(levels, k, k): Lambda (I + Lambda'A_i Lambda)^-1 Lambda', A_i = R[i][:, z]."""
    cdef int k = <int> z.shape[0]
    cdef flm_index level = -1
    check_shape(R.shape[0] > 0 and k > 0 and R.shape[1] == k, "R")
    check_shape(Lambda.shape[0] == k and Lambda.shape[1] == k, "Lambda")
    check_columns(z, R.shape[2])
    out = np.empty((R.shape[0], k, k))
    cdef double[:, :, ::1] H = out
    cdef flm_status status
    with nogil:
        status = flm_levels_posterior(R.shape[0], k, R.shape[2], &R[0, 0, 0], &z[0], &Lambda[0, 0],
                                      &H[0, 0, 0], &level, n_threads)
    if status != FLM_OK:
        refuse(status, level, "")
    return out


def ratios(const double[:, :, ::1] R not None, Py_ssize_t z, const int64_t[::1] counts not None,
           int n_threads):
    """Smallest and largest ``R[i, 0, z] / counts[i]``; NaN unless all are finite and all counts positive."""
    cdef double low = 0, high = 0
    check_shape(R.shape[0] > 0 and R.shape[1] > 0 and 0 <= z < R.shape[2], "R")
    check_shape(counts.shape[0] == R.shape[0], "counts")
    with nogil:
        flm_levels_ratios(R.shape[0], R.shape[1] * R.shape[2], &R[0, 0, z], &counts[0], &low, &high,
                          n_threads)
    return low, high


def collapse(const double[:, :, ::1] R not None, const int64_t[::1] xy not None,
             const int32_t[::1] group not None, Py_ssize_t groups, int n_threads=1):
    """(groups, u, u): lower triangles of the sums of R_i'R_i over the levels of a group; k = 1."""
    cdef Py_ssize_t i, u = xy.shape[0]
    check_shape(R.shape[0] > 0 and u > 0 and R.shape[1] == 1, "R")
    check_shape(group.shape[0] == R.shape[0], "group")
    check_columns(xy, R.shape[2])
    for i in range(group.shape[0]):
        if group[i] < 0 or group[i] >= groups:
            raise IndexError(f"group {group[i]} of {groups}")
    out = np.zeros((groups, u, u))
    cdef double[:, :, ::1] sums = out
    cdef flm_status status
    with nogil:
        status = flm_levels_collapse(R.shape[0], <int> u, R.shape[2], &R[0, 0, 0], &xy[0], &group[0], groups,
                                     &sums[0, 0, 0], n_threads)
    if status != FLM_OK:
        refuse(status, -1, "")
    return out


cdef class Chain:
    """Nested factors, innermost first, nodes ordered by subtree.

    ``records[d]`` (nodes, k, width), columns [own Z, Z of ancestors, X y];
    ``parents[d]`` int32 into factor d + 1; ``firsts[d]`` (nodes + 1,) int64: the
    children of each node of factor d + 1 in factor d; ``levels[d]`` and ``names``
    turn a node and a depth into a level and a factor for error messages.
    """

    cdef flm_chain self
    cdef list keep
    cdef list levels
    cdef tuple names
    cdef int u

    def __init__(self, list records not None, list parents not None, list firsts not None, int u,
                 list levels not None, tuple names not None):
        cdef int d, depth = len(records), K = 0
        cdef const double[:, :, ::1] R
        cdef double[:, :, ::1] room
        cdef const int32_t[::1] parent
        cdef const int64_t[::1] first
        check_shape(0 < depth <= FLM_MAX_DEPTH and u > 0, "the chain")
        check_shape(len(parents) == len(firsts) == depth - 1 and len(levels) == depth, "the chain")
        self.keep = [records, parents, firsts]
        self.levels, self.names = levels, names
        self.u = u
        self.self.depth = depth
        self.self.u = u
        self.self.offset[0] = 0
        for d in range(depth):
            R = records[d]
            check_shape(R.shape[0] > 0 and R.shape[1] > 0, "a record")
            self.self.k[d] = <int> R.shape[1]
            self.self.nodes[d] = R.shape[0]
            self.self.R[d] = &R[0, 0, 0]
            K += <int> R.shape[1]
            self.self.offset[d + 1] = K
        for d in range(depth):
            R = records[d]
            self.self.width[d] = K - self.self.offset[d] + u
            check_shape(R.shape[2] == self.self.width[d], "a record")
            H = np.zeros((R.shape[0], R.shape[1], R.shape[1]))
            room = H
            self.self.H[d] = &room[0, 0, 0]
            self.keep.append(H)
            if d:
                eliminated = np.zeros((R.shape[0], R.shape[1], R.shape[2]))
                room = eliminated
                self.self.eliminated[d] = &room[0, 0, 0]
                self.keep.append(eliminated)
        for d in range(depth - 1):
            parent, first = parents[d], firsts[d]
            self.check_links(d, parent, first)
            self.self.parent[d] = &parent[0]
            self.self.first[d + 1] = &first[0]

    cdef int check_links(self, int d, const int32_t[::1] parent, const int64_t[::1] first) except -1:
        """Children of node j of factor d + 1 are first[j] .. first[j + 1], and they say so."""
        cdef flm_index j, i, above = self.self.nodes[d + 1]
        check_shape(parent.shape[0] == self.self.nodes[d] and first.shape[0] == above + 1, "parent")
        check_shape(first[0] == 0 and first[above] == self.self.nodes[d], "parent")
        for j in range(above):
            check_shape(0 <= first[j] <= first[j + 1] <= self.self.nodes[d], "parent")
            for i in range(first[j], first[j + 1]):
                check_shape(parent[i] == j, "parent")
        return 0

    cdef int refuse_node(self, flm_status status, int d, flm_index node) except -1:
        if d < 0:
            refuse(status, -1, "")
        return refuse(status, self.levels[d][node], f" of grouping factor {self.names[d]}")

    def factorize(self, list Lambda not None, const double[:, ::1] C not None, int n_threads):
        """log|V0| and S (u, u); C (u, u) is [X y]'W[X y]."""
        cdef int d, factor = -1
        cdef const double *blocks[32]
        cdef const double[:, ::1] block
        cdef double logdet = 0
        cdef flm_index node = -1
        cdef flm_status status
        check_shape(len(Lambda) == self.self.depth, "Lambda")
        check_shape(C.shape[0] == self.u and C.shape[1] == self.u, "C")
        for d in range(self.self.depth):
            block = Lambda[d]
            check_shape(block.shape[0] == self.self.k[d] and block.shape[1] == self.self.k[d], "Lambda")
            blocks[d] = &block[0, 0]
        out = np.empty((self.u, self.u))
        cdef double[:, ::1] S = out
        with nogil:
            status = flm_chain_factorize(&self.self, blocks, &C[0, 0], &logdet, &S[0, 0], &node,
                                         &factor, n_threads)
        if status != FLM_OK:
            self.refuse_node(status, factor, node)
        return logdet, out

    def moments(self, int n_threads):
        """Lists over factors of F (k, k) and GG (k, k, u, u)."""
        cdef double *F[32]
        cdef double *GG[32]
        cdef int d, k
        cdef double[:, ::1] f
        cdef double[:, :, :, ::1] gg
        cdef flm_status status
        sums, products = [], []
        for d in range(self.self.depth):
            k = self.self.k[d]
            sums.append(np.empty((k, k)))
            products.append(np.empty((k, k, self.u, self.u)))
            f, gg = sums[d], products[d]
            F[d] = &f[0, 0]
            GG[d] = &gg[0, 0, 0, 0]
        with nogil:
            status = flm_chain_backward(&self.self, NULL, F, GG, NULL, NULL, n_threads)
        if status != FLM_OK:
            refuse(status, -1, "")
        return sums, products

    def effects(self, const double[::1] v not None, int n_threads):
        """List over factors of g (nodes, k), g_i = Z_i'V0^-1 [X y] v."""
        cdef double *g[32]
        cdef int d
        cdef double[:, ::1] one
        cdef flm_status status
        check_shape(v.shape[0] == self.u, "v")
        out = []
        for d in range(self.self.depth):
            out.append(np.empty((self.self.nodes[d], self.self.k[d])))
            one = out[d]
            g[d] = &one[0, 0]
        with nogil:
            status = flm_chain_backward(&self.self, &v[0], NULL, NULL, g, NULL, n_threads)
        if status != FLM_OK:
            refuse(status, -1, "")
        return out

    def posterior(self, int n_threads):
        """List over factors of Var(b_i | y, beta) / sigma^2 (nodes, k, k)."""
        cdef double *blocks[32]
        cdef int d
        cdef double[:, :, ::1] one
        cdef flm_status status
        out = []
        for d in range(self.self.depth):
            out.append(np.empty((self.self.nodes[d], self.self.k[d], self.self.k[d])))
            one = out[d]
            blocks[d] = &one[0, 0, 0]
        with nogil:
            status = flm_chain_backward(&self.self, NULL, NULL, NULL, NULL, blocks, n_threads)
        if status != FLM_OK:
            refuse(status, -1, "")
        return out

    def inner(self, list g not None, const int32_t[::1] factor not None,
              const double[:, :, ::1] directions not None, int n_threads):
        """w_j'V0^-1 w_k (r, r) and [X y]'V0^-1 w_j (u, r); w_j = Z_f X_j g_f, f = factor[j].

        ``directions[j]`` starts with the k_f x k_f entries of X_j, row by row.
        """
        cdef const double *blocks[32]
        cdef int d
        cdef int r = <int> factor.shape[0]
        cdef const double[:, ::1] one
        cdef flm_index stride = directions.shape[1] * directions.shape[2]
        cdef flm_status status
        check_shape(len(g) == self.self.depth and directions.shape[0] == r and r > 0, "directions")
        for d in range(self.self.depth):
            one = g[d]
            check_shape(one.shape[0] == self.self.nodes[d] and one.shape[1] == self.self.k[d], "g")
            blocks[d] = &one[0, 0]
        for d in range(r):
            check_shape(0 <= factor[d] < self.self.depth, "factor")
            check_shape(self.self.k[factor[d]] * self.self.k[factor[d]] <= stride, "directions")
        inner, cross = np.empty((r, r)), np.empty((self.u, r))
        cdef double[:, ::1] first = inner
        cdef double[:, ::1] second = cross
        with nogil:
            status = flm_chain_inner(&self.self, blocks, r, &factor[0], &directions[0, 0, 0], stride,
                                     &first[0, 0], &second[0, 0], n_threads)
        if status != FLM_OK:
            refuse(status, -1, "")
        return inner, cross
