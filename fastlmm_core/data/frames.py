"""Readers of pandas frames, polars frames and dicts; what they return is described in `arrow`."""

import numpy as np
import pandas as pd

from ..errors import DataError
from . import arrow
from .texts import sorted_levels


class PandasFrame:
    """Reader of a pandas DataFrame; its index is kept for the results."""

    def __init__(self, frame):
        self.frame, self.n, self.names, self.index = frame, len(frame), list(frame.columns), frame.index
        self._by_name = frame.columns.is_unique

    def native(self, position):
        name = self.names[position]
        # half the time of a column by its place
        return self.frame[name] if self._by_name and type(name) is str else self.frame.iloc[:, position]

    def read(self, position):
        return read_pandas(self.native(position))


class Mapping:
    """Reader of a dict of equally long arrays, lists or Series."""

    index = None

    def __init__(self, columns):
        if not columns:
            raise DataError("data is an empty dict: it has no columns")
        lengths = {}
        for name, values in columns.items():
            if _dimensions(values) == 0 or isinstance(values, (str, bytes)):
                raise DataError(f"column {name!r} is a single value: every column must be an array or a list")
            lengths[str(name)] = len(values)
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise DataError(f"columns differ in length: {sizes}")
        self.names, self.columns = list(columns), list(columns.values())
        self.n = next(iter(lengths.values()))

    def native(self, position):
        return self.columns[position]

    def read(self, position):
        values = self.columns[position]
        if isinstance(values, np.ndarray) and values.dtype.kind in "fiub" and values.ndim == 1:
            return "numeric", values, None
        if arrow.pa is not None and isinstance(values, (arrow.pa.Array, arrow.pa.ChunkedArray)):
            return arrow.read(values)
        if type(values).__module__.partition(".")[0] == "polars":
            return read_polars(values)
        dimensions = _dimensions(values)
        if dimensions > 1:
            raise DataError(f"column {self.names[position]!r} has {dimensions} dimensions, one is needed")
        return read_pandas(values if isinstance(values, pd.Series) else pd.Series(values))


def _dimensions(values):
    """As `numpy.ndim`, without turning the columns of other libraries into arrays."""
    is_column = hasattr(values, "__len__") and type(values).__module__.startswith(("polars", "pyarrow"))
    return 1 if is_column else np.ndim(values)


class PolarsFrame:
    """Reader of a polars DataFrame."""

    index = None

    def __init__(self, frame):
        self.frame, self.n, self.names = frame, frame.height, frame.columns

    def native(self, position):
        return self.frame.to_series(position)

    def read(self, position):
        return read_polars(self.native(position))


def is_plain(column):
    """Whether a column of any library is of a plain type, not categorical."""
    kind = str(getattr(column, "dtype", getattr(column, "type", ""))).lower()
    return not kind.startswith(("categor", "enum", "dictionary"))


