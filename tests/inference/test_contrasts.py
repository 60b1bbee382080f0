"""Contrasts: their text, their numbers, and what aliased columns allow."""

import doctest
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference.contrasts import hypotheses, read_equation
from fastlmm_core.results import testing

NAMES = ("Intercept", "x", "x2", "f[T.b]", "f[T.b]:x", "I(x ** 2)", "my name", "a-b")


def row(**values):
    return [values.get(name, 0.0) for name in NAMES]


@pytest.mark.parametrize(
    "text, expected, constant",
    [
        ("x", row(x=1), 0),
        ("2*x + Intercept = 250", row(x=2, Intercept=1), 250),
        ("x - f[T.b] = 0", {"x": 1, "f[T.b]": -1}, 0),
        ("f[T.b]:x-x2/4", {"f[T.b]:x": 1, "x2": -0.25}, 0),
        ("-(x + 3*x2)*2 = 1 - x", {"x": -1, "x2": -6}, 1),
        ("`my name` + my name = 1e-3", {"my name": 2}, 1e-3),
        ("I(x ** 2) * 3 - x", {"I(x ** 2)": 3, "x": -1}, 0),
        ("a-b - a-b + x", row(x=1), 0),
        ("1 + x = 2*x", row(x=-1), -1),
        ("x/2 = x2 + .5", {"x": 0.5, "x2": -1}, 0.5),
    ],
)
def test_reads_equations(text, expected, constant):
    l, c = read_equation(text, NAMES)
    expected = [expected.get(name, 0.0) for name in NAMES] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(l, expected)
    assert c == pytest.approx(constant)


@pytest.mark.parametrize(
    "text, message",
    [
        ("x + y3", "no coefficient or number|missing here"),
        ("Intercep", "Intercept"),
        ("x * x2", "not linear"),
        ("x / x2", "divided by a number"),
        ("x / 0", "not by 0"),
        ("(x + x2", "closing parenthesis"),
        ("x = 1 = 2", "does not continue"),
        ("f[T.c]", "f\\[T.b\\]"),
        ("3 = 2", "names no coefficient"),
        ("`nope` = 2", "no such coefficient"),
        ("", "missing here"),
    ],
)
def test_refuses_text_with_the_place(text, message):
    with pytest.raises(flm.FormulaError, match=message):
        read_equation(text, NAMES)


def test_forms_of_hypotheses():
    names = ("Intercept", "x")
    np.testing.assert_array_equal(hypotheses([1, 2], names).L, [[1, 2]])
    np.testing.assert_array_equal(hypotheses(np.eye(2), names, [3, 4]).rhs, [3, 4])
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=["one", "two"])
    found = hypotheses(frame, names)
    np.testing.assert_array_equal(found.L, [[0, 1], [0, 2]])
    assert found.labels == ("one", "two")
    np.testing.assert_array_equal(hypotheses(pd.Series({"x": 2.0}), names).L, [[0, 2]])
    np.testing.assert_array_equal(hypotheses(["x = 1", "x - 1"], names, 1.0).rhs, [2, 2])
    for wrong in ([1, 2, 3], [[np.nan, 1]], np.zeros((0, 2))):
        with pytest.raises(ValueError):
            hypotheses(wrong, names)
    with pytest.raises(ValueError, match="rhs"):
        hypotheses(np.eye(2), names, [1, 2, 3])
    with pytest.raises(flm.FormulaError, match="'x'"):
        hypotheses(pd.DataFrame({"X": [1.0]}), names)


@pytest.fixture(scope="module")
def sleep():
    return flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_a_coefficient_is_its_own_contrast(sleep, ddf):
    table = sleep.contrast(np.eye(2), ddf=ddf)
    limits = sleep.conf_int(method=ddf)
    np.testing.assert_allclose(table[["lower", "upper"]], limits, rtol=1e-10)
    np.testing.assert_allclose(table["estimate"], sleep.params)
    if ddf == "satterthwaite":
        np.testing.assert_allclose(table["df"], sleep.df, rtol=1e-8)
        np.testing.assert_allclose(table["p"], sleep.pvalues, rtol=1e-8)


