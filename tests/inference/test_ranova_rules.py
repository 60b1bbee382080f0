"""Which smaller models `ranova` fits: lmerTest's, for terms of many kinds, with rows and without."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

FOLDER = Path(__file__).parents[1] / "reference" / "ranova"
RECORDED = json.loads((FOLDER / "ranova.json").read_text())


@cache
def frame():
    return pd.read_csv(FOLDER / "ranova.csv").astype({name: "category" for name in ("a", "b", "c", "g")})


@cache
def fitted(formula):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flm.lmer(formula, frame())


def numbers(recorded, name):
    return pd.Series(np.atleast_1d(recorded[name])).replace({"NA": "nan"}).astype(float).to_numpy()


@pytest.mark.parametrize("recorded", RECORDED, ids=[f"{r['formula']}, {r['reduce']}" for r in RECORDED])
def test_as_lmertest(recorded):
    table = fitted(recorded["formula"]).ranova(reduce_terms=recorded["reduce"])
    assert len(table) == len(recorded["rows"])
    np.testing.assert_array_equal(table["npar"], numbers(recorded, "npar"))
    # lmerTest's optima are short of ours by up to 1e-4
    np.testing.assert_allclose(table["llf"], numbers(recorded, "llf"), atol=2e-4)
    np.testing.assert_array_equal(table["df"], numbers(recorded, "df"))
    np.testing.assert_allclose(table["p"], numbers(recorded, "p"), rtol=2e-3, atol=1e-12)


@pytest.mark.parametrize(
    "formula", ["y ~ a + x + (0 + a | g)", "y ~ x + (0 + a:b | g)", "y ~ x + (0 + x | g)"]
)
def test_without_rows(formula):
    with_rows = fitted(formula).ranova()
    without = flm.fit(flm.plan(formula, frame()).accumulate(frame())).ranova()
    if formula.endswith("(0 + x | g)"):  # sums by level of x do not hold those of 1
        assert np.isnan(without["llf"].iloc[1]) and without["npar"].iloc[1] == 4
    else:
        np.testing.assert_allclose(without["llf"], with_rows["llf"], atol=1e-5)


def test_a_factor_that_goes_leaves_the_other_with_all_its_levels():
    table = fitted("y ~ a + x + (0 + a + b | g)").ranova()
    for piece, left in (("a", "(0 + b | g)"), ("b", "(0 + a | g)")):
        expected = flm.lmer(f"y ~ a + x + {left}", frame())
        row = table.loc[f"{piece} in (0 + a + b | g)"]
        assert row["llf"] == pytest.approx(expected.llf, abs=1e-5) and row["npar"] == expected.df_modelwc
