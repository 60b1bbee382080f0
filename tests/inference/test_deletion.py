"""Deletion diagnostics against the model fitted without the rows, at the same variances."""

import numpy as np
import pytest
from oracle.marginal import MODELS, dense_model, unbalanced

import fastlmm_core as flm
from fastlmm_core.results import influence as module

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")

CASES = [
    ("intercept", "id"),
    ("weighted", "id"),
    ("slopes", "site"),
    ("uncorrelated", None),
    ("weighted", None),
    ("nested", "area"),
    ("nested", "site"),
    ("nested", "id"),
    ("nested", None),
    ("crossed", "id"),
    ("crossed", "item"),
    ("crossed", None),
    ("three", "item"),
    ("slopes", "item"),
]


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module")
def fits(frame):
    return {name: flm.lmer(formula, frame, weights=w) for name, (formula, w) in MODELS.items()}


@pytest.mark.parametrize("name, by", CASES)
def test_deletion_is_the_fit_without_the_rows(fits, frame, name, by):
    fit, dense = fits[name], dense_model(fits[name])
    found, r = fit.influence(by), dense.X.shape[1]
    table, params, dfbetas = found.frame(), found.params, found.dfbetas
    labels = frame[by].to_numpy() if by else np.arange(len(frame))
    assert list(table.index) == sorted(set(labels))
    H = np.eye(len(dense.y)) - np.diag(1 / dense.w) @ dense.P
    H1 = dense.X @ dense.Q @ dense.X.T @ dense.Vi
    for label in table.index[:: 1 if by else 7]:
        rows = np.flatnonzero(labels == label)
        left = dense.without(rows)
        shift = dense.beta - left.beta
        np.testing.assert_allclose(params.loc[label], left.beta, rtol=1e-8)
        expected = {
            "leverage": np.diag(H)[rows].sum(),
            "leverage_fixed": np.diag(H1)[rows].sum(),
            "cooks_distance": shift @ np.linalg.solve(dense.Q, shift) / (r * dense.s2),
            "mdffits": shift @ np.linalg.solve(left.Q, shift) / (r * dense.s2),
            "covratio": np.linalg.det(left.Q) / np.linalg.det(dense.Q),
            "covtrace": np.trace(np.linalg.solve(dense.Q, left.Q)) - r,
        }
        for column, value in expected.items():
            np.testing.assert_allclose(table.loc[label, column], value, rtol=1e-7, atol=1e-11, err_msg=column)
        np.testing.assert_allclose(
            dfbetas.loc[label], shift / np.sqrt(dense.s2 * np.diag(left.Q)), rtol=1e-7, atol=1e-10
        )


def test_leverage_is_the_derivative_of_the_fit_and_sums_to_the_effective_parameters(fits):
    fit = fits["slopes"]
    assert len(fit.params) < fit.influence().leverage.sum() < len(fit.params) + 2 * fit.ngroups["id"]
    np.testing.assert_allclose(fit.influence("id").leverage.sum(), fit.influence().leverage.sum())
    np.testing.assert_allclose(fit.influence().leverage_fixed.sum(), len(fit.params))


def test_a_group_that_carries_a_coefficient(frame):
    """Without site s1 its dummy cannot be estimated."""
    fit = flm.lmer("y ~ x + site + (1 | id)", frame)
    found = fit.influence("site")
    assert found.frame()[["cooks_distance", "mdffits", "covratio"]].isna().all(axis=None)
    assert found.dfbetas.isna().all(axis=None)


def test_aliased_columns_and_the_coordinates_of_x(frame):
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("y ~ x + I(2 * x) + (1 | id)", frame)
    plain = flm.lmer("y ~ I(x + 1e5) + (1 | id)", frame)
    np.testing.assert_allclose(
        fit.influence("id").cooks_distance, plain.influence("id").cooks_distance, rtol=1e-5
    )
    assert fit.influence("id").dfbeta.iloc[:, 2].isna().all()


@pytest.mark.parametrize("name", ["weighted", "nested"])
def test_groups_within_levels(fits, frame, name):
    """Halves of each id: rows that share their random effects with the other half."""
    fit, dense = fits[name], dense_model(fits[name])
    half = frame["id"] + np.where(frame.groupby("id").cumcount() % 2 == 0, "a", "b")
    found, scores = fit.influence(half), fit.loo(half)
    assert found._grouped._shared_levels() is not None
    for label in found.cooks_distance.index[::3]:
        rows = np.flatnonzero(half == label)
        left = dense.without(rows)
        np.testing.assert_allclose(found.params.loc[label], left.beta, rtol=1e-9)
        ratio = np.linalg.det(left.Q) / np.linalg.det(dense.Q)
        np.testing.assert_allclose(found.covratio[label], ratio, rtol=1e-9)
        P = dense.P[np.ix_(rows, rows)]
        gamma = np.linalg.solve(P, (dense.P @ dense.y)[rows])
        np.testing.assert_allclose(scores.predicted[rows], dense.y[rows] - gamma, rtol=1e-8)
        form = gamma @ P @ gamma / dense.s2
        score = -0.5 * (len(rows) * np.log(2 * np.pi * dense.s2) - np.linalg.slogdet(P)[1] + form)
        np.testing.assert_allclose(scores.table.loc[label, "log_score"], score, rtol=1e-8)


def test_work_is_limited(fits, monkeypatch):
    monkeypatch.setattr(module, "MOST_WORK", 10.0)
    with pytest.raises(flm.ModelError, match="by=None"):
        _ = fits["crossed"].influence("item").cooks_distance
    assert fits["intercept"].influence("id").cooks_distance.notna().all()


def test_by_what_is_not_there(fits):
    with pytest.raises(flm.DataError, match="nobody"):
        fits["intercept"].influence("nobody")
    assert "14 groups of 'id'" in repr(fits["intercept"].influence("id"))
