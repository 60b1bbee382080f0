"""A wrong or unlucky input and the ending it must have.

A case is a short program over ``np``, ``pd``, ``flm`` and ``sleep`` (the sleepstudy data); `run` gives
how it ended.  It needs no test library, so that pages can be made of the same list.
"""

import ast
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import fastlmm_core as flm

ERROR, WARNING, ANSWER = "error", "warning", "answer"
PRELUDE = """import numpy as np
import pandas as pd
import fastlmm_core as flm

sleep = flm.load_dataset("sleepstudy")
"""


@dataclass(frozen=True)
class Case:
    """One input and its right ending.

    Attributes
    ----------
    section, name : str
        What it is about, and what the user did.
    source : str
        The program; its last line is an expression, the value of an ``"answer"``.
    kind : ``"error"``, ``"warning"`` or ``"answer"``
    exception : the exact exception or warning, None for an answer.
    words : must all be in the message: what was found, where, and how to mend it.
    check : of the value, for an answer; also for what comes with a warning.
    outcome : the answer in words.
    needs : modules without which the case cannot run.
    """

    section: str
    name: str
    source: str
    kind: str
    exception: type | None = None
    words: tuple[str, ...] = ()
    check: Callable[[Any], bool] | None = None
    outcome: str = ""
    needs: tuple[str, ...] = ()

    @property
    def can_run(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in self.needs)


@dataclass(frozen=True)
class Ending:
    """How a case ended: its kind, the exception or warning, its message, and the value."""

    kind: str
    exception: type | None
    message: str
    value: Any


def run(case: Case) -> Ending:
    """Run the program of a case."""
    names = {"np": np, "pd": pd, "flm": flm, "sleep": flm.load_dataset("sleepstudy")}
    tree = ast.parse(case.source)
    *before, last = tree.body
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(compile(ast.Module(before, []), case.name, "exec"), names)
            value = eval(compile(ast.Expression(last.value), case.name, "eval"), names)
        except Exception as error:
            return Ending(ERROR, type(error), str(error), None)
    if caught:
        return Ending(WARNING, caught[0].category, "\n".join(str(w.message) for w in caught), value)
    return Ending(ANSWER, None, "", value)


def error(section, name, source, type_, *words, needs=()):
    return Case(section, name, source.strip(), ERROR, type_, words, needs=needs)


def warning(section, name, source, type_, *words, check=None):
    return Case(section, name, source.strip(), WARNING, type_, words, check)


def answer(section, name, source, check, outcome, needs=()):
    return Case(section, name, source.strip(), ANSWER, None, (), check, outcome, needs)


def close(*expected, to=1e-3):
    """A check that numbers come close to ``expected``."""
    return lambda value: np.allclose(np.asarray(value, float), expected, rtol=to, atol=0)


SLEEP = (251.40510, 10.46729)  # lme4: fixef(lmer(Reaction ~ Days + (1 | Subject), sleepstudy))
