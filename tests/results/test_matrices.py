"""The matrices of a model."""

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import MODELS, dense_model, unbalanced
from scipy import sparse

import fastlmm_core as flm

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")


@pytest.mark.parametrize("name", MODELS)
def test_fitted_values_are_products_of_the_matrices(name):
    formula, weights = MODELS[name]
    frame = unbalanced()
    fit = flm.lmer(formula, frame, weights=weights)
    dense = dense_model(fit)
    X, Z = fit.design(), fit.design("random")
    np.testing.assert_array_equal(X, dense.X)
    assert list(X.columns) == list(fit.params.index) and X.index.equals(fit.resid.index)
    b = np.concatenate([effects.to_numpy().ravel() for effects in fit.ranef().values()])
    assert sparse.issparse(Z) and Z.shape == (len(frame), len(b))
    np.testing.assert_allclose(X @ fit.params + Z @ b, fit.fittedvalues, rtol=1e-10)
    # its square with the covariances of the effects is the marginal covariance
    covariances = [np.kron(np.eye(fit.ngroups[group]), S) for group, S in fit.cov_re.items()]
    V = Z @ sparse.block_diag(covariances) @ Z.T + fit.scale * sparse.diags(1.0 / dense.w)
    np.testing.assert_allclose(V.toarray(), dense.s2 * dense.V0, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(fit.weights, dense.w)
    pd.testing.assert_frame_equal(fit.design(newdata=frame), X)
    assert abs(fit.design("random", frame) - Z).max() == 0


def test_other_rows_have_the_coding_of_the_fit():
    fit = flm.lmer("angle ~ recipe + poly(temp, 2) + (1 | recipe:replicate)", flm.load_dataset("cake"))
    new = pd.DataFrame({"recipe": ["C", "A", None], "temp": [200.0, 180.0, 190.0]}, index=[7, 8, 9])
    X = fit.design("fixed", new)
    assert X.index.tolist() == [7, 8, 9] and X.iloc[2].isna().all()
    np.testing.assert_allclose((X @ fit.params).iloc[:2], fit.predict(new, re="none").iloc[:2])
    with pytest.raises(flm.DataError, match="'D'.*known levels only|known levels|did not occur"):
        fit.design("random", pd.DataFrame({"recipe": ["D"], "replicate": [1], "temp": [200.0]}))


def test_levels_that_were_not_seen_and_rows_that_are_not_there():
    sleep = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    with pytest.raises(flm.DataError, match="'x'; the matrix has columns for known levels only"):
        fit.design("random", {"Days": [1.0], "Subject": ["x"]})
    summed = flm.fit(flm.plan(fit.formula, sleep).accumulate(sleep))
    with pytest.raises(flm.DataError, match="rows"):
        summed.design()
    with pytest.raises(flm.DataError, match="rows"):
        summed.weights  # noqa: B018
    np.testing.assert_array_equal(summed.design("random", sleep).toarray(), fit.design("random").toarray())
    line = flm.lm("Reaction ~ Days", sleep, weights=np.arange(1.0, 181.0))
    np.testing.assert_allclose(line.design() @ line.params, line.fittedvalues)
    assert line.weights.tolist() == list(range(1, 181))
    with pytest.raises(ValueError, match="'random'; available: 'fixed'"):
        line.design("random")
