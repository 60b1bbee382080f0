"""Fits of batches equal fits in memory, whatever the model."""

import pickle

import numpy as np
import pandas as pd
import pytest
from stream.stream_data import assert_same_fit, batches

import fastlmm_core as flm
from fastlmm_core.stream.pipeline import accumulate
from fastlmm_core.stream.sources import open_source

MODELS = [
    ("y ~ x + (1 | g)", {}),
    ("y ~ x + f + (1 + x | g)", {}),
    ("y ~ x + (1 | g) + (1 | h)", {}),
    ("y ~ x * f + (1 | h) + (1 + x | g)", {"reml": False}),
    ("y ~ poly(x, 2) + (1 | s/g)", {}),
    ("y ~ x + (1 | s) + (1 | g)", {"weights": "w"}),
    ("y ~ 0 + x + (0 + x | g) + (1 | h:f)", {}),
    ("y ~ scale(x) + offset(0.1 * x) + (f | g) + (0 + x | h)", {"weights": "w"}),
    ("y ~ bs(x, df=4) + C(s) + (1 | g)", {}),
    ("log(y + 40) ~ f + (1 | s:h)", {"contrasts": {"f": "sum"}}),
    ("y ~ x + (x || g)", {}),
]


@pytest.mark.parametrize("formula, options", MODELS, ids=[m[0] for m in MODELS])
def test_batches_give_the_fit_in_memory(data, formula, options):
    expected = flm.lmer(formula, data, **options)
    found = flm.lmer(formula, batches(data), **options)
    assert_same_fit(found, expected)
    assert found._facts.engine == expected._facts.engine
    np.testing.assert_allclose(found.r2(), expected.r2(), rtol=1e-6)
    np.testing.assert_allclose(found.icc(), expected.icc(), rtol=1e-5)
    np.testing.assert_allclose(found.df, expected.df, rtol=1e-5)
    np.testing.assert_allclose(found.fittedvalues, expected.fittedvalues, atol=1e-5)
    np.testing.assert_allclose(found.resid, expected.resid, atol=1e-5)
    np.testing.assert_allclose(found.resid_scaled, expected.resid_scaled, atol=1e-5)
    assert list(found.resid.index) == list(expected.resid.index)


def test_batches_of_any_size(data):
    expected = flm.lmer("y ~ x + f + (1 | g) + (1 | h)", data)
    for size in (97, 1201):
        assert_same_fit(flm.lmer("y ~ x + f + (1 | g) + (1 | h)", batches(data, size)), expected)


def test_levels_that_appear_late_and_categories_in_their_own_order(data):
    data = data.sort_values("f", ascending=False, kind="stable").reset_index(drop=True)
    data["f"] = pd.Categorical(data["f"], ["c", "never", "a", "b"])
    data["h"] = pd.Categorical(data["h"], [f"k{i}" for i in (3, 1, 0, 2, *range(4, 15))])
    expected = flm.lmer("y ~ x + f + (1 | h)", data)
    found = flm.lmer("y ~ x + f + (1 | h)", batches(data))
    assert list(found.params.index) == ["Intercept", "x", "f[T.a]", "f[T.b]"]
    assert_same_fit(found, expected)


def test_a_level_that_only_dropped_rows_have_is_no_level(data):
    data = data.copy()
    data.loc[:30, "f"] = "a0"
    data.loc[:30, "x"] = np.nan
    assert_same_fit(flm.lmer("y ~ x + f + (1 | g)", batches(data)), flm.lmer("y ~ x + f + (1 | g)", data))


def test_a_batch_without_a_row_to_use(data):
    data = data.copy()
    data.loc[700:1399, "x"] = np.nan
    assert_same_fit(flm.lmer("y ~ x + (1 | g)", batches(data)), flm.lmer("y ~ x + (1 | g)", data))


def test_first_batches_without_a_row_to_use(data):
    data = data.copy()
    data.loc[:1399, "x"] = np.nan
    expected = flm.lmer("y ~ poly(x, 2) + f + (1 | g)", data)
    assert_same_fit(flm.lmer("y ~ poly(x, 2) + f + (1 | g)", batches(data)), expected)
    assert_same_fit(flm.lmer("y ~ x + (1 | g)", batches(data)()), flm.lmer("y ~ x + (1 | g)", data))
    with pytest.raises(flm.DataError, match="no rows are left"):
        flm.lmer("y ~ x + (1 | g)", batches(data.assign(x=np.nan)))


