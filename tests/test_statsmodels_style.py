"""statsmodels' arguments: the translation, and the fits against those statsmodels made itself."""

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels_reference as reference

import fastlmm_core as flm
from fastlmm_core.statsmodels import mixedlm, translate

STORED = json.loads(reference.STORED.read_text())

TRANSLATIONS = {
    "intercept": "Reaction ~ Days + (1 | Subject)",
    "slope": "Reaction ~ Days + (Days | Subject)",
    "slope only": "Reaction ~ Days + (0 + Days | Subject)",
    "independent": "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)",
    "nested": "Reaction ~ Days + (1 | Subject:Half)",
    "pigs": "Weight ~ Time * Feed + (Time | Pig)",
    "litters": "Weight ~ Time + (1 | Litter) + (1 | Litter:Pig) + (0 + Time | Litter:Pig)",
    "crossed": "diameter ~ 1 + (1 | plate) + (1 | sample)",
}


def test_every_case_is_stored():
    assert set(STORED) == {f"{name}, {how}" for name in reference.CASES for how in ("REML", "ML")}


@pytest.mark.parametrize("case", STORED)
def test_the_fit_is_that_of_statsmodels(case):
    name, how = case.rsplit(", ", 1)
    make, formula, options = reference.CASES[name]
    expected, fit = STORED[case], mixedlm(formula, make(), reml=how == "REML", **options)
    assert fit.translation == TRANSLATIONS[name] == fit.formula and fit.method == how
    # not below their optimum, whose search stops at a gradient of 1e-5
    assert -1e-8 < fit.llf - expected["llf"] < 1e-6
    params = fit.params[list(expected["params"])]
    np.testing.assert_allclose(params, list(expected["params"].values()), rtol=1e-5)
    # their standard errors come from the Hessian in all parameters, not from beta's block alone
    np.testing.assert_allclose(fit.bse[list(expected["params"])], expected["bse"], rtol=1e-3)
    np.testing.assert_allclose(fit.scale, expected["scale"], rtol=1e-4)
    if expected["cov_re"] and not expected["vcomp"]:
        np.testing.assert_allclose(fit.cov_re[options["groups"]], expected["cov_re"], rtol=2e-3)
    table = fit.varcorr()
    variances = np.sort(table[table["var2"].isna()]["vcov"])
    theirs = [
        *expected["vcomp"].values(),
        *np.diag(np.reshape(expected["cov_re"], [int(np.size(expected["cov_re"]) ** 0.5)] * 2)),
    ]
    np.testing.assert_allclose(variances, np.sort([*theirs, expected["scale"]]), rtol=1e-3)


@pytest.mark.parametrize("name", ["slope", "nested"])
def test_the_stored_numbers_are_those_of_statsmodels(name):
    pytest.importorskip("statsmodels")
    found = reference.run(name, True)
    assert found["llf"] == pytest.approx(STORED[f"{name}, REML"]["llf"], abs=1e-6)
    assert found["scale"] == pytest.approx(STORED[f"{name}, REML"]["scale"], rel=1e-4)


def test_groups_as_an_array():
    data = reference.sleepstudy()
    named = mixedlm("Reaction ~ Days", data, groups="Subject")
    for groups in (data["Subject"].to_numpy(), data["Subject"], data["Subject"].rename("Days")):
        fit = mixedlm("Reaction ~ Days", data, groups=groups)
        assert fit.llf == pytest.approx(named.llf, abs=1e-9)
    assert list(data.columns) == ["Reaction", "Days", "Subject", "Half"]
    assert mixedlm("Reaction ~ Days", data, groups=list(data["Subject"])).translation.endswith("(1 | group)")


def test_missing_rows_and_weights():
    data = reference.sleepstudy().assign(w=2.0)
    data.loc[3, "Reaction"] = np.nan
    assert mixedlm("Reaction ~ Days", data, groups="Subject", weights="w").n_dropped == 1
    with pytest.raises(flm.DataError, match="Reaction"):
        mixedlm("Reaction ~ Days", data, groups="Subject", missing="raise")
    with pytest.raises(ValueError, match="missing is"):
        mixedlm("Reaction ~ Days", data, groups="Subject", missing="none")


@pytest.mark.parametrize(
    "vc, bar",
    [
        ("0 + C(b)", "(1 | g:b)"),
        ("~ 0 + C(b)", "(1 | g:b)"),
        ("C(b) - 1", "(1 | g:b)"),
        ("-1 + x", "(0 + x | g)"),
        ("0 + C(b):x", "(0 + x | g:b)"),
        ("0 + f", "(1 | g:f)"),
        ("0 + C(b):f", "(1 | g:b:f)"),
        ("0 + C(`odd name`)", "(1 | g:`odd name`)"),
        ("1", "(1 | g)"),
    ],
)
def test_translation_of_components(vc, bar):
    columns = {"g": [1, 2], "b": [1, 2], "x": [1.0, 2.0], "f": ["u", "v"], "odd name": [1, 2]}
    assert translate("y ~ x", pd.DataFrame(columns), "g", None, {"v": vc}) == f"y ~ x + {bar}"


@pytest.mark.parametrize(
    "options, words",
    [
        ({"vc_formula": {"v": "0 + C(b) + x"}}, "one term without an intercept"),
        ({"vc_formula": {"v": "C(b)"}}, "one term without an intercept"),
        ({"vc_formula": {"v": "0 + C(b)*x"}}, "one term without an intercept"),
        ({"re_formula": "0"}, "no random effects"),
    ],
)
def test_what_has_no_translation(options, words):
    data = pd.DataFrame({"g": [1, 2], "b": [1, 2], "x": [1.0, 2.0]})
    with pytest.raises(flm.FormulaError, match=words):
        translate("y ~ x", data, "g", **options)


def test_what_one_group_cannot_identify():
    data = pd.DataFrame({"g": [1, 1], "x": [1.0, 2.0]})
    for options in ({}, {"vc_formula": {"v": "1"}}, {"vc_formula": {"v": "0 + x"}}):
        with pytest.raises(flm.FormulaError, match="not identified|needs groups"):
            translate("y ~ x", data, "g", **options)
    with pytest.raises(flm.FormulaError, match="missing"):
        mixedlm("y ~ x", data)
    with pytest.raises(flm.FormulaError, match="no column 'h'"):
        mixedlm("y ~ x", data, groups="h")
    with pytest.raises(flm.DataError, match="shape"):
        mixedlm("y ~ x", data, groups=[1, 2, 3])


def test_slips_are_named():
    data = flm.load_dataset("sleepstudy")
    with pytest.raises(flm.FormulaError, match="no column 'Subjekt' to group by: did you mean 'Subject'"):
        mixedlm("Reaction ~ Days", data, groups="Subjekt")
    with pytest.raises(TypeError, match="vc_formula is a dict such as"):
        mixedlm("Reaction ~ Days", data, groups="Subject", vc_formula="0 + Days")
    with pytest.raises(TypeError, match="'use_sqrt' is no option here: options are those of lmer"):
        mixedlm("Reaction ~ Days", data, groups="Subject", use_sqrt=True)
