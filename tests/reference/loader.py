"""Recorded results of R and the data they were computed from.

Everything lies in this folder except the cases on the TLC and Nepal data, which
are not distributed with the project.  They are read from the folder named by
``FASTLMM_REFERENCE``, or from ``../shared/reference`` beside the checkout.
"""

import json
import os
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import fastlmm_core as flm

HERE = Path(__file__).parent
ELSEWHERE = Path(os.environ.get("FASTLMM_REFERENCE", HERE.parents[2] / "shared" / "reference"))
ABSENT = "TLC and Nepal data are not distributed with the project; name their folder in FASTLMM_REFERENCE"

INDEX = json.loads((HERE / "index.json").read_text())


def ids(engine, *datasets):
    """Case ids of one engine, of all data sets or the named ones."""
    return [c["id"] for c in INDEX if c["engine"] == engine and (not datasets or c["dataset"] in datasets)]


def _find(*parts):
    for root in (HERE, ELSEWHERE):
        if root.joinpath(*parts).exists():
            return root.joinpath(*parts)
    return None


@cache
def case(id):
    """The recorded case, or skip."""
    file = _find("cases", f"{id}.json")
    if file is None:
        pytest.skip(ABSENT)
    return json.loads(file.read_text())


@cache
def data(dataset):
    """The data of a case: factors as categoricals in R's order of levels, the rest as float64."""
    meta = _find("data", f"{dataset}.meta.json")
    if dataset not in ("InstEval", "Exam") and meta is not None:
        return _read(json.loads(meta.read_text()), meta.parent)
    if dataset in flm.list_datasets().index:
        return flm.load_dataset(dataset)
    pytest.skip(ABSENT)


def _read(meta, folder):
    factors = {name: c["levels"] for name, c in meta["columns"].items() if c["kind"] == "factor"}
    file = folder / Path(meta["file"]).name
    types = {name: str if name in factors else "float64" for name in meta["columns"]}
    frame = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=["NA"])
    for name, levels in factors.items():
        frame[name] = pd.Categorical(frame[name], categories=[str(level) for level in levels])
    return frame