def test_zero_weights_are_left_out(data):
    data = data.assign(w=np.where(np.arange(len(data)) % 5, data["w"], 0.0))
    expected = flm.lmer("y ~ x + (1 | g)", data, weights="w")
    assert_same_fit(flm.lmer("y ~ x + (1 | g)", batches(data), weights="w"), expected)


def test_aliased_columns_are_dropped(data):
    data = data.assign(twice=2 * data["x"] + 1)
    with pytest.warns(flm.RankWarning, match="twice"):
        found = flm.lmer("y ~ x + twice + (1 | g)", batches(data))
    assert np.isnan(found.params["twice"])
    assert found.llf == pytest.approx(flm.lmer("y ~ x + (1 | g)", data).llf, rel=1e-10)


def test_threads_do_not_change_a_bit(data):
    plan = flm.plan("y ~ x + (1 + x | g) + (1 | h)", data)
    one = accumulate(plan, open_source(batches(data)), n_threads=1)
    two = accumulate(plan, open_source(batches(data)), n_threads=2)
    for a, b in zip((one.C, *one.R), (two.C, *two.R), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.pairs[0, 1].blocks, two.pairs[0, 1].blocks)


def test_a_one_way_iterator_is_enough_without_things_to_learn(data):
    found = flm.lmer("y ~ x + (1 + x | g)", batches(data)())
    assert_same_fit(found, flm.lmer("y ~ x + (1 + x | g)", data))
    with pytest.raises(flm.DataError, match="predict"):
        _ = found.fittedvalues
    with pytest.raises(flm.ModelError, match="only once.*callable"):
        flm.lmer("y ~ f + (1 | g)", batches(data)())


def test_prediction_and_storage_of_a_streamed_fit(data, tmp_path):
    formula = "y ~ poly(x, 2) + f + (1 | s/g)"
    expected, found = flm.lmer(formula, data), flm.lmer(formula, batches(data))
    np.testing.assert_allclose(found.predict(data), expected.predict(data), atol=1e-5)
    np.testing.assert_allclose(found.predict(), expected.predict(), atol=1e-5)
    np.testing.assert_allclose(found.predict(batches(data)), expected.predict(data), atol=1e-5)
    assert "made from statistics" in str(found.summary())
    flm.save(found, tmp_path / "fit")
    again = flm.load(tmp_path / "fit")
    np.testing.assert_array_equal(again.predict(data), found.predict(data))
    np.testing.assert_allclose(again.r2(), expected.r2(), rtol=1e-6)


def test_refusals_are_those_of_a_fit_in_memory(data):
    for formula, kind, parts in [
        ("y ~ xx + (1 | g)", flm.FormulaError, "xx"),
        ("y ~ x", flm.FormulaError, "random term"),
        ("f ~ x + (1 | g)", flm.DataError, "not a number"),
        ("y ~ x + (1 | one)", flm.ModelError, "1 level"),
        ("y ~ x + (1 | row)", flm.ModelError, "2375 levels for 2375 rows"),
        ("c ~ x + (1 | g)", flm.ModelError, "constant"),
    ]:
        more = data.assign(one=1, row=np.arange(len(data)), c=2.0)
        with pytest.raises(kind, match=parts):
            flm.lmer(formula, batches(more))
    with pytest.raises(flm.DataError, match="infinite"):
        flm.lmer("y ~ x + (1 | g)", batches(data.assign(x=np.inf)))
    with pytest.raises(flm.DataError, match="missing"):
        flm.lmer("y ~ x + (1 | g)", batches(data), na_action="raise")
    with pytest.raises(flm.DataError, match="name of a column"):
        flm.lmer("y ~ x + (1 | g)", batches(data), weights=np.ones(len(data)))


