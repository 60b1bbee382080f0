"""Grouping columns to integer codes and levels.

Numbers go through a table lookup when their range is dense and through a hash
otherwise, as text does; categoricals and Arrow dictionaries keep their codes and
only lose the levels that do not occur.
"""

import numpy as np
import pandas as pd

from .._kernels._encode import KeyTable, dense_codes, key_range, relabel, shifted_codes, used_levels
from ..errors import DataError
from .arrow import join_labels
from .table import FACTOR, TIME, TextColumn

_DENSE_PER_ROW = 8  # slots of a lookup table per row, beyond _DENSE_ALWAYS
_DENSE_ALWAYS = 1 << 16
_FIRST_ROWS = 1 << 16  # that tell whether the range of many keys is wide, and their levels few
_NARROW = 1 << 18  # keys in a range like this are codes but for a shift and the gaps
_MOST_LEVELS = 2**31 - 2


def encode(column, rows=None, n_threads=1):
    """Codes and levels of a column.

    Parameters
    ----------
    column : Column
        A missing value in the rows used is an error of the caller's.
    rows : (n,) bool mask or None
        Rows to use, None for all.

    Returns
    -------
    codes : (n_used,) int32 in [0, len(levels)); int8 or int16 where a categorical has such codes
        and all its levels occur: they are the caller's memory then
    levels : pandas.Index
        Levels that occur: in a categorical's own order, else increasing, as R's ``factor()``.
        Text sorts by code point; numbers keep their type.

    Raises
    ------
    DataError
        If a value is missing, or there are more than 2^31 - 2 levels.
    """
    try:
        return _encode(column, rows, n_threads)
    except OverflowError:
        raise DataError(f"column {column.name!r} has more than 2^31 - 2 levels") from None


def _encode(column, rows, n_threads):
    if isinstance(column, TextColumn):
        found = column.encoded(n_threads)
        if rows is None and column.missing is None:
            return found
    values = column.values if rows is None else column.values[rows]
    if column.kind == FACTOR:
        occur = used_levels(values, len(column.levels), n_threads)
        if occur is not None and occur.all():
            return values, column.levels
        codes, used = encode_integers(values, n_threads)
        if len(used) and used[0] < 0:
            raise DataError(f"column {column.name!r} has missing values in the rows to encode")
        return codes, column.levels if len(used) == len(column.levels) else column.levels[used]
    if column.kind == TIME:
        codes, used = encode_integers(values, n_threads)
        return codes, pd.Index(used.view(column.dtype))
    if values.dtype.kind == "f":
        return _encode_floats(values, n_threads)
    codes, used = encode_integers(values, n_threads)
    return codes, pd.Index(used.astype(bool) if values.dtype.kind == "b" else used)


def encode_integers(keys, n_threads=1):
    """Codes (n,) int32 of integer or boolean keys and the increasing keys that occur (int64)."""
    if keys.dtype not in (np.int32, np.int64):
        keys = keys.astype(np.int32 if keys.dtype.itemsize < 4 else np.int64)
    if not len(keys):
        return np.empty(0, np.int32), np.empty(0, np.int64)
    keys = np.ascontiguousarray(keys)
    room = max(_DENSE_PER_ROW * len(keys), _DENSE_ALWAYS)
    smallest, largest = key_range(keys[:_FIRST_ROWS], n_threads)
    if largest - smallest < min(_NARROW, room):
        codes, low, largest = shifted_codes(keys, smallest, n_threads)
        if low == smallest and largest - low < min(_NARROW, room):
            return _without_gaps(codes, low, largest - low + 1, n_threads)
        smallest = low
    elif largest - smallest < room:
        smallest, largest = key_range(keys, n_threads)
    span = largest - smallest + 1
    if span > room:
        return _hashed(keys.astype(np.int64, copy=False), np.int64, n_threads)
    codes, uniques = dense_codes(keys, smallest, span, n_threads)
    if len(uniques) > _MOST_LEVELS:
        raise OverflowError("a grouping column has 2^31 levels or more")
    return codes, uniques.copy() if len(uniques) < span else uniques


def _without_gaps(codes, smallest, span, n_threads):
    """Codes in ``[0, span)`` without those that do not occur, in the same memory, and the keys that do."""
    occur = used_levels(codes, span, n_threads)
    if occur.all():
        return codes, np.arange(smallest, smallest + span)
    rank = np.zeros(1 + span, np.int32)
    np.cumsum(occur, out=rank[1:])
    relabel(codes, rank - 1, n_threads)
    return codes, smallest + np.flatnonzero(occur)


