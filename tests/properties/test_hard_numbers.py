"""Data that cost a double its digits: the fit is right, by long doubles, or says that it is not."""

import warnings

import numpy as np
import pandas as pd
import pytest
from oracle.extended import HAS_DIGITS, criterion

import fastlmm_core as flm

pytestmark = pytest.mark.skipif(not HAS_DIGITS, reason="long double is no longer than double here")


def frame(n=60):
    rng = np.random.default_rng(0)
    g = np.concatenate([np.arange(6), rng.integers(0, 6, n - 6)])
    x, z, b = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(6, 2))
    y = 1 + x + b[g, 0] + 0.5 * b[g, 1] * x + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "k": rng.integers(0, 4, n), "e": rng.normal(size=n)})


def check(formula, data, X, Z, weights=None, atol=1e-7):
    """``Z``: (factor, columns) per term in the order of the fit; warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = flm.lmer(formula, data, weights=weights)
    terms = [(data[g], np.column_stack(columns), T) for (g, columns), T in zip(Z, fit._estimates.terms)]
    w = None if weights is None else data[weights]
    value, sigma = criterion(data["y"], np.column_stack(X), terms, w)
    assert fit.converged and fit.convergence.newton_decrement < 1e-6
    assert -2 * fit.llf == pytest.approx(value, abs=atol)
    assert fit.sigma == pytest.approx(sigma, rel=1e-8)
    return fit


@pytest.mark.parametrize(("level", "unit"), [(1e12, 1e-3), (1e15, 1.0), (1e6, 1e-9)])
def test_a_nearly_constant_response(level, unit):
    """As far from 0 as a double can tell its values apart."""
    data = frame()
    data["y"] = level + unit * data["y"]
    one = np.ones(60)
    moved = data.assign(y=data["y"] - level)  # not rounded
    fit = check("y ~ x + (x | g)", moved, [one, data["x"]], [("g", [one, data["x"]])])
    far = flm.lmer("y ~ x + (x | g)", data)
    assert far.llf == pytest.approx(fit.llf, abs=1e-7) and far.sigma == pytest.approx(fit.sigma, rel=1e-6)
    np.testing.assert_allclose(far.bse, fit.bse, rtol=1e-5)


@pytest.mark.parametrize("span", [5, 10])
def test_weights_of_all_sizes(span):
    data = frame()
    data["w"] = 10.0 ** np.random.default_rng(1).uniform(-span, span, 60)
    one = np.ones(60)
    check("y ~ x + (1 | g)", data, [one, data["x"]], [("g", [one])], "w", atol=1e-6)
    check("y ~ x + (1 | g) + (1 | k)", data, [one, data["x"]], [("g", [one]), ("k", [one])], "w", atol=1e-6)


@pytest.mark.parametrize("distance", [1e2, 1e3])
def test_groups_far_apart(distance):
    data = frame()
    data["y"] += distance * data["g"]
    one = np.ones(60)
    check("y ~ x + (1 | g)", data, [one, data["x"]], [("g", [one])], atol=1e-6)
    check("y ~ x + (x | g)", data, [one, data["x"]], [("g", [one, data["x"]])], atol=1e-6)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_fixed_columns_that_look_alike(offset):
    data = frame().assign(q=np.arange(60) % 2)
    data["x"], data["z"] = data["x"] + offset, data["z"] + offset
    one, x, z = np.ones(60), data["x"], data["z"]
    label = data["q"].map({0: "a", 1: "b"})
    check("y ~ 0 + x + z + (1 | g)", data, [x, z], [("g", [one])], atol=1e-5)
    check("y ~ x:z + (1 | g)", data, [one, x * z], [("g", [one])], atol=1e-5)
    by_level = [one, x * (data["q"] == 0), x * (data["q"] == 1)]
    check("y ~ x:q + (1 | g)", data.assign(q=label), by_level, [("g", [one])], atol=1e-5)


def test_random_columns_that_are_nearly_the_same():
    data = frame()
    data["z"] = data["x"] + 1e-5 * data["z"]
    one, x = np.ones(60), data["x"]
    fit = check("y ~ x + (x + z | g)", data, [one, x], [("g", [one, x, data["z"]])], atol=1e-5)
    data["z"] = (data["z"] - x) * 1e5
    assert fit.llf == pytest.approx(flm.lmer("y ~ x + (x + z | g)", data).llf, abs=1e-5)


@pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-7, 0.0])
@pytest.mark.parametrize(
    "formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | k)", "y ~ x + (1 | g/k)"]
)
def test_hardly_any_residuals(formula, noise):
    """Sums of squares keep the digits of the residuals, or tell how few."""
    data = frame()
    data["y"] = 1 + 2 * data["x"] + data["g"] + noise * data["e"]
    if noise < 1e-6:
        with pytest.raises(flm.ModelError, match="the residual variance is zero"):
            flm.lmer(formula, data)
        return
    if noise < 1e-4:
        with pytest.warns(flm.DataWarning, match="keep about [1-6] digits"):
            fit = flm.lmer(formula, data)
    else:
        fit = flm.lmer(formula, data)
    assert fit.converged and fit.sigma == pytest.approx(noise, rel=0.3)
    assert fit.params["x"] == pytest.approx(2.0, abs=4 * noise)


def test_few_digits_are_not_taken_for_a_saturated_model():
    data = frame()
    data["y"] = 1 + 2 * data["x"] + data["g"] + 1e-5 * data["e"]
    with pytest.warns(flm.DataWarning, match="subtract what is known"):
        fit = flm.lmer("y ~ x + (1 | g)", data)
    assert fit.converged and "residual variance" not in fit.convergence.reason


@pytest.mark.parametrize("size", [1e-160, 1e-100, 1e-80, 1e80, 1e100, 1e160])
def test_units_beyond_what_inference_can_hold(size):
    """Satterthwaite's degrees of freedom take fourth powers of coefficients."""
    data = frame()
    for changed in (data.assign(x=data["x"] * size), data.assign(y=data["y"] * size)):
        with pytest.raises(flm.DataError, match="beyond what a float"):
            flm.lmer("y ~ x + (x | g)", changed)


