"""Sizes and names of every recorded lmer case: what lme4 counted, we count."""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracle.design_matrices import matrix

from fastlmm_core.formula.design import build_design

pytestmark = pytest.mark.reference
FOLDER = Path(
    os.environ.get("FASTLMM_REFERENCE") or Path(__file__).parents[2].parent / "shared" / "reference"
)


def cases():
    index = FOLDER / "index.json"
    if not index.exists():
        reason = f"no reference results in {FOLDER}; set FASTLMM_REFERENCE"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")]
    return [case["id"] for case in json.loads(index.read_text()) if case["engine"] in ("lmer", "lm")]


@cache
def load(name):
    meta = json.loads((FOLDER / "data" / f"{name}.meta.json").read_text())
    kinds = meta["columns"]
    factors = {column: str for column, facts in kinds.items() if facts["kind"] == "factor"}
    frame = pd.read_csv(FOLDER / meta["file"], dtype=factors, na_values=["NA"], keep_default_na=False)
    for column in factors:
        frame[column] = pd.Categorical(frame[column], kinds[column]["levels"])
    return frame


def r_name(name):
    """lme4's name of one of our columns, factors by treatment contrasts."""
    name = name.replace("Intercept", "(Intercept)").replace("[T.", "").replace("[", "").replace("]", "")
    return name.replace(" ** ", "^")


@pytest.mark.parametrize("case", cases())
def test_case(case):
    case = json.loads((FOLDER / "cases" / f"{case}.json").read_text())
    data = load(case["dataset"])
    design, spec, report = build_design(case["formula"], data, weights=case.get("weights"))
    assert report.n_total == case.get("nrow_data", len(data))
    assert design.n == case["nobs"]
    names = [r_name(column.name) for column in design.fixed]
    if case["engine"] == "lm":
        X = matrix(design.fixed, design.atoms, design.n)
        assert np.linalg.matrix_rank(X) == X.shape[1]
        return
    assert report.n_missing == case["n_dropped_na"]
    kept = [name for name in names if name not in case["fixef"]["dropped_columns"]]
    assert kept == case["fixef"]["names"]
    assert len(kept) == case["p_fixed"]
    levels = {factor.name: len(factor.levels) for factor in design.factors}
    theirs = case["ngrps"]
    assert {frozenset(name.split(":")): size for name, size in levels.items()} == {
        frozenset(name.split(":")): size for name, size in theirs.items()
    }
    sizes = [len(design.factors[term.factor].levels) * len(term.columns) for term in design.terms]
    assert sum(sizes) == case["n_random_effects"]
    assert sum(len(t.columns) * (len(t.columns) + 1) // 2 for t in design.terms) == len(case["theta"])
    ours = [
        (frozenset(design.factors[t.factor].name.split(":")), [r_name(c.name) for c in t.columns])
        for t in design.terms
    ]
    assert ours == [(frozenset(v["group"].split(":")), v["names"]) for v in case["varcorr"]]
    again = type(spec).from_dict(spec.to_dict()).evaluate(data.iloc[:3])
    assert len(again.atoms) == len(design.atoms)
