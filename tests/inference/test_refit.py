"""The same model on another response is the model fitted to it from the rows."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

MODELS = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)", None),
    ("sleepstudy", "Reaction ~ Days + offset(Days) + (1 | Subject)", None),
    ("cbpp", "incidence ~ period + (1 | herd)", "size"),
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", None),
    ("Pastes", "strength ~ 1 + (1 | batch/cask)", None),
]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name, formula, weights", MODELS)
def test_as_fitted_from_the_rows(name, formula, weights, reml):
    frame = flm.load_dataset(name).copy()
    fit = flm.lmer(formula, frame, reml=reml, weights=weights)
    before = fit.params.copy(), fit.theta
    y = 1e3 + 7 * fit.simulate(seed=3)["sim_1"]
    again = fit.refit(y)
    frame[fit.response_name] = y
    expected = flm.lmer(formula, frame, reml=reml, weights=weights)
    assert again.llf == pytest.approx(expected.llf, abs=1e-7)
    np.testing.assert_allclose(again.params, expected.params, rtol=1e-7)
    np.testing.assert_allclose(again.varcorr()["vcov"], expected.varcorr()["vcov"], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(again.fittedvalues, expected.fittedvalues, rtol=1e-5)
    np.testing.assert_allclose(again.df, expected.df, rtol=1e-3)
    assert again.converged and again.formula == fit.formula
    pd.testing.assert_series_equal(before[0], fit.params)
    np.testing.assert_array_equal(before[1], fit.theta)


def test_its_own_response_gives_itself():
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", frame)
    again = fit.refit(frame["Reaction"].to_numpy())
    assert again.llf == pytest.approx(fit.llf, abs=1e-10)
    np.testing.assert_allclose(again.theta, fit.theta, rtol=1e-6)
    np.testing.assert_allclose(again.resid, fit.resid, atol=1e-5)


def test_aliased_columns_stay_aliased():
    frame = flm.load_dataset("sleepstudy").copy()
    frame["twice"] = 2 * frame["Days"] + 1
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("Reaction ~ twice + Days + (1 | Subject)", frame)
        y = 5 + fit.simulate(seed=1)["sim_1"]
        frame["Reaction"] = y
        expected = flm.lmer("Reaction ~ twice + Days + (1 | Subject)", frame)
    np.testing.assert_allclose(fit.refit(y).params, expected.params, rtol=1e-8)


def test_missing_rows_are_looked_up_by_label():
    frame = flm.load_dataset("sleepstudy").copy()
    frame.loc[[3, 50], "Days"] = np.nan
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", frame)
    doubled = 2 * frame["Reaction"]
    assert fit.refit(doubled).sigma == pytest.approx(2 * fit.sigma, rel=1e-7)
    assert fit.refit(doubled.dropna().loc[fit.resid.index]).sigma == pytest.approx(2 * fit.sigma, rel=1e-7)


def test_responses_that_cannot_be_fitted(tmp_path):
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", frame)
    y = frame["Reaction"].copy()
    with pytest.raises(flm.DataError, match="shape"):
        fit.refit(y.to_numpy()[1:])
    y[7] = np.nan
    with pytest.raises(flm.DataError, match="missing.* 7"):
        fit.refit(y)
    with pytest.raises(flm.DataError, match="numeric"):
        fit.refit(["a"] * 180)
    with pytest.raises(flm.ModelError):
        fit.refit(np.full(180, 3.0))
    with pytest.raises(flm.ModelError):
        fit.refit(1 + 2.0 * frame["Days"])
    flm.save(fit, tmp_path / "fit", statistics=False)
    with pytest.raises(flm.DataError, match="file"):
        flm.load(tmp_path / "fit").refit(y)
