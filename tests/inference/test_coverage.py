"""Prediction intervals cover at their level: 2000 data sets drawn from a known model."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

SETS, LEVEL = 2000, 0.9
GROUPS, EACH = 12, 5


@pytest.mark.slow
def test_prediction_intervals_cover():
    rng = np.random.default_rng(7)
    g, x = np.arange(GROUPS).repeat(EACH), np.tile(np.linspace(-1, 1, EACH), GROUPS)
    frame = pd.DataFrame({"g": g, "x": x})
    new = pd.DataFrame({"g": [0, GROUPS], "x": [0.5, 0.5]})
    frame["y"] = rng.normal(size=len(g)) + rng.normal(size=GROUPS)[g]
    first = flm.lmer("y ~ x + (1 | g)", frame)
    # rows of `new` are a cluster of the data and one that is not in them
    inside = {"mean": np.zeros(2), "observation": np.zeros(2), "new_cluster": np.zeros(2)}
    for _ in range(SETS):
        b = 1.5 * rng.normal(size=GROUPS + 1)
        y = 2.0 + 0.7 * x + b[g] + rng.normal(size=len(g))
        fit = first.refit(y)
        centre = 2.0 + 0.7 * 0.5
        truth = {
            "mean": np.array([centre + b[0], centre]),
            "observation": centre + b[[0, GROUPS]] + rng.normal(size=2),
            "new_cluster": np.full(2, centre) + 1.5 * rng.normal(size=2),
        }
        for interval, count in inside.items():
            found = fit.predict(new, interval=interval, level=LEVEL, new_levels="population")
            count += (found["lower"] <= truth[interval]) & (truth[interval] <= found["upper"])
    error = np.sqrt(LEVEL * (1 - LEVEL) / SETS)
    for interval, count in inside.items():
        assert (abs(count / SETS - LEVEL) < 4 * error).all(), (interval, count / SETS)
