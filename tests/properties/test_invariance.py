"""The same model in another guise gives the same fit."""

import numpy as np
import pandas as pd
import pytest
import tolerances as tol
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastlmm_core as flm

SLOPE = "y ~ x + f + (x | g)"
CROSSED = "y ~ x + (1 | g) + (1 | h)"


def simulate(seed, n=240, groups=20):
    """Unbalanced rows of a random slope and a crossed intercept."""
    rng = np.random.default_rng(seed)
    g = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    h = rng.integers(0, 7, n)
    x = rng.normal(2, 1, n)
    b = rng.normal(size=(groups, 2)) @ np.array([[1.0, 0.3], [0.0, 0.6]])
    f = rng.choice(["p", "q", "r"], n)
    y = 5 + 1.5 * x + (f == "q") + b[g, 0] + b[g, 1] * x + rng.normal(size=7)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": [f"g{i:02d}" for i in g], "h": [f"h{i}" for i in h]})


FRAME = simulate(11)


def criterion(fit):
    return -2 * fit.llf


def assert_same(a, b, shift=0.0):
    """Fits ``a`` and ``b`` agree; the criterion of ``b`` exceeds that of ``a`` by ``shift``."""
    allowed = tol.INVARIANCE_CRITERION * abs(criterion(a))
    assert criterion(b) - criterion(a) == pytest.approx(shift, abs=allowed)
    np.testing.assert_allclose(b.params, a.params, atol=tol.INVARIANCE * a.bse.max())
    np.testing.assert_allclose(b.bse, a.bse, rtol=tol.INVARIANCE)
    np.testing.assert_allclose(b.df, a.df, rtol=1e-4)
    np.testing.assert_allclose(b.sigma, a.sigma, rtol=tol.INVARIANCE)
    np.testing.assert_allclose(b.theta, a.theta, atol=10 * tol.INVARIANCE)


@pytest.fixture(scope="module", params=[SLOPE, CROSSED])
def formula(request):
    return request.param


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_order_of_rows(formula, seed):
    shuffled = FRAME.sample(frac=1, random_state=seed)
    a, b = flm.lmer(formula, FRAME), flm.lmer(formula, shuffled)
    assert_same(a, b)
    back = np.asarray(b.fittedvalues)[np.argsort(shuffled.index)]
    np.testing.assert_allclose(back, a.fittedvalues, atol=1e-6)


def test_names_of_levels(formula):
    renamed = FRAME.assign(g=FRAME["g"].map(lambda level: f"z{99 - int(level[1:])}"))
    a, b = flm.lmer(formula, FRAME), flm.lmer(formula, renamed)
    assert_same(a, b)
    ours, theirs = a.ranef()["g"], b.ranef()["g"]
    theirs = theirs.loc[[f"z{99 - int(level[1:])}" for level in ours.index]]
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_kind_of_grouping_column(formula):
    codes = FRAME["g"].str[1:].astype(int)
    a = flm.lmer(formula, FRAME)
    assert_same(a, flm.lmer(formula, FRAME.assign(g=codes)))
    assert_same(a, flm.lmer(formula, FRAME.assign(g=codes * 10**12)))
    assert_same(a, flm.lmer(formula, FRAME.assign(g=pd.Categorical(FRAME["g"]))))
    unused = pd.Categorical(FRAME["g"], categories=["nobody", *sorted(set(FRAME["g"]))])
    assert_same(a, flm.lmer(formula, FRAME.assign(g=unused)))


def test_order_of_random_terms():
    a, b = flm.lmer(CROSSED, FRAME), flm.lmer("y ~ (1 | h) + x + (1 | g)", FRAME)
    assert_same(a, b)
    pd.testing.assert_frame_equal(a.varcorr(), b.varcorr(), rtol=1e-5)


def test_order_of_fixed_terms():
    a, b = flm.lmer(SLOPE, FRAME), flm.lmer("y ~ f + x + (x | g)", FRAME)
    np.testing.assert_allclose(b.params[a.params.index], a.params, atol=1e-6)
    assert criterion(b) == pytest.approx(criterion(a), rel=tol.INVARIANCE_CRITERION)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e4, 1e8])