def read_pandas(series):
    """The parts of a pandas Series."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        if dtype.kind in "fiub":
            return "numeric", series.to_numpy(), None
        if dtype.kind in "mM":
            values = series.to_numpy()
            return "time", values.view(np.int64), values.dtype
        if dtype.kind == "c":
            return "unusable", "complex numbers", "use their real part, imaginary part or modulus"
        return _objects(series) if dtype.kind == "O" else ("unusable", f"values of dtype {dtype}")
    if isinstance(dtype, pd.CategoricalDtype):
        return "factor", series.array.codes, dtype.categories
    if isinstance(dtype, pd.DatetimeTZDtype):
        values = series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return "time", values.view(np.int64), values.dtype
    if isinstance(dtype, pd.StringDtype):
        return _text(series)
    if arrow.pa is not None and hasattr(dtype, "pyarrow_dtype"):
        return arrow.read(arrow.pa.chunked_array(series.array.__arrow_array__()))
    if getattr(dtype, "kind", "O") in "fiub":
        return _nullable(series)
    return _objects(series.astype(object))


def _nullable(series):
    """Nullable numbers and booleans: a mask beside the values."""
    missing = series.isna().to_numpy()
    target = series.dtype.numpy_dtype if hasattr(series.dtype, "numpy_dtype") else np.float64
    if not missing.any():
        return "numeric", series.to_numpy(dtype=target), None
    return "numeric", series.to_numpy(dtype=target, na_value=0), missing


def _text(series):
    if arrow.pa is not None:
        found = (
            series.array.__arrow_array__()
            if hasattr(series.array, "__arrow_array__")
            else series.to_numpy(object)
        )
        if not isinstance(found, (arrow.pa.Array, arrow.pa.ChunkedArray)):
            found = arrow.pa.array(found, arrow.pa.large_string(), from_pandas=True)
        return "text", found
    codes, levels = pd.factorize(series.to_numpy(object, na_value=None), use_na_sentinel=True)
    return sorted_levels(codes.astype(np.int32), levels)


def _objects(series):
    """Python objects: text, numbers with None, booleans; what they are is inferred."""
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("string", "empty"):
        if kind == "empty":
            return "numeric", np.full(len(series), np.nan), None
        if arrow.pa is not None:
            return "text", arrow.pa.array(series.to_numpy(), arrow.pa.large_string(), from_pandas=True)
        codes, levels = pd.factorize(series.to_numpy(), use_na_sentinel=True)
        return sorted_levels(codes.astype(np.int32), levels)
    if kind in ("floating", "integer", "mixed-integer-float", "decimal", "integer-na"):
        return "numeric", pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan), None
    if kind == "boolean":
        missing = series.isna().to_numpy()
        return "numeric", series.where(~missing, False).to_numpy(bool), missing
    if kind in ("datetime", "datetime64", "date"):
        values = pd.to_datetime(series).to_numpy()
        return "time", values.view(np.int64), values.dtype
    return "unusable", *_mixture(series)


def _mixture(series):
    """What a column of several Python types holds, and how to mend it."""
    kinds = series.dropna().map(type)
    counts = kinds.value_counts()
    held = " and ".join(f"{kind.__name__} ({count} rows)" for kind, count in counts.head(3).items())
    texts = series[series.map(lambda value: isinstance(value, str))]
    shown = f" (such as {texts.iloc[0]!r})" if len(texts) and len(counts) > 1 else ""
    if any(issubclass(kind, (list, tuple, set, dict, np.ndarray)) for kind in counts.index):
        return f"{held}", "give each value a row or a column of its own"
    if any(issubclass(kind, (complex, np.complexfloating)) for kind in counts.index):
        return "complex numbers", "use their real part, imaginary part or modulus"
    if len(counts) == 1:
        return f"{held}", "make it numbers, or levels by .astype(str)"
    return (
        f"values of several types: {held}{shown}",
        f"pd.to_numeric(data[{series.name!r}], errors='coerce') makes numbers, .astype(str) levels",
    )


def read_polars(series):
    """The parts of a polars Series."""
    kind = str(series.dtype)
    if (
        series.dtype.is_numeric()
        and not kind.startswith(("Decimal", "Int128", "UInt128"))
        or kind == "Boolean"
    ):
        if not series.null_count():
            return "numeric", series.to_numpy(), None
        filled = series.fill_null(False if kind == "Boolean" else 0)
        return "numeric", filled.to_numpy(), series.is_null().to_numpy()
    if series.dtype.is_numeric():
        return read_polars(series.cast(float))
    if kind.startswith("Enum"):
        codes = series.to_physical().fill_null(0).to_numpy().astype(np.int32)
        if series.null_count():
            codes[series.is_null().to_numpy()] = -1
        return "factor", codes, pd.Index(series.dtype.categories.to_list())
    if kind.startswith("Categorical"):
        # its codes are in order of first appearance anywhere in the program: sort instead
        if arrow.pa is not None:
            return sorted_levels(*arrow.read(series.to_arrow())[1:])
        series, kind = series.cast(str), "String"
    if kind in ("String", "Utf8"):
        if arrow.pa is not None:
            return "text", series.to_arrow()
        return read_pandas(pd.Series(series.to_list(), dtype=object))
    if series.dtype.is_temporal() and kind != "Time":
        ticks = series.to_physical().cast(int).fill_null(np.iinfo(np.int64).min).to_numpy()
        if kind == "Date":
            return "time", np.where(ticks == np.iinfo(np.int64).min, ticks, ticks * 86_400), np.dtype("M8[s]")
        letter = "m" if kind.startswith("Duration") else "M"
        return "time", ticks, np.dtype(f"{letter}8[{series.dtype.time_unit}]")
    return "unusable", f"values of dtype {kind}"
