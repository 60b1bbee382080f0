"""Inputs that go wrong as a new user's do, each with the ending it must have, in the order of a page.

``run(case)`` gives how a case ended, without any test library; `PRELUDE` stands before each program.
"""

from . import formula_cases, use_cases, values_cases
from .endings import ANSWER, ERROR, PRELUDE, WARNING, Case, Ending, run

__all__ = ["ANSWER", "CASES", "Case", "ERROR", "Ending", "PRELUDE", "WARNING", "run"]

CASES: tuple[Case, ...] = (*formula_cases.CASES, *values_cases.CASES, *use_cases.CASES)
