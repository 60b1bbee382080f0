"""The scikit-learn estimator: its conventions, and the fits it makes."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fastlmm_core.sklearn import EXPECTED_FAILED_CHECKS, LMMRegressor


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def parts(sleep):
    return sleep[["Days", "Subject"]], sleep["Reaction"]


def test_check_estimator():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(
            LMMRegressor(), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_fail=None, on_skip=None
        )
    assert not [(one["check_name"], one["exception"]) for one in found if one["status"] == "failed"]
    raised = {one["check_name"] for one in found if one["exception"] and one["status"] != "skipped"}
    assert raised == set(EXPECTED_FAILED_CHECKS)  # neither more nor fewer: what passes now must be taken off


def test_the_fit_is_that_of_lmer(parts, sleep):
    expected = flm.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    for model in (
        LMMRegressor("Days + (Days | Subject)"),
        LMMRegressor("Reaction ~ Days + (Days | Subject)"),
        LMMRegressor(groups="Subject", slopes=["Days"]),
    ):
        fitted = model.fit(*parts)
        np.testing.assert_allclose(fitted.result_.params, expected.params)
        np.testing.assert_allclose(fitted.result_.theta, expected.theta)
        np.testing.assert_allclose(fitted.predict(parts[0]), expected.fittedvalues)
    assert fitted.feature_names_in_.tolist() == ["Days", "Subject"]
    alone = LMMRegressor(groups="Subject", slopes="Days", random_effects=False).fit(*parts)
    np.testing.assert_allclose(alone.predict(parts[0]), expected.predict(re="none"))
    ml = LMMRegressor(groups="Subject", reml=False).fit(*parts)
    assert ml.result_.method == "ML"


def test_without_groups_it_is_least_squares():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=50)
    w = rng.uniform(0.5, 2.0, 50)
    model = LMMRegressor().fit(X, y, sample_weight=w)
    root = np.sqrt(w)[:, None]
    A = np.column_stack([np.ones(50), X])
    b = np.linalg.lstsq(root * A, root[:, 0] * y, rcond=None)[0]
    np.testing.assert_allclose(model.predict(X), A @ b)
    assert isinstance(model.result_, flm.LMResults)
    from_list = LMMRegressor().fit(X.tolist(), y.tolist(), sample_weight=w.tolist())
    np.testing.assert_allclose(from_list.predict(X), A @ b)


def test_groups_in_an_array():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(10), 6)
    X = np.column_stack([rng.normal(size=60), g])
    y = X[:, 0] + rng.normal(size=10)[g] + 0.3 * rng.normal(size=60)
    model = LMMRegressor(groups="x1").fit(X, y)
    assert model.result_.ngroups == {"x1": 10}
    assert model.score(X, y) > 0.8


def test_new_levels_get_the_population_mean(parts):
    model = LMMRegressor(groups="Subject").fit(*parts)
    new = pd.DataFrame({"Days": [0.0, 5.0], "Subject": ["nobody", "308"]})
    params, blup = model.result_.params, model.result_.ranef()["Subject"].loc["308", "Intercept"]
    np.testing.assert_allclose(
        model.predict(new), [params.iloc[0], params.iloc[0] + 5 * params.iloc[1] + blup]
    )


def test_grouped_cross_validation_is_refitting_by_hand(parts, sleep):
    X, y = parts
    cv = GroupKFold(3)
    found = cross_val_predict(LMMRegressor(groups="Subject"), X, y, groups=X["Subject"], cv=cv)
    for train, test in cv.split(X, y, X["Subject"]):
        fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep.iloc[train])
        np.testing.assert_allclose(found[test], fit.predict(sleep.iloc[test], re="none"), rtol=1e-6)
    scores = cross_val_score(LMMRegressor(groups="Subject"), X, y, groups=X["Subject"], cv=cv)
    assert scores.shape == (3,) and np.isfinite(scores).all()


def test_pipeline_and_grid_search(parts):
    X, y = parts
    scaled = make_column_transformer(
        (StandardScaler(), ["Days"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipe = make_pipeline(scaled, LMMRegressor(groups="Subject", slopes="Days")).fit(X, y)
    plain = LMMRegressor(groups="Subject", slopes="Days").fit(X, y)
    np.testing.assert_allclose(pipe.predict(X), plain.predict(X), rtol=1e-6)
    grid = GridSearchCV(LMMRegressor(groups="Subject"), {"slopes": [None, "Days"], "reml": [True]}, cv=3)
    assert grid.fit(X, y).best_params_["slopes"] == "Days"


def test_clone_parameters_and_pickle(parts):
    model = LMMRegressor("Days + (1 | Subject)", reml=False)
    assert clone(model).get_params() == model.get_params()
    assert set(model.get_params()) == {"formula", "groups", "slopes", "reml", "random_effects"}
    fitted = clone(model).fit(*parts)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(parts[0]), fitted.predict(parts[0]))


def test_odd_names_and_names_that_collide():
    rng = np.random.default_rng(2)
    X = pd.DataFrame(
        {"a b": rng.normal(size=40), "y": rng.normal(size=40), "g": np.repeat(list("abcdefgh"), 5)}
    )
    target = X["y"] + rng.normal(size=40)
    model = LMMRegressor(groups="g").fit(X, target)
    assert model.result_.response_name == "y_" and list(model.result_.params.index)[1:] == ["a b", "y"]
    assert list(X.columns) == ["a b", "y", "g"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"groups": "Sbject"}, "no column 'Sbject'"),
        ({"slopes": ["Days"]}, "slopes vary over groups"),
        ({"formula": "log(y) ~ Days"}, "TransformedTargetRegressor"),
        ({"formula": "Days", "groups": "Subject"}, "models without a formula"),
    ],
)
def test_what_cannot_be_fitted(parts, options, words):
    with pytest.raises(ValueError, match=words):
        LMMRegressor(**options).fit(*parts)


def test_missing_values_are_refused(parts):
    X = parts[0].assign(Days=lambda d: d["Days"].astype(float))
    X.loc[3, "Days"] = np.nan
    with pytest.raises(ValueError, match="Days"):
        LMMRegressor(groups="Subject").fit(X, parts[1])
