"""Columns of any data frame, in the two shapes a model needs: numbers and factors.

A column is read only when it is asked for, and without a copy where its memory
already is a plain array.  Text is a factor, because a model has no other use for it.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from .._kernels._encode import first_nonfinite
from ..errors import DataError
from . import arrow, frames
from .texts import TextKeys

_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")

NUMERIC, FACTOR, TIME = "numeric", "factor", "time"


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
    kind : {"numeric", "factor", "time"}
    values : (n,) ndarray
        Numbers (float64, float32, signed integers up to 64 bits, uint8 or bool), where a
        missing one is NaN in float columns and 0 in the others; int8, int16 or int32 codes of a factor,
        -1 where missing; int64 ticks of a time.
    missing : (n,) bool or None
        None when no value is missing.
    levels : pandas.Index or None
        Levels of a factor, unused ones included: a categorical's own order, else sorted.
    dtype : object
        numpy dtype of the ticks of a time, else None.
    """

    name: str
    kind: str
    values: np.ndarray
    missing: np.ndarray | None = None
    levels: pd.Index | None = None
    dtype: Any = None

    @cached_property
    def infinite(self):
        """(n,) bool mask of infinite values, None when there is none."""
        if self.kind != NUMERIC or self.values.dtype.kind != "f" or self._scan[1] is None:
            return None
        return self._scan[1]

    @cached_property
    def _scan(self):
        return scan(self.values) if self.values.dtype.kind == "f" else (None, None)

    def n_missing(self):
        """Number of missing values."""
        return 0 if self.missing is None else int(np.count_nonzero(self.missing))


class TextColumn(Column):
    """A factor of text in Arrow's memory, ``text``; codes and sorted levels are made when asked for."""

    text: Any

    def __init__(self, name, text):
        vars(self).update(name=name, kind=FACTOR, text=text, dtype=None)

    @cached_property
    def missing(self):
        return arrow.missing(self.text)

    @property
    def values(self):
        return self.encoded()[0]

    @property
    def levels(self):
        return self.encoded()[1]

    def encoded(self, n_threads=1):
        """Codes (n,) int32, -1 where a value is missing, and the levels that occur, sorted by code point."""
        if "_encoded" not in vars(self):
            keys = TextKeys()
            codes = keys.encode(self.text, n_threads)
            vars(self)["_encoded"] = codes, keys.sort(codes, n_threads)
        return vars(self)["_encoded"]


def scan(values):
    """Masks of NaN and of infinite entries of a float array, each None where there is none."""
    if values.dtype == np.float64 and values.flags.c_contiguous:
        clean = first_nonfinite(values) == len(values)
    else:
        clean = bool(np.isfinite(values).all())
    if clean:
        return None, None
    missing, infinite = np.isnan(values), np.isinf(values)
    return (missing if missing.any() else None), (infinite if infinite.any() else None)


def numeric_column(name, values, missing=None):
    """A `Column` of numbers; NaN counts as missing, unusual widths become float64."""
    values = np.asarray(values)
    if values.dtype.kind == "u" and values.dtype.itemsize > 1 and not (values > np.uint64(2**63 - 1)).any():
        values = values.astype(np.int32 if values.dtype.itemsize == 2 else np.int64)
    if values.dtype.str[1:] not in ("f8", "f4", "i8", "i4", "i2", "i1", "u1", "b1"):
        values = values.astype(np.float64)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    values = _in_order(values)
    if missing is not None and not missing.any():
        missing = None
    if missing is not None and values.dtype.kind == "f":
        values = np.where(missing, np.nan, values)
    column = Column(name, NUMERIC, values, missing)
    if values.dtype.kind == "f" and missing is None and column._scan[0] is not None:
        column = Column(name, NUMERIC, values, column._scan[0])
    return column


def _in_order(values):
    """The array itself where kernels can read it; buffers of other processes may lie between words."""
    flags = values.flags
    return values if flags.c_contiguous and flags.aligned else np.require(values, requirements=("C", "A"))


def factor_column(name, codes, levels):
    """A `Column` of int8, int16 or int32 codes; a negative code is a missing value."""
    codes = _in_order(codes)
    if codes.dtype not in (np.int8, np.int16, np.int32):
        codes = codes.astype(np.int32)
    missing = codes < 0 if len(codes) and codes.min() < 0 else None
    return Column(name, FACTOR, codes, missing, levels)


def time_column(name, ticks, dtype):
    """A `Column` of int64 ticks of a datetime or duration; NaT counts as missing."""
    missing = ticks == np.iinfo(np.int64).min
    return Column(name, TIME, ticks, missing if missing.any() else None, dtype=dtype)