def test_products_beyond_what_inference_can_hold():
    data = frame()
    data["x"], data["z"] = data["x"] * 1e-45, data["z"] * 1e-45
    with pytest.raises(flm.DataError, match="'x:z' would be near"):
        flm.lmer("y ~ x * z + (1 | g)", data)


@pytest.mark.parametrize("size", [1e-65, 1e65])
def test_units_that_it_can(size):
    data = frame()
    expected = flm.lmer("y ~ x + (x | g)", data)
    for changed in (data.assign(x=data["x"] * size), data.assign(y=data["y"] * size)):
        np.testing.assert_allclose(flm.lmer("y ~ x + (x | g)", changed).df, expected.df, rtol=1e-6)


def test_one_level_with_nearly_all_rows():
    rng = np.random.default_rng(0)
    n, levels = 200_000, 500
    g = np.concatenate([np.zeros(n, int), np.arange(1, levels)])
    x, b = rng.normal(size=len(g)), rng.normal(size=levels)
    y = 1 + x + b[g] + rng.normal(size=len(g))
    fit = flm.lmer("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
    T, ld = np.longdouble(fit.theta[0]) ** 2, np.longdouble(0)
    U = np.column_stack([np.ones(len(g)), x, y]).astype(np.longdouble)
    B = np.vstack([U[:n].sum(0), U[n:]])
    counts = np.array([n] + [1] * (levels - 1), np.longdouble)
    ld = np.log1p(counts * T).sum()
    R = np.linalg.cholesky((U.T @ U - (B.T * (T / (1 + counts * T))) @ B).astype(float))
    N = len(g) - 2
    value = float(ld) + N * (1 + np.log(2 * np.pi * R[2, 2] ** 2 / N)) + 2 * np.log(np.diag(R)[:2]).sum()
    assert fit.converged and -2 * fit.llf == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("reml", [True, False])
def test_one_row_more_than_fixed_effects(reml):
    """Two levels on three rows, two coefficients: a minimum, or the news that there is none."""
    data = frame().iloc[:3].assign(g=[0, 1, 0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = flm.lmer("y ~ x + (1 | g)", data, reml=reml)
    assert fit.converged != any(issubclass(w.category, flm.ConvergenceWarning) for w in caught)
    assert fit.converged or "residual variance goes to 0" in fit.convergence.reason
