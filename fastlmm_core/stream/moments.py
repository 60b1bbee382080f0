"""Transforms that sums of powers determine: ``poly``, ``scale``, ``center``, ``standardize``.

With ``z = (x - c) / s`` and ``m_k = sum z^k`` the monic orthogonal polynomials are

    P_{k+1} = (z - alpha_k) P_k - (n_k / n_{k-1}) P_{k-1},
    alpha_k = <z P_k, P_k> / n_k,   n_k = <P_k, P_k>,   <p, q> = sum_ij p_i q_j m_{i+j}

(Gautschi 2004, *Orthogonal Polynomials*, section 1.3), so no row need be kept.
"""

import ast
from dataclasses import dataclass

import numpy as np

from ..formula.algebra import Piece
from ..formula.evaluate import compile_expression
from ..formula.tokens import hide_quoted, show_quoted

MAX_DEGREE = 6  # moments lose about two digits per degree


@dataclass(frozen=True)
class Recipe:
    """What to learn: the key of the state, the argument, the transform and its degree."""

    key: str
    inner: Piece
    name: str
    degree: int


def recipe(piece: Piece) -> Recipe | None:
    """How to learn a piece from moments, None where that cannot be."""
    source, aliases = hide_quoted(piece.text)
    call = ast.parse(source, mode="eval").body
    keys = compile_expression(piece.text).stateful
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or len(keys) != 1
        or not call.args
    ):
        return None
    text = show_quoted(ast.unparse(call.args[0]), aliases)
    if show_quoted(ast.unparse(call), aliases) != keys[0]:
        return None
    inner = Piece(text.strip("`"), True) if isinstance(call.args[0], ast.Name) else Piece(text, False)
    name, rest = call.func.id, [*call.args[1:], *(word.value for word in call.keywords)]
    if name in ("scale", "center", "standardize") and not rest:
        return Recipe(keys[0], inner, name, 1)
    if name != "poly" or any(word.arg != "degree" for word in call.keywords) or len(rest) > 1:
        return None
    degree = rest[0].value if rest and isinstance(rest[0], ast.Constant) else 1
    if rest and not isinstance(rest[0], ast.Constant) or not isinstance(degree, int):
        return None
    return Recipe(keys[0], inner, name, degree) if 1 <= degree <= MAX_DEGREE else None


def center_and_scale(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the first values, which all sums of powers are taken about."""
    return (float(x.mean()), float(x.std()) or 1.0) if len(x) else (0.0, 1.0)


class Moments:
    """Sums of powers of a variable, about a centre and in a scale near its own."""

    def __init__(self, how: Recipe, center: float, scale: float):
        self.how, self.center, self.scale = how, center, scale
        self.sums = np.zeros(2 * how.degree + 1)

    def merge(self, other: "Moments") -> None:
        """Add the sums of other values about the same centre."""
        self.sums += other.sums

    def add(self, x: np.ndarray) -> None:
        """Add values (n,) without missing ones."""
        z = (x - self.center) / self.scale
        power = np.ones_like(z)
        for k in range(len(self.sums)):
            self.sums[k] += power.sum()
            power *= z

    def state(self) -> dict:
        """What the transform would have learned from all values."""
        alpha, norms = self._recurrence()
        if self.how.name == "poly":
            shifted = {k: np.float64(self.center + self.scale * a) for k, a in enumerate(alpha)}
            sizes = {k: np.float64(n * self.scale ** (2 * k)) for k, n in enumerate(norms)}
            return {self.how.key: {"alpha": shifted, "norms2": sizes}}
        mean = np.float64(self.center + self.scale * alpha[0])
        ddof = 0 if self.how.name == "standardize" else 1  # as formulaic has them
        deviation = np.float64(self.scale * np.sqrt(norms[1] / (self.sums[0] - ddof)))
        scale = None if self.how.name == "center" else deviation
        return {self.how.key: {"ddof": ddof, "center": mean, "scale": scale}}

    def _recurrence(self):
        """alpha_0 .. alpha_{d-1} and n_0 .. n_d in z."""
        m, before, now = self.sums, np.zeros(1), np.ones(1)
        alpha, norms = [], [m[0]]
        for k in range(self.how.degree):
            square = np.convolve(now, now)
            alpha.append(square @ m[1 : len(square) + 1] / norms[k])
            after = np.append(0.0, now) - alpha[k] * np.append(now, 0.0)
            if k:
                after[: len(before)] -= norms[k] / norms[k - 1] * before
            before, now = now, after
            norms.append(np.convolve(now, now) @ m[: 2 * len(now) - 1])
        return alpha, norms
