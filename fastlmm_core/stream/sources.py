"""Any table as a sequence of batches: frames in slices, files by row groups, queries by what they yield.

A source knows its column names, its rows where that costs nothing, and whether it
can be read again.  Only the columns asked for are read.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from ..data import arrow
from ..errors import DataError

BATCH_BYTES = 16 << 20  # small ones keep decoding and adding at work together, and memory in use
MIN_ROWS, MAX_ROWS = 1 << 14, 1 << 22
TEXT_BYTES = 24  # assumed width of a value that is no number


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows: a native frame, where they come from, the file they complete (or None), and whether they
    are known to be the last."""

    data: Any
    label: str
    completes: tuple | None = None
    last: bool = False


@dataclass(eq=False)
class Source:
    """Rows that come in batches.

    Attributes
    ----------
    kind : str
        What it is, for messages.
    names : list of str
    rows : int or None
        Number of rows, None when only reading tells.
    read : callable (columns, rows per batch, files to skip) -> iterator of Batch
    again : bool
        Whether ``read`` can be called more than once.
    row_bytes : callable columns -> bytes of one row, about.
    files : tuple of File
        What it is made of, where it is made of files.
    schema : pyarrow.Schema or None
        Of files.
    span : callable name -> largest less smallest value of a column of whole numbers, plus 1, where the
        source tells that without reading, else None.
    mapped_bytes : int
        Of the largest file that is seen as memory while it is read.
    """

    kind: str
    names: list
    rows: int | None
    read: Callable[[list, int, frozenset], Iterator[Batch]]
    again: bool = True
    row_bytes: Callable[[list], int] = lambda columns: 8 * len(columns)
    files: tuple = ()
    schema: Any = None
    span: Callable[[str], int | None] = lambda name: None
    mapped_bytes: int = 0

    def batches(self, columns, skip=frozenset(), batch_rows=None) -> Iterator[Batch]:
        """Batches with the columns that are there, sized by bytes."""
        columns = [name for name in self.names if name in set(columns)]
        if batch_rows is None:
            batch_rows = batch_rows_of(self.row_bytes(columns))
        return self.read(columns, int(batch_rows), skip)


def batch_rows_of(row_bytes: int) -> int:
    """Rows of a batch, by their bytes."""
    return min(max(BATCH_BYTES // max(1, row_bytes), MIN_ROWS), MAX_ROWS)


def is_stream(data) -> bool:
    """Whether ``data`` is read in batches by itself: everything but a frame that is in memory."""
    if isinstance(data, (pd.DataFrame, pd.Series, dict, np.ndarray)) or arrow.is_table(data):
        return False
    kind = _module(data)
    if kind == "polars":
        return type(data).__name__ == "LazyFrame"
    if isinstance(data, (str, PathLike)) or kind in ("duckdb", "_duckdb", "dask") or _is_arrow_stream(data):
        return True
    return (
        (callable(data) or isinstance(data, Iterable))
        and not hasattr(data, "__narwhals_dataframe__")
        and (not hasattr(data, "columns"))
    )


def open_source(data) -> Source:
    """The `Source` of a table of any kind.

    Parameters
    ----------
    data : pandas, polars (eager or lazy) or pyarrow table, dict of columns; RecordBatchReader,
        pyarrow Dataset, DuckDB relation, Dask DataFrame; a path, a glob, a folder or a list of
        Parquet, Arrow IPC or CSV files; an iterable of frames, or a callable that returns one.

    Raises
    ------
    DataError
        Nothing there to read, or of no known kind.
    """
    from . import files

    kind = _module(data)
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, PathLike)) or _is_paths(data):
        return files.open_files(data)
    if isinstance(data, (list, tuple)) and not data:
        raise DataError("data is an empty list: no path, or no table, was found to put into it")
    if isinstance(data, (pd.DataFrame, dict)) or arrow.is_table(data) or type(data).__name__ == "DataFrame":
        if kind == "dask":
            return _dask(data)
        return _frame(data)
    if kind == "polars":
        return _lazy(data)
    if kind in ("duckdb", "_duckdb"):
        return _relation(data)
    if _is_arrow_stream(data):
        if hasattr(data, "get_fragments"):
            return files.open_dataset(data)
        return _reader(data)
    if callable(data):
        return _frames(data, again=True)
    if isinstance(data, Iterator):
        return _frames(lambda: data, again=False)
    if isinstance(data, Iterable):
        return _frames(lambda: iter(data), again=True)
    raise DataError(f"data is {type(data).__name__}: no table, no path and no iterator of tables")


def _module(data):
    return type(data).__module__.partition(".")[0]


def _is_paths(data):
    return (
        isinstance(data, (list, tuple)) and bool(data) and all(isinstance(p, (str, PathLike)) for p in data)
    )


def _is_arrow_stream(data):
    if arrow.pa is None or _module(data) != "pyarrow":
        return False
    return hasattr(data, "get_fragments") or hasattr(data, "read_next_batch")


def take(data, columns, start, stop):
    """Rows of a native frame with some of its columns."""
    if isinstance(data, pd.DataFrame):
        return data.loc[:, columns].iloc[start:stop]
    if isinstance(data, dict):
        return {name: data[name][start:stop] for name in columns}
    return data.select(columns).slice(start, stop - start)


def _frame(data):
    names = _names(data)
    n = len(next(iter(data.values()))) if isinstance(data, dict) else len(data)

    def read(columns, rows, skip):
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            yield Batch(take(data, columns, start, stop), f"rows {start} to {stop - 1}")

    return Source("table", names, n, read)


