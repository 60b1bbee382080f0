"""Residual kinds, information criteria, leave-out prediction and tables of fits."""

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import MODELS, dense_model, unbalanced

import fastlmm_core as flm
from fastlmm_core.results.compare import estimated_df, known_df

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module")
def fits(frame):
    return {name: flm.lmer(formula, frame, weights=w) for name, (formula, w) in MODELS.items()}


@pytest.mark.parametrize("name", ["weighted", "nested", "crossed"])
def test_residual_kinds(fits, name):
    fit, dense = fits[name], dense_model(fits[name])
    conditional = dense.P @ dense.y / dense.w
    np.testing.assert_allclose(fit.residuals(), conditional, rtol=1e-8)
    np.testing.assert_allclose(fit.residuals("marginal"), dense.y - dense.X @ dense.beta, rtol=1e-9)
    np.testing.assert_allclose(fit.residuals("pearson"), np.sqrt(dense.w / dense.s2) * conditional, rtol=1e-8)
    variance = dense.s2 * np.diag(dense.P) / dense.w**2
    np.testing.assert_allclose(fit.residuals("studentized"), conditional / np.sqrt(variance), rtol=1e-8)
    with pytest.raises(ValueError, match="studentized"):
        fit.residuals("deviance")


@pytest.mark.parametrize("name, outer", [("slopes", "id"), ("weighted", "id"), ("nested", "area")])
def test_cluster_residuals_are_white(fits, frame, name, outer):
    fit, dense = fits[name], dense_model(fits[name])
    found, marginal = fit.residuals("cluster").to_numpy(), dense.y - dense.X @ dense.beta
    for label in frame[outer].unique():
        i = np.flatnonzero(frame[outer] == label)
        L = np.linalg.cholesky(dense.s2 * dense.V0[np.ix_(i, i)])
        np.testing.assert_allclose(found[i], np.linalg.solve(L, marginal[i]), rtol=1e-7, atol=1e-10)
    # the sum of their squares is r2 / s2
    np.testing.assert_allclose((found**2).sum(), fit._estimates.N, rtol=1e-9)


def test_cluster_residuals_of_crossed_factors_are_refused(fits):
    with pytest.raises(flm.ModelError, match="crossed"):
        fits["crossed"].residuals("cluster")


@pytest.mark.parametrize(
    "name, by",
    [
        ("weighted", "id"),
        ("slopes", None),
        ("slopes", "item"),
        ("nested", "area"),
        ("nested", "id"),
        ("crossed", "id"),
        ("crossed", None),
    ],
)
def test_leave_out_is_the_conditional_distribution(fits, frame, name, by):
    from scipy.stats import multivariate_normal

    fit, dense = fits[name], dense_model(fits[name])
    found = fit.loo(by)
    labels = frame[by].to_numpy() if by else np.arange(len(frame))
    total = 0.0
    for label in sorted(set(labels)):
        rows = np.flatnonzero(labels == label)
        rest = np.setdiff1d(np.arange(len(labels)), rows)
        left = dense.without(rows)
        # universal kriging: beta from the others, then the conditional mean given them
        gain = dense.V0[np.ix_(rows, rest)] @ left.Vi
        X = dense.X[rows] - gain @ dense.X[rest]
        mean = dense.X[rows] @ left.beta + gain @ (dense.y[rest] - dense.X[rest] @ left.beta)
        cov = dense.V0[np.ix_(rows, rows)] - gain @ dense.V0[np.ix_(rest, rows)] + X @ left.Q @ X.T
        np.testing.assert_allclose(found.predicted.to_numpy()[rows], mean, rtol=1e-7)
        score = multivariate_normal.logpdf(dense.y[rows], mean, dense.s2 * cov)
        np.testing.assert_allclose(found.table.loc[label, "log_score"], score, rtol=1e-8)
        error = np.average((dense.y[rows] - mean) ** 2, weights=dense.w[rows])
        np.testing.assert_allclose(found.table.loc[label, "mse"], error, rtol=1e-7)
        total += score
    np.testing.assert_allclose(found.elpd, total, rtol=1e-9)
    assert "elpd" in repr(found)


def test_leave_out_with_an_offset(frame):
    moved = flm.lmer("y ~ x + offset(w) + (x | id)", frame.assign(y=frame["y"] + frame["w"]))
    plain = flm.lmer("y ~ x + (x | id)", frame)
    np.testing.assert_allclose(moved.loo("id").elpd, plain.loo("id").elpd, rtol=1e-6)
    np.testing.assert_allclose(moved.loo("id").predicted, plain.loo("id").predicted + frame["w"], rtol=1e-5)


@pytest.mark.parametrize("name, reml", [("weighted", True), ("crossed", False)])
def test_greven_kneib_is_the_derivative_of_the_refitted_values(frame, name, reml):
    """tr(d fitted / d y) by refitting each y_i moved a little both ways."""
    formula, weights = MODELS[name]
    fit = flm.lmer(formula, frame, weights=weights, reml=reml)
    h, total = 1e-3, 0.0
    for i in range(len(frame)):
        fitted = []
        for sign in (1, -1):
            y = frame["y"].copy()
            y[i] += sign * h
            moved = flm.lmer(formula, frame.assign(y=y), weights=weights, reml=reml)
            fitted.append(moved.fittedvalues.iloc[i])
        total += (fitted[0] - fitted[1]) / (2 * h)
    np.testing.assert_allclose(estimated_df(fit), total, rtol=2e-4)
    assert estimated_df(fit) > known_df(fit)


