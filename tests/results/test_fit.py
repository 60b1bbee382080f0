"""Accessors of a mixed fit against recorded results and their own definitions."""

import warnings

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import MODELS, at_theta, dense_model, unbalanced
from reference.loader import case, data
from scipy import stats

import fastlmm_core as flm

SLOPES = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep):
    return flm.lmer(SLOPES, sleep)


@pytest.fixture(scope="module")
def pastes():
    return flm.lmer("strength ~ 1 + (1 | batch/cask)", flm.load_dataset("Pastes"))


def test_satterthwaite_of_the_sleep_study(fit):
    np.testing.assert_allclose(fit.df, [17, 17], rtol=1e-9)
    recorded = case("sleep_rs_reml")["fixef"]["satterthwaite"]
    np.testing.assert_allclose(fit.pvalues, recorded["p"], rtol=1e-5)


@pytest.mark.parametrize(
    "id", ["oats_reml", "cake_factor_reml", "exam_rs_ml", "pastes_nested_ml", "machines_vec_reml"]
)
def test_df_of_other_structures(id):
    recorded = case(id)
    frame = data(recorded["dataset"]).rename(columns={"yield": "harvest"})
    fit = flm.lmer(recorded["formula"].replace("yield", "harvest"), frame, reml=recorded["reml"])
    np.testing.assert_allclose(sorted(fit.df), sorted(recorded["fixef"]["satterthwaite"]["df"]), rtol=2e-3)


def test_wald_and_satterthwaite_intervals(fit):
    wald = fit.conf_int(method="wald")
    np.testing.assert_allclose(wald, case("sleep_rs_reml")["fixef"]["wald_ci95"], rtol=1e-5)
    t = fit.conf_int(alpha=0.1)
    np.testing.assert_allclose(t["upper"] - t["lower"], 2 * 1.739606726 * fit.bse, rtol=1e-8)
    assert list(t.columns) == ["lower", "upper"] and list(t.index) == ["Intercept", "Days"]


@pytest.mark.parametrize(
    "id", ["sleep_rs_reml", "cake_factor_reml", "machines_nested_reml", "penicillin_reml", "dyestuff2_reml"]
)
def test_kenward_roger_as_pbkrtest(id):
    recorded = case(id)
    table = recorded["fixef"]["kenward_roger"]
    fit = flm.lmer(recorded["formula"], data(recorded["dataset"]))
    se = np.sqrt(np.diag(fit.cov_params("kenward-roger")))
    order, theirs = np.argsort(se), np.argsort(table["se"])
    np.testing.assert_allclose(se[order], np.array(table["se"])[theirs], rtol=1e-6)
    limits = fit.conf_int(method="kenward-roger")
    reach = stats.t.ppf(0.975, np.array(table["df"])[theirs]) * np.array(table["se"])[theirs]
    np.testing.assert_allclose((limits["upper"] - fit.params).to_numpy()[order], reach, rtol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f.conf_int(method="exact"),
        lambda f: f.conf_int(alpha=5),
        lambda f: f.cov_params("CR9"),
        lambda f: f.predict(re=["Nobody"]),
        lambda f: f.predict(new_levels="maybe"),
    ],
)
def test_options_that_do_not_exist_name_those_that_do(fit, call):
    with pytest.raises(ValueError) as caught:
        call(fit)
    assert any(
        word in str(caught.value) for word in ("wald", "model", "Subject", "population", "between 0 and 1")
    )


def test_likelihoods(sleep, fit):
    ml = flm.lmer(SLOPES, sleep, reml=False)
    assert fit.reml_criterion == pytest.approx(-2 * fit.llf)
    assert ml.deviance == pytest.approx(-2 * ml.llf)
    # lme4: deviance(fit, REML = FALSE)
    assert fit.deviance == pytest.approx(1751.986, abs=2e-3) and fit.deviance > ml.deviance
    assert fit.aic == pytest.approx(case("sleep_rs_reml")["AIC"], abs=1e-6)
    with pytest.raises(AttributeError, match="reml=True"):
        _ = ml.reml_criterion
    assert (fit.method, ml.method) == ("REML", "ML")
    assert fit.df_resid == 174


