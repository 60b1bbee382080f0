"""The crossed engine at lme4's optimum for InstEval: value, estimates, and a gradient that vanishes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracle.sparse import cross_products

from fastlmm_core.datasets import load_dataset
from fastlmm_core.mme.crossed import CrossedEngine

CASES = Path(__file__).parents[1] / "reference" / "cases"


@pytest.fixture(scope="module")
def engine():
    data = load_dataset("InstEval")
    group = data["dept"].astype(str) + ":" + data["service"].astype(str)
    ones = np.ones((len(data), 1))
    factors = [(pd.factorize(codes)[0].astype(np.int32), ones) for codes in (data["s"], data["d"], group)]
    columns = [np.ones(len(data)), data["service"].astype(str) == "1", data["y"]]
    return CrossedEngine(cross_products(np.column_stack(columns).astype(float), factors), np.arange(2), 1)


@pytest.mark.parametrize("name", ["insteval_ml", "insteval_reml"])
def test_insteval_optimum(engine, name):
    case = json.loads((CASES / f"{name}.json").read_text())
    logdet, S = engine.factorize([np.array([[theta]]) for theta in case["theta"]])
    p, reml = 2, case["reml"]
    N = case["nobs"] - reml * p
    Q = np.linalg.inv(S[:p, :p])
    v = np.append(-Q @ S[:p, p], 1.0)
    r2 = v @ S @ v
    objective = logdet + N * (1 + np.log(2 * np.pi * r2 / N)) + reml * np.linalg.slogdet(S[:p, :p])[1]
    assert objective == pytest.approx(case["criterion"], abs=1e-6)
    assert np.sqrt(r2 / N) == pytest.approx(case["sigma"], rel=1e-6)

    F, GG = engine.moments()
    Sbar = N / r2 * np.outer(v, v)
    Sbar[:p, :p] += reml * Q
    for theta, f, g in zip(case["theta"], F, GG):
        gradient = 2 * theta * (f[0, 0] - np.sum(g[0, 0] * Sbar))
        assert abs(gradient) < 1e-4 * 2 * theta * f[0, 0]
