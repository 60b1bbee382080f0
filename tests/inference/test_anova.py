"""Tables of terms against lmerTest, and their hypotheses on unbalanced data."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference import names
from reference.loader import case, data, ids
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference import cells


@cache
def fitted(id):
    recorded = case(id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        return flm.lmer(
            recorded["formula"], data(recorded["dataset"]), reml=recorded["reml"], weights=recorded["weights"]
        )


TABLES = [
    ("type1_satterthwaite", 1, None),
    ("type2_satterthwaite", "II", "satterthwaite"),
    ("type3_satterthwaite", 3, "satterthwaite"),
    ("type3_kenward_roger", "III", "kenward-roger"),
]


@pytest.mark.reference
@pytest.mark.parametrize("key, type, ddf", TABLES)
@pytest.mark.parametrize("id", ids("lmer"))
def test_tables_of_lmertest(id, key, type, ddf):
    table = (case(id).get("anova") or {}).get(key)
    if not table or "F" not in table:
        pytest.skip("not recorded")
    close(fitted(id).anova(type, ddf), table)


def sorted_term(term):
    return ":".join(sorted(names.plain(piece) for piece in str(term).split(":")))


def close(ours, table, df=2e-3):
    terms = [sorted_term(term) for term in np.atleast_1d(table["terms"])]
    ours = ours.set_axis([sorted_term(term) for term in ours.index], axis=0).loc[terms]
    theirs = pd.DataFrame({name: np.atleast_1d(table[name]) for name in ours.columns})
    theirs = theirs.replace({"NA": "nan"}).astype(float)
    np.testing.assert_array_equal(ours["num_df"], theirs["num_df"])
    np.testing.assert_allclose(ours["den_df"], theirs["den_df"], rtol=df)
    for name in ("sum_sq", "mean_sq", "F"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
    p = theirs["p"]
    expected = stats.f.sf(ours["F"], ours["num_df"], ours["den_df"])
    np.testing.assert_allclose(ours["p"], expected, rtol=1e-6)
    np.testing.assert_allclose(ours["p"], p, rtol=2e-2, atol=1e-6)


EMMEANS = Path(__file__).parents[1] / "reference" / "emmeans"
RECORDED = json.loads((EMMEANS / "anova.json").read_text())


def unbalanced():
    table = pd.read_csv(EMMEANS / "unbalanced.csv")
    return table.astype({name: "category" for name in ("a", "b", "c", "c2", "g")})


@pytest.mark.parametrize(
    "recorded", RECORDED, ids=[f"{r['formula']} {r['contrasts']} {r['weighted']:d}" for r in RECORDED]
)
def test_unbalanced_data(recorded):
    table = unbalanced()
    coding = {} if recorded["contrasts"] == "treatment" else dict.fromkeys("abc", recorded["contrasts"])
    coding = {name: value for name, value in coding.items() if f" {name} " in recorded["formula"]}
    if "c2" in recorded["formula"] and coding:
        coding["c2"] = recorded["contrasts"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        fit = flm.lmer(
            recorded["formula"], table, weights="w" if recorded["weighted"] else None, contrasts=coding
        )
        for key, found in recorded["tables"].items():
            ddf = "kenward-roger" if key == "kenward_roger" else "satterthwaite"
            close(fit.anova(3 if key == "kenward_roger" else int(key[-1]), ddf), found)


def test_type_three_does_not_depend_on_the_coding():
    table = unbalanced()
    tables = [
        flm.lmer("y ~ a * b * c + x + (1 | g)", table, contrasts=dict.fromkeys("abc", coding)).anova()
        for coding in ("treatment", "sum", "helmert")
    ]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], rtol=1e-5)


def test_type_one_of_a_linear_model_is_sequential():
    table = unbalanced()
    fit = flm.lm("y ~ a * b + x", table, weights="w")
    found = fit.anova(1)
    formulas = ["y ~ 1", "y ~ a", "y ~ a + b", "y ~ a + b + x", "y ~ a + b + x + a:b"]
    rss = []
    for formula in formulas:
        smaller = flm.lm(formula, table, weights="w")
        rss.append(float((table["w"] * smaller.resid**2).sum()))
    assert list(found.index) == ["a", "b", "x", "a:b"]
    np.testing.assert_allclose(found["sum_sq"], -np.diff(rss), rtol=1e-8)
    assert (found["den_df"] == fit.df_resid).all()


def test_many_rows_give_the_same_hypotheses(monkeypatch):
    table = unbalanced()
    fit = flm.lmer("y ~ a * b + x + (1 | g)", table, weights="w")
    monkeypatch.setattr(cells, "BLOCK", 170)
    monkeypatch.setattr(cells, "MOST_CELLS", 2)
    again = flm.lmer("y ~ a * b + x + (1 | g)", table, weights="w")
    for type in (1, 2, 3):
        pd.testing.assert_frame_equal(again.anova(type), fit.anova(type), rtol=1e-8)


def test_numbers_that_are_collinear_in_the_data():
    table = unbalanced()
    table["x2"] = np.where(table["a"] == "p", table["x"], 0.0)  # comes before a:x and takes its first column
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("y ~ a + a:x + x2 + (1 | g)", table)
    kept = [name for name in fit.params.index if ":x" in name and np.isfinite(fit.params[name])]
    assert len(kept) == 2
    L = np.array([[float(name == other) for other in fit.params.index] for name in kept])
    F, q, df, _ = fit._method(None).joint(L[:, fit._kept], fit._beta[fit._kept], 0.0)
    row = fit.anova().loc["a:x"]
    np.testing.assert_allclose(row[["F", "num_df", "den_df"]], [F, q, df], rtol=1e-6)


def test_a_loaded_fit_tests_terms_without_rows(tmp_path):
    fit = flm.lmer("y ~ a * b + x + (1 | g)", unbalanced())
    flm.save(fit, tmp_path / "fit")
    again = flm.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(again.anova(), fit.anova(), rtol=1e-9)
    pd.testing.assert_frame_equal(again.anova(1), fit.anova(1), rtol=1e-9)


def test_what_cannot_be_asked():
    fit = fitted("cake_factor_reml")
    with pytest.raises(ValueError, match="type"):
        fit.anova(4)
    with pytest.raises(ValueError, match="satterthwaite"):
        fit.anova(ddf="none")
    empty = flm.lmer("angle ~ 1 + (1 | replicate)", data("cake")).anova()
    assert empty.empty and list(empty.columns) == ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p"]


@pytest.mark.parametrize("type", [1, 2, 3])
def test_hypotheses_are_what_is_tested(type):
    cake = flm.load_dataset("cake").iloc[:-9]
    mixed = flm.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
    for fit in (mixed, flm.lm("angle ~ recipe * temp", cake)):
        table, tests = fit.anova(type=type), fit.hypotheses(type)
        assert list(tests) == list(table.index)
        for term, L in tests.items():
            found = fit.contrast(L, joint=True).iloc[0]
            assert [found["F"], found["den_df"]] == pytest.approx(table.loc[term, ["F", "den_df"]].tolist())
    # lmerTest's show_tests on the complete data
    fit = flm.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", flm.load_dataset("cake"))
    if type == 1:
        expected = [[0, 1, -0.5, 0, 200, -100], [0, 0, 1, 0, 0, 200]]
        np.testing.assert_allclose(fit.hypotheses(1)["recipe"], expected, atol=1e-9)
    np.testing.assert_allclose(fit.hypotheses(3)["temp"], [[0, 0, 0, 1, 1 / 3, 1 / 3]], atol=1e-9)