def _encode_floats(values, n_threads):
    """Floats by their bits; -0.0 and 0.0 are one level."""
    values = np.ascontiguousarray(values, np.float64) + 0.0
    whole = values.astype(np.int64)
    if np.array_equal(whole, values) and np.abs(whole).max(initial=0) < 1 << 52:
        codes, used = encode_integers(whole, n_threads)
        return codes, pd.Index(used.astype(np.float64))
    codes, uniques = _hashed(values.view(np.int64), np.float64, n_threads)
    return codes, pd.Index(uniques)


def _hashed(keys, dtype, n_threads):
    """Hash codes in increasing order of the keys, seen as ``dtype``."""
    table = _sorted_start(keys, dtype)
    codes = table.encode(keys, n_threads)
    uniques = table.keys().view(dtype)
    if (uniques[1:] > uniques[:-1]).all():
        return codes, uniques
    uniques.sort()
    rank = np.full(1 + len(uniques), -1, np.int32)
    rank[1:][table.encode(uniques.view(np.int64), n_threads)] = np.arange(len(uniques), dtype=np.int32)
    relabel(codes, rank, n_threads)
    return codes, uniques


def _sorted_start(keys, dtype):
    """A table for these keys: where the first ones show all of few levels, it has them in order.

    Later keys then need no other codes.
    """
    first, table = keys[:_FIRST_ROWS], KeyTable()
    if len(keys) < 4 * len(first):
        return table
    table.encode(first)
    if 8 * len(table) > len(first):
        return KeyTable()
    found, table = np.sort(table.keys().view(dtype)), KeyTable()
    table.encode(found.view(np.int64))
    return table


def cross(parts, n_threads=1):
    """The interaction of several encoded factors: only combinations that occur are levels.

    Parameters
    ----------
    parts : sequence of (codes, levels)

    Returns
    -------
    codes : (n,) int32
        Combinations in order of the first factor, then the second, ... (the first varies slowest).
    levels : pandas.Index of str
        ``"la:lb"``.
    keys : (n_levels,) int64
        Increasing mixed-radix numbers of the combinations, see `cross_keys`.

    Raises
    ------
    DataError
        If there are more than 2^31 - 2 levels, or 2^63 possible combinations.
    """
    sizes = [len(levels) for _, levels in parts]
    try:
        codes, keys = encode_integers(cross_keys([codes for codes, _ in parts], sizes), n_threads)
    except OverflowError:
        raise DataError(f"an interaction of factors with {sizes} levels has more than 2^31 - 2") from None
    digits, rest = [], keys
    for _, levels in reversed(parts):
        rest, digit = np.divmod(rest, len(levels))
        digits.append(digit)
    return codes, join_labels([labels(levels) for _, levels in parts], digits[::-1]), keys


def cross_keys(codes, sizes):
    """Mixed-radix int64 number of each row's combination of codes; -1 where a code is negative.

    Raises
    ------
    DataError
        If there are 2^63 possible combinations or more.
    """
    if np.prod([float(size) for size in sizes]) >= 2.0**63:
        raise DataError(f"an interaction of factors with {sizes} levels has too many combinations to number")
    key = codes[0].astype(np.int64)
    unseen = key < 0
    for part, size in zip(codes[1:], sizes[1:]):
        key *= size
        key += part
        unseen |= part < 0
    if unseen.any():
        key[unseen] = -1
    return key


def labels(levels):
    """Levels as an object array of text; whole floats without the decimal point, as R writes them."""
    if levels.dtype.kind == "f":
        return np.array([f"{level:.15g}" for level in levels], object)
    return np.array([str(level) for level in levels], object)


def match(column, levels):
    """Codes of a column's values among known ``levels``, for new data.

    Returns
    -------
    codes : (n,) int32
        -1 where the value is missing or not among the levels.
    unseen : list
        Values that are not among the levels, in sorted order.
    """
    rows = None if column.missing is None else ~column.missing
    present, found = encode(column, rows)
    if found.dtype.kind in "fiub" and levels.dtype.kind not in "fiub":
        positions = pd.Index(labels(levels)).get_indexer(labels(found))
    elif found.dtype.kind not in "fiub" and levels.dtype.kind in "fiub":
        positions = pd.Index(labels(levels)).get_indexer(found.astype(object))
    elif isinstance(found, pd.IntervalIndex) != isinstance(levels, pd.IntervalIndex):
        positions = pd.Index(labels(levels)).get_indexer(labels(found))  # files keep intervals as text
    else:
        positions = levels.get_indexer(found)
    unseen = found[positions < 0].tolist()
    positions = positions.astype(np.int32)
    if rows is None:
        return positions[present], unseen
    codes = np.full(len(column.values), -1, np.int32)
    codes[rows] = positions[present]
    return codes, unseen