def test_varcorr_has_variances_before_covariances(fit):
    table = fit.varcorr()
    assert table["var1"].iloc[:3].tolist() == ["Intercept", "Days", "Intercept"]
    assert table["var2"].iloc[2] == "Days" and table["group"].iloc[-1] == "Residual"
    assert table["sdcor"].iloc[-1] == fit.sigma
    double = flm.lmer("Reaction ~ Days + (Days || Subject)", flm.load_dataset("sleepstudy"))
    assert double.varcorr()["group"].tolist() == ["Subject", "Subject.1", "Residual"]
    assert double.cov_re["Subject"].shape == (2, 2) and double.cov_re["Subject"].iloc[0, 1] == 0
    assert list(double.ranef()["Subject"].columns) == ["Intercept", "Days"]


def test_tables_do_not_share_memory_with_the_fit(fit):
    for name in ("params", "bse", "theta", "fittedvalues"):
        before = np.array(getattr(fit, name))
        taken = getattr(fit, name)
        taken[:] = 0
        np.testing.assert_array_equal(getattr(fit, name), before)
    with pytest.raises(AttributeError, match="immutable"):
        fit.sigma = 3


def test_rows_keep_the_labels_of_the_data(sleep):
    frame = sleep.set_axis([f"r{i}" for i in range(180)])
    frame.loc["r7", "Reaction"] = np.nan
    fit = flm.lmer(SLOPES, frame)
    assert len(fit.resid) == fit.nobs == 179 and fit.n_dropped == 1
    assert "r7" not in fit.fittedvalues.index and fit.fittedvalues.index[7] == "r8"
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, frame["Reaction"].dropna())


def test_scaled_residuals_with_weights_and_offset(sleep):
    frame = sleep.assign(v=1.0 + sleep["Days"], z=100.0 + sleep["Days"])
    fit = flm.lmer("Reaction ~ Days + offset(z) + (1 | Subject)", frame, weights="v")
    np.testing.assert_allclose(fit.resid_scaled, np.sqrt(frame["v"]) * fit.resid / fit.sigma)
    np.testing.assert_allclose(fit.resid, frame["Reaction"] - fit.fittedvalues)
    plain = flm.lmer("Reaction ~ Days + (1 | Subject)", frame, weights="v")
    np.testing.assert_allclose(fit.fittedvalues, plain.fittedvalues, rtol=1e-9)
    np.testing.assert_allclose(fit.predict(frame), fit.fittedvalues, rtol=1e-12)
    np.testing.assert_allclose(
        fit.summary().residuals, np.quantile(fit.resid_scaled, [0, 0.25, 0.5, 0.75, 1])
    )


def test_coef_adds_random_to_fixed(fit):
    coef = fit.coef()["Subject"]
    np.testing.assert_allclose(coef, fit.ranef()["Subject"] + fit.params, rtol=1e-14)


def test_coef_of_a_slope_without_fixed_part(sleep):
    coef = flm.lmer("Reaction ~ 1 + (0 + Days | Subject)", sleep).coef()["Subject"]
    assert list(coef.columns) == ["Days", "Intercept"]


def test_marginal_covariance_of_nested_groups(pastes):
    cov, shared = pastes.cov_re, pastes.marginal_cov("batch", "A")
    frame = flm.load_dataset("Pastes")
    rows = frame[frame["batch"] == "A"]
    same = (rows["cask"].to_numpy()[:, None] == rows["cask"].to_numpy()[None, :]).astype(float)
    expected = (
        cov["batch"].iloc[0, 0] + same * cov["batch:cask"].iloc[0, 0] + pastes.scale * np.eye(len(rows))
    )
    np.testing.assert_allclose(shared, expected, rtol=1e-12)
    assert list(shared.index) == list(rows.index)
    with pytest.raises(flm.DataError, match="batch"):
        pastes.marginal_cov("nobody", "A")
    with pytest.raises(flm.DataError, match="nowhere"):
        pastes.marginal_cov("batch", "nowhere")


