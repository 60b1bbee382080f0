"""Levels, columns and transform states as text, numbers, lists and arrays, and back."""

import numpy as np
import pandas as pd

from ..data.factors import labels
from .terms import Column


def pack_index(index):
    """A pandas Index as plain data: text and mixed levels as a list, numbers as an array."""
    if index is None:
        return None
    kind = index.dtype.kind
    if kind in "fiub":
        return {"kind": index.dtype.str, "values": index.to_numpy()}
    if kind in "mM" and isinstance(index.dtype, np.dtype):
        return {"kind": index.dtype.str, "values": index.to_numpy().view(np.int64)}
    values = index.tolist()
    if all(isinstance(value, str) for value in values):
        return {"kind": "str", "values": values}
    if all(isinstance(value, (str, bool, int, float)) for value in values):
        return {"kind": "object", "values": values}
    return {"kind": "str", "values": labels(index).tolist()}


def unpack_index(saved):
    """The inverse of `pack_index`."""
    if saved is None:
        return None
    if saved["kind"] in ("str", "object"):
        return pd.Index(list(saved["values"]), dtype=object if saved["kind"] == "object" else None)
    dtype = np.dtype(saved["kind"])
    if dtype.kind in "mM":
        return pd.Index(np.asarray(saved["values"], np.int64).view(dtype))
    return pd.Index(np.asarray(saved["values"], dtype))


def pack(value):
    """Transform states: dicts with any keys become lists of pairs."""
    if isinstance(value, dict):
        return {"pairs": [[pack(key), pack(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [pack(item) for item in value]}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, bool, int, float, np.ndarray)):
        return value
    return {"array": np.asarray(value, np.float64)}


def unpack(value):
    if not isinstance(value, dict):
        return value
    if "pairs" in value:
        return {unpack(key): unpack(item) for key, item in value["pairs"]}
    return [unpack(item) for item in value["list"]] if "list" in value else np.asarray(value["array"])


def pack_columns(columns):
    return [{"name": column.name, "atoms": list(column.atoms)} for column in columns]


def unpack_columns(saved):
    return tuple(Column(column["name"], tuple(column["atoms"])) for column in saved)


def array(values, dtype=np.float64):
    return None if values is None else np.asarray(values, dtype)