def test_contrast_by_hand(sleep):
    # lmerTest::contest1D(fit, c(1, 9), rhs = 300) and get_Lb_ddf
    table = sleep.contrast("Intercept + 9*Days = 300", level=0.9).iloc[0]
    C, l = sleep.cov_params().to_numpy(), np.array([1.0, 9.0])
    assert table["estimate"] == pytest.approx(l @ sleep.params)
    assert table["std_error"] == pytest.approx(np.sqrt(l @ C @ l))
    assert table["t"] == pytest.approx((table["estimate"] - 300) / table["std_error"])
    assert table["df"] == pytest.approx(17.0, rel=1e-3)
    assert table["p"] == pytest.approx(2 * stats.t.sf(table["t"], table["df"]))
    reach = stats.t.ppf(0.95, table["df"]) * table["std_error"]
    assert table["upper"] - table["estimate"] == pytest.approx(reach)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_joint_test_of_one_row_is_t_squared(sleep, ddf):
    single = sleep.contrast("Days = 5", ddf=ddf).iloc[0]
    joint = sleep.contrast("Days = 5", ddf=ddf, joint=True).iloc[0]
    assert joint["F"] == pytest.approx(single["t"] ** 2)
    assert (joint["num_df"], joint["den_df"]) == (1, pytest.approx(single["df"]))
    assert joint["p"] == pytest.approx(single["p"])
    both = sleep.contrast(["Days = 5", "2*Days = 10"], ddf=ddf, joint=True).iloc[0]
    assert both["F"] == pytest.approx(joint["F"]) and both["num_df"] == 1


def test_unknown_names_and_methods(sleep):
    with pytest.raises(flm.FormulaError, match="did you mean 'Days'"):
        sleep.contrast("Dyas = 0")
    with pytest.raises(ValueError, match="kenward-roger"):
        sleep.contrast("Days", ddf="exact")
    with pytest.raises(ValueError, match="level"):
        sleep.contrast("Days", level=95)


