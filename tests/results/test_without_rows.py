"""Conditional AIC, checks and the other criterion of fits whose rows are gone."""

import numpy as np
import pytest
from oracle.marginal import MODELS, dense_model, unbalanced

import fastlmm_core as flm
from fastlmm_core.inference.conditional import leverage_sum, times_ZWZ, weighted_squares
from fastlmm_core.inference.dense import dense_equations
from fastlmm_core.results import compare

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")

KINDS = ("statistics", "file")


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module", params=list(MODELS))
def fits(request, frame, tmp_path_factory):
    """The fit with its rows, one from their sums, one from a file."""
    formula, weights = MODELS[request.param]
    whole = flm.lmer(formula, frame, weights=weights)
    path = tmp_path_factory.mktemp("fits") / "fit.flm"
    flm.save(whole, path)
    sums = flm.plan(formula, frame, weights=weights).accumulate(frame)
    return whole, {"statistics": flm.fit(sums), "file": flm.load(path)}


def test_sums_are_those_of_dense_matrices(fits):
    whole = fits[0]
    dense, solved = dense_model(whole), whole._solved
    e = dense.P @ dense.y
    np.testing.assert_allclose(weighted_squares(solved), np.sum(e**2 / dense.w) / dense.s2, rtol=1e-9)
    trace = len(dense.y) - np.sum(np.diag(dense.P) / dense.w)
    np.testing.assert_allclose(leverage_sum(solved), trace, rtol=1e-9)


