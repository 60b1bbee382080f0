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


ANSWERS = {
    "prediction errors": lambda f, d: f.predict(d, se=True),
    "prediction intervals": lambda f, d: f.predict(d, interval="observation"),
    "new rows of a cluster": lambda f, d: f.predict(d.iloc[:2], condition_on=d.iloc[2:5], se=True),
    "profile": lambda f, d: f.profile("theta_").conf_int(),
    "bootstrap": lambda f, d: f.bootstrap(5, seed=3).draws,
    "bootstrap of a statistic": lambda f, d: f.bootstrap(2, seed=3, statistic=lambda g: g.sigma).draws,
    "ranova": lambda f, d: f.ranova(),
    "kenward-roger": lambda f, d: f.cov_params("kenward-roger"),
    "types": lambda f, d: f.anova(1),
    "contrast": lambda f, d: f.contrast("Intercept", ddf="kenward-roger"),
    "reliability": lambda f, d: next(iter(f.reliability().values())),
    "effects": lambda f, d: f.ranef_table(),
    "joint": lambda f, d: f.joint_cov(),
    "likelihoods": lambda f, d: flm.anova(f, flm.lm(f"{f.response_name} ~ 1", d)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_loaded_fit_answers_what_needs_no_rows(pair, name):
    fit, loaded, frame, _ = pair
    pd.testing.assert_frame_equal(ANSWERS[name](loaded, frame), ANSWERS[name](fit, frame), check_exact=True)
    copied = pickle.loads(pickle.dumps(fit))
    pd.testing.assert_frame_equal(ANSWERS[name](copied, frame), ANSWERS[name](fit, frame), check_exact=True)


def test_the_file_does_not_grow_with_the_rows(tmp_path):
    rng, sizes = np.random.default_rng(5), []
    for each in (5, 500):
        frame = pd.DataFrame({"g": np.arange(20).repeat(each), "x": rng.normal(size=20 * each)})
        frame["y"] = rng.normal(size=20)[frame["g"]] + rng.normal(size=len(frame))
        path = tmp_path / f"{each}"
        flm.save(flm.lmer("y ~ x + (x | g)", frame), path, statistics=True)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


def test_forged_statistics_are_refused(pair, tmp_path):
    from fastlmm_core.archive import put_arrays, read_archive, take_arrays, write_archive

    def forge(change):
        values, arrays = read_archive(pair[3])
        values = put_arrays(values, arrays)
        change(values["statistics"])
        arrays = {name: array for name, array in arrays.items() if not name.startswith("values.statistics")}
        write_archive(tmp_path / "forged", take_arrays(values, arrays, "values"), arrays)
        with pytest.raises(flm.DataError):
            flm.load(tmp_path / "forged")

    forge(lambda s: s.update(y=99))
    forge(lambda s: s["z"].__setitem__(0, s["z"][0] + 50))
    forge(lambda s: s.update(C=s["C"][:-1]))
    forge(lambda s: s.update(R=[R[:-1] for R in s["R"]]))
    forge(lambda s: s.update(order=[0] * (1 + len(s["order"]))))
    forge(lambda s: s.update(structure="none"))
    forge(lambda s: s.update(engine="perpetual"))
    forge(lambda s: s.update(levels=[level + 1 for level in s["levels"]]))
    forge(lambda s: s.update(kept=s["kept"] + 7))
    if pair[0]._solved.products.parent:
        forge(lambda s: s["parent"].__setitem__(0, s["parent"][0] + 1000))
    if pair[0]._solved.products.pairs:
        forge(lambda s: s["pairs"][0].__setitem__(3, s["pairs"][0][3] - 5))
        forge(lambda s: s["pairs"][0].__setitem__(2, s["pairs"][0][2][::-1].copy()))


def test_kenward_roger_is_kept_when_it_was_computed(pair, tmp_path):
    fit, loaded, frame, _ = pair
    flm.save(flm.lmer(fit.formula, frame), tmp_path / "bare", statistics=False)
    loaded = flm.load(tmp_path / "bare")
    with pytest.raises(flm.DataError, match="profile needs the statistics"):
        loaded.profile()
    with pytest.raises(flm.DataError, match="has lost them"):
        flm.save(loaded, tmp_path / "lost", statistics=True)
    with pytest.raises(flm.DataError, match="before save"):
        loaded.cov_params("kenward-roger")
    again = flm.lmer(fit.formula, frame)
    limits = again.conf_int(method="kenward-roger")
    flm.save(again, tmp_path / "kr", statistics=False)
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
