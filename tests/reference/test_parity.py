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
