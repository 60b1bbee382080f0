"""What is installed: data, stubs, type marker, kernels; and nothing that does not belong."""

import importlib.metadata
from pathlib import Path

import pytest

import fastlmm_core as flm

PACKAGE = Path(flm.__file__).parent

try:
    INSTALLED = importlib.metadata.distribution("fastlmm_core")
except importlib.metadata.PackageNotFoundError:
    INSTALLED = None


@pytest.mark.skipif(INSTALLED is None, reason="an in-place build is under test")
def test_version_is_the_metadata_version():
    assert flm.__version__ == INSTALLED.version


def test_typed_and_stubbed():
    assert (PACKAGE / "py.typed").is_file()
    compiled = {p.name.split(".")[0] for p in (PACKAGE / "_kernels").iterdir() if p.suffix in (".so", ".pyd")}
    stubs = {p.stem for p in (PACKAGE / "_kernels").glob("*.pyi")}
    assert compiled and compiled == stubs


def test_public_names():
    for name in ("lmer", "lm", "load_dataset", "list_datasets", "Control"):
        assert callable(getattr(flm, name)) and name in flm.__all__
    for name in ("FastLMMError", "FormulaError", "ModelError", "DataError"):
        assert issubclass(getattr(flm, name), flm.FastLMMError)
    for name in ("RankWarning", "ConvergenceWarning"):
        assert issubclass(getattr(flm, name), UserWarning)


@pytest.mark.skipif(INSTALLED is None, reason="an in-place build is under test")
def test_the_installed_files():
    """The suite must not pick up the uncompiled folder of a flat layout."""
    files = {str(f) for f in INSTALLED.files or []}
    if not any(f.startswith("fastlmm_core/") for f in files) or "site-packages" not in str(PACKAGE):
        pytest.skip("an editable or sanitized build is under test")
    assert PACKAGE == Path(str(INSTALLED.locate_file("fastlmm_core")))
    folders, endings = ("tests", "bench", "src_c"), (".c", ".h", ".pyx")
    assert not [f for f in files if f.endswith(endings) or f.startswith(folders)]
    assert "fastlmm_core/datasets/InstEval.csv.gz" in files
