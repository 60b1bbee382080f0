"""Every wrong or unlucky input ends in a right answer, or says what was found, where, and how to mend it."""

import warnings

import pytest
from messages.cases import ANSWER, CASES, ERROR, WARNING, run

import fastlmm_core as flm
from fastlmm_core.errors import advise


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}: {case.name}")
def test_ending(case):
    if not case.can_run:
        pytest.skip(f"needs {', '.join(case.needs)}")
    ending = run(case)
    assert ending.kind == case.kind, f"{ending.exception}: {ending.message}"
    assert ending.exception is case.exception
    absent = [word for word in case.words if word not in ending.message]
    assert not absent, f"{absent} not in:\n{ending.message}"
    if case.check is not None:
        assert case.check(ending.value), ending.value


def test_there_are_enough_of_every_kind():
    kinds = [case.kind for case in CASES]
    assert len(CASES) >= 80 and min(kinds.count(kind) for kind in (ERROR, WARNING, ANSWER)) >= 10
    assert len({(case.section, case.name) for case in CASES}) == len(CASES)
    for case in CASES:
        assert (case.kind == ANSWER) == bool(case.outcome)
        assert case.kind == ANSWER or case.words


def test_errors_are_builtin_as_well():
    for case in CASES:
        if case.kind == ERROR:
            assert issubclass(case.exception, (ValueError, TypeError))
            assert issubclass(case.exception, flm.FastLMMError) or case.exception is TypeError


def test_warnings_point_at_the_line_of_the_user():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        flm.lmer("Reaction ~ Days^2 + (1 | Subject)", flm.load_dataset("sleepstudy"))
        advise("a message", UserWarning)
    assert [w.filename for w in caught] == [__file__, __file__]
