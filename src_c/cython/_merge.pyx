# cython: language_level=3
"""Sums over two sets of rows added level by level: sizes are checked here, the GIL is released."""

from libc.stdint cimport int32_t, int64_t

import numpy as np

cdef extern from "flm_merge.h" nogil:
    ctypedef enum flm_status:
        FLM_OK
        FLM_NO_MEMORY
        FLM_BAD_ARGUMENT
    ctypedef struct flm_union:
        int64_t na
        int64_t nb
        const int64_t *a
        const int64_t *b
    int64_t flm_union_count(flm_union *self, int n_threads) noexcept
    void flm_union_list(const flm_union *self, int64_t *keys, int64_t *from_a, int64_t *from_b,
                        int n_threads) noexcept
    flm_status flm_add_rows(int64_t n, int64_t width, int64_t na, const double *A, const int64_t *from_a,
                            int64_t nb, const double *B, const int64_t *from_b, double *out,
                            int n_threads) noexcept
    flm_status flm_add_counts(int64_t n, int64_t na, const int64_t *A, const int64_t *from_a, int64_t nb,
                              const int64_t *B, const int64_t *from_b, int64_t *out, int n_threads) noexcept
    flm_status flm_order_codes(int64_t n, const int32_t *codes, int64_t levels, int64_t *order) noexcept


cdef const int64_t *first(const int64_t[::1] values) noexcept:
    if values is None or values.shape[0] == 0:
        return NULL
    return &values[0]


cdef bint increasing(const int64_t *keys, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef bint falls = False
    for i in range(1, n):
        falls |= keys[i] <= keys[i - 1]
    return not falls


def union_keys(const int64_t[::1] a not None, const int64_t[::1] b not None, int n_threads=1):
    """The union of two strictly increasing arrays, and where its keys lie in both.

    Returns
    -------
    keys : (n,) int64
    from_a, from_b : (n,) int64, -1 where the key is not there; None when the union is that array itself
    """
    cdef flm_union both
    both.na, both.nb = a.shape[0], b.shape[0]
    both.a, both.b = first(a), first(b)
    if n_threads < 1:
        raise ValueError("n_threads is 1 or more")
    cdef int64_t n = -1
    with nogil:
        if increasing(both.a, both.na) and increasing(both.b, both.nb):
            n = flm_union_count(&both, n_threads)
    if n < 0:
        raise ValueError("the keys do not increase")
    cdef int64_t[::1] from_a, from_b, new
    cdef int64_t *x = NULL
    cdef int64_t *y = NULL
    cdef int64_t *z = NULL
    if n > both.na:
        from_a = np.empty(n, np.int64)
        x = &from_a[0]
    if n > both.nb:
        from_b = np.empty(n, np.int64)
        y = &from_b[0]
    if x != NULL and y != NULL:
        new = np.empty(n, np.int64)
        z = &new[0]
    with nogil:
        if x != NULL or y != NULL:
            flm_union_list(&both, z, x, y, n_threads)
    return (
        np.asarray(a if x == NULL else b if y == NULL else new),
        None if x == NULL else np.asarray(from_a),
        None if y == NULL else np.asarray(from_b),
    )


cdef int64_t entries(int64_t size, const int64_t[::1] places):
    return size if places is None else places.shape[0]


cdef int check(int64_t n, int64_t other, bint same_width, int n_threads) except -1:
    if n != other or not same_width or n_threads < 1:
        raise ValueError("sums and places disagree in size")
    return 0


cdef int refuse(flm_status status) except -1:
    if status == FLM_NO_MEMORY:
        raise MemoryError("no memory to add sums")
    if status != FLM_OK:
        raise IndexError("a place lies outside the sums")
    return 0


def add_rows(const double[:, ::1] A not None, const int64_t[::1] from_a, const double[:, ::1] B not None,
             const int64_t[::1] from_b, int n_threads=1):
    """``A[from_a] + B[from_b]`` (n, width) float64; a place of -1 adds nothing, ``None`` is all in order.

    The bits do not depend on which is A, nor on the threads.
    """
    cdef int64_t n = entries(A.shape[0], from_a), width = A.shape[1]
    check(n, entries(B.shape[0], from_b), width == B.shape[1], n_threads)
    total = np.empty((n, width))
    if total.size == 0:
        return total
    cdef double[:, ::1] out = total
    cdef const int64_t *x = first(from_a)
    cdef const int64_t *y = first(from_b)
    cdef flm_status status
    with nogil:
        status = flm_add_rows(n, width, A.shape[0], &A[0, 0], x, B.shape[0], &B[0, 0], y, &out[0, 0],
                              n_threads)
    refuse(status)
    return total


def add_counts(const int64_t[::1] A not None, const int64_t[::1] from_a, const int64_t[::1] B not None,
               const int64_t[::1] from_b, int n_threads=1):
    """As `add_rows`, of counts (n,) int64."""
    cdef int64_t n = entries(A.shape[0], from_a)
    check(n, entries(B.shape[0], from_b), True, n_threads)
    total = np.empty(n, np.int64)
    if n == 0:
        return total
    cdef int64_t[::1] out = total
    cdef const int64_t *x = first(from_a)
    cdef const int64_t *y = first(from_b)
    cdef flm_status status
    with nogil:
        status = flm_add_counts(n, A.shape[0], &A[0], x, B.shape[0], &B[0], y, &out[0], n_threads)
    refuse(status)
    return total


def order_codes(const int32_t[::1] codes not None, int64_t levels):
    """Stable order (n,) int64 of codes in ``[0, levels)``."""
    cdef int64_t n = codes.shape[0]
    order = np.empty(n, np.int64)
    if n == 0:
        return order
    if levels < 1:
        raise IndexError("there are no levels")
    cdef int64_t[::1] out = order
    cdef flm_status status
    with nogil:
        status = flm_order_codes(n, &codes[0], levels, &out[0])
    refuse(status)
    return order
