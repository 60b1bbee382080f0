"""What is installed: data, stubs, type marker, kernels; and nothing that does not belong."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import fastlmm_core as flm
from fastlmm_core import demo

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


def python(code, *options):
    """Words printed by a fresh interpreter, started where the package lies: a checkout must not hide it."""
    paths = [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, *options, "-c", code]
    ran = subprocess.run(
        command, env=environment, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_the_import_brings_nothing_heavy():
    heavy = {"numpy", "scipy", "pandas", "formulaic", "narwhals", "matplotlib", "pyarrow", "click"}
    assert not heavy & set(python("import fastlmm_core, sys; print(*sys.modules)", "-W", "error"))


def test_no_public_name_warns():
    """The packages below are the user's choice: only what they say of our calls counts."""
    code = """if True:
        import warnings
        warnings.filterwarnings("error", module="fastlmm_core")
        import fastlmm_core as flm
        print(*[name for name in flm.__all__ if getattr(flm, name) is None])"""
    assert python(code) == []


def test_kernels_keep_the_interpreter_without_its_lock():
    """A free-threaded interpreter would take its lock back on importing a module that is not made for it."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this interpreter always has its lock")
    assert python("import sys, fastlmm_core as flm; flm.lmer; print(sys._is_gil_enabled())") == ["False"]


def test_demo_shows_both_models(capsys):
    demo.main()
    shown = capsys.readouterr().out
    for name in ("sleepstudy", "InstEval", "Certificate", "converged            True", "whole fit"):
        assert name in shown
