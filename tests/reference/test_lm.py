"""Least-squares fits recorded from R's lm."""

import numpy as np
import pytest
from reference import names
from reference.loader import case, data, ids

import fastlmm_core as flm

pytestmark = [pytest.mark.reference, pytest.mark.parametrize("id", ids("lm"))]


def test_against_lm(id):
    recorded = case(id)
    frame = data(recorded["dataset"])
    fit = flm.lm(recorded["formula"], frame)
    theirs = recorded["coef"]
    expected = [names.coefficient(n, frame) for n in theirs["names"]]
    assert [names.plain(n) for n in fit.params.index] == expected
    np.testing.assert_allclose(fit.params, theirs["estimate"], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(fit.bse, theirs["se"], rtol=1e-9)
    np.testing.assert_allclose(fit.tvalues, theirs["t"], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(fit.pvalues, theirs["p"], rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(fit.df, recorded["df_residual"])
    np.testing.assert_allclose(fit.sigma, recorded["sigma"], rtol=1e-10)
    np.testing.assert_allclose(
        [fit.rsquared, fit.rsquared_adj], [recorded["r_squared"], recorded["adj_r_squared"]], rtol=1e-9
    )
    np.testing.assert_allclose(fit.fvalue, recorded["fstatistic"][0], rtol=1e-8)
    np.testing.assert_allclose(
        [fit.llf, fit.aic, fit.bic], [recorded["logLik"], recorded["AIC"], recorded["BIC"]], rtol=1e-10
    )
    assert fit.nobs == recorded["nobs"]
    quantiles = np.quantile(fit.resid, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quantiles, recorded["resid"]["quantiles_0_25_50_75_100"], atol=1e-9)
    np.testing.assert_allclose(np.asarray(fit.resid)[:5], recorded["resid"]["head5"], atol=1e-9)
