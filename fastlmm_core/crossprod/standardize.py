"""Provisional centres and scales, and their exact undoing.

Cross-products of columns with a mean far from zero, or of very different
sizes, lose the digits the likelihood needs.  So the pass reads

    X~ = X M diag(1/s),   y~ = (y - c_y) / s_y,   Z~_t = Z_t B_t  (per random term)

with M and B_t known exactly.  A numeric atom may be centred inside a column
when every column that the expansion of the centred product produces is in the
same matrix, so the column space does not change.  A product far from 0 whose
atoms cannot be centred, ``x:u`` beside an intercept but without x and u, is made of
other products where it must be (`rotate`).  Centres and scales come from
a sample of rows and need not be accurate; scales are powers of two and centres
short binary fractions, so dividing and subtracting do not round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from math import log2, prod, sqrt

import numpy as np

from fastlmm_core.crossprod.rotate import rotate
from fastlmm_core.crossprod.rows import ScaledColumn
from fastlmm_core.errors import DataError
from fastlmm_core.formula.terms import Atom, Column, Design

SAMPLE_ROWS = 4096
MAX_CENTRED_ATOMS = 6
LARGEST = 1e75  # of coefficients
CONSTANT = 1e-13  # relative spread of values that are equal up to round-off


@dataclass(frozen=True, eq=False)
class Standardization:
    """The map between original and standardized coordinates.

    ``x_map`` M (p, p), ``x_scale`` s (p,), ``ones`` a (p,) with ``X a = 1`` or None,
    ``z_maps`` B_t (q, q) per random term.  ``gram`` is X~'WX~ (p, p) once known; it
    gives the relation of dropped columns to the kept ones.  ``kept`` arguments are
    indices of the columns of X that were kept, None for all.
    """

    x_columns: tuple[ScaledColumn, ...]
    z_columns: tuple[tuple[ScaledColumn, ...], ...]
    x_map: np.ndarray
    x_scale: np.ndarray
    y_center: float
    y_scale: float
    ones: np.ndarray | None
    z_maps: tuple[np.ndarray, ...]
    gram: np.ndarray | None = None

    def with_gram(self, gram: np.ndarray) -> "Standardization":
        """The same map, knowing X~'WX~ (p, p)."""
        return replace(self, gram=gram)

    def fixed_map(self, kept: np.ndarray | None = None) -> np.ndarray:
        """A with ``X_kept A = X~_kept``: slopes of the original columns per unit of the standardized ones."""
        return self._fold(kept) @ self._kept_map(kept)

    def beta(self, beta: np.ndarray, kept: np.ndarray | None = None) -> np.ndarray:
        """Original coefficients of the kept columns from standardized ones."""
        full = self._kept_map(kept) @ beta * self.y_scale
        if self.ones is not None:
            full = full + self.y_center * self.ones
        return self._fold(kept) @ full

    def _kept_map(self, kept):
        scaled = self.x_map / self.x_scale
        return scaled if kept is None else scaled[:, kept]

    def _fold(self, kept):
        """(kept, p) matrix that moves weight on dropped columns to the kept ones, without changing X @ it.

        The columns of ``N = M diag(1/s) (e_d - a_d)``, X~_d = X~_kept a_d, span the null space of X.
        """
        p = len(self.x_scale)
        if kept is None or len(kept) == p:
            return np.eye(p) if kept is None else np.eye(p)[kept]
        fold = np.eye(p)[kept]
        dropped = np.setdiff1d(np.arange(p), kept)
        touched = self.x_map[np.ix_(dropped, kept)].any()
        if not touched and (self.ones is None or not self.ones[dropped].any()):
            return fold
        if self.gram is None:
            raise ValueError("columns were dropped, and their relation to the kept ones is not known")
        alias = np.zeros((p, len(dropped)))
        alias[dropped] = np.eye(len(dropped))
        alias[kept] = -np.linalg.lstsq(
            self.gram[np.ix_(kept, kept)], self.gram[np.ix_(kept, dropped)], rcond=None
        )[0]
        null = (self.x_map / self.x_scale) @ alias
        fold[:, dropped] = -np.linalg.solve(null[dropped].T, null[kept].T).T
        return fold


def standardize(design: Design) -> Standardization:
    """Choose centres and scales for a design from a strided sample of its rows."""
    sizes = _AtomSizes(design)
    x_columns, x_map, x_scale = _scaled_columns(design.fixed, design.atoms, sizes, design.ones)
    terms = [_scaled_columns(term.columns, design.atoms, sizes, None) for term in design.terms]
    z_scales = [scale for _, _, scale in terms]
    y = Atom(design.response_name, design.response)
    y_center, y_scale = _center_and_scale(y, design.n) if design.ones is not None else (0.0, 1.0)
    if y_center == 0.0:
        y_scale = _rms_scale(y, design.n)
    for columns, scale in ((design.fixed, x_scale), *zip((t.columns for t in design.terms), z_scales)):
        _check_units(columns, scale, y_scale)
    return Standardization(
        x_columns=x_columns,
        z_columns=tuple(columns for columns, _, _ in terms),
        x_map=x_map,
        x_scale=x_scale,
        y_center=y_center,
        y_scale=y_scale,
        ones=design.ones,
        z_maps=tuple(M / scale for _, M, scale in terms),
    )


