"""Special cases with an answer of their own."""

import numpy as np
import pandas as pd
import pytest
import tolerances as tol

import fastlmm_core as flm


def test_balanced_one_way_layout_in_closed_form():
    frame = flm.load_dataset("Dyestuff")
    means = frame.groupby("Batch", observed=True)["Yield"].mean()
    a, n = len(means), 5
    between = n * means.var()
    within = ((frame["Yield"] - frame["Batch"].map(means).astype(float)) ** 2).sum() / (a * (n - 1))
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", frame)
    assert fit.scale == pytest.approx(within, rel=1e-8)
    assert fit.cov_re["Batch"].iloc[0, 0] == pytest.approx((between - within) / n, rel=1e-7)
    assert fit.params["Intercept"] == pytest.approx(frame["Yield"].mean(), rel=1e-12)
    assert fit.bse["Intercept"] == pytest.approx(np.sqrt(between / (a * n)), rel=1e-8)
    assert fit.df["Intercept"] == pytest.approx(a - 1, rel=1e-6)
    shrink = 1 - within / between
    blup = shrink * (means - means.mean())
    np.testing.assert_allclose(fit.ranef()["Batch"]["Intercept"], blup, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("reml", [True, False])
def test_no_variance_between_groups_is_least_squares(reml):
    frame = flm.load_dataset("Dyestuff2")
    mixed = flm.lmer("Yield ~ 1 + (1 | Batch)", frame, reml=reml)
    plain = flm.lm("Yield ~ 1", frame)
    assert mixed.is_singular and mixed.theta[0] == 0 and mixed.converged
    np.testing.assert_allclose(mixed.params, plain.params, rtol=1e-12)
    n, p = 30, 1
    sigma = plain.sigma if reml else plain.sigma * np.sqrt((n - p) / n)
    assert mixed.sigma == pytest.approx(sigma, rel=1e-10)
    if not reml:
        assert mixed.llf == pytest.approx(plain.llf, rel=1e-12)
    else:
        np.testing.assert_allclose(mixed.bse, plain.bse, rtol=1e-10)
        np.testing.assert_allclose(mixed.df, n - p, rtol=1e-6)
    assert np.all(mixed.ranef()["Batch"].to_numpy() == 0)


def weighted_frame():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(15), 6)
    x = rng.normal(size=90)
    y = 1 + x + rng.normal(size=15)[g] + rng.normal(size=90)
    return pd.DataFrame({"y": y, "x": x, "g": g, "w": rng.integers(1, 4, 90).astype(float)})


@pytest.mark.parametrize("c", [1e-6, 0.5, 1e6])
def test_unit_of_the_weights(c):
    """V = sigma^2 (Z T Z' + W^-1): c W goes with c sigma^2 and T / c, and nothing else moves."""
    frame = weighted_frame()
    a = flm.lmer("y ~ x + (1 | g)", frame, weights="w")
    b = flm.lmer("y ~ x + (1 | g)", frame.assign(w=c * frame["w"]), weights="w")
    assert b.llf == pytest.approx(a.llf, rel=1e-9)
    np.testing.assert_allclose(b.params, a.params, rtol=tol.INVARIANCE)
    np.testing.assert_allclose(b.bse, a.bse, rtol=tol.INVARIANCE)
    np.testing.assert_allclose(b.sigma, a.sigma * np.sqrt(c), rtol=tol.INVARIANCE)
    np.testing.assert_allclose(b.theta, a.theta / np.sqrt(c), rtol=10 * tol.INVARIANCE)


def test_equal_weights_are_no_weights():
    frame = weighted_frame()
    a = flm.lmer("y ~ x + (1 | g)", frame)
    b = flm.lmer("y ~ x + (1 | g)", frame, weights=np.ones(90))
    assert b.llf == pytest.approx(a.llf, rel=1e-12)
    np.testing.assert_allclose(b.params, a.params, rtol=1e-10)


def test_weight_zero_leaves_the_row_out():
    frame = weighted_frame()
    frame.loc[::9, "w"] = 0
    a = flm.lmer("y ~ x + (1 | g)", frame, weights="w")
    b = flm.lmer("y ~ x + (1 | g)", frame[frame["w"] > 0], weights="w")
    assert a.llf == pytest.approx(b.llf, rel=1e-12)
    np.testing.assert_allclose(a.params, b.params, rtol=1e-10)


def test_repeated_rows_are_integer_weights_to_least_squares():
    frame = weighted_frame()
    repeated = frame.loc[frame.index.repeat(frame["w"].astype(int))]
    a, b = flm.lm("y ~ x", frame, weights="w"), flm.lm("y ~ x", repeated)
    np.testing.assert_allclose(a.params, b.params, rtol=1e-11)
    unscaled = a.cov_params() / a.sigma**2, b.cov_params() / b.sigma**2
    np.testing.assert_allclose(*unscaled, rtol=1e-10)


def test_slash_is_its_expansion():
    frame = flm.load_dataset("Pastes")
    a = flm.lmer("strength ~ 1 + (1 | batch/cask)", frame)
    b = flm.lmer("strength ~ 1 + (1 | batch) + (1 | batch:cask)", frame)
    c = flm.lmer("strength ~ 1 + (1 | batch) + (1 | sample)", frame)
    assert a.llf == pytest.approx(b.llf, rel=1e-12)
    assert a.llf == pytest.approx(c.llf, rel=1e-10)
    assert list(a.ranef()["batch:cask"].index[:2]) == ["A:a", "A:b"]


def test_double_bar_is_two_terms():
    frame = flm.load_dataset("sleepstudy")
    a = flm.lmer("Reaction ~ Days + (Days || Subject)", frame)
    b = flm.lmer("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", frame)
    assert a.llf == pytest.approx(b.llf, rel=1e-12)
    assert a.cov_re["Subject"].loc["Intercept", "Days"] == 0


def test_another_basis_of_a_full_covariance_changes_nothing():
    frame = flm.load_dataset("Machines")
    a = flm.lmer("score ~ Machine + (Machine | Worker)", frame)
    b = flm.lmer("score ~ Machine + (0 + Machine | Worker)", frame)
    assert a.llf == pytest.approx(b.llf, abs=1e-7)
    np.testing.assert_allclose(a.fittedvalues, b.fittedvalues, atol=1e-4)


@pytest.mark.parametrize("reml", [True, False])
def test_log_likelihood_is_that_of_the_marginal_normal(reml):
    """log N(y; X beta, V), V built from the reported variance components."""
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", frame, reml=reml)
    X = np.column_stack([np.ones(180), frame["Days"]])
    T = fit.cov_re["Subject"].to_numpy()
    V = fit.scale * np.eye(180)
    for level in frame["Subject"].cat.categories:
        rows = np.flatnonzero(frame["Subject"] == level)
        V[np.ix_(rows, rows)] += X[rows] @ T @ X[rows].T
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    r = frame["Reaction"] - X @ fit.params.to_numpy()
    value = np.linalg.slogdet(V)[1] + r @ inverse @ r
    value += (180 - 2 * reml) * np.log(2 * np.pi) + reml * np.linalg.slogdet(information)[1]
    assert -2 * fit.llf == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(fit.cov_params(), np.linalg.inv(information), rtol=1e-8)