def test_products_of_random_effects(fits):
    cp = fits[0]._solved.products
    rng = np.random.default_rng(3)
    c = [rng.normal(size=(G, len(z), 2)) for G, z in zip(cp.levels, cp.z, strict=True)]
    A = dense_equations(cp, cp.x)[0]
    expected = A @ np.concatenate([part.reshape(-1, 2) for part in c])
    found = np.concatenate([part.reshape(-1, 2) for part in times_ZWZ(cp, c)])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_conditional_aic_needs_no_rows(fits):
    whole, without = fits
    known, estimated = compare.known_df_by_rows(whole), compare.estimated_df_by_rows(whole)
    np.testing.assert_allclose(compare.known_df(whole), known, rtol=1e-11)
    np.testing.assert_allclose(compare.estimated_df(whole), estimated, rtol=1e-11)
    w = 1.0 if whole._rows.design.weights is None else whole._rows.design.weights
    base = -2.0 * np.sum(0.5 * np.log(w / (2 * np.pi * whole.scale)) - 0.5 * w * whole.resid**2 / whole.scale)
    for kind in KINDS:
        assert without[kind].caic() == pytest.approx(base + 2 * (estimated + 1), rel=1e-8)
        assert without[kind].caic("vaida-blanchard") == pytest.approx(base + 2 * (known + 1), rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_checks_are_those_with_rows(fits, kind):
    whole, fit = fits[0].check(), fits[1][kind].check()
    made = fit.frame.drop(fit.skipped.index)
    assert {"convergence", "normal random effects"} <= set(made["check"])
    shares_unknown = kind == "file" and fits[0]._solved.products.weighted
    positive = fits[0].varcorr().query("group != 'Residual' and var2.isna() and vcov > 0")
    assert (fit.skipped["check"] == "variance").sum() == (len(positive) if shares_unknown else 0)
    both = whole.frame[~whole.frame["check"].isin(fit.skipped["check"])]
    made = made[~made["check"].isin(fit.skipped["check"])]
    for column in ("check", "where", "statistic", "flag"):
        assert list(made[column]) == list(both[column])
    np.testing.assert_allclose(made["value"], both["value"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(made["p"], both["p"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_checks_that_need_rows_are_named(fits, kind):
    found = fits[1][kind].check()
    names = {"outlying row", "normal residuals", "variance and mean", "variance between groups"}
    assert names | {"influential group"} == set(found.skipped["check"]) - {"variance"}
    assert not found.skipped["flag"].any() and found.skipped["message"].str.contains("data rows").all()
    assert f"of {len(found.frame) - len(found.skipped)} checks; {len(found.skipped)} more need" in str(found)
    assert not len(fits[0].check().skipped)


def test_the_other_criterion(fits, frame):
    whole, without = fits
    expected = flm.lmer(whole.formula, frame, weights=whole._facts.weights_name, reml=False)
    for fit in (whole, *without.values()):
        ml = fit.to_ml()
        assert ml.method == "ML" and ml.converged and fit.method == "REML"
        assert ml.llf == pytest.approx(expected.llf, abs=1e-8)
        np.testing.assert_allclose(ml.theta, expected.theta, atol=1e-5)
        np.testing.assert_allclose(ml.params, expected.params, rtol=1e-6)
        np.testing.assert_allclose(ml.df, expected.df, rtol=1e-3)
        assert ml.caic() == pytest.approx(expected.caic(), rel=1e-7)
        assert ml.to_ml() is ml and fit.to_reml() is fit
        back = ml.to_reml()
        assert back.llf == pytest.approx(whole.llf, abs=1e-8) and back.method == "REML"
        np.testing.assert_allclose(back.theta, whole.theta, atol=1e-5)
    np.testing.assert_allclose(whole.to_ml().resid, expected.resid, rtol=1e-4, atol=1e-5)


def test_variance_shares_of_the_other_criterion(fits, frame):
    whole, without = fits
    expected = flm.lmer(whole.formula, frame, weights=whole._facts.weights_name, reml=False).r2()
    np.testing.assert_allclose(without["statistics"].to_ml().r2(), expected, rtol=1e-5)
    found = without["file"].to_ml().r2()
    if whole._solved.products.weighted:  # its sums have the weights in them
        assert found.isna().all()
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_refitted_fits_are_saved_and_read(fits, tmp_path):
    ml = fits[1]["file"].to_ml()
    flm.save(ml, tmp_path / "ml.flm")
    again = flm.load(tmp_path / "ml.flm")
    assert again.method == "ML" and again.llf == ml.llf
    np.testing.assert_array_equal(again.r2(), ml.r2())


def test_rows_that_are_read_again(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)
    fit, whole = flm.lmer("y ~ x + (x | id)", tmp_path / "rows.csv"), flm.lmer("y ~ x + (x | id)", frame)
    assert fit.caic() == pytest.approx(whole.caic(), rel=1e-8)
    ml, expected = fit.to_ml(), whole.to_ml()
    np.testing.assert_allclose(ml.fittedvalues, expected.fittedvalues, rtol=1e-5)
    np.testing.assert_allclose(ml.resid_scaled, expected.resid_scaled, rtol=1e-4, atol=1e-5)


def test_fits_that_lost_their_statistics_say_so(frame, tmp_path):
    flm.save(flm.lmer("y ~ x + (1 | id)", frame), tmp_path / "small.flm", statistics=False)
    fit = flm.load(tmp_path / "small.flm")
    for call in (fit.caic, fit.check, fit.to_ml):
        with pytest.raises(flm.DataError, match="fit"):
            call()
    assert list(fit.re_pca()["id"].columns) == ["sdev", "proportion", "cumulative"]


def test_probes_take_the_rows(frame):
    formula, control = MODELS["crossed"][0], flm.Control(engine="iterative", probes=20, seed=1)
    fit = flm.lmer(formula, frame, control=control)
    w = compare.known_df_by_rows(fit)
    squares = float(np.sum(fit.resid_scaled**2))
    expected = len(frame) * np.log(2 * np.pi * fit.scale) + squares + 2 * (w + 1)
    assert fit.caic("vaida-blanchard") == pytest.approx(expected, rel=1e-10)
    sums = flm.fit(flm.plan(formula, frame).accumulate(frame), control=control)
    with pytest.raises(flm.DataError, match="by probes needs the data rows"):
        sums.caic()


def test_components_of_a_singular_and_of_an_empty_term():
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))
    table = fit.re_pca()["Batch"]
    assert list(table.index) == ["PC1"] and table["sdev"].iloc[0] == 0.0
    assert table["proportion"].isna().all()


def test_labels_of_anova(frame):
    small = flm.lmer("y ~ x + (1 | id)", frame, reml=False)
    large = flm.lmer("y ~ x + arm + (x | id)", frame)
    table = flm.anova(large, small, names=["large", "small"])
    assert list(table.index) == ["small", "large"] and table.notes[0].startswith("large: refitted")
    np.testing.assert_array_equal(table, flm.anova(small, large))
    assert list(flm.anova(small, flm.lm("y ~ x", frame), names=["m", "m"]).index) == ["m", "m (2)"]
    with pytest.raises(ValueError, match="1 names for 2 fits"):
        flm.anova(small, large, names=["a"])
