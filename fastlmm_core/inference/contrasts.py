"""Linear hypotheses written as text: ``"2*Days + Intercept = 250"``.

    equation   := sum [= sum]
    sum        := [+-] product {+- product}
    product    := item {* or / item}
    item       := number | coefficient | ( sum )

Coefficient names may hold operators (``treatment[T.succimer]:week``, ``I(x ** 2)``): at each
place the longest name that fits is read.  Backticks may surround a name.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastlmm_core.errors import FormulaError

NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
WORD = re.compile(r"[^\s+*/()=`-]+|\S")


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """``L beta = rhs``: L (c, p), rhs (c,), and what to call the rows."""

    L: np.ndarray
    rhs: np.ndarray
    labels: tuple[str, ...]


def hypotheses(contrasts, names: tuple[str, ...], rhs=0.0) -> Hypotheses:
    """From text, a list of texts, or an array (p,) or (c, p).

    Parameters
    ----------
    contrasts : str, sequence of str, array-like, or dict coefficient -> weight; a DataFrame or Series is
        aligned by its labels
    names : coefficients (p,)
    rhs : scalar or (c,), added to constants in the text

    Raises
    ------
    FormulaError : text that is no linear equation in the coefficients.
    ValueError : an array of another width, or values that are not finite.
    """
    texts = [contrasts] if isinstance(contrasts, str) else contrasts
    if isinstance(texts, (list, tuple)) and len(texts) and all(isinstance(text, str) for text in texts):
        read = [read_equation(text, names) for text in texts]
        L = np.array([row for row, _ in read])
        constants, labels = np.array([value for _, value in read]), tuple(texts)
    else:
        L, labels = _matrix(contrasts, names)
        constants = np.zeros(len(L))
    try:
        total = constants + np.broadcast_to(np.asarray(rhs, float), len(L))
    except ValueError:
        raise ValueError(f"rhs has shape {np.shape(rhs)} for {len(L)} contrasts") from None
    return Hypotheses(L, total, labels)


def _matrix(contrasts, names) -> tuple[np.ndarray, tuple[str, ...]]:
    if isinstance(contrasts, Mapping):
        contrasts = pd.Series(dict(contrasts), dtype=float)
    elif hasattr(contrasts, "to_pandas"):
        contrasts = contrasts.to_pandas()
    index = getattr(contrasts, "index", None)
    columns = getattr(contrasts, "columns", None)
    by = columns if columns is not None else index
    if by is not None and not callable(by):  # pandas: aligned by coefficient
        unknown = [name for name in by if name not in names]
        if unknown:
            raise FormulaError(f"no coefficient {unknown[0]!r}; {_near(str(unknown[0]), names)}")
        axis = {"columns": list(names)} if columns is not None else {"index": list(names)}
        contrasts = contrasts.reindex(**axis, fill_value=0.0)
    L = np.atleast_2d(np.asarray(contrasts, float))
    if L.ndim != 2 or L.shape[1] != len(names):
        raise ValueError(f"contrasts have shape {L.shape}; the model has {len(names)} coefficients")
    if not len(L) or not np.isfinite(L).all():
        raise ValueError("contrasts must be finite numbers, at least one row")
    labels = list(index) if columns is not None else [f"contrast {i + 1}" for i in range(len(L))]
    return L, tuple(map(str, labels))


def read_equation(text: str, names: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """Row l (p,) and constant c of ``l beta = c``."""
    reader = _Reader(text, names)
    value = reader.sum()
    if reader.take("="):
        value = value - reader.sum()
    reader.end()
    if not value[:-1].any():
        raise FormulaError(f"{text!r} names no coefficient; there are {_listed(names)}")
    return value[:-1], float(-value[-1])


class _Reader:
    """Reads a sum as a vector: coefficients (p,) and a constant."""

    def __init__(self, text: str, names: tuple[str, ...]):
        self.text, self.names, self.at = text, names, 0
        self.longest = sorted(range(len(names)), key=lambda j: -len(names[j]))

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, symbols: str) -> str:
        """The next character if it is one of ``symbols``, else ''."""
        self.skip()
        if self.at < len(self.text) and self.text[self.at] in symbols:
            self.at += 1
            return self.text[self.at - 1]
        return ""

    def sum(self) -> np.ndarray:
        sign = self.take("+-")
        value = -self.product() if sign == "-" else self.product()
        while sign := self.take("+-"):
            value = value - self.product() if sign == "-" else value + self.product()
        return value

    def product(self) -> np.ndarray:
        value = self.item()
        while operator := self.take("*/"):
            other = self.item()
            if operator == "/":
                if other[:-1].any() or other[-1] == 0:
                    self.fail("a coefficient can be divided by a number only, and not by 0")
                value = value / other[-1]
            elif value[:-1].any() and other[:-1].any():
                self.fail("a product of coefficients is not linear")
            else:
                value = value * other[-1] if value[:-1].any() else other * value[-1]
        return value

    def item(self) -> np.ndarray:
        value = np.zeros(len(self.names) + 1)
        name = self.name()
        if name is not None:
            value[name] = 1.0
            return value
        if self.take("("):
            value = self.sum()
            if not self.take(")"):
                self.fail("a closing parenthesis is missing")
            return value
        number = NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            value[-1] = float(number.group())
            return value
        return self.fail("a coefficient or a number is missing here")

    def name(self) -> int | None:
        """Index of the longest coefficient name at this place."""
        self.skip()
        rest = self.text[self.at :]
        if rest.startswith("`"):
            for j in self.longest:
                if rest[1:].startswith(self.names[j] + "`"):
                    self.at += len(self.names[j]) + 2
                    return j
            self.fail("there is no such coefficient")
        for j in self.longest:
            name = self.names[j]
            if rest.startswith(name):
                after = rest[len(name) : len(name) + 1]
                if (name[-1].isalnum() or name[-1] == "_") and (after.isalnum() or after in ("_", "[", ":")):
                    if after:  # only the beginning of another name
                        continue
                self.at += len(name)
                return j
        return None

    def end(self) -> None:
        self.skip()
        if self.at < len(self.text):
            self.fail("this does not continue an equation")

    def fail(self, reason: str):
        self.skip()
        found = WORD.match(self.text, self.at + self.text[self.at :].startswith("`"))
        word = found.group() if found else ""
        place = f"\n    {self.text}\n    {' ' * self.at}{'^' * max(len(word), 1)}"
        hint = "; " + _near(word, self.names) if word and not word.isdigit() else ""
        raise FormulaError(f"{reason}{hint}{place}")


def _near(word: str, names) -> str:
    near = difflib.get_close_matches(word, names, 3, 0.5)
    near = near or [name for name in names if word.lower() in name.lower()][:3]
    return f"did you mean {', '.join(map(repr, near))}?" if near else f"coefficients are {_listed(names)}"


def _listed(names, most: int = 12) -> str:
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
