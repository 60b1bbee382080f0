"""Simulated responses have the moments of the fitted model."""

import numpy as np
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