def test_conditional_aic(fits):
    fit = fits["weighted"]
    w = fit._rows.design.weights
    cll = -0.5 * np.sum(np.log(2 * np.pi * fit.scale / w) + w * fit.resid**2 / fit.scale)
    np.testing.assert_allclose(fit.caic(), -2 * cll + 2 * (estimated_df(fit) + 1), rtol=1e-12)
    expected = -2 * cll + 2 * (fit.influence().leverage.sum() + 1)
    np.testing.assert_allclose(fit.caic("vaida-blanchard"), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="greven-kneib"):
        fit.caic("burnham")


def test_zero_variance_counts_the_fixed_effects_only():
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))
    assert fit.is_singular
    np.testing.assert_allclose(estimated_df(fit), 1.0, rtol=1e-10)


def test_aicc(fits):
    fit = fits["slopes"]
    assert fit.aicc == pytest.approx(fit.aic + 2 * 6 * 7 / (49 - 7))


def test_compare(frame):
    small = flm.lmer("y ~ x + (1 | id)", frame, reml=False)
    large = flm.lmer("y ~ x + arm + (x | id)", frame, reml=False)
    plain = flm.lm("y ~ x", frame)
    table = flm.compare(small, large, plain, names=["small", "large", "plain"])
    assert table["aic"].is_monotonic_increasing and table["delta"].iloc[0] == 0
    np.testing.assert_allclose(table["weight"].sum(), 1.0)
    assert table.loc["small", "aicc"] == pytest.approx(small.aicc)
    assert table.loc["plain", "df"] == 3 and table.loc["plain", "aic"] == pytest.approx(plain.aic)
    assert table.loc["large", "r2_conditional"] == large.r2()["conditional"]
    assert list(flm.compare(small).index) == [small.formula]


def test_compare_says_what_does_not_compare(frame):
    reml, ml = flm.lmer("y ~ x + (1 | id)", frame), flm.lmer("y ~ x + (1 | id)", frame, reml=False)
    with pytest.warns(UserWarning, match="reml=False"):
        flm.compare(reml, ml)
    with pytest.warns(UserWarning, match="different fixed effects"):
        flm.compare(reml, flm.lmer("y ~ 1 + (1 | id)", frame))
    with pytest.raises(flm.DataError, match="nobs is 49 and 40"):
        flm.compare(reml, flm.lmer("y ~ x + (1 | id)", frame[:40]))
    with pytest.raises(ValueError, match="2 names for 1"):
        flm.compare(reml, names=["a", "b"])


def test_tables_are_by_the_labels_of_the_data(frame):
    named = frame.set_index(pd.Index([f"r{i}" for i in range(len(frame))]))
    fit = flm.lmer("y ~ x + (1 | id)", named)
    for values in (fit.residuals("studentized"), fit.influence().cooks_distance, fit.loo().predicted):
        assert list(values.index) == list(named.index)


@pytest.mark.parametrize(
    "call",
    [
        lambda fit: fit.predict(se=True),
        lambda fit: fit.influence("id"),
        lambda fit: fit.robust(),
        lambda fit: fit.check(),
        lambda fit: fit.loo(),
        lambda fit: fit.caic(),
        lambda fit: fit.reliability(),
        lambda fit: fit.joint_cov(),
        lambda fit: fit.residuals("cluster"),
        lambda fit: fit.residuals("studentized"),
    ],
)
def test_copies_have_small_equations_and_say_when_they_have_none(fits, call, monkeypatch):
    import pickle

    whole = pickle.loads(pickle.dumps(fits["slopes"]))
    assert repr(call(whole)) == repr(call(fits["slopes"]))
    monkeypatch.setattr("fastlmm_core.inference.stored.SMALL_BYTES", 0)
    copy = pickle.loads(pickle.dumps(fits["slopes"]))
    with pytest.raises(flm.DataError, match="fit it again"):
        call(copy)
    np.testing.assert_allclose(copy.residuals("marginal"), fits["slopes"].residuals("marginal"))


def test_copies_do_not_carry_what_they_cannot_use(frame):
    import pickle

    fit = flm.lmer("y ~ x + (x | id)", frame)
    size = len(pickle.dumps(fit))
    fit.predict(interval="mean")
    assert len(pickle.dumps(fit)) < size + 2000


def test_least_squares_by_group_beside_blups():
    """coef(lmList(Reaction ~ Days | Subject)) of lme4 1.1-31."""
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    table = fit.shrinkage()
    lm_list = {"308": [244.1926691, 21.764702424], "309": [205.0549455, 2.261785455]}
    for level, expected in lm_list.items():
        np.testing.assert_allclose(table.loc[level, "ols"], expected, rtol=1e-8)
    np.testing.assert_allclose(table["blup"], fit.coef()["Subject"])
    pastes = flm.lmer("strength ~ 1 + (1 | batch/cask)", flm.load_dataset("Pastes"))
    assert len(pastes.shrinkage("batch:cask")) == 30 and len(pastes.shrinkage("batch")) == 10
    with pytest.raises(flm.ModelError, match="'cask'"):
        pastes.shrinkage("cask")
