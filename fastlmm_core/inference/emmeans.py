"""Which comparisons of marginal means to make."""

import re
from dataclasses import dataclass

import numpy as np

DEGREES = ("linear", "quadratic", "cubic", "quartic")
DEFAULT_ADJUSTMENT = {"pairwise": "tukey", "trt.vs.ctrl": "dunnett", "poly": "none"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """``C`` (c, k) over k means; ``labels`` (c,)."""

    C: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Specs:
    """What to average for: variables, those that define groups, and perhaps a comparison."""

    names: tuple[str, ...]
    by: tuple[str, ...]
    contr: object


def read_specs(specs, by, contr) -> Specs:
    """From names, or text like ``"a:b | c"`` and ``"pairwise ~ a | c"``."""
    by = [] if by is None else [by] if isinstance(by, str) else list(by)
    if isinstance(specs, str):
        left, tilde, right = specs.rpartition("~")
        if tilde and left.strip():
            if contr is not None and contr != left.strip():
                raise ValueError(f"specs {specs!r} and contr={contr!r} ask for different comparisons")
            contr = left.strip()
        names, bar, groups = right.partition("|")
        specs = [name for name in re.split(r"[\s:*+]+", names.strip()) if name]
        by += [name for name in re.split(r"[\s:*+]+", groups.strip()) if name and name not in by]
    names = tuple(name for name in dict.fromkeys(specs) if name not in by)
    if names == ("1",):
        names = ()
    return Specs(names, tuple(dict.fromkeys(by)), contr)


def comparisons(contr, labels: list[str]) -> Comparison:
    """Comparisons of k means with the given labels.

    Parameters
    ----------
    contr : ``"pairwise"``, ``"trt.vs.ctrl"`` (against the first), ``"poly"``, or dict of weights
    """
    k = len(labels)
    if isinstance(contr, dict):
        rows = np.array([np.asarray(row, float) for row in contr.values()], dtype=object)
        if not len(rows) or any(np.shape(row) != (k,) for row in rows):
            raise ValueError(f"custom comparisons need {k} weights each, one per mean: {', '.join(labels)}")
        return Comparison(np.array([list(row) for row in rows], float), tuple(map(str, contr)))
    if k < 2:
        return Comparison(np.zeros((0, k)), ())
    unit = np.eye(k)
    if contr == "pairwise":
        pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
        C = np.array([unit[i] - unit[j] for i, j in pairs])
        return Comparison(C, tuple(f"{labels[i]} - {labels[j]}" for i, j in pairs))
    if contr == "trt.vs.ctrl":
        return Comparison(unit[1:] - unit[0], tuple(f"{label} - {labels[0]}" for label in labels[1:]))
    C = polynomials(k)
    names = [DEGREES[d] if d < len(DEGREES) else f"degree {d + 1}" for d in range(len(C))]
    return Comparison(C, tuple(names))


def polynomials(k: int, most: int = 6) -> np.ndarray:
    """Orthogonal polynomial contrasts of k equally spaced levels as small whole numbers."""
    degree = min(k - 1, most)
    Q = np.linalg.qr(np.vander(np.arange(k) - (k - 1) / 2.0, degree + 1, increasing=True))[0]
    rows = []
    for row in Q.T[1:]:
        row = row * (1.0 if row[-1] > 0 else -1.0)
        row = row / row[row > 0.01].min()
        while (size := np.abs(row - np.round(row)).max()) > 0.05:
            row = row / size
        rows.append(np.round(row))
    return np.array(rows)


def adjustment(adjust: str | None, contr, methods) -> str:
    """The method for a family: by default emmeans' choice; Tukey's suits all pairs only, else Sidak's.

    Raises ValueError for a comparison or a method that is not known.
    """
    if not isinstance(contr, dict) and contr not in DEFAULT_ADJUSTMENT:
        known = ", ".join(map(repr, DEFAULT_ADJUSTMENT))
        raise ValueError(f"no comparison {contr!r}; available: {known}, or a dict of weights")
    if adjust is None:
        return "none" if isinstance(contr, dict) else DEFAULT_ADJUSTMENT[contr]
    if adjust not in methods:
        raise ValueError(f"no adjustment {adjust!r}; available: {', '.join(map(repr, methods))}")
    return "sidak" if adjust == "tukey" and contr != "pairwise" else adjust
