"""Fits of statsmodels that `test_statsmodels_style` compares with.

``python tests/statsmodels_reference.py`` writes them to ``statsmodels_reference.json`` beside this file;
it needs statsmodels (recorded with 0.15.0).
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import fastlmm_core as flm

STORED = Path(__file__).with_suffix(".json")


def pigs() -> pd.DataFrame:
    """Growth curves like those of the dietox data: pigs in litters, weekly weights, one start weight."""
    rng = np.random.default_rng(5)
    pig = np.repeat(np.arange(48), 8)
    litter, time = pig // 3, np.tile(np.arange(8.0), 48)
    intercept, slope = (
        3.0 * rng.normal(size=48) + 4.0 * rng.normal(size=16)[np.arange(48) // 3],
        rng.normal(size=48),
    )
    weight = 25 + intercept[pig] + (7 + 0.6 * slope[pig]) * time + 1.5 * rng.normal(size=384)
    feed = np.array(["low", "high"])[pig % 2]
    return pd.DataFrame({"Weight": weight, "Time": time, "Pig": pig, "Litter": litter, "Feed": feed})


def penicillin() -> pd.DataFrame:
    return flm.load_dataset("Penicillin").assign(everything=1)


def sleepstudy() -> pd.DataFrame:
    data = flm.load_dataset("sleepstudy")
    return data.assign(Subject=data["Subject"].astype(str), Half=np.where(data["Days"] < 5, "a", "b"))


CASES = {
    "intercept": (sleepstudy, "Reaction ~ Days", {"groups": "Subject"}),
    "slope": (sleepstudy, "Reaction ~ Days", {"groups": "Subject", "re_formula": "~Days"}),
    "slope only": (sleepstudy, "Reaction ~ Days", {"groups": "Subject", "re_formula": "0 + Days"}),
    "independent": (
        sleepstudy,
        "Reaction ~ Days",
        {"groups": "Subject", "re_formula": "1", "vc_formula": {"slope": "0 + Days"}},
    ),
    "nested": (sleepstudy, "Reaction ~ Days", {"groups": "Subject", "vc_formula": {"half": "0 + C(Half)"}}),
    "pigs": (pigs, "Weight ~ Time * Feed", {"groups": "Pig", "re_formula": "~Time"}),
    "litters": (
        pigs,
        "Weight ~ Time",
        {
            "groups": "Litter",
            "re_formula": "1",
            "vc_formula": {"pig": "0 + C(Pig)", "time": "0 + C(Pig):Time"},
        },
    ),
    "crossed": (
        penicillin,
        "diameter ~ 1",
        {"groups": "everything", "vc_formula": {"plate": "0 + C(plate)", "sample": "0 + C(sample)"}},
    ),
}


def run(name: str, reml: bool) -> dict:
    """statsmodels' estimates of a case."""
    import statsmodels.formula.api as smf

    make, formula, options = CASES[name]
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("lbfgs", "bfgs", "powell"):
            try:
                fits.append(smf.mixedlm(formula, make(), **options).fit(reml=reml, method=[method]))
            except np.linalg.LinAlgError:
                continue  # the search of statsmodels can leave the parameter space
    fit = max(fits, key=lambda fit: fit.llf)
    cov = np.atleast_2d(fit.cov_re) if np.size(fit.cov_re) else np.zeros((0, 0))
    return {
        "params": dict(zip(fit.fe_params.index, map(float, fit.fe_params))),
        "bse": [float(v) for v in fit.bse_fe],
        "cov_re": cov.tolist(),
        "vcomp": {k: float(v) for k, v in zip(sorted(options.get("vc_formula", {})), fit.vcomp)},
        "scale": float(fit.scale),
        "llf": float(fit.llf),
    }


if __name__ == "__main__":
    found = {
        f"{name}, {'REML' if reml else 'ML'}": run(name, reml) for name in CASES for reml in (True, False)
    }
    STORED.write_text(json.dumps(found, indent=1) + "\n")
