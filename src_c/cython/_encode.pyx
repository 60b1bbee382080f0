"""Integer keys and texts to level codes, and the scan for values that are not finite."""

import numpy as np

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy


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
    ctypedef struct flm_key_table:
        pass
    flm_key_table *flm_key_table_new(int64_t first) noexcept
    void flm_key_table_free(flm_key_table *table) noexcept
    int64_t flm_key_table_levels(const flm_key_table *table) noexcept
    const int64_t *flm_key_table_keys(const flm_key_table *table) noexcept
    int64_t flm_key_codes(flm_key_table *table, int64_t n, const int64_t *keys, int n_threads,
                          int32_t *codes) noexcept
    void flm_relabel(int64_t n, const int32_t *rank, int n_threads, int32_t *codes) noexcept


cdef extern from "flm_texts.h" nogil:
    ctypedef struct flm_texts:
        int64_t n
        int wide
        const void *offsets
        const uint8_t *bytes
        int64_t size
        const uint8_t *valid
        int64_t first_bit
    ctypedef struct flm_text_table:
        pass
    flm_text_table *flm_text_table_new(int64_t first) noexcept
    void flm_text_table_free(flm_text_table *table) noexcept
    int64_t flm_text_table_levels(const flm_text_table *table) noexcept
    const int64_t *flm_text_table_offsets(const flm_text_table *table) noexcept
    const uint8_t *flm_text_table_bytes(const flm_text_table *table) noexcept
    int64_t flm_text_codes(flm_text_table *table, const flm_texts *texts, int n_threads,
                           int32_t *codes) noexcept
    int flm_text_order(int64_t n, const int64_t *offsets, const uint8_t *bytes, int64_t size,
                       int64_t *order) noexcept


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


def relabel(int32_t[::1] codes not None, const int32_t[::1] rank not None, int n_threads=1):
    """``codes[i] = rank[codes[i] + 1]`` in place; every code must lie in ``[-1, len(rank) - 1)``.

    The first entry of ``rank`` is what a missing value, -1, becomes.
    """
    cdef int64_t n = codes.shape[0]
    if n == 0:
        return
    if rank.shape[0] == 0:
        raise ValueError("rank is empty")
    with nogil:
        flm_relabel(n, &rank[0], max(n_threads, 1), &codes[0])


cdef check(int64_t status):
    if status == -1:
        raise MemoryError("no memory for the table of a grouping column")
    if status == -2:
        raise OverflowError("a grouping column has 2^31 levels or more")
    if status == -3:
        raise ValueError("offsets lie outside the text")


cdef class KeyTable:
    """Scattered int64 keys to codes, over many batches; a hash table that grows.

    Parameters
    ----------
    first : int
        Code of the first key.
    """

    cdef flm_key_table *table

    def __cinit__(self, int64_t first=0):
        if not 0 <= first < 2**31:
            raise ValueError("first must be a code")
        self.table = flm_key_table_new(first)
        if self.table == NULL:
            raise MemoryError("no memory for the table of a grouping column")

    def __dealloc__(self):
        flm_key_table_free(self.table)

    def __len__(self):
        return flm_key_table_levels(self.table)

    def encode(self, const int64_t[::1] keys not None, int n_threads=1):
        """Codes (n,) int32 in order of first appearance over all batches.

        Raises
        ------
        MemoryError
        OverflowError
            If a code would pass 2^31 - 3.
        """
        cdef int64_t n = keys.shape[0], status
        codes = np.empty(n, np.int32)
        cdef int32_t[::1] view = codes
        if n:
            with nogil:
                status = flm_key_codes(self.table, n, &keys[0], max(n_threads, 1), &view[0])
            check(status)
        return codes

    def keys(self):
        """(levels,) int64, the keys by code."""
        cdef int64_t n = flm_key_table_levels(self.table)
        keys = np.empty(n, np.int64)
        cdef int64_t[::1] view = keys
        if n:
            memcpy(&view[0], flm_key_table_keys(self.table), n * sizeof(int64_t))
        return keys


