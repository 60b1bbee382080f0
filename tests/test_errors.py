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
    message = raises(flm.DataError, "y", "text such as 'a'", data=frame.assign(y="a"))
    assert "to_numeric" not in message


@pytest.mark.parametrize("kind", ["str", "category", "object"])
def test_numbers_as_text_name_the_remedy(frame, kind):
    text = pd.Series(["3.1", "4.5", "2.0"] * 20).astype(kind)
    hint = "it holds text such as '2.0': convert it with pd.to_numeric"
    raises(flm.DataError, "'y'", hint, data=frame.assign(y=text))
    raises(flm.DataError, "'w'", hint, data=frame.assign(w=text), weights="w")
    raises(flm.DataError, "offset w", hint, formula="y ~ offset(w) + (1 | g)", data=frame.assign(w=text))
    raises(
        flm.FormulaError, "log(w)", "'w'", hint, formula="y ~ log(w) + (1 | g)", data=frame.assign(w=text)
    )


def test_a_column_per_row_of_text(frame):
    with pytest.warns(flm.errors.DataWarning, match="'x' holds numbers kept as text"):
        raises(flm.ModelError, "60 rows", "text", data=frame.assign(x=frame["x"].astype(str)))


def test_times_as_a_response(frame):
    times = pd.date_range("2020-01-01", periods=60)
    raises(flm.DataError, "y", "days since", data=frame.assign(y=times))


@pytest.mark.parametrize("formula", ["y ~ x * (1 | g)", "y ~ x:(1 | g)", "y ~ x / (1 | g)"])
def test_random_term_in_a_product(frame, formula):
    raises(flm.FormulaError, "can only be added", "(x | group)", "^^^", formula=formula, data=frame)


def test_a_column_name_twice(frame):
    twice = pd.concat([frame, frame[["x"]]], axis=1)
    raises(flm.DataError, "'x'", "2 times", data=twice)
    assert flm.lmer("y ~ 1 + (1 | g)", twice).nobs == 60


BAD_STARTS = [[np.nan], [np.inf], [1.0, 2.0], [], "a", [[1.0]], 1.0, [None]]


@pytest.mark.parametrize("start", BAD_STARTS, ids=map(str, BAD_STARTS))
def test_start_that_is_no_theta(frame, start):
    with pytest.raises(ValueError, match=r"start must be 1 finite number.*g\.Intercept.*found"):
        flm.lmer("y ~ x + (1 | g)", frame, start=start)


def test_start_of_several_parameters(frame):
    named = r"\(g\.Intercept, g\.x\.Intercept, g\.x\)"
    with pytest.raises(ValueError, match=f"3 finite numbers.*{named}; found 2"):
        flm.lmer("y ~ x + (x | g)", frame, start=[1.0, 0.5])


def test_groups_that_are_numbers_stay_numbers(frame):
    ids = np.repeat(np.arange(1.0, 13.0), 5)
    fit = flm.lmer("y ~ x + (1 | g)", frame.assign(g=ids))
    assert fit.ranef()["g"].index.tolist() == list(range(1, 13))
    assert fit.ranef()["g"].loc[2.0].shape == (1,)
    named = flm.lmer("y ~ x + (1 | g)", frame.assign(g=[f"id{i:04.1f}" for i in ids]))
    np.testing.assert_allclose(fit.ranef()["g"], named.ranef()["g"], rtol=1e-9)
    crossed = flm.lmer("y ~ x + (1 | g:h)", frame.assign(g=ids, h=np.tile([1.0, 2.5], 30)))
    assert crossed.ranef()["g:h"].index[:2].tolist() == ["1:1", "1:2.5"]


@pytest.mark.parametrize("missing", [np.nan, None])
def test_rows_without_a_group_are_dropped_and_counted(frame, missing):
    frame["g"] = frame["g"].astype(object)
    frame.loc[[3, 17], "g"] = missing
    fit = flm.lmer("y ~ x + (1 | g)", frame)
    assert fit.nobs == 58 and fit.n_dropped == 2 and "missing g: 2" in str(fit.summary())
    raises(flm.DataError, "'g'", "rows 3, 17", data=frame, na_action="raise")


def test_no_rows_left(frame):
    for column in ("x", "g", "y"):
        message = f"no rows are left of 60: {column} has 60 missing"
        raises(flm.DataError, message, data=frame.assign(**{column: np.nan}))


def test_no_rows_at_all(frame):
    raises(flm.DataError, "the data have no rows", data=frame.iloc[:0])
    raises(flm.FormulaError, "no columns", data=pd.DataFrame())


def test_one_row(frame):
    raises(flm.DataError, "the data have one row", data=frame.iloc[:1])
    frame.loc[1:, "x"] = np.nan
    raises(flm.DataError, "one row is left of 60", data=frame)


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
