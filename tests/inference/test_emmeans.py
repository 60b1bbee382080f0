"""Marginal means, slopes and comparisons against R's emmeans, and by their definition."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

FOLDER = Path(__file__).parents[1] / "reference" / "emmeans"
RECORDED = json.loads((FOLDER / "emmeans.json").read_text())


@cache
def table(name):
    if name == "unbalanced":
        frame = pd.read_csv(FOLDER / "unbalanced.csv")
        return frame.astype({column: "category" for column in ("a", "b", "c", "c2", "g", "nb")})
    frame = flm.load_dataset(name)
    if name == "cake":
        frame["tempf"] = frame["temp"].astype(int).astype("category")
    return frame


@cache
def fitted(name, formula):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        return flm.lmer(formula, table(name))


def numbers(recorded, name):
    return pd.Series(np.atleast_1d(recorded[name])).replace({"NA": "nan"}).astype(float).to_numpy()


@pytest.mark.parametrize("recorded", RECORDED, ids=[f"{r['id']}, {r['ddf']}" for r in RECORDED])
def test_emmeans_of_r(recorded):
    fit = fitted(recorded["data"], recorded["formula"])
    contr = recorded.get("custom") or recorded.get("contr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        found = fit.emmeans(
            recorded["specs"], recorded.get("by"), recorded.get("at"), contr, recorded.get("adjust"),
            recorded["ddf"], recorded.get("weights", "equal"), var=recorded.get("var"),
        )  # fmt: skip
    means, theirs = (found.emmeans if contr else found), recorded["emmeans"]
    column = f"{recorded['var']}.trend" if recorded.get("var") else "emmean"
    for name in [*recorded["specs"], *(recorded.get("by") or [])]:
        assert [str(v) for v in means[name]] == [str(v) for v in np.atleast_1d(theirs[name])]
    # emmeans differentiates by a one-sided difference of a thousandth of the range
    compare(means, theirs, column, slack=20.0 if recorded["id"] == "orthodont curve" else 1.0)
    if contr:
        contrasts, theirs = found.contrasts, recorded["contrasts"]
        labels = [str(label).replace("tempf", "").replace("i0", "0").replace("i1", "1") for label in np.atleast_1d(theirs["contrast"])]  # fmt: skip  # noqa: E501
        assert list(contrasts["contrast"]) == labels
        # emmeans finds Dunnett's critical value to 5e-4, and those of mvt by Monte Carlo
        mvt = recorded.get("adjust") == "mvt"
        compare(contrasts, theirs, "estimate", 2e-3 if mvt else 1e-3 if contr == "trt.vs.ctrl" else 2e-4)
        np.testing.assert_allclose(contrasts["t"], numbers(theirs, "t.ratio"), rtol=2e-4, atol=1e-5)
        slack = 3e-4 if mvt else 1e-8
        np.testing.assert_allclose(contrasts["p"], numbers(theirs, "p.value"), rtol=5e-3, atol=slack)


def compare(ours, theirs, column, reach=2e-4, slack=1.0):
    se = numbers(theirs, "SE")
    np.testing.assert_allclose(ours["SE"], se, rtol=slack * 1e-4)
    np.testing.assert_allclose(ours[column] / se, numbers(theirs, column) / se, rtol=0, atol=slack * 2e-4)
    np.testing.assert_allclose(ours["df"], numbers(theirs, "df"), rtol=2e-3)
    for ours_name, name in (("lower", "lower.CL"), ("upper", "upper.CL")):
        theirs_in_se = numbers(theirs, name) / se
        np.testing.assert_allclose(ours[ours_name] / se, theirs_in_se, rtol=0, atol=slack * 3 * reach)


def test_a_mean_is_an_average_of_predictions():
    fit = fitted("unbalanced", "y ~ a * b + c + x * b + i + (1 | g)")
    means = fit.emmeans("a", at={"x": 3.0, "i": 1}).set_index("a")["emmean"]
    points = pd.MultiIndex.from_product([list("pqr"), list("uv"), list("klmn")], names=["a", "b", "c"])
    points = points.to_frame(index=False).assign(x=3.0, i=1)
    predicted = fit.predict(points, re="none").groupby(points["a"]).mean()
    np.testing.assert_allclose(means, predicted, rtol=1e-10)


def test_proportional_weights_of_everything_give_the_mean_of_predictions():
    data = table("unbalanced")
    fit = fitted("unbalanced", "y ~ a * b * c + (1 | g)")
    overall = fit.emmeans([], weights="proportional")["emmean"].iloc[0]
    assert overall == pytest.approx(fit.predict(data, re="none").mean(), rel=1e-10)
    weighted = flm.lmer("y ~ a * b * c + (1 | g)", data, weights="w")
    overall = weighted.emmeans([], weights="proportional")["emmean"].iloc[0]
    assert overall == pytest.approx(weighted.predict(data, re="none").mean(), rel=1e-10)


def test_slopes_of_an_interaction_are_coefficients():
    fit = fitted("Orthodont", "distance ~ age * Sex + (age | Subject)")
    slopes = fit.emmeans("Sex", var="age")
    assert slopes["age.trend"].iloc[0] == pytest.approx(fit.params["age"], rel=1e-8)
    assert slopes["SE"].iloc[0] == pytest.approx(fit.bse["age"], rel=1e-8)
    difference = fit.emmeans("Sex", var="age", contr="trt.vs.ctrl").contrasts.iloc[0]
    assert difference["estimate"] == pytest.approx(fit.params["age:Sex[T.Female]"], rel=1e-8)
    assert difference["p"] == pytest.approx(fit.pvalues["age:Sex[T.Female]"], rel=1e-6)


def test_text_names_groups_and_comparisons():
    fit = fitted("cake", "angle ~ recipe * tempf + (1 | recipe:replicate)")
    long = fit.emmeans("recipe", by="tempf", contr="pairwise")
    short = fit.emmeans("pairwise ~ recipe | tempf")
    for a, b in zip(short, long):
        pd.testing.assert_frame_equal(a, b)
    assert len(fit.emmeans("recipe:tempf")) == 18
    assert list(fit.emmeans("1").columns) == ["emmean", "SE", "df", "lower", "upper"]


def test_offset_belongs_to_the_means():
    data = flm.load_dataset("sleepstudy")
    data["shift"] = 100.0
    with_offset = flm.lmer("Reaction ~ Days + offset(shift) + (1 | Subject)", data)
    without = flm.lmer("Reaction ~ Days + (1 | Subject)", data)
    at = {"Days": [0, 5]}
    pd.testing.assert_frame_equal(
        with_offset.emmeans("Days", at=at), without.emmeans("Days", at=at), rtol=1e-6
    )


def test_notes_say_what_was_averaged():
    fit = fitted("cake", "angle ~ recipe * tempf + (1 | recipe:replicate)")
    found = fit.emmeans("recipe", contr="pairwise")
    assert found.emmeans.attrs["notes"] == [
        "averaged over the levels of: tempf",
        "these averages hide interactions with what they are averaged over",
    ]
    assert found.contrasts.attrs["notes"][-1] == "p values and limits adjusted: tukey"
    assert "recipe" in repr(found) and "A - B" in repr(found)
    plain = fitted("Machines", "score ~ Machine + (1 | Worker/Machine)").emmeans("Machine")
    assert plain.attrs["notes"] == []


def test_linear_models_have_marginal_means():
    fit = flm.lm("angle ~ recipe + temp", table("cake"))
    means = fit.emmeans("recipe")
    assert (means["df"] == fit.df_resid).all()
    point = pd.DataFrame({"recipe": ["A"], "temp": [table("cake")["temp"].mean()]})
    assert means["emmean"].iloc[0] == pytest.approx(fit.predict(point).iloc[0])


def test_polars_frames_work():
    polars = pytest.importorskip("polars")
    data = flm.load_dataset("Machines")
    data = data.astype({name: str for name in data.columns if name != "score"})
    fit = flm.lmer("score ~ Machine + (1 | Worker)", polars.from_pandas(data))
    again = flm.lmer("score ~ Machine + (1 | Worker)", data)
    pd.testing.assert_frame_equal(fit.emmeans("Machine"), again.emmeans("Machine"), check_dtype=False)


def test_a_loaded_fit_knows_its_numbers(tmp_path):
    fit = fitted("unbalanced", "y ~ a * b + c + x * b + i + log(x + 3) + (1 | g)")
    flm.save(fit, tmp_path / "fit")
    again = flm.load(tmp_path / "fit")
    flm.save(again, tmp_path / "again")
    for loaded in (again, flm.load(tmp_path / "again")):
        for ask in (
            lambda f: f.emmeans("a", at={"x": 2}),
            lambda f: f.emmeans("a"),
            lambda f: f.emmeans("i"),
            lambda f: f.emmeans("b", var="x"),
        ):
            pd.testing.assert_frame_equal(ask(loaded), ask(fit), check_exact=True)
        with pytest.raises(flm.DataError, match="no data rows"):
            loaded.emmeans("a", weights="proportional")


def test_slopes_from_statistics():
    formula = "y ~ a * x + x:b + (1 | g)"
    fit = fitted("unbalanced", formula)
    data = table("unbalanced")
    again = flm.fit(flm.plan(formula, data).accumulate(data))
    pd.testing.assert_frame_equal(again.emmeans("a", var="x"), fit.emmeans("a", var="x"), rtol=1e-6)


def test_fits_made_from_statistics_know_means_and_sums_of_squares():
    data = table("unbalanced")
    formula = "y ~ a * b + x + (1 | g)"
    whole = flm.lmer(formula, data, weights="w")
    plan = flm.plan(formula, data, weights="w")
    stats = plan.accumulate(data.iloc[:100]).merge(plan.accumulate(data.iloc[100:]))
    fit = flm.fit(stats)
    for a, b in zip(fit.emmeans("pairwise ~ a"), whole.emmeans("pairwise ~ a")):
        pd.testing.assert_frame_equal(a, b, rtol=1e-6)
    for type in (1, 2, 3):
        pd.testing.assert_frame_equal(fit.anova(type), whole.anova(type), rtol=1e-6)
    pd.testing.assert_frame_equal(fit.contrast("x"), whole.contrast("x"), rtol=1e-6)
    with pytest.raises(flm.DataError, match="rows"):
        fit.emmeans("a", weights="proportional")


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda f: f.emmeans("Recipe"), flm.FormulaError, "'recipe'"),
        (lambda f: f.emmeans("recipe", at={"heat": 1}), flm.FormulaError, "'temp'"),
        (lambda f: f.emmeans("recipe", at={"recipe": "Z"}), flm.DataError, "no level 'Z'"),
        (lambda f: f.emmeans("recipe", at={"temp": "hot"}), flm.DataError, "number"),
        (lambda f: f.emmeans("recipe", contr="all"), ValueError, "pairwise"),
        (lambda f: f.emmeans("recipe", contr={"x": [1, -1]}), ValueError, "3 weights"),
        (lambda f: f.emmeans("recipe", contr="pairwise", adjust="best"), ValueError, "tukey"),
        (lambda f: f.emmeans("recipe", weights="all"), ValueError, "proportional"),
        (lambda f: f.emmeans("temp", at={"temp": 1}, var="recipe"), ValueError, "factor"),
        (lambda f: f.emmeans("temp", var="temp"), ValueError, "at"),
        (lambda f: f.emmeans("recipe", level=2), ValueError, "level"),
        (lambda f: f.emmeans([], contr="pairwise"), ValueError, "nothing to compare"),
        (lambda f: f.emmeans("pairwise ~ recipe", contr="poly"), ValueError, "different"),
    ],
)
def test_what_cannot_be_asked(call, error, message):
    fit = fitted("cake", "angle ~ recipe + temp + (1 | recipe:replicate)")
    with pytest.raises(error, match=message):
        call(fit)