ctypedef fused offset_t:
    int32_t
    int64_t


cdef class TextTable:
    """Texts in Arrow's layout to codes, over many batches; a hash table that grows and keeps the texts.

    Parameters
    ----------
    first : int
        Code of the first text.
    """

    cdef flm_text_table *table

    def __cinit__(self, int64_t first=0):
        if not 0 <= first < 2**31:
            raise ValueError("first must be a code")
        self.table = flm_text_table_new(first)
        if self.table == NULL:
            raise MemoryError("no memory for the table of a grouping column")

    def __dealloc__(self):
        flm_text_table_free(self.table)

    def __len__(self):
        return flm_text_table_levels(self.table)

    def encode(self, const offset_t[::1] offsets not None, const uint8_t[::1] data not None,
               const uint8_t[::1] valid, int64_t first_bit, int32_t[::1] codes not None, int n_threads=1):
        """Codes in order of first appearance over all batches, -1 where a text is missing.

        Parameters
        ----------
        offsets : (n + 1,) int32 or int64
            Text i is ``data[offsets[i] : offsets[i + 1]]``.
        data : (size,) uint8
        valid : (bytes,) uint8 or None
            Bit ``first_bit + i`` is 0 where text i is missing; None when none is.
        codes : (n,) int32, out

        Raises
        ------
        MemoryError
        OverflowError
            If a code would pass 2^31 - 3.
        ValueError
            If offsets lie outside the text, or sizes do not agree.
        """
        cdef flm_texts texts
        cdef int64_t status
        texts.n, texts.size = codes.shape[0], data.shape[0]
        if offsets.shape[0] != texts.n + 1:
            raise ValueError("one offset more than codes is needed")
        if valid is not None and (first_bit < 0 or 8 * valid.shape[0] < first_bit + texts.n):
            raise ValueError("valid has too few bits")
        if texts.n == 0:
            return
        texts.wide, texts.offsets = offset_t is int64_t, &offsets[0]
        texts.bytes = &data[0] if texts.size else <const uint8_t *> &offsets[0]
        texts.valid, texts.first_bit = &valid[0] if valid is not None else NULL, first_bit
        with nogil:
            status = flm_text_codes(self.table, &texts, max(n_threads, 1), &codes[0])
        check(status)

    def texts(self):
        """The texts by code: ``offsets`` (levels + 1,) int64 and ``data`` (size,) uint8."""
        cdef int64_t n = flm_text_table_levels(self.table), size = flm_text_table_offsets(self.table)[n]
        offsets, data = np.empty(n + 1, np.int64), np.empty(size, np.uint8)
        cdef int64_t[::1] at = offsets
        cdef uint8_t[::1] bytes = data
        memcpy(&at[0], flm_text_table_offsets(self.table), (n + 1) * sizeof(int64_t))
        if size:
            memcpy(&bytes[0], flm_text_table_bytes(self.table), size)
        return offsets, data


def text_order(const int64_t[::1] offsets not None, const uint8_t[::1] data not None):
    """Positions of texts in increasing order of their bytes, (n,) int64; a text comes before those it begins.

    Parameters
    ----------
    offsets : (n + 1,) int64
        Text i is ``data[offsets[i] : offsets[i + 1]]``.
    data : (size,) uint8

    Raises
    ------
    MemoryError
    ValueError
        If offsets lie outside the text, or there are 2^31 texts or more.
    """
    cdef int64_t n = offsets.shape[0] - 1, size = data.shape[0]
    cdef int status
    if n < 0:
        raise ValueError("offsets are empty")
    order = np.empty(n, np.int64)
    cdef int64_t[::1] view = order
    if n == 0:
        return order
    with nogil:
        status = flm_text_order(n, &offsets[0], &data[0] if size else <const uint8_t *> &offsets[0], size,
                                &view[0])
    if status == 1:
        raise MemoryError("no memory to sort the levels of a grouping column")
    if status:
        raise ValueError("offsets lie outside the text")
    return order