def what_it_holds(column):
    """What a column without numbers holds, for messages where a number is needed, with the remedy."""
    if column.kind != FACTOR:
        return "it holds times: make it a number, such as days since the start"
    some = pd.Series(column.levels[:1000].astype(object))
    words = some[pd.to_numeric(some, errors="coerce").isna()].tolist()
    if not words:
        shown = next((str(level) for level in column.levels), "")
        return f"it holds text such as {shown!r}: convert it with pd.to_numeric"
    if len(words) <= 0.2 * len(some):
        shown = ", ".join(map(repr, words[:3]))
        return (
            f"most of it are numbers kept as text, {shown} is none: "
            "pd.to_numeric(..., errors='coerce') makes that missing"
        )
    if all(isinstance(word, str) and _DECIMAL_COMMA.fullmatch(word) for word in words):
        return f"it holds text such as {words[0]!r}: read it with decimal=','"
    return f"it holds text such as {str(words[0])!r}"


class Table:
    """A data frame seen as named columns.

    Parameters
    ----------
    data : pandas, polars or pyarrow table, record batch, dict of arrays or lists
        or anything narwhals reads; a lazy frame is collected.

    Attributes
    ----------
    n : int
        Rows.
    names : tuple of str
    index : pandas.Index or None
        Row labels of a pandas frame, else None.

    Raises
    ------
    DataError
        If ``data`` is no table, or its columns differ in length.
    """

    def __init__(self, data):
        self._source = _source(data)
        self._columns = {}
        self.n = self._source.n
        self.index = self._source.index
        self.names = tuple(str(name) for name in self._source.names)

    def __contains__(self, name):
        return name in self._positions

    def __len__(self):
        return self.n

    @cached_property
    def _positions(self):
        return {name: position for position, name in enumerate(self.names)}

    def column(self, name):
        """The `Column` called ``name``.

        Raises
        ------
        KeyError
            If there is none.
        DataError
            If its type has no meaning in a model, or the name is not unique.
        """
        found = self._columns.get(name)
        if found is None:
            if self.names.count(name) > 1:
                raise DataError(f"column {name!r} occurs {self.names.count(name)} times: rename all but one")
            shape, *parts = self._source.read(self._positions[name])
            how = "convert it first" if len(parts) < 2 else parts[1]
            make = {
                NUMERIC: numeric_column, FACTOR: factor_column, TIME: time_column, "text": TextColumn,
            }.get(shape)  # fmt: skip
            if make is None:
                raise DataError(f"column {name!r} holds {parts[0]}, which a model cannot use: {how}")
            found = self._columns[name] = make(name, *parts)
        return found

    def is_text(self, name):
        """Whether a column is plain text: no number, no categorical."""
        return self.column(name).kind == FACTOR and frames.is_plain(
            self._source.native(self._positions[name])
        )

    def row_labels(self):
        """Row labels: the frame's index, or 0 .. n - 1."""
        return pd.RangeIndex(self.n) if self.index is None else self.index


def no_table(data):
    """What ``data`` is instead of a table, and how to make one of it, for messages."""
    kind = type(data).__name__
    if isinstance(data, str):
        return f"the text {data[:40]!r}, and a table is needed: read a file first, as with pd.read_csv"
    if kind == "Series":
        return "one column (a Series): a table with all columns of the formula is needed"
    if isinstance(data, np.ndarray):
        return "an ndarray, whose columns have no names: make it pd.DataFrame(data, columns=[...])"
    if isinstance(data, (list, tuple)):
        what = type(data[0]).__name__ if data else "nothing"
        return f"a {kind} of {what}: make a table of it with pd.DataFrame(...)"
    return f"{kind}: a pandas, polars or pyarrow table or a dict of columns is needed"


def _source(data):
    """The reader for ``data``: an object with ``n``, ``names``, ``index`` and ``read(position)``."""
    if isinstance(data, pd.DataFrame):
        return frames.PandasFrame(data)
    if isinstance(data, dict):
        return frames.Mapping(data)
    if arrow.is_table(data):
        return arrow.ArrowTable(data)
    try:
        frame = nw.from_native(data)
    except TypeError:
        raise DataError(f"data is {no_table(data)}") from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    native = frame.to_native()
    if isinstance(native, pd.DataFrame) or arrow.is_table(native):
        return _source(native)
    return frames.PolarsFrame(native) if frame.implementation.is_polars() else _source(frame.to_arrow())
