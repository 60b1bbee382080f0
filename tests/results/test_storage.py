"""Fits written to a file and read back."""

import copy
import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

FORMULAS = {
    "sleepstudy": "Reaction ~ poly(Days, 2) + (Days | Subject)",
    "Pastes": "strength ~ 1 + (1 | batch/cask)",
    "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
}


@pytest.fixture(scope="module", params=list(FORMULAS))
def pair(request, tmp_path_factory):
    frame = flm.load_dataset(request.param)
    fit = flm.lmer(FORMULAS[request.param], frame)
    path = tmp_path_factory.mktemp("fits") / "fit.flm"
    flm.save(fit, path)
    return fit, flm.load(path), frame, path


def test_everything_without_rows_is_there(pair):
    fit, loaded, frame, _ = pair
    for name in ("params", "bse", "df", "pvalues"):
        pd.testing.assert_series_equal(getattr(loaded, name), getattr(fit, name))
    for name in (
        "llf",
        "aic",
        "bic",
        "sigma",
        "nobs",
        "ngroups",
        "is_singular",
        "converged",
        "formula",
        "method",
    ):
        assert getattr(loaded, name) == getattr(fit, name)
    np.testing.assert_array_equal(loaded.theta, fit.theta)
    pd.testing.assert_frame_equal(loaded.varcorr(), fit.varcorr())
    (a, va), (b, vb) = loaded.ranef(cond_var=True), fit.ranef(cond_var=True)
    for group in b:
        pd.testing.assert_frame_equal(a[group], b[group])
        np.testing.assert_array_equal(va[group], vb[group])
    assert str(loaded.summary()) == str(fit.summary())
    pd.testing.assert_series_equal(loaded.r2(), fit.r2())
    pd.testing.assert_series_equal(loaded.predict(frame), fit.predict(frame))
    pd.testing.assert_frame_equal(loaded.conf_int(), fit.conf_int())
    assert loaded.convergence.trace == fit.convergence.trace


@pytest.mark.parametrize("name", ["fittedvalues", "resid", "resid_scaled"])
def test_rows_say_why_they_are_absent(pair, name):
    with pytest.raises(flm.DataError, match="no data rows"):
        getattr(pair[1], name)
    with pytest.raises(flm.DataError, match="no data rows"):
        pair[1].predict()


def test_a_loaded_fit_can_be_saved_again(pair, tmp_path):
    flm.save(pair[1], tmp_path / "again")
    assert str(flm.load(tmp_path / "again").summary()) == str(pair[0].summary())


def test_kenward_roger_is_kept_when_it_was_computed(pair, tmp_path):
    fit, loaded, frame, _ = pair
    with pytest.raises(flm.DataError, match="before save"):
        loaded.cov_params("kenward-roger")
    again = flm.lmer(fit.formula, frame)
    limits = again.conf_int(method="kenward-roger")
    flm.save(again, tmp_path / "kr")
    pd.testing.assert_frame_equal(flm.load(tmp_path / "kr").conf_int(method="kenward-roger"), limits)


def test_linear_fit(tmp_path):
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lm("Reaction ~ Days + C(Subject)", frame)
    flm.save(fit, tmp_path / "lm")
    loaded = flm.load(tmp_path / "lm")
    assert str(loaded.summary()) == str(fit.summary())
    pd.testing.assert_series_equal(loaded.predict(frame), fit.predict(frame))
    with pytest.raises(flm.DataError):
        _ = loaded.resid


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_file(pair, tmp_path, keep):
    whole = pair[3].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(flm.DataError, match="cut"):
        flm.load(path)


def rewritten(source, target, change):
    """A copy of an archive with the members that ``change`` maps to new bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change.get(name, lambda data: data)(old.read(name)))


def test_altered_values(pair, tmp_path):
    for member in ("manifest.json", "beta.npy", "checksum"):
        path = tmp_path / "altered"
        rewritten(pair[3], path, {member: lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]})
        with pytest.raises(flm.DataError, match="altered"):
            flm.load(path)


def test_any_flipped_byte_is_noticed_or_harmless(pair, tmp_path):
    whole, path = pair[3].read_bytes(), tmp_path / "flipped"
    summary = str(pair[0].summary())
    for at in np.random.default_rng(0).integers(0, len(whole), 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            loaded = flm.load(path)
        except flm.DataError:
            continue
        assert str(loaded.summary()) == summary


def test_other_files_and_later_versions(pair, tmp_path):
    path = tmp_path / "other"
    path.write_text("not a fit")
    with pytest.raises(flm.DataError):
        flm.load(path)
    with pytest.raises(FileNotFoundError):
        flm.load(tmp_path / "absent")
    with pytest.raises(TypeError):
        flm.save(3, path)

    import hashlib

    with zipfile.ZipFile(pair[3]) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    text = json.dumps(manifest | {"version": 99}).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    rewritten(pair[3], path, {"manifest.json": lambda _: text, "checksum": lambda _: digest})
    with pytest.raises(flm.DataError, match="update"):
        flm.load(path)


def test_no_pickles_inside(pair):
    with zipfile.ZipFile(pair[3]) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                assert b"'|O'" not in archive.read(name)[:200]


def test_copies_and_pickles_keep_results_and_rows(pair):
    fit = pair[0]
    for other in (copy.copy(fit), copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
        assert str(other.summary()) == str(fit.summary())
        pd.testing.assert_series_equal(other.resid, fit.resid)
        pd.testing.assert_series_equal(other.predict(pair[2]), fit.predict(pair[2]))


def test_a_folder_that_is_not_there(pair, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        flm.save(pair[0], tmp_path / "nowhere" / "fit")