def missing_cell(numeric):
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {"a": rng.choice(list("pqr"), 120), "b": rng.choice(list("uv"), 120), "g": rng.integers(0, 12, 120)}
    )
    table = table[~((table["a"] == "r") & (table["b"] == "v"))].reset_index(drop=True)
    table["x"] = rng.normal(size=len(table))
    table["z"] = 2 * table["x"] + 1
    table["y"] = rng.normal(size=len(table)) + rng.normal(size=12)[table["g"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        formula = "y ~ x + z + (1 | g)" if numeric else "y ~ a * b + x + (1 | g)"
        return flm.lmer(formula, table)


def test_estimability_with_an_empty_cell():
    fit = missing_cell(False)
    assert np.isnan(fit.params["a[T.r]:b[T.v]"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = fit.contrast(["a[T.q]:b[T.v]", "a[T.r] - a[T.q]", "x"])
    assert np.isfinite(good.to_numpy()).all()
    with pytest.warns(flm.RankWarning, match=r"not estimable.*a\[T.r\]:b\[T.v\]"):
        mixed = fit.contrast(["x", "b[T.v] + a[T.r]:b[T.v]"])
    assert np.isfinite(mixed.iloc[0]).all() and mixed.iloc[1].isna().all()
    with pytest.warns(flm.RankWarning):
        assert fit.contrast("a[T.r]:b[T.v]", joint=True).isna().all(axis=None)


def test_estimability_with_collinear_numbers():
    fit = missing_cell(True)  # z = 1 + 2 x was dropped: x and z only as x + 2 z, and z needs the intercept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = fit.contrast("Intercept + x + 3*z")  # the mean at x = 1, z = 3
    assert good["estimate"].iloc[0] == pytest.approx(fit.params["Intercept"] + fit.params["x"])
    for text in ("x", "z", "Intercept"):
        with pytest.warns(flm.RankWarning):
            assert fit.contrast(text).isna().all(axis=None)


def test_a_loaded_fit_tests_contrasts(sleep, tmp_path):
    sleep.cov_params("kenward-roger")
    flm.save(sleep, tmp_path / "fit")
    again = flm.load(tmp_path / "fit")
    for ddf in ("satterthwaite", "kenward-roger"):
        pd.testing.assert_frame_equal(again.contrast("Days", ddf=ddf), sleep.contrast("Days", ddf=ddf))


def test_linear_models_use_residual_degrees_of_freedom():
    table = flm.load_dataset("cake")
    fit = flm.lm("angle ~ recipe + temp", table)
    rows = fit.contrast(["recipe[T.B]", "recipe[T.C]"])
    np.testing.assert_allclose(rows["p"], fit.pvalues[rows.index], rtol=1e-10)
    F = fit.contrast(["recipe[T.B]", "recipe[T.C]"], joint=True).iloc[0]
    smaller = flm.lm("angle ~ temp", table)
    rss = [(f.resid**2).sum() for f in (smaller, fit)]
    assert F["F"] == pytest.approx((rss[0] - rss[1]) / 2 / fit.scale)
    assert (F["num_df"], F["den_df"]) == (2, fit.df_resid)


@pytest.mark.parametrize(
    "rows, ddf, expected",
    [
        # contestMD of lmerTest 3.1-3: F, NumDF, DenDF
        (["a[T.q]", "a[T.r]", "a[T.q] - a[T.r]"], "kenward-roger", (9.637584178, 2, 235.2357572)),
        (["a[T.q] = 1", "a[T.r] = 0.2"], "kenward-roger", (0.8528913647, 2, 235.2357572)),
        (["a[T.q] = 1", "a[T.r] = 0.2"], "satterthwaite", (0.8768091622, 2, 236.444183)),
    ],
)
def test_joint_tests_of_lmertest(rows, ddf, expected):
    table = pd.read_csv(Path(__file__).parents[1] / "reference" / "emmeans" / "unbalanced.csv")
    fit = flm.lmer(
        "y ~ a * b + x + (x | g)", table.astype({"a": "category", "b": "category", "g": "category"})
    )
    found = fit.contrast(rows, joint=True, ddf=ddf).iloc[0]
    np.testing.assert_allclose(found[["F", "num_df", "den_df"]].astype(float), expected, rtol=1e-5)


def test_examples_of_the_documentation():
    failed, attempted = doctest.testmod(testing)
    assert attempted > 6 and failed == 0


def test_contrasts_of_one_family_are_adjusted():
    fit = flm.lmer("score ~ Machine + (1 | Worker / Machine)", flm.load_dataset("Machines"))
    rows = ["Machine[T.B] = 0", "Machine[T.C] = 0", "Machine[T.B] - Machine[T.C] = 0"]
    for adjust in ("mvt", "bonferroni", "holm", "fdr", "sidak", "scheffe", "none"):
        found = fit.contrast(rows, adjust=adjust)
        pairs = fit.emmeans("Machine", contr="pairwise", adjust=adjust).contrasts
        np.testing.assert_allclose(found["p"], pairs["p"], rtol=1e-9)
        widths = [table["upper"] - table["lower"] for table in (found, pairs)]
        np.testing.assert_allclose(*widths, rtol=1e-9)
    with pytest.raises(ValueError, match="mvt"):
        fit.contrast(rows, adjust="tukey")


def test_weights_by_coefficient():
    fit = flm.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", flm.load_dataset("cake"))
    expected = fit.contrast("recipe[T.B] - 2*recipe[T.C]")
    weights = {"recipe[T.B]": 1.0, "recipe[T.C]": -2.0}
    for given in (weights, pl.DataFrame({name: [value] for name, value in weights.items()})):
        np.testing.assert_allclose(fit.contrast(given), expected)
    with pytest.raises(flm.FormulaError, match="did you mean 'recipe"):
        fit.contrast({"recipeB": 1.0})


def test_a_nested_fit_as_hypothesis():
    cake = flm.load_dataset("cake")
    large = flm.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
    small = flm.lmer("angle ~ recipe + (1 | recipe:replicate)", cake)
    # by name where columns are left out, each with its own row
    found = large.contrast(small)
    assert list(found.index) == ["temp", "recipe[T.B]:temp", "recipe[T.C]:temp"]
    pd.testing.assert_frame_equal(found, large.contrast(list(found.index)), check_names=False)
    # the same space in another coding: the restrictions are other rows of the same test
    sums = flm.lm("angle ~ recipe", cake, contrasts={"recipe": "sum"})
    for other in (sums, flm.lm("angle ~ 0 + recipe", cake)):
        joint = large.contrast(other, joint=True)
        pd.testing.assert_frame_equal(joint, large.contrast(small, joint=True), rtol=1e-7)
    # a curve against a line: restrictions that no coefficient has for itself
    curve = flm.lm("angle ~ recipe + factor(temp)", cake)
    line = flm.lm("angle ~ recipe + temp", cake)
    rss = [fit.df_resid * fit.scale for fit in (curve, line)]
    F = (rss[1] - rss[0]) / 4 / curve.scale
    assert curve.contrast(line, joint=True)["F"].iloc[0] == pytest.approx(F, rel=1e-8)


def test_fits_that_are_no_hypothesis():
    cake = flm.load_dataset("cake")
    fit = flm.lmer("angle ~ recipe + (1 | recipe:replicate)", cake)
    with pytest.raises(flm.ModelError, match="'temp'.*no combination"):
        fit.contrast(flm.lm("angle ~ temp", cake))
    with pytest.raises(flm.ModelError, match="nothing to test"):
        fit.contrast(flm.lm("angle ~ recipe", cake))
    with pytest.raises(flm.DataError, match="other data"):
        fit.contrast(flm.lm("angle ~ 1", cake.iloc[:100]))
    # without rows names decide
    planned = flm.plan("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
    summed = flm.fit(planned.accumulate(cake))
    assert list(summed.contrast(fit).index) == ["temp"]
    with pytest.raises(flm.ModelError, match="names"):
        summed.contrast(flm.lm("angle ~ I(temp / 10)", cake))