def _check_units(columns, scale, y_scale) -> None:
    """DataError for coefficients whose fourth power, the variance of a variance, no float holds."""
    for column, size in zip(columns, scale.tolist(), strict=True):
        if not 1.0 / LARGEST < y_scale / size < LARGEST:
            unit = f"{column.name!r} or of the response" if column.atoms else "the response"
            raise DataError(
                f"the coefficient of {column.name!r} would be near {y_scale / size:.0e}: the variance of its "
                f"variance is beyond what a float holds; change the unit of {unit}, as in y / 1e100"
            )


class _AtomSizes:
    """Centre and scales of each numeric atom, computed when first asked for."""

    def __init__(self, design):
        self.atoms, self.n = design.atoms, design.n
        self.centered = {}
        self.uncentered = {}

    def is_numeric(self, a):
        return self.atoms[a].table is None and self.atoms[a].values.dtype != np.bool_

    def center(self, a):
        if a not in self.centered:
            self.centered[a] = _center_and_scale(self.atoms[a], self.n)
        return self.centered[a][0]

    def scale(self, a, is_centered):
        if is_centered:
            return self.centered[a][1]
        if a not in self.uncentered:
            self.uncentered[a] = _rms_scale(self.atoms[a], self.n)
        return self.uncentered[a]


def _sample(atom, n):
    if n <= SAMPLE_ROWS:
        return np.asarray(atom.values, np.float64)
    size = SAMPLE_ROWS
    return np.asarray(atom.values[np.arange(size) * n // size], np.float64)


def _power_of_two(size):
    return 2.0 ** min(max(round(log2(size)), -1000), 1000)


def _center_and_scale(atom, n):
    """A centre near the mean and a scale near the standard deviation."""
    x = _sample(atom, n)
    low, high = float(x.min()), float(x.max())
    if low == high and n > len(x):
        x = np.asarray(atom.values, np.float64)
        low, high = float(x.min()), float(x.max())
    origin = float(x[0])
    if high - low <= CONSTANT * max(-low, high):
        return origin, _power_of_two(abs(origin)) if origin else 1.0
    shifted = x - origin
    mean = float(shifted.sum()) / len(x)
    shifted -= mean
    size = max(float(shifted.max()), -float(shifted.min()))
    shifted /= size  # squares neither overflow nor vanish
    scale = _power_of_two(size * sqrt(float(shifted @ shifted) / len(x)))
    step = scale / 16.0
    return float(np.round((origin + mean) / step) * step), scale


def _rms_scale(atom, n):
    """A scale near the root mean square."""
    x = _sample(atom, n)
    largest = np.abs(x).max()
    if largest == 0.0:
        x = np.asarray(atom.values, np.float64)
        largest = np.abs(x).max()
    return _power_of_two(largest * np.sqrt(((x / largest) ** 2).mean())) if largest else 1.0


def _scaled_columns(columns: Sequence[Column], atoms: Sequence[Atom], sizes, ones):
    """Columns of one matrix, M (p, p) and scale (p,): ``matrix @ M / scale`` has these columns."""
    p = len(columns)
    units = np.eye(p)
    place: dict[tuple[int, ...], int] = {}
    for j, column in enumerate(columns):
        place.setdefault(tuple(sorted(column.atoms)), j)
    M, scaled = np.eye(p), []
    n_numbers, all_centred = 0, True
    for j, column in enumerate(columns):
        centred: tuple[int, ...] = ()
        for a in column.atoms[:MAX_CENTRED_ATOMS]:
            if not sizes.is_numeric(a) or column.atoms.count(a) > 1 or sizes.center(a) == 0.0:
                continue
            wider = [(*some, a) for some in _subsets(centred)]
            if all(_rest(column.atoms, some, place, units, ones, j) is not None for some in wider):
                centred = (*centred, a)
        for some in _subsets(centred):
            if some:
                rest = _rest(column.atoms, some, place, units, ones, j)
                M[:, j] += prod(-sizes.center(a) for a in some) * rest
        n_numbers += bool(column.atoms)
        all_centred = all_centred and len(centred) == len(column.atoms)
        scale = prod(sizes.scale(a, a in centred) for a in column.atoms if sizes.is_numeric(a))
        centers = tuple(sizes.center(a) if a in centred else 0.0 for a in column.atoms)
        scaled.append(ScaledColumn(column.atoms, centers, 1.0 / scale))
    scale = np.array([1.0 / column.multiplier for column in scaled])
    if n_numbers > 1 or not all_centred:
        scaled, B, new = rotate(scaled, M / scale, sizes, partial(_sampled, atoms, sizes.n))
        M[:, new], scale[new] = B[:, new], 1.0
    return tuple(scaled), M, scale


def _sampled(atoms, n, a):
    atom = atoms[a]
    sample = _sample(atom, n)
    return sample if atom.table is None else atom.table[sample.astype(np.intp)]


def _subsets(items):
    return [some for size in range(len(items) + 1) for some in combinations(items, size)]


def _rest(column_atoms, removed, place, units, ones, j):
    """Coefficients of the product without the removed atoms in the matrix's columns, or None."""
    key = tuple(sorted(a for a in column_atoms if a not in removed))
    if key in place:
        return units[place[key]]
    if not key and ones is not None and ones[j] == 0.0:
        return ones
    return None
