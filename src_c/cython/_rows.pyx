"""Design columns evaluated on the fly, and what needs the rows after a fit."""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport free, malloc

import numpy as np

cdef extern from "flm_columns.h":
    ctypedef struct flm_atom:
        const void *data
        const double *table
        int32_t kind
    ctypedef struct flm_columns:
        int32_t n_columns
        const flm_atom *atoms
        const int32_t *start
        const int32_t *atom
        const double *center
        const double *multiplier
        const int32_t *product
    int FLM_TABLE
    int FLM_TABLE16
    int FLM_TABLE8
    ctypedef struct flm_part:
        const flm_columns *columns
        const int32_t *codes
        const double *coefficients
    void flm_fill(const flm_columns *, int64_t, int, double *, ptrdiff_t) nogil
    void flm_fill_rows(const flm_columns *, const int64_t *, int, double *, ptrdiff_t) nogil
    int flm_add_fixed(const flm_columns *, const double *, int64_t, int64_t, double *, int) nogil
    int flm_add_random(
        const flm_columns *, const int32_t *, const double *, int64_t, int64_t, double *, int
    ) nogil

cdef extern from "flm_pass.h":
    void flm_scan_codes(const int32_t *, int64_t, int32_t *, int32_t *, int *) nogil

cdef extern from "flm_quantiles.h":
    ctypedef struct flm_residual_source:
        const double *y
        const double *eta
        const double *weights
        int n_parts
        const flm_part *parts
    int flm_residual_summary(
        const flm_residual_source *, double, int64_t, int, const int64_t *, double *, double *, int
    ) nogil

cdef int64_t CHUNK = 1 << 20
cdef dict KINDS = {
    np.dtype(np.float64): 0,
    np.dtype(np.float32): 1,
    np.dtype(np.int64): 2,
    np.dtype(np.int32): 3,
    np.dtype(np.int16): 4,
    np.dtype(np.int8): 5,
    np.dtype(np.uint8): 6,
    np.dtype(np.bool_): 6,
}
cdef dict TABLE_KINDS = {
    np.dtype(np.int32): FLM_TABLE, np.dtype(np.int16): FLM_TABLE16, np.dtype(np.int8): FLM_TABLE8
}


cdef uintptr_t address(array, str what) except? 1:
    if not isinstance(array, np.ndarray) or array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(f"{what} must be a one-dimensional C-contiguous numpy array")
    return <uintptr_t>array.__array_interface__["data"][0]


