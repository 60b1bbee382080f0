"""Surfaces with several minima: the default fit against many starts, and what is said where there is none."""

import numpy as np
import pandas as pd
import pytest
from properties.test_random_models import random_frame

import fastlmm_core as flm


def slopes(seed, offset, groups=8, n=60):
    """Random intercepts and slopes, on a covariate ``offset`` standard deviations from 0."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, groups, n)
    g[:groups] = range(groups)
    x = rng.normal(size=n)
    b = rng.normal(size=(groups, 2)) * [1.0, 2.0]
    y = 1 + x + b[g, 0] + b[g, 1] * x + 0.5 * rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x + offset, "g": g, "k": rng.integers(0, 4, n)})


def best_of(formula, frame, starts, **settings):
    once = flm.Control(n_starts=1)
    fits = [flm.lmer(formula, frame, start=start, control=once, **settings) for start in starts]
    return max(fit.llf for fit in fits if fit.converged)


@pytest.mark.parametrize("offset", [30.0, 100.0, 1000.0])
@pytest.mark.parametrize("formula", ["y ~ x + (x || g)", "y ~ x + (x || g) + (1 | k)"])
@pytest.mark.parametrize("seed", [0, 18])
def test_intercept_and_slope_apart_far_from_zero(seed, formula, offset):
    """One minimum has a small intercept variance, another has one as large as offset^2 slope variances."""
    frame, more = slopes(seed, offset), [1.0] * ("k)" in formula)
    starts = [[1.0, 0.1, *more], [0.3, 0.0, *more], [3 * offset, 3.0, *more], [10 * offset, 1.0, *more]]
    fit = flm.lmer(formula, frame)
    assert fit.converged
    assert fit.llf > best_of(formula, frame, starts) - 1e-6


def test_many_levels():
    frame = slopes(0, 100.0, groups=9000, n=40_000)
    fit = flm.lmer("y ~ x + (x || g)", frame)
    assert fit.converged
    assert fit.llf > best_of("y ~ x + (x || g)", frame, [[1.0, 0.1], [300.0, 3.0]]) - 1e-5


def test_intercepts_only_need_one_search():
    fit = flm.lmer("y ~ x + (x | g)", slopes(0, 100.0, groups=12, n=200))
    assert fit.converged and fit.convergence.n_starts == 1


UNMATCHED = [
    (989288978, "0 + x + (1 | g) + (1 | k)", None, False, 1.0, 100.0),
    (1295756796, "1 + (0 + x | g) + (1 | k)", None, True, 1.0, 100.0),
    (1193583107, "0 + x + (z || g) + (1 | k)", "w", False, 1e8, 0.0),
    (1526759724, "0 + x + (u | g) + (z | k)", "w", False, 1e8, 100.0),
    (1675035549, "1 + (z + x | g)", "w", False, 1e-8, 0.0),
    (848141219, "z + (x | g)", None, True, 1e8, 0.0),
]


@pytest.mark.parametrize("model", UNMATCHED, ids=[model[1] for model in UNMATCHED])
def test_random_effects_whose_mean_is_no_fixed_effect(model):
    """The mean can be taken for variance, or left to other columns: a minimum each."""
    seed, terms, weights, reml, unit, shift = model
    frame = random_frame(np.random.default_rng(seed), unit, shift)
    fit = flm.lmer(f"y ~ {terms}", frame, reml=reml, weights=weights)
    many = flm.Control(n_starts=20, seed=5)
    best = flm.lmer(f"y ~ {terms}", frame, reml=reml, weights=weights, control=many)
    assert fit.converged and fit.llf > best.llf - 1e-7


@pytest.mark.parametrize("formula", ["y ~ 0 + x + (1 | g) + (1 | k)", "y ~ 1 + (0 + x | g) + (1 | k)"])
def test_more_rows_whose_mean_is_no_fixed_effect(formula):
    rng = np.random.default_rng(3)
    n, g, k = 3000, rng.integers(0, 150, 3000), rng.integers(0, 60, 3000)
    x = rng.normal(size=n)
    b = rng.normal(size=(150, 2)) * [0.3, 3.0]
    y = 20 + x + b[g, 0] + b[g, 1] * x + rng.normal(size=60)[k] + rng.normal(size=n)
    frame = pd.DataFrame({"y": y, "x": x + 100.0, "g": g, "k": k})
    fit = flm.lmer(formula, frame)
    assert fit.converged and fit.convergence.n_starts < 4
    assert fit.llf > best_of(formula, frame, [[1.0, 1.0], [0.01, 30.0], [30.0, 1.0]]) - 1e-6
    matched = flm.lmer("y ~ x + (1 | g) + (1 | k)", frame)
    assert matched.convergence.n_starts == 1


def test_random_effects_that_fit_the_response_exactly():
    """Here the criterion falls towards a residual variance of 0, and no start finds a minimum before."""
    rng = np.random.default_rng(14)
    frame = pd.DataFrame({"g": rng.integers(0, 4, 14), "h": rng.integers(0, 3, 14)})
    frame["x"], frame["z"], frame["y"] = rng.normal(size=14), rng.normal(size=14), rng.normal(size=14)
    with pytest.warns(flm.ConvergenceWarning, match="residual variance goes to 0"):
        fit = flm.lmer("y ~ 1 + (x + z | g) + (x | h)", frame, reml=False)
    assert not fit.converged and fit.sigma < 1e-3 * frame["y"].std()


def test_average_information_that_converges_slowly():
    """Where it leaves a third of what is to gain at each step, differences of the gradient take over."""
    rng = np.random.default_rng(2)
    n, g, k = 3000, rng.integers(0, 150, 3000), rng.integers(0, 60, 3000)
    x, z = rng.normal(size=n), rng.normal(size=n)
    b = rng.normal(size=(150, 2)) * rng.choice([0, 0.3, 1, 3], 2)
    y = rng.choice([0, 2, 20]) + x + b[g, 0] + b[g, 1] * x + rng.normal(size=60)[k] + rng.normal(size=n)
    frame = pd.DataFrame({"y": y, "x": x, "z": z, "g": g, "k": k})
    fit = flm.lmer("y ~ 1 + (z | g) + (x | k)", frame, control=flm.Control(n_starts=1))
    assert fit.converged and fit.convergence.iterations < 40 and fit.convergence.n_gradients < 55
    nearer = flm.lmer("y ~ 1 + (z | g) + (x | k)", frame, start=fit.theta, control=flm.Control(n_starts=1))
    np.testing.assert_allclose(nearer.theta, fit.theta, atol=1e-5)
