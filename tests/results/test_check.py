"""Each check finds what was planted, and mostly nothing where nothing was."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.results import check as module
from fastlmm_core.results import influence

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")


def simulated(seed=1, groups=40, size=8, effects=None, noise=None):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(groups), size)
    x = rng.normal(size=len(codes))
    b = rng.normal(0, [1.0, 0.6], (groups, 2)) if effects is None else effects(rng)
    e = rng.normal(0, 1.0, len(codes)) if noise is None else noise(rng, codes)
    y = 2.0 + x + b[codes, 0] + b[codes, 1] * x + e
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{c:02d}" for c in codes]})


def flagged(frame, formula="y ~ x + (x | g)"):
    return flm.lmer(formula, frame).check().flagged.set_index("check")


def test_a_good_model_is_mostly_left_alone():
    counts = [len(flagged(simulated(seed))) for seed in range(12)]
    assert np.mean(counts) < 0.4


def test_an_outlying_row():
    frame = simulated()
    frame.loc[77, "y"] += 8.0
    found = flagged(frame)
    assert found.loc["outlying row", "where"] == "77" and found.loc["outlying row", "value"] > 5


def test_an_outlying_group():
    def effects(rng):
        b = rng.normal(0, [1.0, 0.6], (40, 2))
        b[13] += [9.0, 0.0]
        return b

    found = flagged(simulated(effects=effects))
    assert found.loc["outlying group", "where"] == "g13"


def test_skewed_random_effects():
    def effects(rng):
        return np.column_stack([rng.exponential(3.0, 100) - 3.0, rng.normal(0, 0.6, 100)])

    found = flagged(simulated(groups=100, effects=effects))
    assert found.loc["normal random effects", "where"] == "Intercept | g"
    assert found.loc["normal random effects", "value"] > 0.5


def test_variance_between_groups():
    found = flagged(simulated(noise=lambda rng, codes: rng.normal(0, np.where(codes == 5, 6.0, 0.7))))
    assert "g05" in found.loc["variance between groups", "message"]


def test_variance_that_follows_the_mean():
    rng = np.random.default_rng(3)
    frame = simulated(5)
    mean = 2.0 + 2 * frame["x"]
    frame["y"] = mean + rng.normal(size=len(frame)) * np.exp(0.4 * mean)
    found = flagged(frame, "y ~ x + (1 | g)")
    assert found.loc["variance and mean", "value"] > 1.5


def test_near_singular_terms():
    def effects(rng):
        b = rng.normal(0, 1.0, 40)
        return np.column_stack([b, 0.6 * b])

    found = flagged(simulated(effects=effects))
    assert found.loc["correlation", "value"] > 0.99
    zero = flagged(simulated(effects=lambda rng: np.zeros((40, 2)), seed=6), "y ~ x + (1 | g)")
    assert zero.loc["variance", "value"] < 1e-3


def test_an_influential_group_and_one_that_is_indispensable():
    frame = simulated()
    frame.loc[frame["g"] == "g03", "x"] += 25.0
    frame.loc[frame["g"] == "g03", "y"] += 75.0
    found = flagged(frame, "y ~ x + (1 | g)")
    assert found.loc["influential group", "where"] == "g03"
    alone = frame.assign(only=(frame["g"] == "g07").astype(float))
    found = flagged(alone, "y ~ x + only + (1 | g)")
    assert found.loc["indispensable groups", "value"] == 1


def test_the_report():
    result = flm.lmer("y ~ x + (x | g)", simulated()).check()
    assert list(result.frame.columns) == module.COLUMNS
    lines = str(result).splitlines()
    assert len(lines) == len(result.frame) + 1 and f"{len(result.frame)} checks" in lines[0]
    assert all(line.startswith(("! ", "  ")) for line in lines[1:])
    assert sum(line.startswith("!") for line in lines) == len(result.flagged)
    assert "<table" in result._repr_html_()


@pytest.mark.parametrize(
    "name, formula",
    [
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
        ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
        ("sleepstudy", "Reaction ~ 0 + (Days | Subject)"),
    ],
)
def test_every_structure(name, formula):
    result = flm.lmer(formula, flm.load_dataset(name)).check()
    assert result.frame["message"].str.len().gt(10).all()


def test_what_is_too_large_is_said(monkeypatch):
    monkeypatch.setattr(influence, "MOST_WORK", 1.0)
    fit = flm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", flm.load_dataset("Penicillin"))
    assert "influence not computed" in str(fit.check())
