"""Sparse symmetric positive definite matrices: order, analyse, factor, invert on the pattern.

Arrays are checked here, the arithmetic is in ``src_c/sparse``; `flm_sparse.h`
states the equations and the layout of the values.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t
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


cdef extern from "flm_sparse.h" nogil:
    ctypedef enum flm_status:
        FLM_OK
        FLM_NO_MEMORY
        FLM_NOT_POSITIVE
        FLM_BAD_ARGUMENT

    ctypedef struct flm_factor:
        int64_t units, m, nodes, n_tasks, n_top
        const int64_t *unit_ptr
        const int64_t *column
        const int64_t *first
        const int32_t *parent
        const int32_t *start
        const int64_t *row_ptr
        int32_t *rows
        int32_t *rel
        const int64_t *panel
        const int64_t *child_ptr
        const int32_t *child
        const int32_t *task
        const int32_t *top
        int32_t n_threads

    void flm_graph_degrees(int64_t, const int64_t *, const int32_t *, int64_t *) noexcept
    flm_status flm_graph_symmetrize(int64_t, const int64_t *, const int32_t *, const int64_t *,
                                    int32_t *) noexcept
    flm_status flm_minimum_degree(int64_t, const int64_t *, const int32_t *, const int32_t *, int64_t,
                                  int32_t *) noexcept
    void flm_etree(int64_t, const int64_t *, const int32_t *, const int32_t *, const int32_t *, int32_t *,
                   int32_t *) noexcept
    void flm_postorder(int64_t, const int32_t *, int32_t *, int32_t *) noexcept
    void flm_column_counts(int64_t, const int64_t *, const int32_t *, const int32_t *, const int32_t *,
                           const int32_t *, const int32_t *, int64_t *, int32_t *) noexcept
    int64_t flm_supernodes(int64_t, const int32_t *, const int64_t *, const int32_t *, int32_t *, int64_t *,
                           int32_t *) noexcept
    flm_status flm_factor_tasks(int64_t, const int64_t *, const int64_t *, const int32_t *, int32_t *,
                                int32_t *, int32_t *, int64_t *, int64_t *, double *) noexcept
    flm_status flm_factor_rows(const flm_factor *, const int64_t *, const int32_t *, const int32_t *,
                               const int32_t *) noexcept
    void flm_factor_targets(const flm_factor *, const int64_t *, const int64_t *, const int32_t *,
                            const int64_t *, const int32_t *, const int32_t *, int64_t *) noexcept
    void flm_factor_extract(const flm_factor *, int64_t, const int64_t *, const double *, double *) noexcept
    flm_status flm_factor_numeric(const flm_factor *, const flm_blas *, int64_t, const int64_t *,
                                  const double *, double, double *, double *) noexcept
    flm_status flm_factor_solve(const flm_factor *, const flm_blas *, int, int64_t, const double *,
                                double *) noexcept
    flm_status flm_factor_selected_inverse(const flm_factor *, const flm_blas *, const double *,
                                           double *) noexcept


cdef flm_blas BLAS
BLAS.dpotrf = cython_lapack.dpotrf
BLAS.dpotri = cython_lapack.dpotri
BLAS.dtrsm = cython_blas.dtrsm
BLAS.dsymm = cython_blas.dsymm
BLAS.dsyrk = cython_blas.dsyrk
BLAS.dgemm = cython_blas.dgemm


LEAST_SHARE = 0.5  # of the factor's work in independent subtrees, from which threads work on these


cdef int raise_for(flm_status status) except -1:
    if status == FLM_NO_MEMORY:
        raise MemoryError("no memory for a sparse factor")
    if status == FLM_NOT_POSITIVE:
        raise NumericalError("a sparse matrix is not positive definite, or not finite")
    if status != FLM_OK:
        raise ValueError("a sparse pattern contradicts itself")
    return 0


cdef const int32_t *entries(const int32_t[::1] x) noexcept:
    return &x[0] if x.shape[0] else NULL


def symmetrize(const int64_t[::1] ptr not None, const int32_t[::1] idx not None):
    """Full adjacency (ptr, idx) without diagonal of a lower triangle by columns."""
    cdef int64_t n = ptr.shape[0] - 1
    if n < 0 or ptr[0] != 0 or ptr[n] != idx.shape[0] or (np.diff(ptr) < 0).any():
        raise ValueError("symmetrize: pointers do not agree with the entries")
    owner = np.repeat(np.arange(n, dtype=np.int32), np.diff(ptr))
    if idx.shape[0] and ((np.asarray(idx) < owner).any() or np.max(idx) >= n):
        raise ValueError("symmetrize: an entry is not in the lower triangle")
    cdef int64_t[::1] full_ptr = np.empty(n + 1, np.int64)
    cdef const int32_t *lower = entries(idx)
    flm_graph_degrees(n, &ptr[0], lower, &full_ptr[0])
    cdef int32_t[::1] full_idx = np.empty(max(full_ptr[n], 1), np.int32)
    cdef flm_status status
    with nogil:
        status = flm_graph_symmetrize(n, &ptr[0], lower, &full_ptr[0], &full_idx[0])
    raise_for(status)
    return full_ptr.base, full_idx.base[: full_ptr[n]]


cdef int check_graph(const int64_t[::1] ptr, const int32_t[::1] idx, const int32_t[::1] weight) except -1:
    cdef int64_t n = ptr.shape[0] - 1
    if n < 1 or ptr[n] != idx.shape[0] or weight.shape[0] != n or np.min(weight) < 1:
        raise ValueError("a graph's pointers, entries and weights do not agree")
    return 0


def minimum_degree(const int64_t[::1] ptr not None, const int32_t[::1] idx not None,
                   const int32_t[::1] weight not None, int64_t dense):
    """Vertices of a full adjacency in the order of elimination."""
    check_graph(ptr, idx, weight)
    cdef int32_t[::1] order = np.empty(weight.shape[0], np.int32)
    cdef const int32_t *neighbours = entries(idx)
    cdef flm_status status
    with nogil:
        status = flm_minimum_degree(weight.shape[0], &ptr[0], neighbours, &weight[0], dense, &order[0])
    raise_for(status)
    return order.base


def elimination_tree(const int64_t[::1] ptr not None, const int32_t[::1] idx not None,
                     const int32_t[::1] weight not None, const int32_t[::1] order not None):
    """(order in postorder, parent, column counts by weight) of the factor."""
    check_graph(ptr, idx, weight)
    cdef int64_t n = weight.shape[0]
    if order.shape[0] != n or not np.array_equal(np.sort(order), np.arange(n)):
        raise ValueError("the order is not a permutation")
    cdef int32_t[::1] inverse = np.empty(n, np.int32), parent = np.empty(n, np.int32)
    cdef int32_t[::1] post = np.empty(n, np.int32), work = np.empty(4 * n, np.int32)
    cdef int64_t[::1] count = np.empty(n, np.int64)
    cdef int32_t[::1] ordered
    cdef const int32_t *neighbours = entries(idx)
    inverse.base[np.asarray(order)] = np.arange(n, dtype=np.int32)
    with nogil:
        flm_etree(n, &ptr[0], neighbours, &order[0], &inverse[0], &parent[0], &work[0])
        flm_postorder(n, &parent[0], &post[0], &work[0])
    rank = np.empty(n + 1, np.int32)
    rank[post.base] = np.arange(n, dtype=np.int32)
    rank[n] = -1
    ordered = np.ascontiguousarray(np.asarray(order)[post.base])
    parent = np.ascontiguousarray(rank[parent.base[post.base]])
    inverse.base[ordered.base] = np.arange(n, dtype=np.int32)
    with nogil:
        flm_column_counts(n, &ptr[0], neighbours, &ordered[0], &inverse[0], &parent[0], &weight[0], &count[0],
                          &work[0])
    return ordered.base, parent.base, count.base


def supernodes(const int32_t[::1] parent not None, const int64_t[::1] count not None,
               const int32_t[::1] weight not None):
    """(positions in the final order, pointers to each node's units, parents of nodes); weight by position."""
    cdef int64_t n = parent.shape[0], nodes
    if n < 1 or count.shape[0] != n or weight.shape[0] != n:
        raise ValueError("supernodes: sizes do not agree")
    cdef int32_t[::1] order = np.empty(n, np.int32), up = np.empty(n, np.int32)
    cdef int64_t[::1] ptr = np.empty(n + 1, np.int64)
    with nogil:
        nodes = flm_supernodes(n, &parent[0], &count[0], &weight[0], &order[0], &ptr[0], &up[0])
    if nodes < 0:
        raise MemoryError("no memory for the elimination tree")
    return order.base, ptr.base[: nodes + 1].copy(), up.base[:nodes].copy()


cdef class Panels:
    """Structure of a factor and where the numbers go; made once per pattern.

    ``arrays``: unit_ptr, column, parent, row_ptr, order, inverse (final), ptr, idx
    (full adjacency) as in `flm_factor`; ``values``: unit_column, row_ptr, rows,
    value_ptr of the block columns.
    """

    cdef flm_factor f
    cdef readonly dict arrays
    cdef int64_t[::1] target
    cdef readonly int64_t n_values, size

    def __init__(self, dict arrays not None, dict values not None, int n_threads):
        self.arrays = arrays
        cdef const int64_t[::1] unit_ptr = arrays["unit_ptr"], column = arrays["column"]
        cdef const int64_t[::1] row_ptr = arrays["row_ptr"], ptr = arrays["ptr"]
        cdef const int32_t[::1] parent = arrays["parent"], order = arrays["order"]
        cdef const int32_t[::1] inverse = arrays["inverse"], idx = arrays["idx"]
        cdef flm_factor *f = &self.f
        f.nodes, f.units, f.n_threads = parent.shape[0], order.shape[0], max(n_threads, 1)
        if (
            f.nodes < 1
            or unit_ptr.shape[0] != f.nodes + 1
            or unit_ptr[f.nodes] != f.units
            or column.shape[0] != f.units + 1
            or row_ptr.shape[0] != f.nodes + 1
            or inverse.shape[0] != f.units
            or ptr.shape[0] != f.units + 1
            or idx.shape[0] != ptr[f.units]
        ):
            raise ValueError("Panels: sizes do not agree")
        f.m = column[f.units]
        nodes, up = f.nodes, arrays["parent"]
        child_count = np.bincount(up[up >= 0], minlength=nodes)
        cdef int64_t[::1] first = arrays["column"][arrays["unit_ptr"]]
        cdef int64_t[::1] child_ptr = np.concatenate([[0], np.cumsum(child_count)]).astype(np.int64)
        roots = int(np.count_nonzero(up < 0))
        children = np.argsort(up, kind="stable").astype(np.int32)[roots:]
        cdef int32_t[::1] child = np.append(children, np.int32(0))
        nc, ni = np.diff(first.base), np.diff(arrays["row_ptr"])
        cdef int64_t[::1] panel = np.concatenate([[0], np.cumsum(nc * (nc + ni))]).astype(np.int64)
        cdef int32_t[::1] rows = np.empty(row_ptr[f.nodes] + 1, np.int32)
        cdef int32_t[::1] rel = np.empty(row_ptr[f.nodes] + 1, np.int32)
        cdef int32_t[::1] start = np.empty(nodes, np.int32), task = np.empty(nodes, np.int32)
        cdef int32_t[::1] top = np.empty(nodes, np.int32)
        cdef double share = 0
        f.unit_ptr, f.column, f.first, f.parent = &unit_ptr[0], &column[0], &first[0], &parent[0]
        f.start, f.row_ptr, f.rows, f.rel, f.panel = &start[0], &row_ptr[0], &rows[0], &rel[0], &panel[0]
        f.child_ptr, f.child, f.task, f.top = &child_ptr[0], &child[0], &task[0], &top[0]
        self.size = panel[f.nodes]
        arrays.update(first=first, child_ptr=child_ptr, child=child, panel=panel, rows=rows, rel=rel,
                      start=start, task=task, top=top)
        raise_for(flm_factor_tasks(f.nodes, f.first, f.row_ptr, f.parent, &start[0], &task[0], &top[0],
                                   &f.n_tasks, &f.n_top, &share))
        if share < LEAST_SHARE:
            f.n_threads = 1  # the rest is for BLAS, whose threads would have to share the cores with ours
        cdef const int32_t *neighbours = entries(idx)
        cdef flm_status status
        with nogil:
            status = flm_factor_rows(f, &ptr[0], neighbours, &order[0], &inverse[0])
        raise_for(status)
        self.find_targets(values, arrays["scalar"], np.repeat(np.arange(nodes, dtype=np.int32), nc))

    cdef find_targets(self, dict values, const int32_t[::1] scalar, const int32_t[::1] node_of):
        cdef const int64_t[::1] unit_column = values["unit_column"], row_ptr = values["row_ptr"]
        cdef const int64_t[::1] value_ptr = values["value_ptr"]
        cdef const int32_t[::1] rows = values["rows"]
        cdef int64_t units = self.f.units
        if (
            min(unit_column.shape[0], row_ptr.shape[0], value_ptr.shape[0]) != units + 1
            or unit_column[units] != self.f.m
            or rows.shape[0] != row_ptr[units]
            or not np.array_equal(np.diff(value_ptr), np.diff(row_ptr) * np.diff(unit_column))
            or scalar.shape[0] != self.f.m
        ):
            raise ValueError("Panels: the values do not agree with the structure")
        self.n_values = value_ptr[units]
        self.target = np.empty(self.n_values, np.int64)
        with nogil:
            flm_factor_targets(&self.f, &unit_column[0], &row_ptr[0], &rows[0], &value_ptr[0], &scalar[0],
                               &node_of[0], &self.target[0])

    cdef int check_panels(self, Py_ssize_t size) except -1:
        if size != self.size:
            raise ValueError("an array of panels has the wrong size")
        return 0

    def factor(self, const double[::1] values not None, double shift, double[::1] L not None):
        """L = chol(shift I + values) in place; returns the log-determinant."""
        cdef double logdet = 0
        cdef flm_status status
        self.check_panels(L.shape[0])
        if values.shape[0] != self.n_values:
            raise ValueError("the values do not fit the pattern")
        with nogil:
            status = flm_factor_numeric(&self.f, &BLAS, self.n_values, &self.target[0], &values[0], shift,
                                        &L[0], &logdet)
        raise_for(status)
        return logdet

    def solve(self, const double[::1] L not None, double[:, ::1] x not None, bint transposed):
        """x (m, r), permuted rows, becomes L^-1 x or L^-T x."""
        cdef flm_status status
        self.check_panels(L.shape[0])
        if x.shape[0] != self.f.m or x.shape[1] < 1:
            raise ValueError("a right-hand side has the wrong number of rows")
        with nogil:
            status = flm_factor_solve(&self.f, &BLAS, transposed, x.shape[1], &L[0], &x[0, 0])
        raise_for(status)

    def invert(self, const double[::1] L not None, double[::1] Z not None, double[::1] values not None):
        """Z = panels of the inverse; values = the inverse on the pattern of the matrix."""
        cdef flm_status status
        self.check_panels(L.shape[0])
        self.check_panels(Z.shape[0])
        if values.shape[0] != self.n_values:
            raise ValueError("the values do not fit the pattern")
        with nogil:
            status = flm_factor_selected_inverse(&self.f, &BLAS, &L[0], &Z[0])
            if status == FLM_OK:
                flm_factor_extract(&self.f, self.n_values, &self.target[0], &Z[0], &values[0])
        raise_for(status)
