"""Variance inflation factors, of car's ``vif`` (car 3.1) on lme4's fits, and by their definition."""

import numpy as np
import pytest

import fastlmm_core as flm

CAR = {
    "angle ~ recipe + temp + I(temp^2) + (1 | recipe:replicate)": [1.0, 751.000000063, 751.000000063],
    "angle ~ recipe * temp + (1 | recipe:replicate)": [133.413551074, 3.0, 156.514507857],
}


@pytest.mark.reference
@pytest.mark.parametrize("formula", CAR)
def test_as_car(formula):
    table = flm.lmer(formula, flm.load_dataset("cake")).vif()
    np.testing.assert_allclose(table["gvif"], CAR[formula], rtol=1e-6)
    np.testing.assert_allclose(table["scaled"], table["gvif"] ** (0.5 / table["df"]))
    assert table["df"].iloc[0] == 2 and (table["df"].iloc[1:] >= 1).all()


def test_of_a_linear_model():
    """One over one minus the R2 of a column on the others."""
    exam = flm.load_dataset("Exam")
    table = flm.lm("normexam ~ standLRT + schavg + sex", exam).vif()
    r2 = flm.lm("standLRT ~ schavg + sex", exam).rsquared
    assert table.loc["standLRT", "gvif"] == pytest.approx(1 / (1 - r2), rel=1e-9)


def test_aliased_columns_and_single_terms():
    sleep = flm.load_dataset("sleepstudy")
    sleep = sleep.assign(twice=2.0 * sleep["Days"], other=np.tile([1.0, 2.0, 4.0], 60))
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("Reaction ~ Days + twice + other + (1 | Subject)", sleep)
    assert list(fit.vif().index) == ["Days", "other"]
    with pytest.raises(flm.ModelError, match="needs two terms"):
        flm.lmer("Reaction ~ Days + (1 | Subject)", sleep).vif()
