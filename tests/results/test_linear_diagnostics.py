"""Diagnostics of a linear model against their textbook formulas."""

import numpy as np
import pytest
from oracle.marginal import unbalanced
from scipy import stats

import fastlmm_core as flm


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module", params=[None, "w"])
def fit(request, frame):
    return flm.lm("y ~ x + arm", frame, weights=request.param)


def parts(fit, frame):
    X = np.column_stack([np.ones(len(frame)), frame["x"], frame["arm"] == "old"]).astype(float)
    w = np.ones(len(frame)) if fit._facts.weights_name is None else frame["w"].to_numpy()
    Q = np.linalg.inv((X.T * w) @ X)
    return X, w, Q, np.einsum("ni,ij,nj->n", X, Q, X) * w


def test_intervals(fit, frame):
    X, w, Q, h = parts(fit, frame)
    se = np.sqrt(fit.scale * h / w)
    table = fit.predict(interval="mean", level=0.9)
    np.testing.assert_allclose(table["se"], se, rtol=1e-10)
    np.testing.assert_allclose(table["upper"] - table["mean"], stats.t.ppf(0.95, 46) * se, rtol=1e-10)
    new = fit.predict(frame, interval="observation")
    np.testing.assert_allclose(new["se"] ** 2, se**2 + fit.scale / w, rtol=1e-10)
    np.testing.assert_allclose(fit.predict(frame, se=True)["mean"], fit.fittedvalues, rtol=1e-12)
    gap = fit.predict(frame.assign(x=frame["x"].where(frame["x"] > 3)), se=True)
    assert gap["se"].isna().sum() == (frame["x"] <= 3).sum()
    with pytest.raises(ValueError, match="observation"):
        fit.predict(interval="new_cluster")


def test_row_diagnostics(fit, frame):
    X, w, Q, h = parts(fit, frame)
    e = fit.resid.to_numpy()
    found = fit.influence().frame()
    np.testing.assert_allclose(found["leverage"], h, rtol=1e-9)
    cook = w * e**2 * h / (3 * fit.scale * (1 - h) ** 2)
    np.testing.assert_allclose(found["cooks_distance"], cook, rtol=1e-9)
    np.testing.assert_allclose(found["covratio"], 1 / (1 - h), rtol=1e-9)
    np.testing.assert_allclose(fit.residuals("studentized"), np.sqrt(w / fit.scale / (1 - h)) * e, rtol=1e-9)
    np.testing.assert_allclose(fit.loo().predicted, frame["y"] - e / (1 - h), rtol=1e-9)


def test_groups_are_refits_without_them(fit, frame):
    found = fit.influence("id").params
    for level in found.index[::4]:
        kept = frame[frame["id"] != level]
        again = flm.lm("y ~ x + arm", kept, weights=fit._facts.weights_name)
        np.testing.assert_allclose(found.loc[level], again.params, rtol=1e-8)
    left_out = fit.loo("id").predicted
    rows = frame["id"] == "p03"
    again = flm.lm("y ~ x + arm", frame[~rows], weights=fit._facts.weights_name)
    np.testing.assert_allclose(left_out[rows], again.predict(frame[rows]), rtol=1e-8)


def test_log_score_of_a_group(frame):
    fit = flm.lm("y ~ x + arm", frame)
    X, w, Q, h = parts(fit, frame)
    rows = (frame["id"] == "p03").to_numpy()
    again = flm.lm("y ~ x + arm", frame[~rows])
    cov = fit.scale * (np.eye(rows.sum()) + X[rows] @ again._estimates.Q @ X[rows].T)
    score = stats.multivariate_normal.logpdf(frame["y"][rows], again.predict(frame[rows]), cov)
    np.testing.assert_allclose(fit.loo("id").table.loc["p03", "log_score"], score, rtol=1e-9)


def test_white_and_cluster_covariances(frame):
    fit = flm.lm("y ~ x + arm", frame)
    X, w, Q, h = parts(fit, frame)
    e = fit.resid.to_numpy()
    np.testing.assert_allclose(fit.cov_params("CR0"), Q @ (X.T * e**2) @ X @ Q, rtol=1e-9)
    np.testing.assert_allclose(fit.cov_params("CR2"), Q @ (X.T * (e**2 / (1 - h))) @ X @ Q, rtol=1e-9)
    scores = np.array([X[frame["id"] == level].T @ e[frame["id"] == level] for level in frame["id"].unique()])
    CR1 = 14 / 13 * Q @ scores.T @ scores @ Q
    np.testing.assert_allclose(fit.cov_params("CR1", cluster="id"), CR1, rtol=1e-9)
    table = fit.robust("CR1", "id")
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(CR1)), rtol=1e-9)
    assert (table["df"] < 13).all()


def test_aicc(fit):
    assert fit.aicc == pytest.approx(fit.aic + 2 * 4 * 5 / (49 - 5))
