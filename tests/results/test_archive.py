"""Archives of arrays: what is written is read, by members stored or compressed; damage is told."""

import zipfile

import numpy as np
import pytest

import fastlmm_core as flm
from fastlmm_core.archive import read_archive, write_archive

ARRAYS = {
    "large": np.random.default_rng(1).normal(size=(3, 70_001)),  # more than is read at once
    "by_column": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "none": np.zeros((0, 3), np.int32),
    "bool": np.array([True, False]),
    "text": np.array(["a", "bcd"]),
    "times": np.array(["2024-01-01", "2024-02-01"], "M8[s]"),
}


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_come_back(tmp_path, compress):
    write_archive(tmp_path / "file", {"a": [1, "b"]}, ARRAYS, kind="kind", compress=compress)
    values, arrays = read_archive(tmp_path / "file", kind="kind")
    assert values == {"a": [1, "b"]} and list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype and arrays[name].flags.writeable
    with zipfile.ZipFile(tmp_path / "file") as archive:
        assert archive.testzip() is None
        np.testing.assert_array_equal(np.load(archive.open("large.npy")), ARRAYS["large"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("place", [0.001, 0.3, 0.6, 0.9])
def test_one_byte_that_changed(tmp_path, compress, place):
    path = tmp_path / "file"
    write_archive(path, {}, {"large": ARRAYS["large"]}, compress=compress)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(flm.DataError, match="file"):
        read_archive(path)


def test_a_member_that_is_elsewhere(tmp_path):
    """The directory of the archive and what it points to disagree."""
    path = tmp_path / "file"
    write_archive(path, {}, {"large": ARRAYS["large"]}, compress=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\x03\x04", b"PK\x03\x05", 1))
    with pytest.raises(flm.DataError, match="not where the archive says"):
        read_archive(path)


def test_arrays_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="objects"):
        write_archive(tmp_path / "file", {}, {"a": np.array([{}], object)})
    assert not list(tmp_path.iterdir())