cdef class ColumnProgram:
    """Columns ``sum_p multiplier_p * prod(x_a - center_pa)`` over ``n`` rows.

    Parameters
    ----------
    n : int
    values : list of (n,) arrays
        float64, float32, int64, int32, int16, int8, uint8, bool; with a table int8, int16 or int32 codes.
    tables : list of (levels,) float64 arrays or None
    start : (products + 1,) int32
        Product p is of factors ``start[p] .. start[p + 1]``.
    atom : int32, center : float64
        Per factor, the atom and what is subtracted from it.
    multiplier : (products,) float64
    product : (u + 1,) int32, optional
        Column j is the sum of products ``product[j] .. product[j + 1]``, at least one; None: one each.

    The arrays are kept alive, not copied; they may be read-only.
    """

    cdef flm_columns columns
    cdef flm_atom *atoms
    cdef readonly int64_t n
    cdef readonly object capsule
    cdef tuple keep

    def __cinit__(self):
        self.atoms = NULL

    def __dealloc__(self):
        free(self.atoms)

    def __init__(self, int64_t n, list values, list tables, start, atom, center, multiplier, product=None):
        cdef int i
        if self.atoms != NULL:
            raise RuntimeError("a ColumnProgram cannot be initialised twice")
        start = np.ascontiguousarray(start, np.int32)
        atom = np.ascontiguousarray(atom, np.int32)
        center = np.ascontiguousarray(center, np.float64)
        multiplier = np.ascontiguousarray(multiplier, np.float64)
        if product is not None:
            product = np.ascontiguousarray(product, np.int32)
            if len(product) < 1 or product[0] != 0 or product[len(product) - 1] != len(multiplier):
                raise ValueError("product must rise from 0 to the number of products")
            if (np.diff(product) < 1).any():
                raise ValueError("a column needs a product")
        if len(start) != len(multiplier) + 1 or start[0] != 0 or (np.diff(start) < 0).any():
            raise ValueError("start must rise from 0 and have one entry more than multiplier")
        if start[len(start) - 1] != len(atom) or len(atom) != len(center) or len(tables) != len(values):
            raise ValueError("start, atom, center, values and tables disagree in length")
        if len(atom) and (atom.min() < 0 or atom.max() >= len(values)):
            raise ValueError("a column refers to an atom that does not exist")
        self.atoms = <flm_atom *>malloc(max(1, len(values)) * sizeof(flm_atom))
        if self.atoms == NULL:
            raise MemoryError
        for i in range(len(values)):
            self.atoms[i] = self._atom(n, values[i], tables[i])
        self.n = n
        self.keep = (tuple(values), tuple(tables), start, atom, center, multiplier, product)
        self.columns.n_columns = len(multiplier) if product is None else len(product) - 1
        self.columns.atoms = self.atoms
        self.columns.start = <const int32_t *>address(start, "start")
        self.columns.atom = <const int32_t *>address(atom, "atom")
        self.columns.center = <const double *>address(center, "center")
        self.columns.multiplier = <const double *>address(multiplier, "multiplier")
        self.columns.product = NULL if product is None else <const int32_t *>address(product, "product")
        self.capsule = PyCapsule_New(&self.columns, b"flm_columns", NULL)

    cdef flm_atom _atom(self, int64_t n, values, table) except *:
        cdef flm_atom atom
        cdef int64_t smallest, largest
        atom.data = <const void *>address(values, "an atom")
        atom.table = NULL
        if len(values) != n:
            raise ValueError(f"an atom has {len(values)} rows, expected {n}")
        if table is None:
            if values.dtype not in KINDS:
                raise TypeError(f"an atom of dtype {values.dtype} is not supported")
            atom.kind = KINDS[values.dtype]
            return atom
        if values.dtype not in TABLE_KINDS or table.dtype != np.float64:
            raise TypeError("an atom with a table needs int8, int16 or int32 codes and a float64 table")
        atom.table = <const double *>address(table, "a table")
        atom.kind = TABLE_KINDS[values.dtype]
        if n:
            smallest, largest = values.min(), values.max()
            if smallest < 0 or largest >= len(table):
                raise ValueError(f"codes {smallest}..{largest} outside a table of {len(table)}")
        return atom

    @property
    def n_columns(self):
        return self.columns.n_columns

    def dense(self, int64_t lo, int64_t hi):
        """Rows ``lo .. hi`` as a (hi - lo, u) float64 array, Fortran order."""
        if not 0 <= lo <= hi <= self.n:
            raise IndexError(f"rows {lo}..{hi} of {self.n}")
        out = np.empty((hi - lo, self.n_columns), order="F")
        cdef double[::1, :] view = out
        cdef int64_t at = lo, step
        if out.size:
            with nogil:
                while at < hi:
                    step = min(hi - at, CHUNK)
                    flm_fill(&self.columns, at, <int>step, &view[at - lo, 0], hi - lo)
                    at += step
        return out

    def dense_rows(self, const int64_t[::1] rows):
        """The rows listed, as a (len(rows), u) float64 array, Fortran order."""
        cdef int64_t m = rows.shape[0], at = 0, step
        out = np.empty((m, self.n_columns), order="F")
        cdef double[::1, :] view = out
        if m and (np.min(rows) < 0 or np.max(rows) >= self.n):
            raise IndexError(f"rows outside 0..{self.n}")
        if out.size:
            with nogil:
                while at < m:
                    step = min(m - at, CHUNK)
                    flm_fill_rows(&self.columns, &rows[at], <int>step, &view[at, 0], m)
                    at += step
        return out

    def add_fixed(
        self, const double[::1] coefficients, int64_t lo, int64_t hi, double[::1] out, int n_threads=1
    ):
        """``out += columns @ coefficients`` over rows ``lo .. hi``; out has length hi - lo."""
        cdef int status = 0
        if not 0 <= lo <= hi <= self.n or out.shape[0] != hi - lo:
            raise IndexError(f"rows {lo}..{hi} of {self.n} into {out.shape[0]}")
        if coefficients.shape[0] != self.n_columns:
            raise ValueError(f"{coefficients.shape[0]} coefficients for {self.n_columns} columns")
        if hi > lo and self.n_columns:
            with nogil:
                status = flm_add_fixed(&self.columns, &coefficients[0], lo, hi, &out[0], n_threads)
        if status:
            raise MemoryError

    def add_random(self, const int32_t[::1] codes, const double[:, ::1] b, double[::1] out, int n_threads=1):
        """``out[r] += columns[r] @ b[codes[r]]`` over all rows; negative codes add nothing."""
        cdef int status = 0
        cdef int32_t smallest, largest
        cdef int is_sorted
        if codes.shape[0] != self.n or out.shape[0] != self.n or b.shape[1] != self.n_columns:
            raise ValueError("codes, out and b do not fit the columns")
        if self.n == 0 or self.n_columns == 0:
            return
        flm_scan_codes(&codes[0], self.n, &smallest, &largest, &is_sorted)
        if largest >= b.shape[0]:
            raise ValueError(f"code {largest} with random effects for {b.shape[0]} levels")
        if largest < 0:
            return
        with nogil:
            status = flm_add_random(&self.columns, &codes[0], &b[0, 0], 0, self.n, &out[0], n_threads)
        if status:
            raise MemoryError


