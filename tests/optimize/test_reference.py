"""Optima of the reference cases, from matrices built by hand in standardized coordinates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from oracle.dense import DenseEngine
from oracle.grouped import GroupedEngine
from reference.loader import ELSEWHERE, case

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.driver import minimize

TESTS = Path(__file__).parents[1]
FOLDERS = [TESTS / "reference" / "data", TESTS.parent / "fastlmm_core" / "datasets", ELSEWHERE / "data"]

# case -> (fixed part, terms (group columns, design within the bar) in lme4's order)
CASES = {
    "sleep_rs": ("1 + Days", [("Subject", "1 + Days")]),
    "sleep_dbar": ("1 + Days", [("Subject", "1"), ("Subject", "0 + Days")]),
    "sleep_quadslope_reml": ("1 + Days + I(Days**2)", [("Subject", "1 + Days + I(Days**2)")]),
    "sleep_weights": ("1 + Days", [("Subject", "1 + Days")]),
    "nepal_rs_months": ("1 + age", [("id", "1 + age")]),
    "nepal_rs": ("1 + ageyr", [("id", "1 + ageyr")]),
    "dyestuff": ("1", [("Batch", "1")]),
    "dyestuff2": ("1", [("Batch", "1")]),
    "cbpp_unweighted": ("1 + C(period)", [("herd", "1")]),
    "cbpp_weights": ("1 + C(period)", [("herd", "1")]),
    "machines_vec": ("1 + Machine", [("Worker", "1 + Machine")]),
    "machines_cell": ("1 + Machine", [("Worker", "0 + Machine")]),
    "machines_nested": ("1 + Machine", [("Worker:Machine", "1"), ("Worker", "1")]),
    "penicillin": ("1", [("plate", "1"), ("sample", "1")]),
    "pastes_nested": ("1", [("batch:cask", "1"), ("batch", "1")]),
    "orthodont_rs": ("1 + age * Sex", [("Subject", "1 + age")]),
    "oats": ("1 + nitro + Variety", [("Block:Variety", "1"), ("Block", "1")]),
    "cake_two_reml": ("1 + recipe + temp", [("recipe:replicate", "1"), ("replicate", "1")]),
    "tlc_int_rs": ("1 + week * treatment", [("id", "1 + week")]),
    "exam_rs": ("1 + standLRT + sex + schgend", [("school", "1 + standLRT")]),
}


def names():
    for model in CASES:
        for kind in [""] if model.endswith("_reml") else ["_ml", "_reml"]:
            yield model, model + kind


def read(file):
    """The data of a case, from wherever they are."""
    for folder in FOLDERS:
        for name in (file, f"{file}.gz"):
            if (folder / name).exists():
                return pd.read_csv(folder / name)
    pytest.skip(f"{file} is not distributed with the project")


def codes_of(frame, group):
    key = frame[group.split(":")[0]].astype(str)
    for name in group.split(":")[1:]:
        key = key + ":" + frame[name].astype(str)
    return pd.factorize(key)[0]


def standardized(Z):
    """(Z~, B) with Z~ = Z B: columns scaled, and centred where the first is the constant."""
    scale = np.where(Z.std(0) > 0, Z.std(0), np.abs(Z).max(0))
    B = np.diag(1 / scale)
    if (Z[:, 0] == 1).all():
        B[0, 1:] = -Z[:, 1:].mean(0) / scale[1:]
    return Z @ B, B


def load(model, name):
    """(objective, theta_map, reference) of a case."""
    reference = case(name)
    frame = read(Path(reference["data_file"]).name)
    fixed, bars = CASES[model]
    X = np.asarray(model_matrix(fixed, frame), float)
    y = frame[reference["formula"].split("~")[0].strip()].to_numpy(float)
    weights = frame[reference["weights"]].to_numpy(float) if reference["weights"] else None
    n = len(y)
    orthogonal, R = np.linalg.qr(X)
    X, centre, scale = orthogonal * np.sqrt(n), y.mean(), y.std()
    factors, blocks, maps, groups = [], [], [], []
    for group, bar in bars:
        Z, B = standardized(np.asarray(model_matrix(bar, frame), float))
        if group in groups:
            f = groups.index(group)
            blocks.append(TermBlock(f, factors[f][1].shape[1], Z.shape[1]))
            factors[f] = (factors[f][0], np.column_stack([factors[f][1], Z]))
        else:
            groups.append(group)
            blocks.append(TermBlock(len(groups) - 1, 0, Z.shape[1]))
            factors.append((codes_of(frame, group), Z))
        maps.append(B)
    engine = (GroupedEngine if len(factors) == 1 else DenseEngine)(X, (y - centre) / scale, factors, weights)
    reml = reference["reml"]
    N = n - X.shape[1] if reml else n
    constant = 2 * N * np.log(scale)
    if reml:
        constant += 2 * np.log(np.abs(np.diag(R)) / np.sqrt(n)).sum()
    sum_log_weights = 0.0 if weights is None else np.log(weights).sum()
    objective = ProfiledObjective(engine, n, reml, sum_log_weights, constant)
    return objective, ThetaMap(blocks, [Z.shape[1] for _, Z in factors], maps), reference


@pytest.mark.parametrize("model,name", list(names()), ids=[name for _, name in names()])
def test_optimum_is_never_above_the_recorded_one(model, name):
    objective, theta_map, reference = load(model, name)
    optimum = minimize(objective, theta_map, control=Control(n_starts=1))
    criterion = reference["criterion"]
    assert optimum.certificate.converged, optimum.certificate.reason
    assert optimum.point.value <= criterion + 1e-6 + 1e-10 * abs(criterion)
    assert optimum.point.value >= criterion - 1e-6 - 1e-10 * abs(criterion)
    assert optimum.certificate.n_values <= 25
    np.testing.assert_allclose(optimum.theta, reference["theta"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        objective.evaluate(theta_map.to_Lambda(optimum.theta)).value, optimum.point.value, rtol=1e-10
    )


def test_sleepstudy_to_all_digits():
    for name, value in (("sleep_rs_reml", 1743.62827195849), ("sleep_rs_ml", 1751.93934446320)):
        objective, theta_map, _ = load("sleep_rs", name)
        optimum = minimize(objective, theta_map)
        assert abs(optimum.point.value - value) < 2e-10


def test_a_variance_of_zero_is_exactly_zero():
    objective, theta_map, _ = load("dyestuff2", "dyestuff2_reml")
    optimum = minimize(objective, theta_map, names=["Batch.(Intercept)"])
    assert optimum.theta[0] == 0.0
    assert optimum.certificate.boundary == ("Batch.(Intercept)",)
    assert optimum.certificate.kkt_min_eigenvalue > 0