def test_predict_by_parts(pastes):
    frame = flm.load_dataset("Pastes")
    population = pastes.predict(frame, re="none")
    np.testing.assert_allclose(population, pastes.params["Intercept"])
    batch = pastes.predict(frame, re=["batch"])
    effects = pastes.ranef()["batch"]["Intercept"].loc[frame["batch"].astype(str)].to_numpy()
    np.testing.assert_allclose(batch, population + effects)
    np.testing.assert_allclose(pastes.predict(re=["batch"]), batch)
    np.testing.assert_allclose(pastes.predict(), pastes.fittedvalues)
    np.testing.assert_allclose(pastes.predict(re="none"), population)


def test_predict_needs_only_the_columns_of_what_is_asked(fit, sleep):
    np.testing.assert_allclose(
        fit.predict(sleep[["Days"]], re="none"), fit.params["Intercept"] + fit.params["Days"] * sleep["Days"]
    )
    with pytest.raises(flm.FastLMMError, match="Subject"):
        fit.predict(sleep[["Days"]])


def test_predict_marks_missing_and_new_levels(fit, sleep):
    new = sleep.iloc[[0, 10, 20]].astype({"Subject": object, "Days": float})
    new.iloc[1, new.columns.get_loc("Days")] = np.nan
    new.iloc[2, new.columns.get_loc("Subject")] = "new"
    with pytest.raises(flm.DataError, match="'Subject'.*'new'"):
        fit.predict(new)
    values = fit.predict(new, new_levels="population")
    assert list(values.isna()) == [False, True, False] and list(values.index) == [0, 10, 20]
    assert values.iloc[2] == pytest.approx(fit.params["Intercept"] + fit.params["Days"] * new["Days"].iloc[2])


def test_prior_weights_leave_r2_unweighted():
    recorded = case("sleep_weights_reml")
    fit = flm.lmer(recorded["formula"], data("sleepstudy"), weights="w")
    assert fit.r2()["marginal"] == pytest.approx(recorded["r2"]["r2_marginal"], rel=1e-5)


def test_timings_progress_and_threads(sleep):
    seen = []
    fit = flm.lmer(
        SLOPES, sleep, progress=lambda stage, fraction: seen.append((stage, fraction)), n_threads=2
    )
    assert list(fit.timings) == ["frame", "design", "cross-products", "optimise", "inference"]
    assert [s for s, _ in seen] == [*fit.timings, "done"] and seen[-1][1] == 1.0
    assert all(seconds >= 0 for seconds in fit.timings.values())
    with pytest.raises(TypeError, match="reml"):
        flm.lmer(SLOPES, sleep, reml="no")
    with pytest.raises(TypeError, match="progress"):
        flm.lmer(SLOPES, sleep, progress="yes")


def test_engines_that_can_be_forced(sleep):
    a = flm.lmer(SLOPES, sleep, control=flm.Control(engine="sparse"))
    b = flm.lmer(SLOPES, sleep)
    assert a.llf == pytest.approx(b.llf, rel=1e-12)
    with pytest.raises(ValueError, match="available"):
        flm.lmer(SLOPES, sleep, control=flm.Control(engine="iterative"))


def test_start_at_the_optimum(fit, sleep):
    again = flm.lmer(SLOPES, sleep, start=fit.theta)
    np.testing.assert_allclose(again.theta, fit.theta, rtol=1e-6)


