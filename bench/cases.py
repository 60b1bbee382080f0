"""The named workloads and the scaling series, with their true variances.

`frame` draws a case; ``scale`` below 1 shrinks rows and levels together, for trying things out.
Residual variance is 1 in every simulated case.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import simulate
from .model import Model, Term

INTERCEPT, SLOPE = ((0.5,),), ((0.5, 0.1), (0.1, 0.2))
QUADRATIC = ((0.5, 0.1, 0.05), (0.1, 0.2, 0.02), (0.05, 0.02, 0.1))
MAXIMAL = tuple(tuple(0.3 if i == j else 0.05 for j in range(4)) for i in range(4))


@dataclass(frozen=True)
class Case:
    """One workload: sizes are rows and levels at scale 1; ``truth`` the variances drawn from."""

    name: str
    title: str
    model: Model
    draw: Callable
    sizes: tuple[int, ...] = ()
    truth: dict = field(default_factory=dict)
    default: bool = True
    fixed_size: bool = False

    def frame(self, scale=1.0):
        """Draw the data with the case's own seed.

        Returns
        -------
        DataFrame, rows in random order
        """
        if self.fixed_size:
            return self.draw()
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), 20])
        return self.draw(rng, *(max(int(round(size * scale)), 8) for size in self.sizes))


def _data_set(name):
    def draw():
        from fastlmm_core.datasets import load_dataset

        return load_dataset(name)

    return draw


def _one_factor(cov, columns=2):
    return lambda rng, n, groups: simulate.one_factor(rng, n, groups, cov, columns)


def _grouped(*columns, fixed="f + x + x2"):
    return Model("y", fixed, (Term(columns, ("g",)),))


_NESTED = (Term(("1",), ("school",)), Term(("1",), ("school", "classroom")))
_NESTED_IDS = (Term(("1",), ("school",)), Term(("1",), ("classroom_id",)))
_CROSSED = (Term(("1",), ("user",)), Term(("1",), ("item",)))
_MAXIMAL = tuple(Term(("1", "a", "b", "ab"), (group,)) for group in ("subj", "item"))


def _nested(rng, n, schools, rooms):
    return simulate.nested(rng, n, schools, rooms, 0.2, 0.3)


def _crossed(rng, n, users, items):
    return simulate.crossed(rng, n, users, items, 0.4, 0.2)


def _factorial(rng, subjects, items, repeats):
    return simulate.factorial(rng, subjects, items, repeats, MAXIMAL, MAXIMAL)


_g1, _g2, _g3 = {"g": INTERCEPT}, {"g": SLOPE}, {"g": QUADRATIC}
_users = {"user": 0.4, "item": 0.2}
_schools = {"school": 0.2, "classroom": 0.3}

WORKLOADS = (
    Case("W1", "sleepstudy, random slope",
         Model("Reaction", "Days", (Term(("1", "Days"), ("Subject",)),), "(Days | Subject)"),
         _data_set("sleepstudy"), fixed_size=True),
    Case("W2", "InstEval, students x lecturers x departments",
         Model("y", "service", tuple(Term(("1",), g) for g in (("s",), ("d",), ("dept", "service")))),
         _data_set("InstEval"), fixed_size=True),
    Case("W3", "1M rows, 100k groups, intercept", _grouped("1"), _one_factor(INTERCEPT), (10**6, 10**5), _g1),
    Case("W4", "1M rows, 100k groups, slope", _grouped("1", "x"), _one_factor(SLOPE), (10**6, 10**5), _g2),
    Case("W5", "1M rows, 50k classrooms in 2k schools",
         Model("y", "f + x + x2", _NESTED, "(1 | school/classroom)"), _nested, (10**6, 2000, 50_000),
         _schools),
    Case("W5ids", "W5 with classroom ids unique over schools", Model("y", "f + x + x2", _NESTED_IDS),
         _nested, (10**6, 2000, 50_000), _schools),
    Case("W6", "1M rows, 50k users x 5k items, power law", Model("y", "f + x + x2", _CROSSED),
         _crossed, (10**6, 50_000, 5_000), _users),
    Case("W6s", "100k rows, 5k users x 500 items, power law", Model("y", "f + x + x2", _CROSSED),
         _crossed, (10**5, 5_000, 500), _users),
    Case("W7", "10M rows, 200k users x 20k items, power law", Model("y", "f + x + x2", _CROSSED),
         _crossed, (10**7, 200_000, 20_000), _users, default=False),
    Case("W8", "10M rows, 1M groups, intercept", _grouped("1"), _one_factor(INTERCEPT), (10**7, 10**6),
         _g1, default=False),
    Case("W9", "60 subjects x 40 items x 10, maximal", Model("y", "a + b + ab", _MAXIMAL), _factorial,
         (60, 40, 10), {"subj": MAXIMAL, "item": MAXIMAL}),
    Case("W10", "1M rows, 100k groups, two slopes", _grouped("1", "x", "x2"), _one_factor(QUADRATIC),
         (10**6, 10**5), _g3),
)


def _rows():
    for n in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000):
        yield Case(f"rows-{n}", f"{n:,} rows, {n // 10:,} groups, slope", _grouped("1", "x"),
                   _one_factor(SLOPE), (n, n // 10), _g2, default=False)


def _levels():
    for groups in (100, 1_000, 10_000, 100_000, 300_000):
        yield Case(f"groups-{groups}", f"1M rows, {groups:,} groups, slope", _grouped("1", "x"),
                   _one_factor(SLOPE), (10**6, groups), _g2, default=False)


def _width():
    for columns in (2, 5, 10, 20, 50):
        names = ["x"] + [f"x{j + 1}" for j in range(1, columns)]
        yield Case(f"columns-{columns}", f"200k rows, 20k groups, {columns} numeric columns, slope",
                   _grouped("1", "x", fixed=" + ".join(["f", *names])), _one_factor(SLOPE, columns),
                   (200_000, 20_000), _g2, default=False)


SERIES = {"rows": tuple(_rows()), "groups": tuple(_levels()), "columns": tuple(_width())}
CASES = {case.name: case for case in (*WORKLOADS, *(c for series in SERIES.values() for c in series))}


def select(names):
    """Cases by name; ``default``, ``all`` (of the workloads) or a series' name stand for several.

    Raises
    ------
    KeyError
        A name that is neither.
    """
    chosen = {}
    for name in names:
        if name == "default":
            found = [case for case in WORKLOADS if case.default]
        elif name == "all":
            found = WORKLOADS
        elif name in SERIES:
            found = SERIES[name]
        else:
            found = [CASES[name]]
        chosen |= {case.name: case for case in found}
    return list(chosen.values())
