"""Arrow columns as numpy arrays; pyarrow is used when it is there and never required.

A reader returns ``("numeric", values, missing)``, ``("factor", codes, levels)``,
``("text", column)``, ``("time", ticks, dtype)`` or ``("unusable", what it holds)``.
"""

import numpy as np
import pandas as pd

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError:  # pragma: no cover
    pa = pc = None


def is_table(data):
    """Whether ``data`` is a pyarrow Table or RecordBatch."""
    return pa is not None and isinstance(data, (pa.Table, pa.RecordBatch))


class ArrowTable:
    """Reader of a pyarrow Table or RecordBatch."""

    index = None

    def __init__(self, table):
        self.table, self.n, self.names = table, table.num_rows, table.schema.names

    def native(self, position):
        return self.table.column(position)

    def read(self, position):
        return read(self.native(position))


def read(column):
    """The parts of a pyarrow Array or ChunkedArray."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _dictionary(column)
    if is_text(kind):
        return "text", column
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(column)
    if pa.types.is_decimal(kind):
        return _numbers(column.cast(pa.float64()))
    if pa.types.is_temporal(kind):
        return _times(column)
    if pa.types.is_null(kind):
        return "numeric", np.full(len(column), np.nan), None
    return "unusable", str(kind)


def is_text(kind):
    """Whether an Arrow type is one of the kinds of text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"


def index_of(texts):
    """Arrow text as a pandas Index, without making objects of it where pandas can do without."""
    kind = pd.Index(["a"]).dtype  # its own type from version 3 on, objects before
    if isinstance(kind, pd.StringDtype) and kind.storage == "pyarrow":
        return pd.Index(pd.array(texts.cast(pa.large_string()), dtype=kind))
    return pd.Index(texts.to_numpy(zero_copy_only=False))


def _numbers(column):
    mask = missing(column)
    if mask is not None:
        column = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    return "numeric", flat(column).to_numpy(zero_copy_only=False), mask


def _dictionary(column):
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries()
    encoded = flat(column)
    codes, levels = _codes(encoded.indices), pd.Index(_plain(encoded.dictionary))
    if encoded.dictionary.null_count:
        position = np.flatnonzero(levels.isna())
        codes = np.where(np.isin(codes, position), np.int32(-1), codes)
    return "factor", codes, levels


def missing(column):
    """(n,) bool mask of missing values, None when there is none."""
    if not column.null_count:
        return None
    return np.asarray(flat(column.is_null()).to_numpy(zero_copy_only=False))


def _times(column):
    values = np.asarray(flat(column).to_numpy(zero_copy_only=False))
    if values.dtype.kind == "O":  # times of the day have no numpy dtype
        return "text", column.cast(pa.string())
    if values.dtype.str[1:] == "M8[D]":
        values = values.astype("M8[s]")
    return "time", values.view(np.int64), values.dtype


def _codes(indices):
    mask = missing(indices)
    codes = np.asarray((indices.fill_null(0) if mask is not None else indices).to_numpy(zero_copy_only=False))
    if codes.dtype not in (np.int8, np.int16, np.int32):
        codes = codes.astype(np.int32)
    return codes if mask is None else np.where(mask, codes.dtype.type(-1), codes)


def flat(column):
    """One contiguous Array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    column = column.combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column


def _plain(dictionary):
    return dictionary.to_numpy(zero_copy_only=False)


def join_labels(names, digits):
    """``"a:b:c"`` as a pandas Index.

    Parameters
    ----------
    names : list of (levels,) object arrays of text, one per factor
    digits : list of (n,) integer arrays, the level of each factor
    """
    if pa is None or len(digits[0]) < 4096:
        columns = [texts[digit] for texts, digit in zip(names, digits)]
        return pd.Index([":".join(row) for row in zip(*columns)])
    kind = pa.large_string()
    columns = [pa.array(texts, kind).take(pa.array(digit)) for texts, digit in zip(names, digits)]
    return index_of(pc.binary_join_element_wise(*columns, pa.scalar(":", kind)))
