"""Degrees of freedom do not depend on where x is measured from."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(1)
    n, g, h = 600, rng.integers(0, 30, 600), rng.integers(0, 12, 600)
    x = rng.normal(size=n)
    slopes, items = 0.5 * rng.normal(size=30), 0.4 * rng.normal(size=12)
    y = 1 + x + rng.normal(size=30)[g] + slopes[g] * x + items[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | g)", "y ~ x + (1 + x | g) + (1 | h)"])
@pytest.mark.parametrize("shift", [1e3, 1e5, 1e7])
def test_df_with_x_far_from_zero(frame, formula, shift):
    fit, moved = flm.lmer(formula, frame), flm.lmer(formula, frame.assign(x=frame.x + shift))
    assert moved.df["x"] == pytest.approx(fit.df["x"], rel=1e-5)
    assert moved.caic() == pytest.approx(fit.caic(), abs=1e-2)
    new = pd.DataFrame({"x": [1.0], "g": [99], "h": [99]})
    options = {"interval": "new_cluster", "new_levels": "population"}
    here, there = fit.predict(new, **options), moved.predict(new.assign(x=new.x + shift), **options)
    np.testing.assert_allclose(there["upper"] - there["mean"], here["upper"] - here["mean"], rtol=2e-3)
