"""A room imports only from rooms above it; only some rooms touch the compiled kernels."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fastlmm_core"
ROOMS = [
    "data", "formula", "crossprod", "stream", "sparse", "mme", "criterion", "optimize",
    "inference", "report", "results", "fitting", "streaming", "api", "design_tools",
]  # fmt: skip
EVERYWHERE = {"errors", "_typing", "archive", "__version__"}
KERNEL_ROOMS = {"data", "crossprod", "stream", "sparse", "mme"}
# the front door: names only, or a script that uses the public names
OUTSIDE = {"__init__", "demo", "cli", "sklearn", "statsmodels", "marginaleffects"}

if not PACKAGE.is_dir():
    pytest.skip("the sources are not here: an installed wheel is under test", allow_module_level=True)


def imported_rooms(file):
    """Yield (line, first component below fastlmm_core) of every import of the package in ``file``."""
    package = ("fastlmm_core", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*full, alias.name) for alias in node.names] if len(full) == 1 else [full]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "fastlmm_core" and len(name) > 1:
                yield node.lineno, name[1]


def files():
    return sorted(p for p in PACKAGE.rglob("*.py") if "_kernels" not in p.parts)


def room_of(file):
    parts = file.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else file.stem


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_come_from_above(file):
    room = room_of(file)
    if room in OUTSIDE:
        return
    allowed = set(EVERYWHERE)
    if room in ("api", "design_tools"):
        allowed |= {*ROOMS, "datasets"}
    elif room in ROOMS:
        allowed |= set(ROOMS[: ROOMS.index(room) + 1])
    elif room != "datasets" and room not in EVERYWHERE:
        pytest.fail(f"{room} is not in the list of rooms")
    else:
        allowed |= {room}
    if room in KERNEL_ROOMS:
        allowed |= {"_kernels"}
    found = imported_rooms(file)
    wrong = [f"{file.name}:{line} imports {name}" for line, name in found if name not in allowed]
    assert not wrong


def test_every_room_is_there():
    found = {room_of(file) for file in files()}
    assert found >= {*ROOMS[:-1], *EVERYWHERE, "datasets"} - {"__version__"}


def test_the_reader_of_imports_sees_all_forms(tmp_path, monkeypatch):
    source = "from ..mme import engine\nfrom . import tree\nimport fastlmm_core.results.fit\n"
    source += "def late():\n    from .. import api\n"
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "x.py"
    file.write_text(source)
    assert [name for _, name in imported_rooms(file)] == ["mme", "data", "results", "api"]
