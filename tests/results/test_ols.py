"""Least squares against explicit linear algebra."""

import numpy as np
import pytest
from reference.loader import case, data

import fastlmm_core as flm


@pytest.fixture(scope="module")
def frame():
    sleep = flm.load_dataset("sleepstudy")
    rng = np.random.default_rng(1)
    return sleep.assign(v=rng.uniform(0.5, 2, 180), z=rng.normal(size=180), Days=sleep["Days"] + 0.0)


def test_weighted_by_hand(frame):
    fit = flm.lm("Reaction ~ Days + z", frame, weights="v")
    X = np.column_stack([np.ones(180), frame["Days"], frame["z"]])
    W = np.diag(frame["v"])
    y = frame["Reaction"].to_numpy()
    Q = np.linalg.inv(X.T @ W @ X)
    beta = Q @ X.T @ W @ y
    r = y - X @ beta
    s2 = r @ W @ r / 177
    np.testing.assert_allclose(fit.params, beta, rtol=1e-10)
    np.testing.assert_allclose(fit.cov_params(), s2 * Q, rtol=1e-9)
    np.testing.assert_allclose(fit.resid, r, atol=1e-9)
    np.testing.assert_allclose(fit.resid_scaled, np.sqrt(frame["v"]) * r / np.sqrt(s2), atol=1e-9)
    llf = 0.5 * (np.log(frame["v"]).sum() - 180 * (1 + np.log(2 * np.pi * (r @ W @ r) / 180)))
    assert fit.llf == pytest.approx(llf, rel=1e-12)
    mean = (frame["v"] @ y) / frame["v"].sum()
    assert fit.rsquared == pytest.approx(1 - (r @ W @ r) / ((y - mean) @ W @ (y - mean)), rel=1e-10)
    assert fit.df_resid == 177 and fit.df_modelwc == 4


def test_aliased_columns(frame):
    with pytest.warns(flm.RankWarning, match="Days"):
        fit = flm.lm("Reaction ~ twice + Days", frame.assign(twice=frame["Days"] * 2))  # the later one goes
    assert list(fit.params.isna()) == [False, False, True]
    plain = flm.lm("Reaction ~ Days", frame)
    np.testing.assert_allclose(fit.fittedvalues, plain.fittedvalues, rtol=1e-10)
    lines = str(fit.summary()).splitlines()
    assert "Coefficients: (1 not defined because of singularities)" in lines
    assert ["Days", "NA", "NA", "NA", "NA"] in [line.split() for line in lines]


def test_offset_and_prediction(frame):
    fit = flm.lm("Reaction ~ Days + offset(z)", frame)
    direct = flm.lm("r ~ Days", frame.assign(r=frame["Reaction"] - frame["z"]))
    np.testing.assert_allclose(fit.params, direct.params, rtol=1e-10)
    np.testing.assert_allclose(fit.predict(frame), direct.predict(frame) + frame["z"], rtol=1e-12)
    np.testing.assert_allclose(fit.predict(), fit.fittedvalues)


def test_intervals_and_options(frame):
    fit = flm.lm("Reaction ~ Days", frame)
    width = fit.conf_int()["upper"] - fit.params
    np.testing.assert_allclose(width / fit.bse, 1.973381, rtol=1e-6)
    with pytest.raises(ValueError, match="'t'"):
        fit.conf_int(method="satterthwaite")
    assert repr(fit) == "<LMResults 'Reaction ~ Days', 180 rows>"


def test_intercept_only_has_no_f_test(frame):
    fit = flm.lm("Reaction ~ 1", frame)
    assert fit.rsquared == 0 and np.isnan(fit.fvalue) and np.isnan(fit.f_pvalue)


def test_recorded_line():
    recorded = case("tlc_lm_week")
    fit = flm.lm(recorded["formula"], data("tlc"))
    assert fit.rsquared == pytest.approx(recorded["r_squared"], rel=1e-10)
    np.testing.assert_allclose(fit.pvalues, recorded["coef"]["p"], rtol=1e-8)


def test_what_cannot_be_fitted(frame):
    with pytest.raises(flm.ModelError, match="degrees of freedom"):
        flm.lm("Reaction ~ Days + z", frame.iloc[:3])
    with pytest.raises(flm.ModelError, match="zero"):
        flm.lm("exact ~ Days", frame.assign(exact=2 * frame["Days"] + 1))
    with pytest.raises(flm.FormulaError, match="lmer"):
        flm.lm("Reaction ~ Days + (1 | Subject)", frame)
