"""Predictions for data that are read in batches: written to a file as they come, or gathered."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from fastlmm_core.archive import put_in_place
from fastlmm_core.errors import DataError, FastLMMError, MissingDependencyError
from fastlmm_core.formula.parse import parse_formula
from fastlmm_core.results.streamrows import MEMORY_SHARE, free_memory
from fastlmm_core.stream.ahead import ahead
from fastlmm_core.stream.columns import text_columns
from fastlmm_core.stream.sources import open_source


def predict_stream(fit, newdata, out, options):
    """Predictions of a fit for batches of rows.

    Parameters
    ----------
    newdata : anything `lmer` takes; None for the data of a fit that can read them again.
    out : path of a ``.parquet``, ``.arrow`` or ``.csv`` file, or None to gather.
    options : of ``fit.predict``.

    Returns
    -------
    Series or DataFrame by place in the data; the path when ``out`` is given.

    Raises
    ------
    DataError : rows that cannot be predicted, naming the file; an output that cannot be written.
    """
    source = getattr(fit._rows, "source", None) if newdata is None else newdata
    if newdata is None and not hasattr(source, "batches"):
        raise DataError(
            "predict(out=) without data is for fits whose data are read in batches: pass the data"
        )
    source = open_source(source)
    columns = _columns(fit._spec, source.names)
    if out is None:
        parts = list(_within_memory(_predicted(fit, source, columns, options)))
        if not parts:
            raise DataError(f"the {source.kind} has no rows")
        return pd.concat(parts)
    with _writer(out) as write:
        for part in _predicted(fit, source, columns, options):
            write(part.to_frame() if isinstance(part, pd.Series) else part)
    return Path(out)


def _predicted(fit, source, columns, options):
    start = 0
    for batch in ahead(source.batches(columns)):
        try:
            part = fit.predict(batch.data, **options)
        except FastLMMError as error:
            raise type(error)(f"{batch.label}: {error}") from error
        part.index = pd.RangeIndex(start, start + len(part))
        start += len(part)
        if len(part):
            yield part


def _columns(spec, names):
    """What predictions read: design columns, groups, offsets, weights."""
    parsed = parse_formula(spec.text)
    found = [name for p in spec.pieces for name in text_columns(p.piece.text, p.piece.is_column, names)]
    for bar in parsed.bars:
        for group in bar.group:
            found += [group] if group in names or "(" not in group else text_columns(group, False, names)
    for text in spec.offsets:
        found += text_columns(text, False, names)
    if spec.weights is not None:
        found.append(spec.weights)
    return list(dict.fromkeys(found)) or list(names[:1])


def _within_memory(parts):
    total, free = 0, free_memory()
    for part in parts:
        total += part.memory_usage(index=False) if isinstance(part, pd.Series) else part.memory_usage().sum()
        if free is not None and total > MEMORY_SHARE * free:
            raise DataError(
                f"these predictions do not fit well in the memory that is free ({free >> 20} MB): "
                "write them with predict(data, out='file.parquet')"
            )
        yield part


@contextmanager
def _writer(out):
    """A function that appends frames to a file, which appears only when it is complete."""
    out = Path(out)
    kind = out.suffix.lower()
    if kind not in (".parquet", ".arrow", ".feather", ".csv"):
        raise DataError(f"{out}: predictions are written as .parquet, .arrow or .csv")
    if not out.parent.is_dir():
        raise DataError(f"there is no folder {out.parent} to write {out.name!r} in")
    sink, temporary = None, None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        os.close(handle)
        sink = (_CsvSink if kind == ".csv" else _ArrowSink)(temporary, kind)
        yield sink.write
        sink.close()
        sink = None
        put_in_place(temporary, out)
        temporary = None
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error}") from error
    finally:
        if sink is not None:
            sink.abandon()
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


class _ArrowSink:
    def __init__(self, path, kind):
        try:
            import pyarrow as pa
        except ImportError:
            raise MissingDependencyError("writing .parquet and .arrow needs pyarrow: use .csv") from None
        self.pa, self.path, self.kind, self.file = pa, path, kind, None

    def write(self, frame):
        table = self.pa.Table.from_pandas(frame, preserve_index=False)
        if self.file is None:
            if self.kind == ".parquet":
                import pyarrow.parquet as pq

                self.file = pq.ParquetWriter(self.path, table.schema)
            else:
                self.file = self.pa.ipc.new_file(self.path, table.schema)
        self.file.write_table(table)

    def close(self):
        if self.file is not None:
            self.file.close()

    def abandon(self):
        try:
            self.close()
        except OSError:
            pass


class _CsvSink:
    def __init__(self, path, kind):
        self.file, self.header = open(path, "w", newline=""), True

    def write(self, frame):
        frame.to_csv(self.file, index=False, header=self.header)
        self.header = False

    def close(self):
        self.file.close()

    abandon = close
