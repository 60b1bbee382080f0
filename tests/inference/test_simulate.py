"""Simulated responses have the moments of the fitted model."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import fastlmm_core as flm


def test_moments_with_new_random_effects():
    frame = flm.load_dataset("sleepstudy").iloc[:60]
    frame = frame.assign(
        Subject=frame["Subject"].cat.remove_unused_categories(), w=np.tile([1.0, 2.0, 4.0], 20)
    )
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", frame, weights="w")
    drawn = fit.simulate(4000, seed=1)
    assert drawn.shape == (60, 4000) and drawn.index.equals(fit.resid.index)
    mean = fit.predict(re="none")
    V = fit.marginal_cov("Subject", frame["Subject"].iloc[0])
    rows = V.index
    se = np.sqrt(np.diag(V) / 4000)
    assert np.abs(drawn.loc[rows].mean(axis=1) - mean.loc[rows]).max() < 4 * se.max()
    found = np.cov(drawn.loc[rows].to_numpy())
    scale = np.sqrt(np.outer(np.diag(V), np.diag(V)) / 4000)
    assert np.abs((found - V.to_numpy()) / scale).max() < 5
    other = drawn.drop(index=rows).iloc[0]
    assert abs(np.corrcoef(other, drawn.loc[rows[0]])[0, 1]) < 4 / np.sqrt(4000)


def test_moments_with_the_fitted_random_effects_and_crossed_factors():
    frame = flm.load_dataset("Penicillin")
    fit = flm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", frame)
    kept = fit.simulate(2000, seed=2, re="all")
    np.testing.assert_allclose(kept.mean(axis=1), fit.fittedvalues, atol=5 * fit.sigma / np.sqrt(2000))
    np.testing.assert_allclose(kept.std(axis=1), fit.sigma, rtol=0.1)
    new = fit.simulate(2000, seed=2)
    total = fit.varcorr()["vcov"].sum()
    np.testing.assert_allclose(new.var(axis=1).mean(), total, rtol=0.05)
    same = frame.index[frame["sample"] == "A"][:2]
    share = fit.cov_re["sample"].iloc[0, 0] / total
    assert np.corrcoef(new.loc[same[0]], new.loc[same[1]])[0, 1] == pytest.approx(share, abs=0.07)


def test_seeds():
    fit = flm.lmer("Reaction ~ Days + offset(10 * Days) + (1 | Subject)", flm.load_dataset("sleepstudy"))
    assert fit.simulate(2, seed=5).equals(fit.simulate(2, seed=5))
    assert fit.simulate(2, seed=5).equals(fit.simulate(2, seed=np.random.default_rng(5)))
    assert not fit.simulate(1, seed=5).equals(fit.simulate(1, seed=6))
    assert list(fit.simulate(2).columns) == ["sim_1", "sim_2"]
    assert abs(fit.simulate(50, seed=1).mean().mean() - 298.5) < 5


@pytest.mark.parametrize("wrong", [{"nsim": 0}, {"nsim": 1.5}, {"re": "some"}])
def test_wrong_arguments(wrong):
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", flm.load_dataset("sleepstudy"))
    with pytest.raises(ValueError):
        fit.simulate(**wrong)


MODELS = {
    "slopes": ("sleepstudy", "Reaction ~ Days + (Days | Subject)", {}),
    "two terms": ("sleepstudy", "Reaction ~ Days + offset(10 * Days) + (Days || Subject)", {}),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)", {}),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", {}),
    "weights": ("cbpp", "incidence ~ period + (1 | herd)", {"weights": "size"}),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    name, formula, options = MODELS[request.param]
    data = flm.load_dataset(name)
    return flm.lmer(formula, data, **options), data


@pytest.mark.parametrize("re", ["none", "all", "first"])
def test_the_rows_of_the_fit_as_new_rows(model, re):
    fit, data = model
    re = next(iter(fit.ngroups)) if re == "first" else re
    given = fit.simulate(3, seed=4, re=re, newdata=data.drop(columns=fit.response_name))
    np.testing.assert_allclose(given, fit.simulate(3, seed=4, re=re), rtol=1e-10)


def test_new_levels_have_the_covariance_of_the_model():
    """Rows of unseen and of known levels, in an order of their own, against the marginal covariance."""
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    new = pd.DataFrame({"Days": [9.0, 0.0, 4.0, 0.0, 9.0], "Subject": ["x", "308", "x", "a", "308"]})
    drawn = fit.simulate(6000, seed=1, newdata=pl.from_pandas(new)).to_numpy()
    Z = np.column_stack([np.ones(5), new["Days"]])
    same = np.equal.outer(new["Subject"].to_numpy(), new["Subject"].to_numpy())
    V = np.where(same, Z @ fit.cov_re["Subject"].to_numpy() @ Z.T, 0.0) + fit.scale * np.eye(5)
    scale = np.sqrt(np.outer(np.diag(V), np.diag(V)) / 6000)
    assert np.abs((np.cov(drawn) - V) / scale).max() < 5
    assert np.abs((drawn.mean(1) - Z @ fit.params) / np.sqrt(np.diag(V) / 6000)).max() < 4.5


def test_effects_that_are_known_and_those_that_are_not():
    fit = flm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", flm.load_dataset("Penicillin"))
    new = pd.DataFrame({"plate": ["a", "zz", "zz"], "sample": ["A", "A", "B"]})
    b = fit.ranef()["plate"]["Intercept"]["a"]
    total = fit.varcorr()["vcov"].to_numpy()
    for new_levels, variance in (("population", 0.0), ("draw", total[0])):
        drawn = fit.simulate(5000, seed=3, re=["plate"], newdata=new, new_levels=new_levels).to_numpy()
        expected = fit.params["Intercept"] + np.array([b, 0.0, 0.0])
        spread = np.array([0.0, variance, variance]) + total[1] + total[2]
        assert np.abs((drawn.mean(1) - expected) / np.sqrt(spread / 5000)).max() < 4
        np.testing.assert_allclose(drawn.var(1), spread, rtol=0.1)
    with pytest.raises(flm.DataError, match="'zz'.*new_levels='draw'"):
        fit.simulate(newdata=new, re="plate")
    assert np.isfinite(fit.simulate(newdata=new, re="sample", seed=1)).all(axis=None)


def test_other_parameters():
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    exact = fit.simulate(1, seed=1, beta={"Days": -2.0}, theta=np.zeros(3), sigma=0.0)["sim_1"]
    frame = fit._frame
    np.testing.assert_allclose(exact, fit.params["Intercept"] - 2.0 * frame["Days"])
    np.testing.assert_allclose(fit.simulate(1, seed=1, beta=[1.0, 0.0], theta=[0, 0, 0], sigma=0), 1.0)
    # theta is relative: with sigma 2 and theta (1, 0, 0) intercepts have standard deviation 2
    wide = fit.simulate(2000, seed=2, newdata=frame[frame["Days"] == 0], theta=[1, 0, 0], sigma=2.0)
    assert wide.to_numpy().var() == pytest.approx(8.0, rel=0.05)
    again = fit.simulate(2, seed=5, beta=fit.params, theta=fit.theta, sigma=fit.sigma)
    pd.testing.assert_frame_equal(again, fit.simulate(2, seed=5))
    for wrong in ({"beta": {"Day": 1.0}}, {"beta": [1.0]}, {"theta": [1.0]}, {"sigma": -1.0}, {"re": None}):
        with pytest.raises(ValueError):
            fit.simulate(**wrong)
    with pytest.raises(ValueError, match="new_levels"):
        fit.simulate(new_levels="zero")


def test_missing_values_and_columns_and_fits_without_rows(tmp_path):
    data = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", data)
    new = {"Days": [1.0, np.nan, 2.0], "Subject": ["308", "308", None]}
    drawn = fit.simulate(2, seed=1, newdata=new)
    assert drawn.isna().all(axis=1).tolist() == [False, True, True]
    with pytest.raises(flm.FormulaError, match="no column 'Subject'") as caught:
        fit.simulate(newdata={"Days": [1.0]})
    assert "re='none'" not in str(caught.value)
    flm.save(fit, tmp_path / "fit.flm")
    loaded, summed = flm.load(tmp_path / "fit.flm"), flm.plan(fit.formula, data)
    summed = flm.fit(summed.accumulate(data))
    new = {"Days": [0.0, 9.0], "Subject": ["new", "308"]}
    expected = fit.simulate(4, seed=7, newdata=new)
    for other in (loaded, summed):
        np.testing.assert_allclose(other.simulate(4, seed=7, newdata=new), expected, rtol=1e-6)
        with pytest.raises(flm.DataError, match="rows"):
            other.simulate()


def test_linear_models(tmp_path):
    sleep = flm.load_dataset("sleepstudy").assign(w=lambda d: 1.0 + d["Days"])
    fit = flm.lm("Reaction ~ Days + offset(2 * Days)", sleep, weights="w")
    drawn = fit.simulate(3000, seed=1)
    np.testing.assert_allclose(drawn.mean(axis=1), fit.fittedvalues, atol=5 * fit.sigma / 3000**0.5)
    np.testing.assert_allclose(drawn.std(axis=1), fit.sigma / np.sqrt(sleep["w"]), rtol=0.08)
    np.testing.assert_allclose(fit.simulate(2, seed=3, newdata=sleep), fit.simulate(2, seed=3), rtol=1e-12)
    exact = fit.simulate(1, seed=1, newdata={"Days": [0.0, 5.0]}, beta={"Days": 1.0}, sigma=0.0)["sim_1"]
    np.testing.assert_allclose(exact, fit.params["Intercept"] + np.array([0.0, 15.0]))
    flm.save(fit, tmp_path / "line.flm")
    loaded = flm.load(tmp_path / "line.flm")
    new = {"Days": [1.0]}
    np.testing.assert_allclose(loaded.simulate(2, seed=1, newdata=new), fit.simulate(2, seed=1, newdata=new))
    with pytest.raises(flm.DataError, match="rows"):
        loaded.simulate()
    with pytest.raises(ValueError, match="nsim"):
        fit.simulate(0)