def test_a_constant_within_groups_is_an_exact_fit():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(10), 4), "x": rng.normal(size=40)})
    frame["y"] = 3 * frame["x"] - 2
    with pytest.raises(flm.ModelError, match="residual variance"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flm.lmer("y ~ x + (1 | g)", frame)


def test_repr_names_the_model(fit):
    assert repr(fit) == "<LMMResults 'Reaction ~ Days + (Days | Subject)' by REML, 180 rows, Subject: 18>"


def test_no_fixed_effects(sleep):
    fit = flm.lmer("Reaction ~ 0 + (1 | Subject)", sleep)
    assert len(fit.params) == 0 and fit.df_modelwc == 2 and fit.conf_int().shape == (0, 2)
    text = str(fit.summary())
    assert "Random effects" in text and "Fixed effects" not in text
    assert fit.r2()["marginal"] == 0


@pytest.mark.parametrize("formula", ["y ~ x + f + offset(o) + (x | g) + (1 | h)", "y ~ f + (x || g)"])
def test_residual_quantiles_by_blocks(formula, monkeypatch):
    rng = np.random.default_rng(12)
    n = 400
    frame = pd.DataFrame({"x": rng.normal(size=n), "o": rng.normal(size=n), "w": rng.uniform(1, 2, n)})
    frame["f"] = pd.Categorical(rng.choice(["a", "b", "c"], n))
    frame["g"], frame["h"] = rng.integers(0, 20, n), rng.integers(0, 12, n)
    frame["y"] = frame.x + rng.normal(size=20)[frame.g] + rng.normal(size=n)
    fit = flm.lmer(formula, frame, weights="w")
    monkeypatch.setattr("fastlmm_core.results.fitrows.STORED_ROWS", 0)
    streamed = fit.summary().residuals
    assert "fitted" not in fit._rows.__dict__
    expected = np.quantile(fit.resid_scaled, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(streamed, expected, rtol=1e-11, atol=1e-12)


def test_some_rows_of_intervals():
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    assert fit.conf_int(which="Days").equals(fit.conf_int().loc[["Days"]])
    for method, options in (("wald", {}), ("CR2", {}), ("profile", {}), ("boot", {"nsim": 30, "seed": 1})):
        table = fit.conf_int(method=method, which=["Days", "Intercept"], **options)
        whole = fit.conf_int(method=method, **options)
        assert set(table.index) == {"Days", "Intercept"} and table.equals(whole.loc[list(table.index)])
    assert list(fit.conf_int(method="boot", which="sigma", nsim=20, seed=1).index) == ["sigma"]
    with pytest.raises(ValueError, match="no parameter 'Day'"):
        fit.conf_int(which="Day")


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", ["slopes", "nested", "crossed", "weighted"])
def test_criterion_at_other_theta(name, reml):
    formula, weights = MODELS[name]
    fit = flm.lmer(formula, unbalanced(), weights=weights, reml=reml)
    assert fit.objective() == pytest.approx(-2 * fit.llf, rel=1e-12)
    theta, dense = np.abs(fit.theta) * 1.3 + 0.1, dense_model(fit)
    there = at_theta(fit, dense, theta)
    n, p = dense.X.shape
    N, r2 = n - p if reml else n, dense.y @ there.P @ dense.y
    expected = np.linalg.slogdet(there.V0)[1] + N * (1 + np.log(2 * np.pi * r2 / N))
    expected -= np.linalg.slogdet(there.Q)[1] if reml else 0.0
    assert fit.objective(theta) == pytest.approx(expected, rel=1e-10)
    assert fit.objective(theta) > fit.objective()
    fit.predict(se=True)  # what comes after is at the optimum again
    assert fit.objective() == pytest.approx(-2 * fit.llf, rel=1e-12)
    with pytest.raises(ValueError, match=f"{len(fit.theta)} finite values"):
        fit.objective([1.0] * 9)
    with pytest.raises(ValueError, match="at least 0"):
        fit.objective(-theta)
