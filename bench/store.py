"""A frame on disk as one raw file per column, read alike by Python and R without a parser.

``name.f64`` holds float64, ``name.i64`` int64, ``name.cat`` int32 codes of a categorical; row counts,
categories and the model are in ``case.json``.  Little-endian.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd


def write(folder, case, scale):
    """Draw ``case`` and write it to ``folder`` unless it is there already."""
    folder = Path(folder)
    if (folder / "case.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    frame = case.frame(scale)
    columns = []
    for name in frame.columns:
        columns.append(_write_column(folder, name, frame[name]))
    levels = [int(frame.groupby(list(group), observed=True).ngroups) for group in case.model.groups]
    record = {
        "name": case.name, "title": case.title, "scale": scale, "rows": len(frame), "levels": levels,
        "frame_bytes": int(frame.memory_usage(index=False, deep=False).sum()), "truth": case.truth,
        "model": case.model.record(), "columns": columns,
    }
    (folder / "case.json").write_text(json.dumps(record, indent=1))
    return folder


def _write_column(folder, name, values):
    if isinstance(values.dtype, pd.CategoricalDtype):
        values.cat.codes.to_numpy().astype("<i4").tofile(folder / f"{name}.cat")
        return {"name": name, "kind": "cat", "categories": [str(c) for c in values.cat.categories]}
    kind = "i64" if pd.api.types.is_integer_dtype(values.dtype) else "f64"
    values.to_numpy().astype("<i8" if kind == "i64" else "<f8").tofile(folder / f"{name}.{kind}")
    return {"name": name, "kind": kind}


def read(folder):
    """The record and the frame.

    Returns
    -------
    (dict, DataFrame)
    """
    folder = Path(folder)
    record = json.loads((folder / "case.json").read_text())
    columns = {}
    for column in record["columns"]:
        name, kind = column["name"], column["kind"]
        raw = np.fromfile(folder / f"{name}.{kind}", dtype={"f64": "<f8", "i64": "<i8", "cat": "<i4"}[kind])
        columns[name] = pd.Categorical.from_codes(raw, column["categories"]) if kind == "cat" else raw
    return record, pd.DataFrame(columns)
