"""The pass over the rows; see flm_pass.h and flm_pairs.h."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc

import numpy as np

cdef extern from "flm_columns.h":
    ctypedef struct flm_columns:
        int32_t n_columns

cdef extern from "flm_pass.h":
    enum: FLM_SLICES
    ctypedef struct flm_factor:
        const int32_t *codes
        int32_t k
        const int32_t *z
        int64_t levels
        double *R
        int64_t *counts
        int32_t shared
    int flm_pass_direct(
        const flm_columns *, const double *, int, const int64_t *, int, const flm_factor *, double *, int
    ) nogil
    int flm_pass_owned(
        const flm_columns *, const double *, int64_t, int, int, const flm_factor *, double *, int
    ) nogil
    void flm_scan_codes(const int32_t *, int64_t, int32_t *, int32_t *, int *) nogil
    int64_t flm_occurring(const double *, int64_t, int64_t, int64_t, int64_t *, int64_t *) nogil
    int flm_find_parents(const int32_t *, const int32_t *, int64_t, int64_t, int32_t *) nogil

cdef extern from "flm_pairs.h":
    int flm_pairs_sort(
        const int32_t *, const int32_t *, int64_t, int64_t, int, int, uint64_t *, int64_t *, int64_t *,
        int64_t *,
        int
    ) nogil
    int flm_pairs_fill(
        const flm_columns *, const double *, int, int, int, int64_t, const uint64_t *, const int64_t *,
        const int64_t *, const int64_t *, int32_t *, double *, int
    ) nogil

SLICES = FLM_SLICES


cdef const flm_columns *columns_of(program) except NULL:
    return <const flm_columns *>PyCapsule_GetPointer(program.capsule, b"flm_columns")


cdef flm_factor factor_of(int64_t n, int u, codes, z, R, counts, bint shared, int64_t copies) except *:
    """Checked views of one factor's arrays; R (copies, levels, k, u), counts (copies, levels) or None."""
    cdef flm_factor factor
    cdef const int32_t[::1] code_view = codes
    cdef const int32_t[::1] z_view = z
    cdef double[:, :, :, ::1] R_view = R
    cdef int64_t[:, ::1] count_view
    if code_view.shape[0] != n or R_view.shape[3] != u or R_view.shape[2] != z_view.shape[0]:
        raise ValueError("codes, z and R disagree in shape")
    if R_view.shape[0] != copies:
        raise ValueError("R needs one copy per piece, or one when shared")
    if np.min(z) < 0 or np.max(z) >= u:
        raise ValueError("a column of Z outside U")
    factor.codes, factor.z = &code_view[0], &z_view[0]
    factor.k, factor.levels = <int32_t>z_view.shape[0], R_view.shape[1]
    factor.R, factor.counts = &R_view[0, 0, 0, 0], NULL
    if counts is not None:
        count_view = counts
        if count_view.shape[0] != copies or count_view.shape[1] != R_view.shape[1]:
            raise ValueError("counts need one copy per piece, or one when shared")
        factor.counts = &count_view[0, 0]
    factor.shared = shared
    return factor


cdef const double *weights_at(const double[::1] weights, int64_t n) except? NULL:
    if weights is None:
        return NULL
    if weights.shape[0] != n:
        raise ValueError("weights differ from the rows in length")
    return &weights[0]


cdef double *partial_at(double[:, :, ::1] C, int64_t pieces, int u) except? NULL:
    if C is None:
        return NULL
    if C.shape[0] != pieces or C.shape[1] != u or C.shape[2] != u:
        raise ValueError("C_partial must be (pieces, u, u)")
    return &C[0, 0, 0]


def pass_direct(
    program, const double[::1] weights, const int64_t[::1] bounds, list factors, double[:, :, ::1] C_partial,
    int n_threads=1
):
    """Scatter rows straight into R and add U'WU per piece.

    ``bounds`` (pieces + 1,) cuts the rows.  ``factors``: tuples (codes, z, R, counts or None, shared), codes
    already known to lie in range (`scan_codes`).  ``C_partial`` (pieces, u, u) or None.
    """
    cdef const flm_columns *columns = columns_of(program)
    cdef int64_t n = program.n
    cdef int i, status, u = columns.n_columns, pieces = <int>bounds.shape[0] - 1
    if pieces < 1 or bounds[0] != 0 or bounds[pieces] != n or (np.diff(bounds) < 0).any():
        raise ValueError("bounds must rise from 0 to n")
    cdef const double *w = weights_at(weights, n)
    cdef double *C = partial_at(C_partial, pieces, u)
    cdef flm_factor *found = <flm_factor *>malloc(max(1, len(factors)) * sizeof(flm_factor))
    if found == NULL:
        raise MemoryError
    try:
        for i, (codes, z, R, counts, shared) in enumerate(factors):
            found[i] = factor_of(n, u, codes, z, R, counts, shared, 1 if shared else pieces)
        i = <int>len(factors)
        with nogil:
            status = flm_pass_direct(columns, w, pieces, &bounds[0], i, found, C, n_threads)
    finally:
        free(found)
    if status:
        raise MemoryError


