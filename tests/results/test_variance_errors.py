"""Standard errors of variances, standard deviations and correlations."""

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import dense_model, unbalanced
from scipy import stats

import fastlmm_core as flm


def criterion(dense, V, reml):
    Vi = np.linalg.inv(V)
    M = dense.X.T @ Vi @ dense.X
    r = dense.y - dense.X @ np.linalg.solve(M, dense.X.T @ Vi @ dense.y)
    value = np.linalg.slogdet(V)[1] + r @ Vi @ r
    return value + (np.linalg.slogdet(M)[1] if reml else 0.0)


def hessian(f, x, h):
    n = len(x)
    H, e = np.empty((n, n)), np.diag(h)
    for i in range(n):
        for j in range(n):
            pieces = [s * t * f(x + s * e[i] + t * e[j]) for s in (1, -1) for t in (1, -1)]
            H[i, j] = sum(pieces) / (4 * h[i] * h[j])
    return H


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("reml", [True, False])
def test_inverse_hessian_of_the_likelihood_in_standard_deviations(reml, weights):
    fit = flm.lmer("y ~ x + (x | id) + (1 | item)", unbalanced(), reml=reml, weights=weights)
    dense = dense_model(fit)
    q = 2 * fit.ngroups["id"]

    def value(p):
        sd1, r, sd2, sd3, sigma = p
        S = np.array([[sd1**2, r * sd1 * sd2], [r * sd1 * sd2, sd2**2]])
        V = dense.Z[:, :q] @ np.kron(np.eye(q // 2), S) @ dense.Z[:, :q].T
        V += sd3**2 * dense.Z[:, q:] @ dense.Z[:, q:].T + sigma**2 * np.diag(1 / dense.w)
        return criterion(dense, V, reml)

    found = fit.cov_varcorr()
    table = fit.varcorr(se=True)
    at = table["sdcor"].iloc[[0, 2, 1, 3, 4]].to_numpy()
    expected = 2 * np.linalg.inv(hessian(value, at, 1e-3 * np.ones(5)))
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(found - expected) < 2e-3 * scale).all(axis=None)
    names = ["sd_Intercept|id", "cor_x.Intercept|id", "sd_x|id", "sd_Intercept|item", "sigma"]
    assert list(found.index) == names
    np.testing.assert_allclose(table["se_sdcor"], np.sqrt(np.diag(found))[[0, 2, 1, 3, 4]])
    # variances by the chain rule
    by_variance = fit.cov_varcorr("var")
    by_chain = 2 * at[[0, 2, 3, 4]] * table["se_sdcor"].iloc[[0, 1, 3, 4]]
    np.testing.assert_allclose(np.sqrt(np.diag(by_variance))[[0, 2, 3, 4]], by_chain)
    np.testing.assert_allclose(table["se_vcov"], np.sqrt(np.diag(by_variance))[[0, 2, 1, 3, 4]])


def test_limits_are_on_the_scales_where_estimates_are_nearly_normal():
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    table, z = fit.varcorr(se=True, level=0.9), stats.norm.ppf(0.95)
    plain = fit.varcorr()
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    sd, cor = table.iloc[0], table.iloc[2]
    reach = z * sd["se_sdcor"] / sd["sdcor"]
    ends = [sd["sdcor"] * np.exp(sign * reach) for sign in (-1, 1)]
    assert [sd["lower"], sd["upper"]] == pytest.approx(ends)
    reach = z * cor["se_sdcor"] / (1 - cor["sdcor"] ** 2)
    assert cor["upper"] == pytest.approx(np.tanh(np.arctanh(cor["sdcor"]) + reach))
    profile = fit.conf_int(0.1, "profile")
    assert table["lower"].iloc[3] == pytest.approx(profile["lower"]["sigma"], rel=0.02)


def test_a_variance_of_zero_has_no_error(tmp_path):
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))
    table = fit.varcorr(se=True)
    assert table.loc[0, ["se_vcov", "se_sdcor", "lower", "upper"]].isna().all()
    # what is left is the error of an ordinary variance, 2 sigma^4 / (n - 1)
    assert table["se_vcov"][1] == pytest.approx(fit.scale * (2 / 29) ** 0.5, rel=1e-6)
    flm.save(fit, tmp_path / "fit.flm")
    pd.testing.assert_frame_equal(flm.load(tmp_path / "fit.flm").varcorr(se=True), table)
    with pytest.raises(ValueError, match="scale"):
        fit.cov_varcorr("theta")
    with pytest.raises(ValueError, match="level"):
        fit.varcorr(se=True, level=95)
