"""Integer keys to level codes, and the scan for values that are not finite."""

import numpy as np

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t


cdef extern from "flm_encode.h" nogil:
    int64_t flm_first_nonfinite(int64_t n, const double *x, int n_threads) noexcept
    void flm_range_i64(int64_t n, const int64_t *keys, int n_threads, int64_t *low, int64_t *high) noexcept
    void flm_range_i32(int64_t n, const int32_t *keys, int n_threads, int64_t *low, int64_t *high) noexcept
    void flm_shifted_codes_i64(int64_t n, const int64_t *keys, int64_t base, int n_threads, int32_t *codes,
                               int64_t *low, int64_t *high) noexcept
    void flm_shifted_codes_i32(int64_t n, const int32_t *keys, int64_t base, int n_threads, int32_t *codes,
                               int64_t *low, int64_t *high) noexcept
    int flm_used_levels_i8(int64_t n, const int8_t *codes, int64_t n_levels, int n_threads,
                           uint8_t *used) noexcept
    int flm_used_levels_i16(int64_t n, const int16_t *codes, int64_t n_levels, int n_threads,
                            uint8_t *used) noexcept
    int flm_used_levels_i32(int64_t n, const int32_t *codes, int64_t n_levels, int n_threads,
                            uint8_t *used) noexcept
    int64_t flm_dense_codes_i64(int64_t n, const int64_t *keys, int64_t smallest, int64_t span,
                                int n_threads, int32_t *codes, int64_t *uniques) noexcept
    int64_t flm_dense_codes_i32(int64_t n, const int32_t *keys, int64_t smallest, int64_t span,
                                int n_threads, int32_t *codes, int64_t *uniques) noexcept
    int64_t flm_hash_codes_i64(int64_t n, const int64_t *keys, int32_t *codes, int64_t *uniques) noexcept
    int64_t flm_grow_codes_i64(int64_t n, const int64_t *keys, int64_t size, int64_t *slots,
                               int64_t n_levels, int32_t *codes, int64_t *uniques) noexcept
    void flm_relabel(int64_t n, const int32_t *rank, int n_threads, int32_t *codes) noexcept


ctypedef fused key_t:
    int32_t
    int64_t


def first_nonfinite(const double[::1] x not None, int n_threads=1):
    """Index of the first NaN or infinity of ``x`` (n,) float64; n when there is none."""
    cdef int64_t n = x.shape[0], found
    if n == 0:
        return 0
    with nogil:
        found = flm_first_nonfinite(n, &x[0], max(n_threads, 1))
    return found


def key_range(const key_t[::1] keys not None, int n_threads=1):
    """Smallest and largest key of a non-empty int32 or int64 array, as Python integers."""
    cdef int64_t n = keys.shape[0], low = 0, high = 0
    if n == 0:
        raise ValueError("no keys")
    with nogil:
        if key_t is int32_t:
            flm_range_i32(n, &keys[0], max(n_threads, 1), &low, &high)
        else:
            flm_range_i64(n, &keys[0], max(n_threads, 1), &low, &high)
    return low, high


def shifted_codes(const key_t[::1] keys not None, int64_t base, int n_threads=1):
    """``keys - base`` of a non-empty int32 or int64 array as int32, and the smallest and the largest key.

    The caller looks whether ``base <= smallest`` and ``largest - base < 2^31``: else the codes mean nothing.
    """
    cdef int64_t n = keys.shape[0], low = 0, high = 0
    if n == 0:
        raise ValueError("no keys")
    codes = np.empty(n, np.int32)
    cdef int32_t[::1] view = codes
    with nogil:
        if key_t is int32_t:
            flm_shifted_codes_i32(n, &keys[0], base, max(n_threads, 1), &view[0], &low, &high)
        else:
            flm_shifted_codes_i64(n, &keys[0], base, max(n_threads, 1), &view[0], &low, &high)
    return codes, low, high


ctypedef fused code_t:
    int8_t
    int16_t
    int32_t


