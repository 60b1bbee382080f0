"""Fits in threads, in forked and spawned processes, and many after one another."""

import warnings

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

SLOPE, CROSSED = "y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | h)"


def crossed_frame(n=60000, seed=0):
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, n // 100, n), rng.integers(0, n // 200, n)
    x = rng.normal(size=n)
    y = x + rng.normal(size=g.max() + 1)[g] + rng.normal(size=h.max() + 1)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


FRAME = crossed_frame()


def fits(n_threads=2):
    return [flm.lmer(formula, FRAME, n_threads=n_threads).llf for formula in (SLOPE, CROSSED)]


def test_interruption_of_the_rows_leaves_nothing_behind():
    def stop(stage, fraction):
        if stage == "optimise":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flm.lmer(CROSSED, FRAME, progress=stop)
    assert len(fits()) == 2


def test_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for formula in (SLOPE, CROSSED):
            fit = flm.lmer(formula, FRAME.iloc[:2000])
            str(fit.summary())
            fit.anova(), fit.conf_int(), fit.ranef(), fit.predict(FRAME.iloc[:5], se=True), fit.r2()