def _names(data):
    if isinstance(data, dict):
        return [str(name) for name in data]
    if arrow.is_table(data):
        return list(data.schema.names)
    return [str(name) for name in data.columns]


def _readable(tables, what, fault):
    """The same tables; an error of the library that reads them is a `DataError`."""
    done = 0
    kinds = (fault, OSError) if arrow.pa is None else (fault, OSError, arrow.pa.ArrowException)
    try:
        for table in tables:
            yield table
            done += 1
    except kinds as error:
        text = str(error).strip().partition("\n")[0]
        raise DataError(f"{what} cannot be read after batch {done}: {text}") from error


def _sliced(tables, rows, label):
    """Tables of an iterator, numbered, in pieces of at most ``rows``."""
    for at, data in enumerate(tables):
        n = len(next(iter(data.values()))) if isinstance(data, dict) else len(data)
        columns = _names(data)
        for start in range(0, n, 2 * rows):
            stop = min(start + 2 * rows, n)
            piece = data if n <= 2 * rows else take(data, columns, start, stop)
            yield Batch(piece, f"{label} {at + 1}")


def _frames(make, again):
    """Frames that an iterator yields; a first look finds the names."""
    state = {"iterator": iter(make())}
    try:
        first = next(state["iterator"])
    except StopIteration:
        raise DataError("the iterator yields no table") from None
    if isinstance(first, dict) and any(np.ndim(value) == 0 for value in first.values()):
        raise DataError("data is a sequence of rows as dicts: make a table of them with pd.DataFrame(data)")
    if not isinstance(first, dict) and not hasattr(first, "columns") and not arrow.is_table(first):
        raise DataError(
            f"data is a sequence of {type(first).__name__}, a table is needed: one table, or an "
            "iterator of tables"
        )
    state["first"] = first

    def read(columns, rows, skip):
        if "first" in state:
            tables = chain([state.pop("first")], state.pop("iterator"))
        elif again:
            tables = iter(make())
        else:
            raise DataError("this iterator was read already: pass a callable that returns a new one")
        return _sliced((_only(table, columns) for table in tables), rows, "table")

    return Source("iterator of tables", _names(first), None, read, again)


def _only(data, columns):
    there = set(_names(data))
    absent = [name for name in columns if name not in there]
    if absent:
        raise DataError(
            f"a table of the iterator lacks {', '.join(map(repr, absent))}, which the first one has"
        )
    if isinstance(data, dict):
        return {name: data[name] for name in columns}
    return data[columns] if isinstance(data, pd.DataFrame) else data.select(columns)


def _width(kind):
    width = getattr(kind, "bit_width", None) if not str(kind).startswith("dictionary") else 32
    try:
        return max(1, int(width) // 8)
    except (TypeError, ValueError):
        return TEXT_BYTES


def arrow_widths(schema):
    """``columns -> bytes of a row`` by an Arrow schema."""

    def widths(columns):
        total = 0
        for name in columns:
            place = schema.get_field_index(name)
            try:
                total += _width(schema.field(place).type) if place >= 0 else 4
            except ValueError:  # a type without a fixed width
                total += TEXT_BYTES
        return total

    return widths


def coalesce(batches, schema, rows):
    """Record batches as tables of about ``rows`` rows."""
    waiting, n = [], 0
    for batch in batches:
        waiting.append(batch)
        n += batch.num_rows
        if n >= rows:
            yield arrow.pa.Table.from_batches(waiting, schema)
            waiting, n = [], 0
    if n:
        yield arrow.pa.Table.from_batches(waiting, schema)


def _reader(reader):
    """A pyarrow RecordBatchReader, or another one-way stream of record batches."""
    state = {"reader": reader}

    def read(columns, rows, skip):
        if "reader" not in state:
            raise DataError("this RecordBatchReader was read already, and it can be read only once")
        found = state.pop("reader")
        tables = coalesce(found, found.schema, rows)
        return _sliced((table.select(columns) for table in tables), rows, "record batch")

    return Source("RecordBatchReader", reader.schema.names, None, read, False, arrow_widths(reader.schema))


def _lazy(frame):
    names = frame.collect_schema().names() if hasattr(frame, "collect_schema") else list(frame.columns)

    def read(columns, rows, skip):
        def tables():
            query = frame.select(columns)
            if hasattr(query, "collect_batches"):
                yield from query.collect_batches(chunk_size=rows, maintain_order=True)
            else:
                yield from query.collect().iter_slices(rows)  # older polars has no batches

        from polars.exceptions import PolarsError

        return _sliced(_readable(tables(), "the lazy frame", PolarsError), rows, "batch")

    return Source("lazy frame", names, None, read)


def _relation(relation):
    def read(columns, rows, skip):
        def tables():
            quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
            query = relation.project(quoted)
            make = getattr(query, "to_arrow_reader", None) or query.fetch_record_batch
            reader = make(rows)
            yield from coalesce(reader, reader.schema, rows)

        from duckdb import Error

        return _sliced(_readable(tables(), "the DuckDB relation", Error), rows, "batch")

    return Source("DuckDB relation", list(relation.columns), None, read)


def _dask(frame):
    def read(columns, rows, skip):
        parts = frame[columns].partitions
        tables = (parts[at].compute() for at in range(frame.npartitions))
        return _sliced(tables, rows, "partition")

    return Source("Dask DataFrame", [str(name) for name in frame.columns], None, read)
