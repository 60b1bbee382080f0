"""Plans and statistics: sharing, adding up, saving."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
from stream.stream_data import assert_same_fit

import fastlmm_core as flm
from fastlmm_core.stream.plan import Plan

FORMULA = "y ~ x + f + (1 | h) + (1 + x | s:f)"


@pytest.fixture(scope="module")
def plan(data):
    return flm.plan(FORMULA, data)


@pytest.fixture(scope="module")
def parts(plan, data):
    """Statistics of three pieces whose level sets differ."""
    order = data.sort_values("s", kind="stable")
    return [plan.accumulate(order.iloc[lo:hi]) for lo, hi in ((0, 500), (500, 1600), (1600, 2400))]


def equal(a, b, rtol=1e-12):
    assert a.ngroups == b.ngroups and a.n == b.n and a.missing == b.missing
    np.testing.assert_allclose(a.C, b.C, rtol=rtol, atol=1e-9)
    for f in range(len(a.R)):
        assert list(a.levels[f].labels()) == list(b.levels[f].labels())
        np.testing.assert_allclose(a.R[f], b.R[f], rtol=rtol, atol=1e-9)
        np.testing.assert_array_equal(a.counts[f], b.counts[f])
    for key, pairs in a.pairs.items():
        np.testing.assert_array_equal(pairs.keys, b.pairs[key].keys)
        np.testing.assert_allclose(pairs.blocks, b.pairs[key].blocks, rtol=rtol, atol=1e-9)


def test_merging_is_associative_and_commutative(parts, plan, data):
    a, b, c = parts
    assert len({found.ngroups["s:f"] for found in parts}) > 1
    equal(a.merge(b).merge(c), a.merge(b.merge(c)))
    equal(a.merge(b), b.merge(a))
    equal(a.merge(b).merge(c), plan.accumulate(data))


def test_a_fit_of_merged_statistics_is_the_fit(parts, data):
    expected = flm.lmer(FORMULA, data)
    found = flm.fit(parts[2].merge(parts[0]).merge(parts[1]))
    assert_same_fit(found, expected)
    again = flm.fit(parts[0] + parts[1] + parts[2], start=expected.theta)
    assert again.llf == pytest.approx(expected.llf, rel=1e-12)
    assert_same_fit(flm.fit(parts[0] + parts[1] + parts[2], reml=False), flm.lmer(FORMULA, data, reml=False))


def test_what_needs_rows_says_so(parts, data):
    found = flm.fit(parts[0].merge(parts[1]).merge(parts[2]))
    for attribute in ("fittedvalues", "resid", "resid_scaled"):
        with pytest.raises(flm.DataError, match="no rows"):
            getattr(found, attribute)
    with pytest.raises(flm.DataError, match="no rows"):
        found.marginal_cov("h", "k1")
    text = str(found.summary())
    assert "made from statistics" in text and "nan" not in text.lower()
    np.testing.assert_allclose(found.predict(data), flm.lmer(FORMULA, data).predict(data), atol=1e-5)


def test_a_plan_survives_json(plan, data):
    again = Plan.from_json(json.dumps(json.loads(plan.to_json())))
    assert again.key == plan.key
    equal(again.accumulate(data).merge(plan.accumulate(data)), plan.accumulate(pd.concat([data, data])))
    with pytest.raises(flm.DataError, match="no plan"):
        Plan.from_json("{}")


def test_a_plan_with_transforms_and_contrasts_survives_json(data):
    plan = flm.plan("y ~ bs(x, df=5) + f + (1 | g)", data, contrasts={"f": "helmert"}, weights="w")
    found = flm.fit(Plan.from_json(plan.to_json()).accumulate(data))
    expected = flm.lmer("y ~ bs(x, df=5) + f + (1 | g)", data, contrasts={"f": "helmert"}, weights="w")
    assert_same_fit(found, expected)


def test_statistics_of_two_plans_do_not_mix(plan, data):
    other = flm.plan(FORMULA, data.iloc[1000:].assign(x=lambda d: 3 * d["x"]))
    with pytest.raises(flm.ModelError, match="different plans"):
        plan.accumulate(data).merge(other.accumulate(data))


def test_saved_statistics_are_the_same_bits(parts, tmp_path):
    both = parts[0].merge(parts[1])
    both.save(tmp_path / "stats")
    again = flm.CrossProducts.load(tmp_path / "stats")
    equal(again, both, rtol=0)
    equal(again.merge(parts[2]), both.merge(parts[2]), rtol=0)
    assert again.plan.key == both.plan.key


def test_what_small_levels_tell(data):
    """The rows of a level that has as few as there are random columns can be found from its sums."""
    rows = data.dropna(subset="x").groupby("g").head(2)
    stats = flm.plan("y ~ x + (1 + x | g)", rows).accumulate(rows)
    assert stats.small_levels() == {"g": 60} and stats.small_levels(1) == {"g": 0}
    s, at = stats.plan.standardization, stats.plan.layout
    ones, x_sums = stats.R[0][0]  # sums of the columns, and of their products with the slope's column
    x, y = at.z[0][1], at.y
    total, square = ones[x], x_sums[x]
    root = np.sqrt(2 * square - total**2)
    found = np.array([(total - root) / 2, (total + root) / 2])
    response = np.linalg.solve([[1, 1], found], [ones[y], x_sums[y]]) * s.y_scale + s.y_center
    two = rows[rows["g"] == stats.levels[0].labels()[0]].sort_values("x")
    np.testing.assert_allclose(np.sort(response), np.sort(two["y"]), rtol=1e-9)
    assert stats.y_range == (rows["y"].min(), rows["y"].max())
    mostly = flm.plan("y ~ x + (1 | g)", data).accumulate(data)
    assert mostly.small_levels() == {"g": 0} and mostly.small_levels(10**6) == {"g": 60}


def test_damaged_statistics_are_refused(parts, tmp_path):
    path = tmp_path / "stats"
    parts[0].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(flm.DataError, match="stats"):
        flm.CrossProducts.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(flm.DataError, match="stats"):
        flm.CrossProducts.load(path)
    with pytest.raises(flm.DataError, match="no file"):
        flm.CrossProducts.load(tmp_path / "absent")


def test_a_plan_reads_like_one(plan):
    text = str(plan)
    for part in (
        "REML",
        "f: 3 known: a, b, c",
        "numbered in the stream",
        "2,400 rows",
        "engine",
        "(Intercept | h)",
    ):
        assert part in text


def test_levels_the_plan_does_not_know(data):
    plan = flm.plan("y ~ f + (1 | g)", data[data["f"] != "c"])
    with pytest.raises(flm.DataError, match="'c'.*not known to the plan"):
        plan.accumulate(data)
    wider = flm.plan("y ~ f + (1 | g)", data[data["f"] != "c"], levels={"f": ["a", "b", "c"]})
    assert_same_fit(flm.fit(wider.accumulate(data)), flm.lmer("y ~ f + (1 | g)", data))


def test_nothing_but_a_plan_of_a_mixed_model(data):
    with pytest.raises(flm.FormulaError, match="random term"):
        flm.plan("y ~ x", data)
    with pytest.raises(TypeError, match="CrossProducts"):
        flm.fit(data)
