"""Damaged and forged files of fits: a `DataError`, or the fit that was saved."""

import hashlib
import io
import json
import random
import zipfile

import numpy as np
import pytest

import fastlmm_core as flm


@pytest.fixture(scope="module")
def fit():
    return flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def saved(fit, tmp_path_factory):
    path = tmp_path_factory.mktemp("fits") / "fit.flm"
    flm.save(fit, path)
    return path.read_bytes()


def damaged(data, random):
    """``data`` with flipped bits, cut, spliced, or with other bytes in a header."""
    data, kind = bytearray(data), random.randrange(5)
    if kind == 0:
        for _ in range(random.choice([1, 2, 8])):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif kind == 1:
        data = data[: random.randrange(len(data))]
    elif kind == 2:
        at = random.randrange(len(data))
        data[at : at + random.randrange(50)] = random.randbytes(random.randrange(50))
    elif kind == 3:
        data[random.randrange(bytes(data).find(b"PK\x01\x02"), len(data))] = random.randrange(256)
    else:
        heads = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x03\x04"]
        data[random.choice(heads) + random.randrange(30)] = random.randrange(256)
    return bytes(data)


def is_refused(path, fit):
    """Whether loading raises a `DataError`; if it does not, the fit is the one that was saved."""
    try:
        found = flm.load(path)
    except flm.DataError:
        return True
    np.testing.assert_array_equal(found.params, fit.params)
    np.testing.assert_array_equal(found.theta, fit.theta)
    return False


def test_damage(fit, saved, tmp_path):
    path, refused = tmp_path / "damaged.flm", 0
    source = random.Random(5)
    for _ in range(300):
        path.write_bytes(damaged(saved, source))
        refused += is_refused(path, fit)
    assert refused > 150


def forged(saved, change):
    """The file after ``change(manifest, members)``, its checksums made to match."""
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        members = {name: archive.read(f"{name}.npy") for name in manifest["arrays"]}
    change(manifest, members)
    manifest["arrays"] = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    return archived(json.dumps(manifest).encode(), members)


def archived(text, members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", text)
        archive.writestr("checksum", hashlib.sha256(text).hexdigest())
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


CHANGES = {
    "kind": lambda manifest, members: manifest["values"].update(kind=[]),
    "no estimates": lambda manifest, members: manifest["values"].pop("estimates"),
    "coefficients": lambda manifest, members: manifest["values"].update(coefficients=["a"]),
    "levels": lambda manifest, members: manifest["values"]["levels"][0]["values"].pop(),
    "spec": lambda manifest, members: manifest["values"].update(spec=3),
    "code": lambda manifest, members: manifest["values"]["spec"].update(
        pieces=[{"text": "__import__('os')", "is_column": False}]
    ),
    "shape": lambda manifest, members: members.update(Q=npy(np.zeros((3, 3, 3)))),
    "text": lambda manifest, members: members.update(theta=npy(np.array("a"))),
    "pickle": lambda manifest, members: members.update(theta=members["theta"].replace(b"'<f8'", b"'|O' ", 1)),
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_forged_parts(saved, tmp_path, change):
    path = tmp_path / "forged.flm"
    path.write_bytes(forged(saved, CHANGES[change]))
    with pytest.raises(flm.DataError):
        flm.load(path)


def test_an_array_larger_than_its_data(saved, tmp_path):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = tmp_path / "forged.flm"
    path.write_bytes(forged(saved, lambda manifest, members: members.update(theta=stream.getvalue())))
    with pytest.raises(flm.DataError, match="not as large as its header says"):
        flm.load(path)


def test_a_small_file_that_would_fill_the_memory(tmp_path):
    path = tmp_path / "bomb.flm"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 2**20)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02") + 24  # the size declared in the directory
    data[at : at + 4] = (3 * 2**30).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(flm.DataError, match="claims to unpack"):
        flm.load(path)


def test_nesting_no_reader_can_follow(tmp_path):
    path = tmp_path / "deep.flm"
    path.write_bytes(archived(b'{"format": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}))
    with pytest.raises(flm.DataError):
        flm.load(path)