cdef flm_part part_of(int64_t n, program, codes, coefficients) except *:
    """A checked summand of a linear predictor; its arrays must outlive it."""
    cdef flm_part part
    cdef ColumnProgram columns = program
    cdef const int32_t[::1] code_view
    cdef const double[:, ::1] table
    cdef int32_t smallest, largest
    cdef int is_sorted
    table = coefficients
    if columns.n != n or columns.n_columns == 0 or table.shape[1] != columns.n_columns or table.shape[0] == 0:
        raise ValueError("rows, columns and coefficients of a part disagree")
    part.columns, part.codes, part.coefficients = &columns.columns, NULL, &table[0, 0]
    if codes is not None:
        code_view = codes
        if code_view.shape[0] != n:
            raise ValueError("codes differ from the rows in length")
        flm_scan_codes(&code_view[0], n, &smallest, &largest, &is_sorted)
        if largest >= table.shape[0]:
            raise ValueError(f"code {largest} with coefficients for {table.shape[0]} levels")
        part.codes = &code_view[0]
    return part


def residual_summary(
    const double[::1] y, eta, list parts, weights, double sigma, const int64_t[::1] ranks, int n_threads=1
):
    """Order statistics (0-based ``ranks``), sum and sum of squares of ``sqrt(w) (y - eta) / sigma``.

    ``eta`` (n,) is the linear predictor, or None when it is to be summed from ``parts``: tuples (program,
    codes, coefficients) with ``coefficients`` (levels, columns), one row of them where ``codes`` is None.
    """
    cdef flm_residual_source rows
    cdef const double[::1] eta_view, w
    cdef int64_t n = y.shape[0]
    cdef double[::1] order = np.empty(max(1, ranks.shape[0]))
    cdef double[::1] sums = np.zeros(2)
    cdef int status, i
    if n == 0 or ranks.shape[0] == 0 or np.min(ranks) < 0 or np.max(ranks) >= n:
        raise ValueError("ranks must lie in 0..n")
    rows.y, rows.eta, rows.weights, rows.n_parts, rows.parts = &y[0], NULL, NULL, 0, NULL
    if weights is not None:
        w = weights
        rows.weights = &w[0]
    if (weights is not None and w.shape[0] != n) or (eta is not None and len(eta) != n):
        raise ValueError("y, eta and weights differ in length")
    if eta is not None:
        eta_view = eta
        rows.eta = &eta_view[0]
        parts = []
    cdef flm_part *records = <flm_part *>malloc(max(1, len(parts)) * sizeof(flm_part))
    if records == NULL:
        raise MemoryError
    try:
        for i, (program, codes, coefficients) in enumerate(parts):
            records[i] = part_of(n, program, codes, coefficients)
        rows.n_parts, rows.parts = <int>len(parts), records
        i = max(n_threads, 1)
        with nogil:
            status = flm_residual_summary(
                &rows, sigma, n, <int>ranks.shape[0], &ranks[0], &order[0], &sums[0], i
            )
    finally:
        free(records)
    if status == 1:
        raise MemoryError
    if status:
        raise ValueError("residuals are not finite")
    return np.asarray(order), sums[0], sums[1]
