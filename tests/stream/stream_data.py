"""A data set with every kind of column a stream meets, and comparisons of fits."""

import sys

import numpy as np
import pandas as pd
import pytest


def frame(n=2400, seed=1):
    """Rows with numbers, text, a factor, weights, missing values; ``s`` nests ``g``."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 60, n), rng.integers(0, 12, n)
    data = pd.DataFrame(
        {
            "x": rng.normal(50, 7, n),
            "f": np.array(["b", "a", "c"])[rng.integers(0, 3, n)],
            "g": g * 1000 + 7,
            "s": g // 6,
            "h": [f"k{level}" for level in h],
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    b = rng.normal(size=(60, 2)) * [1.0, 0.05]
    data["y"] = (
        3.0 + b[g, 0] + (0.1 + b[g, 1]) * (data["x"] - 50) + rng.normal(size=12)[h] + rng.normal(size=n)
    )
    data.loc[::97, "x"] = np.nan
    data.loc[5::211, "h"] = None
    return data


def batches(data, size=700):
    """A callable that returns an iterator of frames."""
    return lambda: iter([data.iloc[at : at + size] for at in range(0, len(data), size)])


BARS = {"tqdm": ("tqdm", "tqdm.auto"), "rich": ("rich", "rich.console", "rich.progress")}


def without_bars(monkeypatch, *kept):
    """As if the packages that draw bars were not installed, but for those that are ``kept``."""
    for name, modules in BARS.items():
        for module in modules if name not in kept else ():
            monkeypatch.setitem(sys.modules, module, None)


def assert_same_fit(found, expected, rtol=1e-10):
    """Equal criterion, estimates and levels."""
    assert found.llf == pytest.approx(expected.llf, rel=rtol)
    assert list(found.params.index) == list(expected.params.index)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-6)
    np.testing.assert_allclose(found.theta, expected.theta, rtol=1e-5, atol=1e-6)
    assert (found.nobs, found.n_dropped, found.ngroups) == (
        expected.nobs,
        expected.n_dropped,
        expected.ngroups,
    )
    assert found._facts.rows.reasons == expected._facts.rows.reasons
    assert found.theta.shape == expected.theta.shape
    for group, table in expected.ranef().items():
        assert list(found.ranef()[group].index) == list(table.index)
        np.testing.assert_allclose(found.ranef()[group], table, atol=1e-5)
