"""Which comparisons of marginal means to make."""

import re
from dataclasses import dataclass

import numpy as np

DEGREES = ("linear", "quadratic", "cubic", "quartic")
DEFAULT_ADJUSTMENT = {
    "pairwise": "tukey", "revpairwise": "tukey", "trt.vs.ctrl": "dunnett", "trt.vs.ctrlk": "dunnett",
    "consec": "mvt", "mean_chg": "mvt", "eff": "fdr", "del.eff": "fdr", "poly": "none",
}  # fmt: skip
ALIASES = {"tukey": "pairwise", "dunnett": "trt.vs.ctrl", "trt.vs.ctrl1": "trt.vs.ctrl"}


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
    contr = ALIASES.get(contr, contr) if isinstance(contr, str) else contr
    return Specs(names, tuple(dict.fromkeys(by)), contr)


def comparisons(contr, labels: list[str]) -> Comparison:
    """Comparisons of k means with the given labels.

    Parameters
    ----------
    contr : a key of `DEFAULT_ADJUSTMENT`, or dict of weights
    """
    k = len(labels)
    if isinstance(contr, dict):
        rows = np.array([np.asarray(row, float) for row in contr.values()], dtype=object)
        if not len(rows) or any(np.shape(row) != (k,) for row in rows):
            raise ValueError(f"custom comparisons need {k} weights each, one per mean: {', '.join(labels)}")
        return Comparison(np.array([list(row) for row in rows], float), tuple(map(str, contr)))
    if k < 2:
        return Comparison(np.zeros((0, k)), ())
    if contr in ("eff", "del.eff"):  # each mean less that of all, or of the others
        C = (np.eye(k) - 1.0 / k) * (1.0 if contr == "eff" else k / (k - 1.0))
        return Comparison(C, tuple(f"{label} effect" for label in labels))
    if contr == "mean_chg":  # those after a place less those up to it
        C = np.array([np.where(np.arange(k) < i, -1.0 / i, 1.0 / (k - i)) for i in range(1, k)])
        return Comparison(C, tuple(f"{a}|{b}" for a, b in zip(labels, labels[1:])))
    if contr != "poly":
        pairs = {
            "pairwise": [(i, j) for i in range(k) for j in range(i + 1, k)],
            "revpairwise": [(i, j) for i in range(1, k) for j in range(i)],
            "trt.vs.ctrl": [(i, 0) for i in range(1, k)],
            "trt.vs.ctrlk": [(i, k - 1) for i in range(k - 1)],
            "consec": [(i + 1, i) for i in range(k - 1)],
        }[contr]
        C = np.array([np.eye(k)[i] - np.eye(k)[j] for i, j in pairs])
        return Comparison(C, tuple(f"{labels[i]} - {labels[j]}" for i, j in pairs))
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
    return "sidak" if adjust == "tukey" and contr not in ("pairwise", "revpairwise") else adjust
