"""Every kind of fit to a file and back, and files of earlier versions that must stay readable.

``python tests/results/test_saved_kinds.py`` writes the files of the current format to ``tests/data``;
files of earlier formats are never written again.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

FOLDER = Path(__file__).parents[1] / "data"


def sleep():
    data = flm.load_dataset("sleepstudy")
    return data.assign(
        w=1.0 + data["Days"] % 3, z=1.5, f=pd.Categorical(np.where(data["Days"] % 2, "u", "v")),
        number=data["Subject"].astype(str).astype(int), twice=2 * data["Days"],
        band=pd.cut(data["Days"], 4),
        date=pd.Timestamp("2020-01-01") + pd.to_timedelta(data["Subject"].cat.codes, unit="D"),
    )  # fmt: skip


def gaps():
    data = sleep()
    data.loc[[3, 40], "Reaction"] = np.nan
    return data


def machines():
    return flm.load_dataset("Machines")


def penicillin():
    return flm.load_dataset("Penicillin")


def from_statistics(formula, data):
    return flm.fit(flm.plan(formula, data).accumulate(data))


CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"

KINDS = {
    "ml": (flm.lmer, sleep, "Reaction ~ Days + (Days | Subject)", {"reml": False}),
    "weights": (flm.lmer, gaps, "Reaction ~ Days + (Days || Subject)", {"weights": "w"}),
    "offset": (flm.lmer, sleep, "Reaction ~ Days * f + offset(z) + (1 | Subject)", {}),
    "transforms": (flm.lmer, sleep, "log(Reaction) ~ bs(Days, df=4) + (1 | Subject)", {}),
    "singular": (flm.lmer, lambda: flm.load_dataset("Dyestuff2"), "Yield ~ 1 + (1 | Batch)", {}),
    "factor slopes": (flm.lmer, machines, "score ~ Machine + (0 + Machine | Worker)", {}),
    "nested": (flm.lmer, machines, "score ~ Machine + (1 | Worker/Machine)", {}),
    "crossed": (flm.lmer, penicillin, CROSSED, {}),
    "sparse": (
        flm.lmer, penicillin, CROSSED, {"control": flm.Control(engine="sparse")},
    ),
    "iterative": (
        flm.lmer, penicillin, CROSSED, {"control": flm.Control(engine="iterative")},
    ),
    "no fixed effects": (flm.lmer, sleep, "Reaction ~ 0 + (1 | Subject)", {}),
    "groups of numbers": (flm.lmer, sleep, "Reaction ~ Days + (1 | number)", {}),
    "groups of dates": (flm.lmer, sleep, "Reaction ~ Days + (1 | date)", {}),
    "factor of intervals": (flm.lmer, sleep, "Reaction ~ band + (1 | Subject)", {}),
    "statistics": (from_statistics, sleep, "Reaction ~ Days + (Days | Subject)", {}),
    "linear": (flm.lm, gaps, "Reaction ~ Days * f", {"weights": "w"}),
    "linear, no intercept": (flm.lm, sleep, "Reaction ~ 0 + f:Days", {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.MonteCarloWarning")
def test_every_kind(kind, tmp_path):
    make, data, formula, options = KINDS[kind]
    fit = make(formula, data(), **options)
    flm.save(fit, tmp_path / "fit.flm")
    loaded = flm.load(tmp_path / "fit.flm")
    assert str(loaded.summary()) == str(fit.summary())
    assert loaded.summary().to_dict() == fit.summary().to_dict()
    pd.testing.assert_series_equal(loaded.predict(data()), fit.predict(data()))
    if len(fit.params):
        for number in (1, 3):
            pd.testing.assert_frame_equal(loaded.anova(type=number), fit.anova(type=number))
    if isinstance(fit, flm.LMMResults):
        pd.testing.assert_frame_equal(loaded.tidy("ran_vals"), fit.tidy("ran_vals"))
        for name in ("converged", "reason", "iterations", "boundary", "trace", "monte_carlo"):
            assert getattr(loaded.convergence, name) == getattr(fit.convergence, name)
    flm.save(loaded, tmp_path / "again.flm")
    again = flm.load(tmp_path / "again.flm")
    assert str(again.summary()) == str(fit.summary())


def test_intervals_come_back_as_text_and_are_still_recognized(tmp_path):
    data = sleep()
    fit = flm.lmer("Reaction ~ 1 + (1 | band)", data)
    flm.save(fit, tmp_path / "fit")
    loaded = flm.load(tmp_path / "fit")
    assert loaded.ranef()["band"].index.tolist() == data["band"].cat.categories.astype(str).tolist()
    pd.testing.assert_series_equal(loaded.predict(data), fit.predict(data))
    text = data.assign(band=data["band"].astype(str))
    pd.testing.assert_series_equal(fit.predict(text), fit.predict(data))


def test_aliased_columns_come_back(tmp_path):
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("Reaction ~ Days + twice + (1 | Subject)", sleep())
    flm.save(fit, tmp_path / "fit")
    loaded = flm.load(tmp_path / "fit")
    pd.testing.assert_series_equal(loaded.params, fit.params)
    assert str(loaded.summary()) == str(fit.summary())


def test_a_refitted_model(tmp_path):
    data = sleep()
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", data).refit(2 * data["Reaction"])
    flm.save(fit, tmp_path / "fit")
    assert str(flm.load(tmp_path / "fit").summary()) == str(fit.summary())


STORED = {
    "format1_mixed.flm": lambda: flm.lmer(
        "Reaction ~ Days + f + (Days | Subject)", sleep(), weights="w", reml=False
    ),
    "format1_crossed.flm": lambda: flm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin()),
    "format1_linear.flm": lambda: flm.lm("Reaction ~ poly(Days, 2) * f", sleep()),
}


@pytest.mark.parametrize("name", STORED)
def test_files_of_format_1_stay_readable(name):
    stored, fit = flm.load(FOLDER / name), STORED[name]()
    np.testing.assert_allclose(stored.params, fit.params, rtol=1e-6)
    np.testing.assert_allclose(stored.bse, fit.bse, rtol=1e-6)
    np.testing.assert_allclose(stored.df, fit.df, rtol=1e-4)
    assert stored.formula == fit.formula and stored.nobs == fit.nobs
    data = penicillin() if "crossed" in name else sleep()
    np.testing.assert_allclose(stored.predict(data), fit.predict(data), rtol=1e-6)
    np.testing.assert_allclose(
        stored.anova(type=1).to_numpy(float), fit.anova(type=1).to_numpy(float), rtol=1e-4
    )
    if isinstance(fit, flm.LMMResults):
        np.testing.assert_allclose(stored.theta, fit.theta, rtol=1e-5)
        assert stored.converged and stored.ngroups == fit.ngroups
        assert set(stored.timings) == set(fit.timings)
    assert stored.summary().to_markdown()


def later(path, target, **changes):
    """A copy of a file that says other things of itself."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        text = json.dumps(json.loads(old.read("manifest.json")) | changes).encode()
        for name in old.namelist():
            data = {"manifest.json": text, "checksum": hashlib.sha256(text).hexdigest().encode()}.get(name)
            new.writestr(name, old.read(name) if data is None else data)


def test_a_later_version_is_named(tmp_path):
    later(FOLDER / "format1_mixed.flm", tmp_path / "later.flm", version=2, package="7.5.0")
    with pytest.raises(flm.DataError) as caught:
        flm.load(tmp_path / "later.flm")
    for words in (
        "later.flm",
        "fastlmm_core 7.5.0",
        "format version 2",
        flm.__version__,
        "update fastlmm_core",
    ):
        assert words in str(caught.value)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in STORED.items():
        flm.save(make(), FOLDER / name)
