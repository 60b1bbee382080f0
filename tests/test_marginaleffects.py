"""Fits in the hands of the marginaleffects package."""

import numpy as np
import pytest

import fastlmm_core as flm

marginaleffects = pytest.importorskip("marginaleffects")
pl = pytest.importorskip("polars")
try:
    pl.Series([1.0]).is_in([0, 1])
except pl.exceptions.InvalidOperationError:
    pytest.skip("this marginaleffects needs an older polars", allow_module_level=True)

from fastlmm_core.marginaleffects import FittedModel  # noqa: E402

EXACT = {"eps_vcov": 1.0}  # predictions are linear in the coefficients: any step gives their derivatives


@pytest.fixture(scope="module")
def data():
    frame = flm.load_dataset("sleepstudy")
    return frame.assign(arm=np.where(np.arange(180) // 10 % 3, "a", "b"), twice=2.0 * frame["Days"])


@pytest.fixture(scope="module")
def fit(data):
    return flm.lmer("Reaction ~ Days * arm + (Days | Subject)", data)


def test_slopes_are_contrasts(fit):
    found = marginaleffects.avg_slopes(FittedModel(fit), variables="Days", by="arm", **EXACT).sort("arm")
    L = np.array([[0, 1, 0, 0], [0, 1, 0, 1.0]])
    V = fit.cov_params().to_numpy()
    np.testing.assert_allclose(found["estimate"], L @ fit.params, rtol=1e-5)
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(L @ V @ L.T)), rtol=1e-7)


@pytest.mark.parametrize("kind", ["kenward-roger", "CR2"])
def test_kinds_of_covariance(fit, kind):
    found = marginaleffects.avg_slopes(FittedModel(fit), variables="Days", by="arm", vcov=kind, **EXACT)
    found = found.sort("arm")
    assert found["std_error"][0] == pytest.approx(fit.cov_params(kind).to_numpy()[1, 1] ** 0.5, rel=1e-7)


def test_predictions_are_those_of_the_population(fit, data):
    found = marginaleffects.predictions(FittedModel(fit))
    np.testing.assert_allclose(found["estimate"], fit.predict(re="none"))
    new = pl.DataFrame({"Days": [0.0, 5.0], "arm": ["a", "b"]}, schema_overrides={"arm": pl.Enum(["a", "b"])})
    found = marginaleffects.predictions(FittedModel(fit), newdata=new, **EXACT)
    expected = fit.predict(new, re="none", se=True)
    np.testing.assert_allclose(found["estimate"], expected["mean"])
    np.testing.assert_allclose(found["std_error"], expected["se"], rtol=1e-7)


def test_comparisons_of_a_factor_with_an_offset_and_an_aliased_column(data):
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("Reaction ~ Days + twice + arm + offset(Days) + (1 | Subject)", data)
    model = FittedModel(fit)
    found = marginaleffects.avg_comparisons(model, variables="arm")
    assert found["estimate"][0] == pytest.approx(fit.params["arm[T.b]"], rel=1e-6)
    slope = marginaleffects.avg_slopes(model, variables="Days")
    assert slope["estimate"][0] == pytest.approx(fit.params["Days"] + 1.0, rel=1e-5)


def test_of_a_linear_model_tests_are_of_t(data):
    line = flm.lm("Reaction ~ Days", data)
    found = marginaleffects.avg_slopes(FittedModel(line), variables="Days", **EXACT)
    low, high = line.conf_int().loc["Days"]
    np.testing.assert_allclose([found["conf_low"][0], found["conf_high"][0]], [low, high], rtol=1e-7)
    normal = marginaleffects.avg_slopes(FittedModel(line, df=np.inf), variables="Days", **EXACT)
    assert normal["conf_low"][0] > found["conf_low"][0]


def test_needs_rows(fit, tmp_path):
    flm.save(fit, tmp_path / "a.flm")
    with pytest.raises(flm.DataError, match="no data rows"):
        FittedModel(flm.load(tmp_path / "a.flm"))
