"""The README's Python runs and prints what stands below it."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
ROUNDING = 1e-8


def same_word(ours, shown):
    """Words agree; numbers that are rounding error in both (the gradient at the optimum) may differ."""
    if ours == shown:
        return True
    try:
        return abs(float(ours.strip(",;"))) < ROUNDING and abs(float(shown.strip(",;"))) < ROUNDING
    except ValueError:
        return False


def test_examples_print_what_they_show():
    found = EXAMPLE.findall(README.read_text(encoding="utf-8"))
    assert len(found) >= 2
    names = {}
    for code, shown in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(README), "exec"), names)
        ours = [line.split() for line in printed.getvalue().rstrip().splitlines()]
        theirs = [line.split() for line in shown.rstrip().splitlines()]
        assert len(ours) == len(theirs), printed.getvalue()
        for a, b in zip(ours, theirs):
            assert len(a) == len(b) and all(map(same_word, a, b)), f"printed {a}\nREADME  {b}"


def test_every_block_of_python_is_run():
    text = README.read_text(encoding="utf-8")
    assert text.count("```python") == len(EXAMPLE.findall(text))


def test_commands_and_files_exist():
    text = README.read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text
    root = README.parent
    if not (root / "fastlmm_core").is_dir():
        pytest.skip("the checkout is not here: an installed wheel is under test")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / target).exists(), target
    places = re.findall(r"^ *([\w.]+)/? {2,}\S", text.split("## A map")[1], flags=re.MULTILINE)
    assert len(places) >= 10
    for place in places:
        assert (root / place).exists() or (root / "fastlmm_core" / place).exists(), place