def pass_owned(
    program, const double[::1] weights, int tile_rows, list factors, double[:, :, ::1] C_partial,
    int n_threads=1
):
    """Add rows to each R (1, levels, k, u), threads owning levels; a thread prepares ``tile_rows`` at once.

    ``factors`` as for `pass_direct`; ``C_partial`` (SLICES, u, u) or None.
    """
    cdef const flm_columns *columns = columns_of(program)
    cdef int64_t n = program.n
    cdef int i, status, u = columns.n_columns
    if not 1 <= tile_rows <= 65536:
        raise ValueError("tiles have 1 to 65536 rows")
    cdef const double *w = weights_at(weights, n)
    cdef double *C = partial_at(C_partial, FLM_SLICES, u)
    cdef flm_factor *found = <flm_factor *>malloc(max(1, len(factors)) * sizeof(flm_factor))
    if found == NULL:
        raise MemoryError
    try:
        for i, (codes, z, R, counts) in enumerate(factors):
            found[i] = factor_of(n, u, codes, z, R, counts, True, 1)
        i = <int>len(factors)
        with nogil:
            status = flm_pass_owned(columns, w, n, tile_rows, i, found, C, n_threads)
    finally:
        free(found)
    if status:
        raise MemoryError


def scan_codes(const int32_t[::1] codes):
    """Smallest code, largest code, and whether they never decrease."""
    cdef int32_t smallest, largest
    cdef int is_sorted
    if codes.shape[0] == 0:
        raise ValueError("no rows")
    with nogil:
        flm_scan_codes(&codes[0], codes.shape[0], &smallest, &largest, &is_sorted)
    return smallest, largest, bool(is_sorted)


def occurring(const double[:, :, ::1] R, int a, int j):
    """Levels that have rows, by their number ``R[i, a, j]``: codes and numbers, (found,) int64."""
    cdef int64_t levels = R.shape[0], size = R.shape[1] * R.shape[2], found
    if not (0 <= a < R.shape[1] and 0 <= j < R.shape[2]):
        raise IndexError("R has no such place")
    codes, counts = np.empty(levels, np.int64), np.empty(levels, np.int64)
    if levels == 0:
        return codes, counts
    cdef int64_t[::1] code_view = codes, count_view = counts
    with nogil:
        found = flm_occurring(&R[0, 0, 0], levels, size, a * R.shape[2] + j, &code_view[0], &count_view[0])
    return codes[:found], counts[:found]


def find_parents(const int32_t[::1] inner, const int32_t[::1] outer, int64_t levels):
    """Level of ``outer`` for each of the ``levels`` of ``inner`` as int32, or None when not nested."""
    cdef int32_t[::1] parent = np.empty(levels, np.int32)
    cdef int nested
    if inner.shape[0] != outer.shape[0] or inner.shape[0] == 0 or levels < 1:
        raise ValueError("inner and outer must have the same rows")
    with nogil:
        nested = flm_find_parents(&inner[0], &outer[0], inner.shape[0], levels, &parent[0])
    return np.asarray(parent) if nested else None


def pair_blocks(
    program, weights, int k_f, const int32_t[::1] f, const int32_t[::1] g, int64_t levels_f, int64_t levels_g,
    bint all_ones, int n_threads=1
):
    """``Z_f'W Z_g`` by pairs of levels: (indptr, indices, blocks) as in `PairBlocks`.

    ``program`` holds the k_f columns of Z_f, then those of Z_g.  ``all_ones`` says that both are the
    constant 1 and that there are no weights, so that blocks are counts.  Codes are known to lie in range.
    """
    cdef const flm_columns *columns = columns_of(program)
    cdef int64_t n = program.n
    cdef int status, shift, g_bits, k_g = columns.n_columns - k_f
    cdef const double[::1] w
    cdef const double *w_at = NULL
    cdef int64_t[::1] rows
    cdef int64_t *rows_at = NULL
    if n == 0 or f.shape[0] != n or g.shape[0] != n or k_f < 1 or k_g < 1 or levels_f < 1 or levels_g < 1:
        raise ValueError("codes, columns and rows disagree")
    if weights is not None:
        w = weights
        if w.shape[0] != n:
            raise ValueError("weights differ from the rows in length")
        w_at = &w[0]
    g_bits = max(1, int(levels_g - 1).bit_length())
    shift = max(0, int(levels_f - 1).bit_length() - 8)
    cdef uint64_t[::1] key = np.empty(n, np.uint64)
    if not all_ones:
        rows = np.empty(n, np.int64)
        rows_at = &rows[0]
    cdef int64_t[::1] bucket = np.empty(((levels_f - 1) >> shift) + 2, np.int64)
    cdef int64_t[::1] indptr = np.empty(levels_f + 1, np.int64)
    with nogil:
        status = flm_pairs_sort(
            &f[0], &g[0], n, levels_f, shift, g_bits, &key[0], rows_at, &bucket[0], &indptr[0], n_threads
        )
    if status:
        raise MemoryError
    np.cumsum(indptr, out=np.asarray(indptr))
    cdef int64_t pairs = indptr[levels_f]
    cdef int32_t[::1] indices = np.empty(pairs, np.int32)
    cdef double[:, :, ::1] blocks = np.empty((pairs, k_f, k_g))
    with nogil:
        status = flm_pairs_fill(
            columns, w_at, k_f, shift, g_bits, levels_f, &key[0], rows_at, &bucket[0], &indptr[0],
            &indices[0],
            &blocks[0, 0, 0], n_threads
        )
    if status:
        raise MemoryError
    return np.asarray(indptr), np.asarray(indices), np.asarray(blocks)
