"""Each input that cannot be fitted, with the type and the content of the message."""

import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm


@pytest.fixture
def frame():
    rng = np.random.default_rng(3)
    n = 60
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "g": np.repeat([f"g{i}" for i in range(12)], 5),
            "w": rng.uniform(0.5, 2, size=n),
        }
    )


def raises(kind, *parts, formula="y ~ x + (1 | g)", data, **options):
    """Assert that the fit raises ``kind``, also a builtin, with all ``parts`` in its message."""
    with pytest.raises(kind) as caught:
        flm.lmer(formula, data, **options)
    assert isinstance(caught.value, flm.FastLMMError)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    missing = [part for part in parts if str(part) not in message]
    assert not missing, f"{missing} not in:\n{message}"
    return message


UNPARSABLE = ["y ~ x + (1 | g", "y ~ x + (1 | )", "y ~ ~ x + (1 | g)", "y ~ x + * (1 | g)"]
UNKNOWN = ["y ~ xx + (1 | g)", "y ~ x + (1 | gg)", "y ~ x + (zz | g)", "yy ~ x + (1 | g)"]


@pytest.mark.parametrize("formula", UNPARSABLE)
def test_formula_that_does_not_parse_marks_the_place(frame, formula):
    assert "^" in raises(flm.FormulaError, formula=formula, data=frame)


def test_formula_without_a_response(frame):
    raises(flm.FormulaError, formula="x + (1 | g)", data=frame)


def test_no_random_term(frame):
    message = raises(flm.FormulaError, formula="y ~ x", data=frame)
    assert "lm" in message and "|" in message


@pytest.mark.parametrize("formula", UNKNOWN)
def test_unknown_column(frame, formula):
    wrong = next(word for word in ("xx", "gg", "zz", "yy") if word in formula)
    message = raises(flm.FormulaError, wrong, formula=formula, data=frame)
    line, marks = next((a, b) for a, b in zip(message.splitlines(), message.splitlines()[1:]) if "^" in b)
    assert line[marks.index("^") :].startswith(wrong)


def test_grouping_factor_with_one_level(frame):
    raises(flm.ModelError, "g", "1", "level", data=frame.assign(g="only"))


def test_a_level_for_every_row(frame):
    raises(flm.ModelError, "g", 60, data=frame.assign(g=[f"r{i}" for i in range(60)]))


def test_more_random_effects_than_rows(frame):
    frame["h"] = np.arange(60) // 2
    raises(flm.ModelError, "h", 60, formula="y ~ x + (1 + x + w | h)", data=frame)


@pytest.mark.parametrize("column", ["y", "x"])
def test_infinite_values(frame, column):
    frame.loc[[7, 31], column] = [np.inf, -np.inf]
    raises(flm.DataError, column, 7, 31, data=frame)


def test_missing_values_may_be_refused(frame):
    frame.loc[[4, 17], "x"] = np.nan
    raises(flm.DataError, "x", 4, 17, data=frame, na_action="raise")
    assert flm.lmer("y ~ x + (1 | g)", frame).nobs == 58


@pytest.mark.parametrize("bad", [-1.0, np.inf])
def test_weights_that_are_no_weights(frame, bad):
    frame.loc[5, "w"] = bad
    raises(flm.DataError, "w", 5, data=frame, weights="w")


def test_weights_of_the_wrong_length(frame):
    raises(flm.DataError, 10, 60, data=frame, weights=np.ones(10))


def test_response_that_is_no_number(frame):
    raises(flm.DataError, "y", data=frame.assign(y="a"))


def test_no_rows_left(frame):
    raises(flm.DataError, "x", 60, data=frame.assign(x=np.nan))


def test_no_rows_at_all(frame):
    raises(flm.DataError, data=frame.iloc[:0])


def test_aliased_columns_are_dropped_with_a_warning(frame):
    frame["twice"] = 2 * frame["x"] + 1
    with pytest.warns(flm.RankWarning, match="twice"):
        fit = flm.lmer("y ~ x + twice + (1 | g)", frame)
    assert list(fit.params.index) == ["Intercept", "x", "twice"]
    assert np.isnan(fit.params["twice"]) and np.isnan(fit.bse["twice"]) and np.isnan(fit.pvalues["twice"])
    plain = flm.lmer("y ~ x + (1 | g)", frame)
    np.testing.assert_allclose(fit.params[:2], plain.params, rtol=1e-9)
    np.testing.assert_allclose(fit.fittedvalues, plain.fittedvalues, rtol=1e-9, atol=1e-10)


def test_unknown_level_in_predict(frame):
    fit = flm.lmer("y ~ x + (1 | g)", frame)
    new = frame.iloc[:3].assign(g=["g0", "nobody", "g1"])
    with pytest.raises(flm.DataError, match="nobody") as caught:
        fit.predict(new)
    assert "g" in str(caught.value)
    assert fit.predict(new, new_levels="population").notna().all()


def test_missing_column_in_predict(frame):
    fit = flm.lmer("y ~ x + (1 | g)", frame)
    with pytest.raises(flm.FastLMMError, match="x"):
        fit.predict(frame[["g"]])


def test_missing_rows_in_predict_give_nan(frame):
    fit = flm.lmer("y ~ x + (1 | g)", frame)
    new = frame.iloc[:4].copy()
    new.loc[new.index[1], "x"] = np.nan
    assert list(fit.predict(new).isna()) == [False, True, False, False]


def test_stopping_early_warns_with_the_certificate():
    formula, data = "normexam ~ standLRT + (standLRT | school)", flm.load_dataset("Exam")
    with pytest.warns(flm.ConvergenceWarning, match="NOT converged.*criterion still to gain"):
        early = flm.lmer(formula, data, control=flm.Control(max_iter=1))
    assert not early.converged
    assert flm.lmer(formula, data).llf > early.llf


def test_constant_response(frame):
    raises(flm.ModelError, "y", data=frame.assign(y=3.5))


def test_zero_residual_variance(frame):
    raises(flm.ModelError, data=frame.assign(y=2 * frame["x"] + 1))


def test_frames_that_are_no_frames():
    with pytest.raises((flm.FastLMMError, TypeError)):
        flm.lmer("y ~ x + (1 | g)", 17)


def test_unknown_options(frame):
    with pytest.raises(ValueError, match="na_action"):
        flm.lmer("y ~ x + (1 | g)", frame, na_action="ignore")
    fit = flm.lmer("y ~ x + (1 | g)", frame)
    with pytest.raises(ValueError, match="wald"):
        fit.conf_int(method="magic")
    with pytest.raises(ValueError, match="none"):
        fit.predict(frame, re="some")


def test_a_clean_fit_does_not_warn(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flm.lmer("y ~ x + (1 | g)", frame.assign(y=frame["y"] + frame["g"].str[1:].astype(float)))