def used_levels(const code_t[::1] codes not None, int64_t n_levels, int n_threads=1):
    """(n_levels,) bool, the levels that occur; None when a code lies outside ``[0, n_levels)``."""
    cdef int64_t n = codes.shape[0]
    cdef int outside = 0
    used = np.zeros(n_levels, np.uint8)
    cdef uint8_t[::1] view = used
    if n == 0:
        return used.view(bool)
    if n_levels == 0:
        return None
    with nogil:
        if code_t is int8_t:
            outside = flm_used_levels_i8(n, &codes[0], n_levels, max(n_threads, 1), &view[0])
        elif code_t is int16_t:
            outside = flm_used_levels_i16(n, &codes[0], n_levels, max(n_threads, 1), &view[0])
        else:
            outside = flm_used_levels_i32(n, &codes[0], n_levels, max(n_threads, 1), &view[0])
    return None if outside else used.view(bool)


def dense_codes(const key_t[::1] keys not None, int64_t smallest, int64_t span, int n_threads=1):
    """Level codes by table lookup.

    Every key must lie in ``[smallest, smallest + span)``: the caller has it from `key_range`.

    Returns
    -------
    codes : (n,) int32, level number of each row
    uniques : (levels,) int64, the keys that occur, increasing
    """
    cdef int64_t n = keys.shape[0], n_levels
    if span < 1:
        raise ValueError("span must be positive")
    codes = np.empty(n, np.int32)
    uniques = np.empty(span, np.int64)
    cdef int32_t[::1] codes_view = codes
    cdef int64_t[::1] uniques_view = uniques
    if n == 0:
        return codes, uniques[:0]
    with nogil:
        if key_t is int32_t:
            n_levels = flm_dense_codes_i32(n, &keys[0], smallest, span, max(n_threads, 1),
                                           &codes_view[0], &uniques_view[0])
        else:
            n_levels = flm_dense_codes_i64(n, &keys[0], smallest, span, max(n_threads, 1),
                                           &codes_view[0], &uniques_view[0])
    if n_levels < 0:
        raise MemoryError("no memory for the lookup table of a grouping column")
    return codes, uniques[:n_levels]


def hash_codes(const int64_t[::1] keys not None):
    """Level codes in order of first appearance: ``codes`` (n,) int32, ``uniques`` (levels,) int64."""
    cdef int64_t n = keys.shape[0], n_levels
    codes = np.empty(n, np.int32)
    uniques = np.empty(n, np.int64)
    cdef int32_t[::1] codes_view = codes
    cdef int64_t[::1] uniques_view = uniques
    if n == 0:
        return codes, uniques
    with nogil:
        n_levels = flm_hash_codes_i64(n, &keys[0], &codes_view[0], &uniques_view[0])
    if n_levels == -2:
        raise OverflowError("a grouping column has 2^31 levels or more")
    if n_levels < 0:
        raise MemoryError("no memory for the hash table of a grouping column")
    return codes, uniques[:n_levels].copy()


def grow_codes(const int64_t[::1] keys not None, int64_t[:, ::1] slots not None, int64_t n_levels):
    """Codes of one batch of keys against a table that grows over batches, in order of first appearance.

    ``slots`` (size, 2) is the table, key and level number + 1, changed in place; it starts as zeros, and
    ``size`` is a power of two above ``n_levels + n``.

    Returns
    -------
    codes : (n,) int32
    new : (n_new,) int64, keys that were not in the table; their codes start at ``n_levels``
    """
    cdef int64_t n = keys.shape[0], size = slots.shape[0], after
    if size < 1 or size & (size - 1) or size <= n_levels + n or slots.shape[1] != 2:
        raise ValueError("the table is too small, or its size is no power of two")
    codes = np.empty(n, np.int32)
    uniques = np.empty(n, np.int64)
    cdef int32_t[::1] codes_view = codes
    cdef int64_t[::1] uniques_view = uniques
    if n == 0:
        return codes, uniques
    with nogil:
        after = flm_grow_codes_i64(n, &keys[0], size, &slots[0, 0], n_levels, &codes_view[0],
                                   &uniques_view[0])
    if after < 0:
        raise OverflowError("a grouping column has 2^31 levels or more")
    return codes, uniques[:after - n_levels].copy()


def relabel(int32_t[::1] codes not None, const int32_t[::1] rank not None, int n_threads=1):
    """``codes[i] = rank[codes[i]]`` in place; every code must lie in ``[0, len(rank))``."""
    cdef int64_t n = codes.shape[0]
    if n == 0:
        return
    if rank.shape[0] == 0:
        raise ValueError("rank is empty")
    with nogil:
        flm_relabel(n, &rank[0], max(n_threads, 1), &codes[0])
