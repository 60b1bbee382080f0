"""Tidy frames, equations, words and the other forms of a summary."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.errors import MissingDependencyError


@pytest.fixture(scope="module")
def sleep():
    return flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def line():
    return flm.lm("Reaction ~ Days", flm.load_dataset("sleepstudy"))


def test_tidy_has_the_columns_and_names_of_broom_mixed(sleep):
    tidy = sleep.tidy(conf_level=0.9)
    assert tidy.columns.tolist() == [
        "effect", "group", "term", "estimate", "std.error", "statistic", "df", "p.value",
        "conf.low", "conf.high",
    ]  # fmt: skip
    assert tidy["term"].tolist() == [
        "Intercept", "Days", "sd__Intercept", "sd__Days", "cor__Intercept.Days", "sd__Observation",
    ]  # fmt: skip
    assert tidy["group"].tolist()[2:] == ["Subject"] * 3 + ["Residual"] and tidy["group"][:2].isna().all()
    # lme4's help page of sleepstudy
    expected = [251.405, 10.467, 24.741, 5.922, 0.066, 25.592]
    np.testing.assert_allclose(tidy["estimate"], expected, atol=6e-4)
    np.testing.assert_array_equal(tidy["p.value"][:2], sleep.pvalues)
    np.testing.assert_array_equal(tidy["conf.low"][:2], sleep.conf_int(0.1)["lower"])
    assert tidy["std.error"][2:].isna().all()


def test_tidy_random_values(sleep):
    values = sleep.tidy("ran_vals", conf_level=0.95)
    blups, cov = sleep.ranef(cond_var=True)
    assert len(values) == 36 and values["level"].iloc[0] == "308"
    np.testing.assert_array_equal(values["estimate"], blups["Subject"].to_numpy().T.ravel())
    np.testing.assert_allclose(values["std.error"][18:], np.sqrt(cov["Subject"][:, 1, 1]))
    reach = values["conf.high"] - values["estimate"]
    np.testing.assert_allclose(reach, 1.959963984540054 * values["std.error"])
    assert sleep.tidy("fixed")["effect"].unique().tolist() == ["fixed"]


def test_tidy_refuses_what_it_does_not_know(sleep):
    with pytest.raises(ValueError, match="no kind of effect 'random'; available"):
        sleep.tidy("random")
    with pytest.raises(ValueError, match="conf_level must lie"):
        sleep.tidy("ran_vals", conf_level=95)


def test_glance(sleep, line):
    row = sleep.glance()
    assert row.columns.tolist() == ["nobs", "sigma", "logLik", "AIC", "BIC", "REMLcrit", "df.residual"]
    assert row.iloc[0].tolist() == [
        180,
        sleep.sigma,
        sleep.llf,
        sleep.aic,
        sleep.bic,
        sleep.reml_criterion,
        174,
    ]
    ml = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"), reml=False).glance()
    assert (
        "deviance" in ml and "REMLcrit" not in ml and ml["deviance"][0] == pytest.approx(1751.9393, abs=1e-3)
    )
    assert line.glance()["r.squared"][0] == pytest.approx(0.2864714, abs=1e-6)


def test_augment_lines_up_with_the_data():
    data = flm.load_dataset("sleepstudy").assign(w=lambda d: 1.0 + d.Days % 3, z=5.0, other="x")
    data.loc[4, "Reaction"] = np.nan
    fit = flm.lmer("Reaction ~ Days + offset(z) + (1 | Subject)", data, weights="w")
    found = fit.augment(influence=True)
    assert (
        list(found.columns[:3]) == ["Reaction", "Days", "Subject"]
        and 4 not in found.index
        and len(found) == 179
    )
    np.testing.assert_allclose(found[".fitted"] + found[".resid"], found["Reaction"])
    np.testing.assert_allclose(found[".wtres"], found[".resid"] * np.sqrt(found["w"]))
    np.testing.assert_array_equal(found[".weights"], found["w"])
    np.testing.assert_array_equal(found[".offset"], 5.0)
    shift = found[".fitted"] - found[".fixed"]
    blups = fit.ranef()["Subject"]["Intercept"]
    np.testing.assert_allclose(shift, found["Subject"].astype(str).map(blups))
    np.testing.assert_array_equal(found[".cooksd"], fit.influence().cooks_distance)


def test_augment_of_a_linear_model_is_that_of_the_hat_matrix():
    data = flm.load_dataset("sleepstudy").assign(w=lambda d: 1.0 + d.Days % 3)
    found = flm.lm("Reaction ~ Days", data, weights="w").augment()
    X, w = np.column_stack([np.ones(180), data["Days"]]), data["w"].to_numpy()
    root = np.sqrt(w)[:, None] * X
    hat = np.diag(root @ np.linalg.solve(root.T @ root, root.T))
    np.testing.assert_allclose(found[".hat"], hat)
    assert found[".hat"].sum() == pytest.approx(2.0)
    # Cook's distance by refitting without a row
    b = np.linalg.lstsq(root, np.sqrt(w) * data["Reaction"], rcond=None)[0]
    keep = np.arange(180) != 7
    b7 = np.linalg.lstsq(root[keep], (np.sqrt(w) * data["Reaction"])[keep], rcond=None)[0]
    sigma2 = (w * (data["Reaction"] - X @ b) ** 2).sum() / 178
    cook = (b - b7) @ (root.T @ root) @ (b - b7) / (2 * sigma2)
    assert found[".cooksd"][7] == pytest.approx(cook, rel=1e-8)


def test_augment_needs_rows(sleep, tmp_path):
    flm.save(sleep, tmp_path / "a")
    with pytest.raises(flm.DataError, match="no data rows"):
        flm.load(tmp_path / "a").augment()


def test_equation_in_symbols(sleep):
    text = sleep.equation()
    assert text.startswith("\\begin{aligned}") and text.endswith("\\end{aligned}")
    assert "\\beta_{0} + \\beta_{1} \\, \\mathrm{Days}_{i}" in text
    assert "b_{1 , \\mathrm{Subject} [ i ]} \\, \\mathrm{Days}_{i}" in text
    assert "\\Sigma_{\\mathrm{Subject}}" in text
    assert text.count("{") == text.count("}")


def test_equation_with_estimates(sleep):
    assert "251.4 + 10.47 \\, \\mathrm{Days}_{i}" in sleep.equation(values=True)
    assert "612.1 & 9.604 \\\\ 9.604 & 35.07" in sleep.equation(values=True)
    assert "<mn>10.47</mn>" in sleep.equation(values=True, form="mathml")
    with pytest.raises(ValueError, match="no form 'word'"):
        sleep.equation(form="word")


def test_equation_of_terms_weights_offsets_and_odd_names():
    data = flm.load_dataset("sleepstudy").assign(w=1.0, z=0.5, f=lambda d: np.where(d.Days % 2, "a_1", "b"))
    data = data.rename(columns={"Days": "d%"})
    fit = flm.lmer("Reaction ~ `d%` * f + offset(z) + (1 + `d%` || Subject)", data, weights="w")
    text = fit.equation(values=True)
    assert "- " in text.split("\\sim")[0] and "\\mathrm{z}_{i}" in text and "/ w_{i}" in text
    assert "\\mathrm{d\\%}_{i} \\times" in text and "a\\_1" not in text
    assert "b_{0 , \\mathrm{Subject}} &\\sim" in text and "b_{1 , \\mathrm{Subject}} &\\sim" in text


def test_describe(sleep, line):
    text = sleep.describe()
    assert len(text.split("\n\n")) == 3
    assert "the intercept and Days" in text and "18 levels of Subject, with correlations" in text
    assert sleep.describe("rows") == "All 180 rows of the data were used."
    assert "least squares" in line.describe() and "random" not in line.describe().lower()
    with pytest.raises(ValueError, match="no part 'x'"):
        sleep.describe("x")


def test_words_of_a_fit_that_stopped_early():
    formula, data = "normexam ~ standLRT + (standLRT | school)", flm.load_dataset("Exam")
    with pytest.warns(flm.ConvergenceWarning):
        text = flm.lmer(formula, data, control=flm.Control(max_iter=1)).describe("certificate")
    assert "did not end at a certified minimum" in text and "a strict minimum" not in text
    assert "bends upwards in all directions" in text


def test_words_of_a_small_theta_that_is_only_a_matter_of_units():
    data = flm.load_dataset("sleepstudy").assign(Days=lambda d: 8.64e7 * d["Days"])
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", data)
    assert fit.is_singular and not fit.convergence.boundary
    for text in (fit.describe(), str(fit.summary())):
        assert "none is at its bound" in text and "a variance is zero" not in text
    assert "converged, singular" not in fit.report(plots=False)


def test_markdown_is_a_table_with_as_many_cells_in_every_row(sleep, line):
    for fit in (sleep, line):
        tables = re.findall(r"(?:^\|.*\|\n)+", fit.summary().to_markdown(), re.M)
        for table in tables:
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "| Days | 10.467 | 1.546 |" in sleep.summary().to_markdown()


def test_latex_escapes_and_aligns(sleep):
    text = sleep.summary().to_latex()
    assert text.count("\\begin{tabular}") == 2 == text.count("\\end{tabular}")
    assert "Days & 10.467 & 1.546" in text and "\\textasciitilde{}" in text
    body = re.search(r"\{l(r+)\}\n(.*?)\\end", text, re.S)
    cells = {len(re.findall(r"(?<!\\)&", row)) for row in body[2].splitlines() if "&" in row}
    assert cells == {len(body[1])}


def test_html_of_the_summary(sleep):
    assert sleep.summary().to_html() == sleep.summary()._repr_html_()


def test_great_tables(sleep, line):
    pytest.importorskip("great_tables")
    table = sleep.summary().to_great_tables(conf_level=0.9)
    page = table.as_raw_html()
    cells = ["Reaction ~ Days + (Days | Subject)", "Fixed effects", "Random effects", "Subject: sd of Days"]
    cells += ["Subject: correlation of Intercept, Days", "10.47", "5.922", "90% interval", "180 rows"]
    assert not [cell for cell in cells if cell not in page]
    low, high = sleep.conf_int(0.1).loc["Days"]
    assert f"{low:.4g}" in page and f"{high:.4g}" in page
    with_kr = sleep.summary("kenward-roger").to_great_tables(0.9).as_raw_html()
    assert "Kenward-Roger's" in with_kr.replace("&#39;", "'").replace("&#x27;", "'")
    assert "Random effects" not in line.summary().to_great_tables().as_raw_html()


def test_great_tables_escape_labels():
    pytest.importorskip("great_tables")
    evil = "<script>alert(1)</script>"
    y = np.random.default_rng(1).normal(size=48)
    data = pd.DataFrame({"<b>y": y, "f": np.tile(["!", evil], 24), "g<i>": np.repeat([*"abcdefgh"], 6)})
    page = flm.lmer("`<b>y` ~ f + (1 | `g<i>`)", data).summary().to_great_tables().as_raw_html()
    assert "&lt;script&gt;alert" in page
    assert not [mark for mark in ("<script", "<b>y", "g<i>", "&amp;lt;") if mark in page]


def test_great_tables_that_are_not_installed(sleep, monkeypatch):
    monkeypatch.setitem(sys.modules, "great_tables", None)
    with pytest.raises(MissingDependencyError, match="pip install great_tables"):
        sleep.summary().to_great_tables()


def schema(value):
    """Keys and types, lists by their first entry."""
    if isinstance(value, dict):
        return {key: schema(item) for key, item in value.items()}
    if isinstance(value, list):
        return [schema(value[0])] if value else []
    return type(value).__name__


MIXED_SCHEMA = {
    "schema": "int", "kind": "str", "formula": "str", "response": "str", "method": "str",
    "weights": "NoneType",
    "rows": {"used": "int", "given": "int", "dropped": "int", "reasons": {}},
    "fixed_effects": [
        {"term": "str", "estimate": "float", "std_error": "float", "df": "float", "statistic": "float",
         "p_value": "float", "conf_low": "float", "conf_high": "float"}
    ],
    "random_effects": [
        {"group": "str", "var1": "str", "var2": "NoneType", "vcov": "float", "sdcor": "float"}
    ],
    "sigma": "float", "theta": ["float"], "groups": {"Subject": "int"},
    "criteria": {"log_likelihood": "float", "aic": "float", "bic": "float", "deviance": "float",
                 "reml_criterion": "float", "n_parameters": "int", "df_resid": "int"},
    "residuals": dict.fromkeys(["Min", "1Q", "Median", "3Q", "Max"], "float"),
    "icc": {"adjusted": "float", "unadjusted": "float"}, "r2": {"marginal": "float", "conditional": "float"},
    "convergence": {"converged": "bool", "singular": "bool", "reason": "str", "iterations": "int",
                    "newton_decrement": "float", "max_scaled_gradient": "float",
                    "min_hessian_eigenvalue": "float", "boundary": []},
    "seconds": dict.fromkeys(["frame", "design", "cross-products", "optimise", "inference"], "float"),
}  # fmt: skip


def test_plain_values_keep_their_schema(sleep, line):
    found = sleep.summary().to_dict()
    assert schema(found) == MIXED_SCHEMA
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["fixed_effects"][1]["estimate"] == sleep.params["Days"]
    plain = line.summary().to_dict()
    json.dumps(plain, allow_nan=False)
    assert plain["kind"] == "linear" and plain["r2"]["r2"] == pytest.approx(0.2864714, abs=1e-6)


def test_what_is_missing_is_none():
    data = flm.load_dataset("sleepstudy").assign(twice=lambda d: 2 * d.Days)
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("Reaction ~ Days + twice + (1 | Subject)", data)
    found = json.loads(json.dumps(fit.summary().to_dict(), allow_nan=False))
    assert found["fixed_effects"][2]["estimate"] is None
    assert pd.isna(fit.tidy()["estimate"][2])
    assert "twice" not in fit.equation()
