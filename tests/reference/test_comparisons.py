"""Likelihood-ratio tables recorded from lme4's anova and lmerTest's ranova."""

import numpy as np
import pytest
from reference.loader import case, data, ids

import fastlmm_core as flm

pytestmark = pytest.mark.reference


def numbers(values):
    return np.array([np.nan if v in ("NA", "NaN", None) else v for v in values], float)


@pytest.mark.parametrize("id", ids("anova"))
def test_ml_fits_of_nested_models(id):
    recorded = case(id)
    frame, table = data(recorded["dataset"]), recorded["table"]
    fits = [flm.lmer(formula, frame, reml=False) for formula in recorded["formulas"]]
    fits = [fits[int(name[1:]) - 1] for name in table["order"]]
    # lme4's own optimiser made this table: a lower deviance here is no error
    ours = np.array([-2 * fit.llf for fit in fits])
    assert np.all(ours <= numbers(table["deviance"]) + 1e-6)
    np.testing.assert_allclose(ours, table["deviance"], atol=2e-4)
    np.testing.assert_allclose([fit.aic for fit in fits], table["AIC"], atol=2e-4)
    np.testing.assert_allclose([fit.bic for fit in fits], table["BIC"], atol=2e-4)
    assert [fit.df_modelwc for fit in fits] == table["npar"]
