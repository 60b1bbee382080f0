"""lme4's refitML and rePCA."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastlmm_core as flm

CASES = json.loads((Path(__file__).parent / "refitted" / "refitted.json").read_text())["cases"]

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda recorded: recorded["formula"])
def pair(request):
    recorded = request.param
    return recorded, flm.lmer(recorded["formula"], flm.load_dataset(recorded["dataset"]))


def test_maximum_likelihood_after_reml(pair):
    recorded, fit = pair
    ml, expected = fit.to_ml(), recorded["ml"]
    assert ml.method == "ML" and fit.method == "REML"
    assert ml.llf == pytest.approx(expected["logLik"], abs=1e-6)
    np.testing.assert_allclose(ml.theta, expected["theta"], atol=2e-4)
    np.testing.assert_allclose(ml.params, np.atleast_1d(expected["beta"]), rtol=1e-6, atol=1e-8)
    assert ml.sigma == pytest.approx(expected["sigma"], rel=1e-5)


def test_components(pair):
    recorded, fit = pair
    found = {frozenset(group.split(":")): frame for group, frame in fit.re_pca().items()}
    assert len(found) == len(recorded["sdev"])
    for group, sdev in recorded["sdev"].items():
        frame, sdev = found[frozenset(group.split(":"))], np.atleast_1d(sdev)
        np.testing.assert_allclose(frame["sdev"], sdev, atol=2e-4)
        np.testing.assert_allclose(frame["proportion"], sdev**2 / (sdev**2).sum(), atol=2e-4)
        np.testing.assert_allclose(frame["cumulative"], frame["proportion"].cumsum())
