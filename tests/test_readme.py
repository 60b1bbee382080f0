"""The README's Python runs as printed."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks():
    text = README.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_examples_print_what_they_show():
    names = {}
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=FLAGS)
    examples = 0
    for number, block in enumerate(blocks()):
        test = parser.get_doctest(block, names, f"README block {number}", str(README), 0)
        examples += len(test.examples)
        report = []
        result = runner.run(test, out=report.append, clear_globs=False)
        names.update(test.globs)
        assert result.failed == 0, "".join(report)
    assert examples >= 5


def test_commands_and_files_exist():
    text = README.read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text
    root = README.parent
    if not (root / "fastlmm_core").is_dir():
        pytest.skip("the checkout is not here: an installed wheel is under test")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / target).exists(), target
    for folder in re.findall(r"^(\w+)/ ", text, flags=re.MULTILINE):
        assert (root / folder).is_dir() or (root / "fastlmm_core" / folder).is_dir(), folder
