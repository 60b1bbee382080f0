"""One file of arrays and plain values that cannot execute code when read.

A zip archive: ``manifest.json`` holds format, version, plain values and the
SHA-256 of every array; arrays are ``.npy`` members read with pickling off;
``checksum`` is the SHA-256 of the manifest.
"""

import hashlib
import io
import json
import math
import os
import struct
import tempfile
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastlmm_core.errors import DataError

FORMAT = "fastlmm_core fit"
VERSION = 1
UNPACKED = 2**30
"""Bytes that any file may unpack to."""
RATIO = 100
"""Times its own size that a larger one may unpack to: arrays of numbers do not shrink as much."""
CHUNK = 1 << 20
"""Bytes that are read and hashed at once, while they are in the cache."""


def write_archive(
    path, values: dict, arrays: Mapping[str, np.ndarray], *, kind: str = FORMAT, compress: bool = True
) -> None:
    """Write ``values`` (JSON) and ``arrays``; the file appears only when complete.

    ``kind`` names the format in the manifest; arrays of noise are faster to write without ``compress``.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name!r} in")
    packed = {name: _npy(array) for name, array in arrays.items()}
    handle, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            zipfile.ZipFile(stream, "w", method) as archive,
            ThreadPoolExecutor(1) as beside,  # sums of large arrays take as long as their way to the file
        ):
            large = sum(len(data) for _, data in packed.values()) > CHUNK
            found = (beside.map if large else map)(_digest, packed.values())
            for name, pieces in packed.items():
                _write_member(archive, f"{name}.npy", pieces)
            manifest = {
                "format": kind,
                "version": VERSION,
                "package": _package_version(),
                "values": values,
                "arrays": dict(zip(packed, found, strict=True)),
            }
            text = json.dumps(manifest, indent=1).encode()
            archive.writestr("manifest.json", text)
            archive.writestr("checksum", hashlib.sha256(text).hexdigest())
        put_in_place(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _npy(array: np.ndarray) -> tuple[bytes, np.ndarray]:
    """The header and the bytes, which are no copy, of a ``.npy`` file."""
    array = np.ascontiguousarray(array)
    if array.dtype.hasobject:
        raise ValueError("arrays of Python objects are not written")
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue(), array.reshape(-1).view(np.uint8)


def _digest(pieces) -> str:
    found = hashlib.sha256()
    for data in pieces:
        found.update(data)
    return found.hexdigest()


def _write_member(archive, name, pieces) -> None:
    member = zipfile.ZipInfo(name, time.localtime()[:6])
    member.compress_type = archive.compression
    member.external_attr = 0o600 << 16  # as of members written in one piece
    member.file_size = sum(len(data) for data in pieces)
    with archive.open(member, "w") as stream:
        for data in pieces:
            stream.write(data)


def put_in_place(temporary, path) -> None:
    """Give a finished temporary file its name, and the permissions of a file made by hand."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)
    os.replace(temporary, path)


def read_archive(path, *, kind: str = FORMAT) -> tuple[dict, dict[str, np.ndarray]]:
    """Values and arrays of a file written by `write_archive`.

    Raises
    ------
    DataError : not such a file, of a later version, truncated or altered.
    FileNotFoundError : there is no file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            text = archive.read("manifest.json")
            if archive.read("checksum").decode() != hashlib.sha256(text).hexdigest():
                raise DataError(
                    f"{path} has been altered or damaged: its manifest does not match its checksum"
                )
            manifest = json.loads(text)
            if manifest.get("format") != kind:
                raise DataError(f"{path} is no {_plain(kind)}: its format is {manifest.get('format')!r}")
            if manifest["version"] > VERSION:
                raise DataError(_too_new(path, manifest))
            arrays = {
                name: _member(archive, name, digest, path) for name, digest in manifest["arrays"].items()
            }
            return manifest["values"], arrays
    except FileNotFoundError:
        raise
    except DataError:
        raise
    except Exception as error:  # whatever a damaged archive makes zipfile, json and numpy raise
        raise DataError(
            f"{path} cannot be read as a {_plain(kind)} (truncated, altered or another kind of file): "
            f"{error or type(error).__name__}"
        ) from error


def _check_size(archive, path) -> None:
    """Refuses a small file that would fill the memory; zipfile reads no more than is declared."""
    members = archive.infolist()
    total, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if total > max(UNPACKED, RATIO * min(packed, os.path.getsize(path))):
        raise DataError(f"{path} claims to unpack to {total:.3g} bytes: no such file is written here")


def _too_new(path, manifest: dict) -> str:
    writer = manifest.get("package", "of a later version")
    return (
        f"{path} was saved by fastlmm_core {writer} in format version {manifest['version']}; this is "
        f"fastlmm_core {_package_version()}, which reads up to version {VERSION}: update fastlmm_core"
    )


def _package_version() -> str:
    from fastlmm_core import __version__  # the package is complete once somebody saves

    return __version__


def _plain(kind: str) -> str:
    return "saved " + kind.rpartition(" ")[2]


def _member(archive, name: str, digest: str, path) -> np.ndarray:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type == zipfile.ZIP_STORED:
        with open(path, "rb") as stream:
            return _array(_at_data(stream, member), name, digest, path, member.file_size)
    with archive.open(member) as stream:
        return _array(stream, name, digest, path, member.file_size)


def _at_data(stream, member):
    """The stream where the bytes of a stored member begin, behind its header, its name and extra fields."""
    stream.seek(member.header_offset)
    header = stream.read(30)
    if header[:4] != b"PK\3\4":
        raise ValueError(f"{member.filename} is not where the archive says")
    stream.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
    return stream


def _array(stream, name: str, digest: str, path, size: int) -> np.ndarray:
    """The array of a ``.npy`` file of ``size`` bytes; its sum is compared."""
    header = _Recorded(stream)
    if np.lib.format.read_magic(header) != (1, 0):
        raise DataError(f"{path}: array {name!r} has no header of this format")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(header)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != size - len(header.read_bytes):
        raise DataError(f"{path}: array {name!r} is not as large as its header says")
    array = np.empty(math.prod(shape), dtype)
    found, view = hashlib.sha256(header.read_bytes), memoryview(array.view(np.uint8))
    for at in range(0, len(view), CHUNK):
        chunk = view[at : at + CHUNK]
        if stream.readinto(chunk) != len(chunk):
            raise ValueError(f"array {name!r} ends early")
        found.update(chunk)
    if found.hexdigest() != digest:
        raise DataError(f"{path} has been altered or damaged: array {name!r} does not match its checksum")
    return array.reshape(shape, order="F" if by_column else "C")


class _Recorded:
    """A stream that keeps what was read."""

    def __init__(self, stream):
        self.stream, self.read_bytes = stream, b""

    def read(self, size):
        found = self.stream.read(size)
        self.read_bytes += found
        return found


def take_arrays(value, arrays: dict[str, np.ndarray], name: str):
    """Nested dicts and lists with their arrays moved to ``arrays`` and named in their place."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"npy": name}
    if isinstance(value, dict):
        return {key: take_arrays(item, arrays, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [take_arrays(item, arrays, f"{name}.{i}") for i, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def put_arrays(value, arrays: dict[str, np.ndarray]):
    """Inverse of `take_arrays`."""
    if isinstance(value, dict):
        if set(value) == {"npy"}:
            return arrays[value["npy"]]
        return {key: put_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [put_arrays(item, arrays) for item in value]
    return value
