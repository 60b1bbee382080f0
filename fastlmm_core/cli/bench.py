"""A quick measurement of this machine: how long models of known size take, and that they come out right."""

import statistics
import time

import numpy as np
import pandas as pd

import fastlmm_core as flm

TRUE_SLOPE = 0.5


def nested(rows: int, seed: int) -> pd.DataFrame:
    """Rows in groups of ten, each with an intercept and a slope of its own."""
    rng = np.random.default_rng(seed)
    groups = max(rows // 10, 2)
    g = np.repeat(np.arange(groups), 10)[:rows]
    x = rng.normal(size=len(g))
    b = rng.normal(size=(groups, 2)) * [1.0, 0.4]
    y = 1.0 + TRUE_SLOPE * x + b[g, 0] + b[g, 1] * x + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g})


def crossed(rows: int, seed: int) -> pd.DataFrame:
    """Rows that draw a subject and an item each."""
    rng = np.random.default_rng(seed)
    subjects, items = max(rows // 50, 3), max(rows // 500, 3)
    s, i = rng.integers(subjects, size=rows), rng.integers(items, size=rows)
    x = rng.normal(size=rows)
    y = 1.0 + TRUE_SLOPE * x + rng.normal(size=subjects)[s] + 0.5 * rng.normal(size=items)[i]
    return pd.DataFrame({"y": y + rng.normal(size=rows), "x": x, "s": s, "i": i})


def cases(rows: int):
    """(name, formula, data, true slope or None) of each model."""
    yield "sleepstudy", "Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"), None
    yield "nested", "y ~ x + (x | g)", nested(rows, 1), TRUE_SLOPE
    yield "crossed", "y ~ x + (1 | s) + (1 | i)", crossed(rows, 2), TRUE_SLOPE


def measure(rows: int, repeats: int) -> list[dict]:
    """One record per model.

    Parameters
    ----------
    rows : of the simulated data.
    repeats : fits of each, after one that is not counted.

    Returns
    -------
    list of dict
        ``model, formula, rows, seconds`` (median), ``fastest, rows_per_second, converged`` and
        ``error_in_se``: how many standard errors the slope is from the one that was simulated, None for
        shipped data.
    """
    records = []
    for name, formula, data, slope in cases(rows):
        fit, seconds = flm.lmer(formula, data), []
        for _ in range(repeats):
            started = time.perf_counter()
            fit = flm.lmer(formula, data)
            seconds.append(time.perf_counter() - started)
        median = statistics.median(seconds)
        error = None if slope is None else float((fit.params["x"] - slope) / fit.bse["x"])
        records.append(
            {
                "model": name, "formula": formula, "rows": len(data), "seconds": median,
                "fastest": min(seconds), "rows_per_second": len(data) / median,
                "converged": bool(fit.converged), "error_in_se": error,
            }  # fmt: skip
        )
    return records