def test_unit_of_the_response(formula, unit, reml):
    a, b = (flm.lmer(formula, d, reml=reml) for d in (FRAME, FRAME.assign(y=FRAME["y"] * unit)))
    shift = 2 * (a.nobs - reml * len(a.params)) * np.log(unit)
    assert criterion(b) - criterion(a) == pytest.approx(shift, rel=1e-8)
    np.testing.assert_allclose(b.params / unit, a.params, atol=tol.INVARIANCE * a.bse.max())
    np.testing.assert_allclose(b.bse / unit, a.bse, rtol=tol.INVARIANCE)
    np.testing.assert_allclose(b.theta, a.theta, atol=10 * tol.INVARIANCE)
    np.testing.assert_allclose(b.df, a.df, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e4, 1e8])
def test_unit_of_a_predictor(formula, unit):
    a, b = (flm.lmer(formula, d, reml=False) for d in (FRAME, FRAME.assign(x=FRAME["x"] * unit)))
    assert criterion(b) == pytest.approx(criterion(a), rel=tol.INVARIANCE_CRITERION)
    assert b.params["x"] * unit == pytest.approx(a.params["x"], rel=tol.INVARIANCE)
    assert b.bse["x"] * unit == pytest.approx(a.bse["x"], rel=tol.INVARIANCE)
    np.testing.assert_allclose(b.df, a.df, rtol=1e-4)
    np.testing.assert_allclose(b.fittedvalues, a.fittedvalues, atol=1e-5)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("offset", [-1e4, 1e7])
def test_origin_of_a_predictor(formula, offset, reml):
    a, b = (flm.lmer(formula, d, reml=reml) for d in (FRAME, FRAME.assign(x=FRAME["x"] + offset)))
    assert criterion(b) == pytest.approx(criterion(a), rel=1e-7)
    assert b.params["x"] == pytest.approx(a.params["x"], abs=1e-4 * a.bse["x"])
    assert b.bse["x"] == pytest.approx(a.bse["x"], rel=1e-5)
    np.testing.assert_allclose(b.sigma, a.sigma, rtol=1e-6)
    np.testing.assert_allclose(b.fittedvalues, a.fittedvalues, atol=1e-4)


@pytest.mark.parametrize("offset", [-1e4, 1e7])
def test_origin_of_the_response(formula, offset):
    a, b = flm.lmer(formula, FRAME), flm.lmer(formula, FRAME.assign(y=FRAME["y"] + offset))
    assert criterion(b) == pytest.approx(criterion(a), rel=1e-7)
    moved = b.params - offset * (b.params.index == "Intercept")
    np.testing.assert_allclose(moved, a.params, atol=1e-5)
    np.testing.assert_allclose(b.bse, a.bse, rtol=1e-5)
    np.testing.assert_allclose(b.theta, a.theta, atol=1e-5)


@pytest.mark.threads
def test_number_of_threads(formula):
    a, b = (flm.lmer(formula, FRAME, n_threads=k) for k in (1, 4))
    assert criterion(a) == pytest.approx(criterion(b), rel=1e-12)
    np.testing.assert_allclose(a.params, b.params, rtol=1e-12)
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-9)


@pytest.mark.threads
def test_number_of_threads_on_many_rows():
    ratings = flm.load_dataset("InstEval").iloc[:20000]
    a, b = (flm.lmer("y ~ service + (1 | s) + (1 | d)", ratings, n_threads=k) for k in (1, 3))
    np.testing.assert_allclose(a.params, b.params, rtol=1e-12)
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-9)


@pytest.mark.parametrize("kind", ["polars", "pyarrow", "dict"])
def test_kind_of_table(formula, kind):
    if kind == "polars":
        table = pytest.importorskip("polars").from_pandas(FRAME)
    elif kind == "pyarrow":
        table = pytest.importorskip("pyarrow").Table.from_pandas(FRAME)
    else:
        table = {name: FRAME[name].to_numpy() for name in FRAME}
    a, b = flm.lmer(formula, FRAME), flm.lmer(formula, table)
    assert list(b.params.index) == list(a.params.index)
    assert_same(a, b)


@pytest.mark.parametrize("dtype", ["float32", "int64", "boolean", "Float64"])
def test_kind_of_number(dtype):
    x = (FRAME["x"] > 2) if dtype == "boolean" else FRAME["x"].round()
    a = flm.lmer("y ~ x + (1 | g)", FRAME.assign(x=x.astype(float)))
    b = flm.lmer("y ~ x + (1 | g)", FRAME.assign(x=x.astype(dtype)))
    assert criterion(b) == pytest.approx(criterion(a), rel=1e-10)
    np.testing.assert_allclose(b.params, a.params, rtol=1e-7)
