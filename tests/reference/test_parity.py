"""What users of lme4, pbkrtest and emmeans call by other names, against recorded results."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

RECORDED = json.loads((Path(__file__).parent / "parity" / "parity.json").read_text())

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("case", RECORDED["drop1"], ids=lambda case: case["formula"])
def test_drop1(case):
    table = flm.lmer(case["formula"], flm.load_dataset(case["dataset"])).drop_terms()
    found = table[table["part"] != "random"]
    assert list(found.index) == case["terms"]
    np.testing.assert_allclose(found["aic"], case["aic"], atol=1e-5)
    for column, key in (("df", "df"), ("LRT", "LRT"), ("p", "p")):
        expected = np.array(case[key][1:], float)
        np.testing.assert_allclose(found[column].iloc[1:], expected, rtol=1e-4, atol=1e-6)
    ml = flm.lmer(case["formula"], flm.load_dataset(case["dataset"]), reml=False)
    random, expected = table[table["part"] == "random"].drop(columns="part"), ml.ranova().iloc[1:]
    pd.testing.assert_frame_equal(
        random.astype(float), expected.astype(float), check_names=False, atol=1e-5
    )


@pytest.mark.parametrize("case", RECORDED["restriction"], ids=lambda case: case["small"])
def test_krmodcomp(case):
    data = flm.load_dataset(case["dataset"])
    large, small = flm.lmer(case["large"], data), flm.lmer(case["small"], data)
    found = large.contrast(small, joint=True, ddf="kenward-roger").iloc[0]
    expected = [case["F_scaled"], case["num_df"], case["den_df"], case["p"]]
    np.testing.assert_allclose(found[["F", "num_df", "den_df", "p"]], expected, rtol=1e-5)
    sat = large.contrast(small, joint=True).iloc[0]
    np.testing.assert_allclose(sat[["F", "den_df"]], [case["sat"]["F"], case["sat"]["den_df"]], rtol=1e-5)


@pytest.mark.parametrize("case", RECORDED["contrasts"], ids=lambda case: case["kind"])
def test_contrasts_of_emmeans(case):
    fit = flm.lmer("angle ~ recipe + factor(temp) + (1 | recipe:replicate)", flm.load_dataset("cake"))
    found = fit.emmeans("temp", contr=case["kind"], ddf="kenward-roger").contrasts
    assert list(found["contrast"]) == [label.replace("temp", "") for label in case["label"]]
    np.testing.assert_allclose(found["estimate"], case["estimate"], rtol=1e-6)
    np.testing.assert_allclose(found["SE"], case["SE"], rtol=1e-5)
    # R integrates the multivariate t by Monte Carlo
    atol = 1e-3 if "mvt" in found.attrs["notes"][-1] else 1e-6
    np.testing.assert_allclose(found["p"], case["p"], rtol=1e-4, atol=atol)


def test_other_names_of_contrasts():
    fit = flm.lmer("angle ~ recipe + (1 | recipe:replicate)", flm.load_dataset("cake"))
    for name, other in (("tukey", "pairwise"), ("dunnett", "trt.vs.ctrl")):
        expected = fit.emmeans("recipe", contr=other).contrasts
        for found in (fit.emmeans("recipe", contr=name), fit.emmeans(f"{name} ~ recipe")):
            pd.testing.assert_frame_equal(found.contrasts, expected)


@pytest.mark.parametrize("case", RECORDED["components"], ids=lambda case: case["formula"])
def test_errors_of_variance_parameters(case):
    """The inverse Hessian of lme4's deviance in standard deviations and correlations, by numDeriv."""
    fit = flm.lmer(case["formula"], flm.load_dataset(case["dataset"]), reml=False)
    expected = np.array(case["vcov"])
    names = [name.replace("(Intercept)", "Intercept") for name in case["names"]]
    found = fit.cov_varcorr().rename(index=_by_label, columns=_by_label)
    labels = [_by_label(name) for name in names]
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(found.loc[labels, labels].to_numpy() - expected) < 2e-3 * scale).all()


def _by_label(name):
    """lme4 writes interactions of groups in the other order."""
    kind, bar, group = name.partition("|")
    return kind + bar + ":".join(sorted(group.split(":")))
