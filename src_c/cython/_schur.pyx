"""The sparse Schur complement of crossed factors: its pattern, its numbers, sums over its inverse.

Arrays are checked here, the arithmetic is in ``src_c/sparse/schur*.c``;
`flm_schur.h` states the equations.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t


cdef extern from "flm_crossed.h" nogil:
    ctypedef enum flm_status:
        FLM_OK

    int FLM_CROSSED_MAX_K

    ctypedef struct flm_crossed:
        int64_t levels, m, n_units
        int32_t k, n_stacked
        const int64_t *offset
        const int64_t *unit
        const int32_t *width
        const int64_t *row_ptr
        const int32_t *index
        const int64_t *col_ptr
        const int64_t *entry
        const int32_t *level
        const int64_t *stacked_ptr
        const int32_t *stacked_unit
        const int64_t *stacked_start
        const double *stacked_value
        const double *D
        const double *Dc
        double *L
        double *W


cdef extern from "flm_schur.h" nogil:
    ctypedef struct flm_meeting:
        int64_t levels, units
        const int64_t *row_ptr
        const int32_t *index
        const int64_t *col_ptr
        const int64_t *entry
        const int32_t *level
        const int64_t *stacked_ptr
        const int32_t *stacked_unit
        int32_t n_threads

    ctypedef struct flm_schur:
        const flm_crossed *s
        const int64_t *unit_column
        const int64_t *row_ptr
        const int32_t *rows
        const int64_t *value_ptr
        const int64_t *chunk
        int32_t n_chunks, n_threads

    flm_status flm_schur_count(const flm_meeting *, int64_t, const int32_t *, int64_t *) noexcept
    flm_status flm_schur_pattern(const flm_meeting *, const int64_t *, int32_t *) noexcept
    flm_status flm_schur_assemble(const flm_schur *, double *) noexcept
    flm_status flm_schur_gather(const flm_schur *, const double *, double *) noexcept
    flm_status flm_schur_leaf_covariance(const flm_schur *, const double *, double *) noexcept
    void flm_schur_product_sums(const flm_schur *, int64_t, const double *, const double *, double *) noexcept


cdef int raise_for(flm_status status) except -1:
    if status != FLM_OK:
        raise MemoryError("no memory for the Schur complement of the crossed factors")
    return 0


cdef class Meeting:
    """Units (levels of the stacked factors) that meet in a leaf level or in a row.

    ``arrays``: row_ptr, index, col_ptr, entry, level, stacked_ptr, stacked_unit as in `flm_meeting`.
    """

    cdef flm_meeting g
    cdef dict arrays

    def __init__(self, dict arrays not None, int n_threads):
        self.arrays = arrays
        cdef const int64_t[::1] row_ptr = arrays["row_ptr"], col_ptr = arrays["col_ptr"]
        cdef const int64_t[::1] entry = arrays["entry"], stacked_ptr = arrays["stacked_ptr"]
        cdef const int32_t[::1] index = arrays["index"], level = arrays["level"]
        cdef const int32_t[::1] stacked_unit = arrays["stacked_unit"]
        cdef flm_meeting *g = &self.g
        g.levels, g.units, g.n_threads = row_ptr.shape[0] - 1, col_ptr.shape[0] - 1, max(n_threads, 1)
        if g.levels < 1 or g.units < 1:
            raise ValueError("Meeting: impossible sizes")
        if (
            min(index.shape[0], entry.shape[0], level.shape[0]) < max(row_ptr[g.levels], 1)
            or col_ptr[g.units] != row_ptr[g.levels]
            or stacked_ptr.shape[0] != g.units + 1
            or stacked_unit.shape[0] < max(stacked_ptr[g.units], 1)
        ):
            raise ValueError("Meeting: sizes do not agree")
        g.row_ptr, g.index, g.col_ptr, g.entry = &row_ptr[0], &index[0], &col_ptr[0], &entry[0]
        g.level, g.stacked_ptr, g.stacked_unit = &level[0], &stacked_ptr[0], &stacked_unit[0]

    def count(self, const int32_t[::1] units not None):
        """How many units, from each one on, it meets; itself included."""
        cdef int64_t[::1] out = np.empty(units.shape[0], np.int64)
        cdef flm_status status
        if not units.shape[0] or np.min(units) < 0 or np.max(units) >= self.g.units:
            raise ValueError("Meeting.count: no such unit")
        with nogil:
            status = flm_schur_count(&self.g, units.shape[0], &units[0], &out[0])
        raise_for(status)
        return out.base

    def pattern(self):
        """(ptr, idx): lower triangle by units."""
        cdef int64_t[::1] ptr
        cdef int32_t[::1] idx
        cdef flm_status status
        ptr = np.concatenate([[0], np.cumsum(self.count(np.arange(self.g.units, dtype=np.int32)))])
        idx = np.empty(ptr[self.g.units], np.int32)
        with nogil:
            status = flm_schur_pattern(&self.g, &ptr[0], &idx[0])
        raise_for(status)
        return ptr.base, idx.base


cdef class SchurValues:
    """Numbers of the Schur complement on a pattern; `leaf` are the arrays of a `_crossed.Leaf`.

    ``values``: unit_column, row_ptr, rows, value_ptr (block columns) and chunk, bounds of the
    pieces of parallel work.
    """

    cdef flm_crossed s
    cdef flm_schur p
    cdef dict leaf, values
    cdef double[::1] scales, partial
    cdef int64_t n_scales, n_values
    cdef object widths

    def __init__(self, dict leaf not None, dict values not None, int n_threads):
        self.leaf, self.values = leaf, values
        cdef const int64_t[::1] offset = leaf["offset"], unit = leaf["unit"], row_ptr = leaf["row_ptr"]
        cdef const int64_t[::1] col_ptr = leaf["col_ptr"], entry = leaf["entry"]
        cdef const int64_t[::1] stacked_ptr = leaf["stacked_ptr"], stacked_start = leaf["stacked_start"]
        cdef const int32_t[::1] width = leaf["width"], index = leaf["index"], level = leaf["level"]
        cdef const int32_t[::1] stacked_unit = leaf["stacked_unit"]
        cdef const double[::1] stacked_value = leaf["stacked_value"]
        cdef double[::1] L = leaf["L"], W = leaf["W"]
        cdef flm_crossed *s = &self.s
        s.levels, s.k, s.n_stacked = row_ptr.shape[0] - 1, leaf["A"].shape[1], width.shape[0]
        s.m, s.n_units = offset[s.n_stacked], unit[s.n_stacked]
        s.offset, s.unit, s.width = &offset[0], &unit[0], &width[0]
        s.row_ptr, s.index = &row_ptr[0], &index[0]
        s.col_ptr, s.entry, s.level = &col_ptr[0], &entry[0], &level[0]
        s.stacked_ptr, s.stacked_unit = &stacked_ptr[0], &stacked_unit[0]
        s.stacked_start, s.stacked_value = &stacked_start[0], &stacked_value[0]
        s.L, s.W = &L[0], &W[0]
        cdef const int64_t[::1] unit_column = values["unit_column"], rows_ptr = values["row_ptr"]
        cdef const int64_t[::1] value_ptr = values["value_ptr"], chunk = values["chunk"]
        cdef const int32_t[::1] rows = values["rows"]
        cdef flm_schur *p = &self.p
        p.n_chunks, p.n_threads = chunk.shape[0] - 1, max(n_threads, 1)
        if (
            min(unit_column.shape[0], rows_ptr.shape[0], value_ptr.shape[0]) != s.n_units + 1
            or unit_column[s.n_units] != s.m
            or rows.shape[0] != rows_ptr[s.n_units]
            or chunk[p.n_chunks] != s.n_units
            or L.shape[0] != s.levels * s.k * s.k
            or W.shape[0] < row_ptr[s.levels] * s.k
        ):
            raise ValueError("SchurValues: sizes do not agree")
        p.s, p.unit_column, p.row_ptr, p.rows = s, &unit_column[0], &rows_ptr[0], &rows[0]
        p.value_ptr, p.chunk = &value_ptr[0], &chunk[0]
        self.n_values = value_ptr[s.n_units]
        self.widths = leaf["width"].tolist()
        self.n_scales = sum([w * w for w in self.widths])
        self.scales = np.zeros(s.k * s.k + self.n_scales)
        s.D, s.Dc = &self.scales[0], &self.scales[s.k * s.k]
        self.partial = np.empty(p.n_chunks * max(s.k * s.k, self.n_scales))

    cdef int check_values(self, Py_ssize_t size) except -1:
        if size != self.n_values:
            raise ValueError("an array of values has the wrong size")
        return 0

    def assemble(self, const double[::1] scales not None, double[::1] values not None):
        """values = P_c at scales = (D, all D_f); the leaf is factored at the same."""
        cdef flm_status status
        self.check_values(values.shape[0])
        if scales.shape[0] != self.scales.shape[0]:
            raise ValueError("SchurValues.assemble: scales have the wrong size")
        self.scales[:] = scales
        with nogil:
            status = flm_schur_assemble(&self.p, &values[0])
        raise_for(status)

    def gather(self, const double[::1] Z not None):
        """sum_i L_i^-T W_i M_c^-1 W_i' L_i^-1 (k, k)."""
        cdef flm_status status
        cdef int k = self.s.k
        self.check_values(Z.shape[0])
        with nogil:
            status = flm_schur_gather(&self.p, &Z[0], &self.partial[0])
        raise_for(status)
        return self.total(k * k).reshape(k, k)

    def product_sums(self, const double[::1] P not None, const double[::1] Z not None):
        """[sum_j (P_c M_c^-1)_jj] of every stacked factor, (k_f, k_f) each."""
        self.check_values(P.shape[0])
        self.check_values(Z.shape[0])
        with nogil:
            flm_schur_product_sums(&self.p, self.n_scales, &P[0], &Z[0], &self.partial[0])
        sums = np.split(self.total(self.n_scales), np.cumsum([w * w for w in self.widths]))
        return [flat.reshape(w, w) for flat, w in zip(sums, self.widths)]  # an empty piece is left over

    def leaf_covariance(self, const double[::1] Z not None):
        """D (M^-1)_ii D' of every leaf level, (levels, k, k)."""
        cdef flm_status status
        self.check_values(Z.shape[0])
        cdef double[:, :, ::1] out = np.empty((self.s.levels, self.s.k, self.s.k))
        with nogil:
            status = flm_schur_leaf_covariance(&self.p, &Z[0], &out[0, 0, 0])
        raise_for(status)
        return out.base

    cdef total(self, int64_t size):
        """The pieces' sums, added in order."""
        cdef double[::1] out = np.zeros(size)
        cdef int64_t chunk, a
        for chunk in range(self.p.n_chunks):
            for a in range(size):
                out[a] += self.partial[chunk * size + a]
        return out.base
