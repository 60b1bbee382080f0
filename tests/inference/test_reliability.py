"""Prediction error variances of random effects against the inverse of the mixed-model equations."""

import numpy as np
import pytest
from oracle.marginal import MODELS, dense_model, unbalanced

import fastlmm_core as flm
from fastlmm_core.inference import reliability


@pytest.fixture(
    scope="module", params=["intercept", "weighted", "uncorrelated", "nested", "crossed", "three"]
)
def fit(request):
    formula, weights = MODELS[request.param]
    return flm.lmer(formula, unbalanced(), weights=weights)


def by_term(fit, values):
    """Split numbers in the oracle's order (terms, levels, columns) to {(group, term name): (levels,)}."""
    start, out = 0, {}
    for term in fit._facts.terms:
        group, q = fit._facts.factors[term.factor], len(term.names)
        size = fit.ngroups[group] * q
        block = values[start : start + size].reshape(-1, q)
        out |= {(group, name): block[:, j] for j, name in enumerate(term.names)}
        start += size
    return out


def test_error_variances_and_reliabilities(fit):
    dense = dense_model(fit)
    r = dense.X.shape[1]
    pev = by_term(fit, dense.s2 * np.diag(dense.inverse_equations())[r:])
    variance = by_term(fit, dense.s2 * np.diag(dense.T))
    K = dense.T - dense.T @ dense.Z.T @ dense.Vi @ dense.Z @ dense.T
    conditional = by_term(fit, np.sqrt(dense.s2 * np.diag(K)))
    table, frames = fit.ranef_table(level=0.9), fit.reliability()
    assert len(table) == sum(len(v) for v in pev.values())
    for (group, name), expected in pev.items():
        part = table[(table["group"] == group) & (table["term"] == name)]
        np.testing.assert_allclose(part["pev"], expected, rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(part["cond_sd"], conditional[group, name], rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(part["value"], fit.ranef()[group][name], rtol=1e-12)
        half = 1.6448536269514722 * np.sqrt(expected)
        np.testing.assert_allclose(part["upper"] - part["value"], half, rtol=1e-8, atol=1e-7)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = 1 - expected / variance[group, name]
        np.testing.assert_allclose(frames[group][name], share, rtol=1e-7, atol=1e-9)


def test_joint_covariance(fit):
    dense, joint = dense_model(fit), fit.joint_cov()
    r = dense.X.shape[1]
    C = dense.s2 * dense.inverse_equations()
    np.testing.assert_allclose(joint.iloc[:r, :r], fit.cov_params(), rtol=1e-8)
    places, start = {}, r
    for term in fit._facts.terms:
        f, q = term.factor, len(term.names)
        for i, level in enumerate(fit._facts.levels[f]):
            for j, name in enumerate(term.names):
                places[fit._facts.factors[f], level, name] = start + i * q + j
        start += len(fit._facts.levels[f]) * q
    order = [*range(r), *(places[label] for label in joint.index[r:])]
    np.testing.assert_allclose(joint, C[np.ix_(order, order)], rtol=1e-7, atol=1e-10)


def test_balanced_one_way_in_closed_form():
    """Reliability of a mean of n: n t / (1 + n t), less what the common mean costs."""
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff"))
    t, n, groups = fit.theta[0] ** 2, 5, 6
    shrink = n * t / (1 + n * t)
    np.testing.assert_allclose(fit.reliability()["Batch"], shrink * (1 - 1 / groups), rtol=1e-8)


def test_limits_and_refusals(fit, monkeypatch, tmp_path):
    monkeypatch.setattr(reliability, "JOINT_LIMIT", 5)
    with pytest.raises(flm.ModelError, match="limit is 5 effects"):
        fit.joint_cov()
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit.ranef_table(level=2)
    flm.save(fit, tmp_path / "fit.flm", statistics=False)
    with pytest.raises(flm.DataError, match="fit it again"):
        flm.load(tmp_path / "fit.flm").reliability()