def test_progress_counts_rows(data, capsys):
    flm.lmer("y ~ x + (1 | g)", batches(data), progress=True)
    assert "rows" in capsys.readouterr().err
    seen = []
    flm.lmer("y ~ x + (1 | g)", [data], progress=lambda stage, fraction: seen.append(stage))
    assert list(dict.fromkeys(seen)) == ["frame", "design", "cross-products", "optimise", "inference", "done"]
    seen = []
    plan = flm.plan("y ~ x + (1 | g)", data)
    plan.accumulate(batches(data), progress=lambda rows, total: seen.append((rows, total)))
    assert [rows for rows, _ in seen] == [700, 1400, 2100, 2400]


TRANSFORMS = [
    "poly(x, 3)",
    "poly(log(x), degree=2)",
    "scale(x)",
    "center(x)",
    "standardize(x + w)",
    "poly(x)",
]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_too_many_rows_are_learned_from_sums(data, monkeypatch, transform):
    expected = flm.lmer(f"y ~ {transform} + (1 | g)", data)
    monkeypatch.setattr("fastlmm_core.stream.look.WHOLE_BYTES", 8 * 1000)
    found = flm.lmer(f"y ~ {transform} + (1 | g)", batches(data))
    assert_same_fit(found, expected)
    np.testing.assert_allclose(found.predict(data), expected.predict(data), rtol=1e-8, atol=1e-8)


def test_a_transform_of_too_many_rows_says_what_to_do(data, monkeypatch):
    monkeypatch.setattr("fastlmm_core.stream.look.WHOLE_BYTES", 8 * 1000)
    for transform in ("bs(x, df=4)", "I(2 * scale(x))", "poly(x, 9)"):
        with pytest.raises(flm.ModelError, match="constants"):
            flm.lmer(f"y ~ {transform} + (1 | g)", batches(data))


def test_first_rows_that_are_unlike_the_rest(data):
    """Centres and scales come from the first rows, which need not look like the others."""
    data = data.assign(
        t=1e7 + np.r_[np.zeros(700), np.arange(len(data) - 700.0)], flat=np.arange(len(data)) > 900
    )
    data = data.assign(y=data["y"] + 1e-3 * (data["t"] - 1e7))
    formula = "y ~ t + flat + (1 + t | s)"
    found, expected = flm.lmer(formula, batches(data)), flm.lmer(formula, data)
    assert found.llf == pytest.approx(expected.llf, rel=1e-10)
    np.testing.assert_allclose(found.params / expected.params, 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.fittedvalues, expected.fittedvalues, atol=1e-4)


def test_appended_rows_and_an_earlier_optimum(data):
    formula = "y ~ x + (1 + x | g)"
    plan = flm.plan(formula, data.iloc[:1500])
    old = flm.fit(plan.accumulate(data.iloc[:1500]))
    stats = plan.accumulate(data.iloc[:1500]).merge(plan.accumulate(data.iloc[1500:]))
    assert_same_fit(flm.fit(stats, start=old.theta), flm.lmer(formula, data))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inference_needs_no_rows(data):
    formula = "y ~ x * f + (1 | g) + (1 | h)"
    expected = flm.lmer(formula, data)
    streamed = flm.lmer(formula, batches(data))
    bare = flm.fit(flm.plan(formula, data).accumulate(data))
    for found in (streamed, bare, pickle.loads(pickle.dumps(streamed))):
        at = {"x": 50.0}
        np.testing.assert_allclose(
            found.emmeans("f", at=at)["emmean"], expected.emmeans("f", at=at)["emmean"], rtol=1e-6
        )
        for kind in (1, 2, 3):
            np.testing.assert_allclose(
                found.anova(type=kind), expected.anova(type=kind), rtol=1e-4, atol=1e-8
            )
        np.testing.assert_allclose(
            found.contrast("f[T.b] = 0.1").iloc[0].astype(float),
            expected.contrast("f[T.b] = 0.1").iloc[0].astype(float), rtol=1e-4, atol=1e-8,
        )  # fmt: skip
    for found in (streamed, bare):
        np.testing.assert_allclose(found.ranova()["llf"], expected.ranova()["llf"], rtol=1e-9)
        np.testing.assert_allclose(
            found.cov_params("kenward-roger"), expected.cov_params("kenward-roger"), rtol=1e-5, atol=1e-10
        )
