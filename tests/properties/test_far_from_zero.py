"""Random terms whose columns cannot be centred one by one: the same model in centred columns."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

OFFSETS = [0.0, 1e4, 1e6]


def frame(seed, offset):
    """x and u to 20 binary places, ``offset`` away; xc, uc, v and d are made before the offset is added."""
    rng = np.random.default_rng(seed)
    h = rng.integers(0, 8, 120)
    h[:8] = range(8)
    x, u = np.round(rng.normal(size=(2, 120)) * 2**20) / 2**20
    b = rng.normal(size=(8, 2))
    y = 1 + x + 0.5 * u + 0.7 * x * u + b[h, 0] + b[h, 1] * x * u + rng.normal(size=120)
    centred = {"v": (x * u + offset * (x + u)) / max(offset, 1.0), "d": x - u}
    far = {"x": x + offset, "u": u + offset}
    k = rng.integers(0, 4, 120)
    return pd.DataFrame({"y": y, "xc": x, "uc": u, "h": h, "k": k} | centred | far)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("more", ["", " + (1 | k)"])
@pytest.mark.parametrize(
    ("term", "centred"), [("(x:u | h)", "(v | h)"), ("(0 + x + u | h)", "(0 + d + u | h)")]
)
def test_random_terms(term, centred, more, offset):
    data = frame(1, offset)
    a = flm.lmer(f"y ~ x * u + {term}{more}", data, reml=False)
    b = flm.lmer(f"y ~ xc * uc + {centred}{more}", data, reml=False)
    assert a.converged and a.convergence.newton_decrement < 1e-9
    assert a.llf == pytest.approx(b.llf, abs=1e-8)
    assert a.sigma == pytest.approx(b.sigma, rel=1e-6)
    assert a.params["x:u"] == pytest.approx(b.params["xc:uc"], abs=1e-5 * b.bse["xc:uc"])


@pytest.mark.parametrize("offset", OFFSETS)
def test_fixed_effects(offset):
    data = frame(2, offset)
    a = flm.lmer("y ~ 0 + x + u + (1 | h)", data, reml=False)
    b = flm.lmer("y ~ 0 + d + u + (1 | h)", data, reml=False)
    assert a.llf == pytest.approx(b.llf, abs=1e-8)
    assert a.bse["x"] == pytest.approx(b.bse["d"], rel=1e-7)


def test_maximum_is_not_lower_than_far_away():
    """The limit of ``(x:u | h)`` far from 0 is smooth in the offset: 1e4 and 1e7 agree to 1e-3."""
    near, far = (flm.lmer("y ~ x * u + (x:u | h)", frame(3, offset), reml=False) for offset in (1e4, 1e7))
    assert near.converged and far.converged and near.llf == pytest.approx(far.llf, abs=2e-3)


def test_statistics_of_batches():
    """Columns that are sums of products travel with a plan: halves merged, a refit of other values."""
    data = frame(4, 1e5)
    formula = "y ~ x:u + (x:u | h)"
    whole = flm.lmer(formula, data)
    plan = type(flm.plan(formula, data)).from_json(flm.plan(formula, data).to_json())
    fit = flm.fit(plan.accumulate(data.iloc[:60]).merge(plan.accumulate(data.iloc[60:])))
    assert fit.llf == pytest.approx(whole.llf, abs=1e-8)
    np.testing.assert_allclose(fit.bse, whole.bse, rtol=1e-6)
    again = whole.refit(2.0 * data["y"])
    np.testing.assert_allclose(again.params, 2.0 * whole.params, rtol=1e-5)
