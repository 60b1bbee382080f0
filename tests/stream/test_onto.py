"""Rows added onto earlier statistics: the same as merging, for levels of every kind."""

import numpy as np
import pandas as pd
import pytest
from stream.stream_data import assert_same_fit
from stream.test_append import MODELS, splits
from stream.test_statistics import equal

import fastlmm_core as flm

pytest.importorskip("pyarrow")
KINDS = {
    "whole numbers": lambda g: g,
    "far numbers": lambda g: g * 10**14,
    "negative": lambda g: -g,
    "fractions": lambda g: g / 8.0,
    "text": lambda g: "p" + g.astype(str),
    "categories": lambda g: pd.Categorical("p" + g.astype(str), [f"p{k}" for k in sorted(set(g))[::-1]]),
    "days": lambda g: pd.Timestamp("2020-01-01") + pd.to_timedelta(g, "D"),
    "hours abroad": lambda g: pd.Timestamp("2020-01-01", tz="Asia/Tokyo") + pd.to_timedelta(g, "h"),
    "yes or no": lambda g: g % 2000 == 7,
}


@pytest.mark.parametrize("model", MODELS)
def test_rows_added_onto_statistics_are_merged(data, model):
    formula, weights = MODELS[model]
    plan = flm.plan(formula, data, weights=weights)
    expected = flm.lmer(formula, data, weights=weights)
    for _, new in splits(data):
        old = plan.accumulate(data[~new])
        before = [found.copy() for found in (old.C, *old.R, *old.counts)]
        both = plan.accumulate(data[new], onto=old)
        equal(both, old.merge(plan.accumulate(data[new])))
        assert_same_fit(flm.fit(both), expected)
        for was, found in zip(before, (old.C, *old.R, *old.counts), strict=True):
            np.testing.assert_array_equal(was, found)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_of_every_kind_are_found_again(data, kind, tmp_path):
    data = data.assign(g=KINDS[kind](data["g"]))
    plan = flm.plan("y ~ x + (1 | g)", data)
    new = (data.index % 3 == 0) if kind == "yes or no" else (data["s"] % 3 == 0).to_numpy()
    old = plan.accumulate(data[~new])
    old.save(tmp_path / "old")
    loaded = flm.CrossProducts.load(tmp_path / "old")
    expected = old.merge(plan.accumulate(data[new]))
    for earlier in (old, loaded):
        both = plan.accumulate(data[new], onto=earlier)
        equal(both, expected)
        known, union = both.levels[0].parts[0], expected.levels[0].parts[0]
        assert known.index.equals(union.index) and known.index.dtype == union.index.dtype
        assert (known.categories is None) == (kind != "categories")


def test_onto_from_files_and_of_nothing(folder, data):
    formula = "y ~ x + f + (1 | g) + (1 | h)"
    plan = flm.plan(formula, folder)
    nothing = plan.accumulate(data.iloc[:0])
    some = plan.accumulate(folder / "0.parquet", onto=nothing)
    missing = plan.accumulate(data.iloc[:50].assign(y=np.nan), onto=nothing)
    assert missing.n == 0 and missing.n_total == 50
    for part in "123":
        some = plan.accumulate(folder / f"{part}.parquet", onto=some)
    equal(some, plan.accumulate(folder))
    assert some.y_range[0] < some.y_range[1]
    equal(plan.accumulate(data.iloc[:0], onto=some), some)


def test_onto_what_it_cannot_be_added_to(folder, data, tmp_path):
    plan = flm.plan("y ~ x + (1 | g)", folder)
    kept = tmp_path / "sums"
    old = plan.accumulate(folder / "0.parquet", checkpoint=kept)
    with pytest.raises(flm.DataError, match=r"0\.parquet are in the earlier statistics"):
        plan.accumulate(folder, onto=old)
    with pytest.raises(flm.ModelError, match="different plans"):
        flm.plan("y ~ 1 + (1 | g)", folder).accumulate(data, onto=old)
    with pytest.raises(flm.DataError, match="checkpoint"):
        plan.accumulate(folder / "1.parquet", onto=old, checkpoint=kept)
    with pytest.raises(TypeError, match="CrossProducts"):
        plan.accumulate(data, onto=flm.fit(old))
    with pytest.raises(flm.DataError, match="int"):
        plan.accumulate(data.assign(g="k"), onto=old)


def test_a_resumed_run_has_the_bits_of_one_run(folder, tmp_path):
    plan = flm.plan("y ~ x + f + (1 + x | g) + (1 | h)", folder)
    paths = [folder / f"{part}.parquet" for part in range(4)]
    plan.accumulate(paths[:2], checkpoint=tmp_path / "sums")
    found, once = plan.accumulate(paths, checkpoint=tmp_path / "sums"), plan.accumulate(paths)
    for a, b in zip((found.C, *found.R), (once.C, *once.R), strict=True):
        np.testing.assert_array_equal(a, b)
