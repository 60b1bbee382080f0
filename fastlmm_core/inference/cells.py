"""Linear relations among design columns, from few rows.

Which columns are combinations of others depends on the combinations of factor levels that
occur, not on how often, and not on the values of numbers unless these happen to be collinear.
So a few rows per occurring combination, with random numbers for the numeric pieces, stand
for all rows; where the data's own numbers are collinear, the triangular factor of a QR
decomposition of all rows does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.errors import DataError
from fastlmm_core.formula.spec import DesignSpec
from fastlmm_core.formula.terms import Atom, Column, Design

BLOCK = 1 << 22
"""Numbers evaluated at a time."""

MOST_CELLS = 4096
"""Combinations of levels that are used without asking which occur."""

RANK_TOLERANCE = 1e-9
"""A column whose part beside the columns before it is smaller than this, relative, depends on them."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Atoms over n rows and the columns of X; ``codes`` per factor piece, ``numbers`` its parts otherwise.

    ``kept`` are the columns that are not aliased.
    """

    atoms: tuple[Atom, ...]
    n: int
    fixed: tuple[Column, ...]
    kept: np.ndarray
    codes: dict[int, np.ndarray]
    numbers: dict[tuple[int, int], np.ndarray]

    def matrix(self, atoms: Sequence[Atom], columns: Sequence[Column]) -> np.ndarray:
        """The columns, or for many rows the triangular factor of their QR decomposition."""
        if self.n * len(columns) <= BLOCK:
            return dense_columns(tuple(atoms), tuple(columns), self.n)
        return triangle(atoms, columns, self.n)

    @property
    def X(self) -> np.ndarray:
        """The columns of X that are kept."""
        return self.matrix(self.atoms, [self.fixed[j] for j in self.kept])


def triangle(atoms: Sequence[Atom], columns: Sequence[Column], n: int) -> np.ndarray:
    """R (p, p) of the QR decomposition of n rows, block after block."""
    R = np.zeros((0, len(columns)))
    step = max(len(columns), BLOCK // max(len(columns), 1), 1)
    for start in range(0, n, step):
        block = dense_columns(tuple(atoms), tuple(columns), n, slice(start, min(start + step, n)))
        R = np.linalg.qr(np.vstack([R, block]), mode="r")
    return R


def representative_rows(design: Design | None, spec: DesignSpec, kept: np.ndarray) -> Rows:
    """Rows with the same linear relations among fixed-effect columns as those of the data.

    Where no column is aliased every combination of levels may stand in, whether it occurs or not:
    relations that hold on it hold on the data.  ``design`` is needed only otherwise.

    Raises
    ------
    DataError : aliased columns, and no data to find their relations in.
    """
    used = sorted({atom for column in spec.fixed for atom in column.atoms})
    factors = sorted({spec.atoms[a].piece for a in used if spec.atoms[a].table is not None})
    sizes = [len(spec.pieces[f].levels) for f in factors]
    whole = len(kept) == len(spec.fixed)
    if whole and (design is None or prod(sizes) <= MOST_CELLS):
        cells = np.indices(sizes).reshape(len(sizes), -1).T if sizes else np.zeros((1, 0), np.int64)
        return _few_rows(spec, kept, used, factors, cells)
    if design is None:
        raise DataError("relations among aliased columns need the data rows, which this fit has not")
    codes = {spec.atoms[a].piece: design.atoms[a].values for a in used if spec.atoms[a].table is not None}
    few = _few_rows(spec, kept, used, factors, occurring_cells([codes[f] for f in factors], sizes, design.n))
    scaled = few.matrix(few.atoms, few.fixed)
    scaled = scaled / np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(float).tiny)
    if np.linalg.matrix_rank(scaled, tol=RANK_TOLERANCE) == len(kept):
        return few
    numbers = {
        (spec.atoms[a].piece, spec.atoms[a].part): design.atoms[a].values
        for a in used
        if spec.atoms[a].table is None
    }
    return Rows(design.atoms, design.n, design.fixed, kept, codes, numbers)


def _few_rows(spec: DesignSpec, kept, used, factors, cells: np.ndarray) -> Rows:
    """Random numbers in each cell, as many rows as there are different products of numbers."""
    numeric = {a for a in used if spec.atoms[a].table is None}
    products = {tuple(sorted(a for a in column.atoms if a in numeric)) for column in spec.fixed}
    repeats = len(products) + 1 if numeric else 1
    n = len(cells) * repeats
    codes = {f: np.repeat(cells[:, c], repeats).astype(np.int32) for c, f in enumerate(factors)}
    rng = np.random.default_rng(20)
    parts = sorted((spec.atoms[a].piece, spec.atoms[a].part) for a in numeric)
    numbers = {part: rng.normal(size=n) for part in parts}
    atoms, place = [], {a: i for i, a in enumerate(used)}
    for a in used:
        source = spec.atoms[a]
        values = numbers[source.piece, source.part] if a in numeric else codes[source.piece]
        atoms.append(Atom(source.name, values, source.table))
    fixed = tuple(Column(c.name, tuple(place[a] for a in c.atoms)) for c in spec.fixed)
    return Rows(tuple(atoms), n, fixed, kept, codes, numbers)


def occurring_cells(codes: list[np.ndarray], sizes: list[int], n: int) -> np.ndarray:
    """Distinct combinations (cells, factors) of integer codes (n,) each."""
    if not codes:
        return np.zeros((1, 0), np.int64)
    cells = np.unique(codes[0]).astype(np.int64)[:, None]
    key, keys = codes[0].astype(np.int64), cells[:, 0]
    for more, size in zip(codes[1:], sizes[1:]):
        # rank of the combination so far, so that keys stay below cells x size
        key = np.searchsorted(keys, key) * size + more
        keys = _distinct(key, len(keys) * size)
        cells = np.column_stack([cells[keys // size], keys % size])
    return cells


def _distinct(key: np.ndarray, bound: int) -> np.ndarray:
    if bound <= 4 * len(key) + 1024:
        return np.flatnonzero(np.bincount(key, minlength=1))
    return np.unique(key)


def alias_relations(rows: Rows) -> np.ndarray:
    """``N`` (r, d) with ``X_dropped = X_kept N``."""
    dropped = np.setdiff1d(np.arange(len(rows.fixed)), rows.kept)
    if not len(dropped):
        return np.zeros((len(rows.kept), 0))
    everything = rows.matrix(rows.atoms, rows.fixed)
    X, D = everything[:, rows.kept], everything[:, dropped]
    scale = np.maximum(np.linalg.norm(X, axis=0), np.finfo(float).tiny)
    return np.linalg.lstsq(X / scale, D, rcond=None)[0] / scale[:, None]


def estimable(L: np.ndarray, kept: np.ndarray, relations: np.ndarray | None) -> np.ndarray:
    """Whether each row of ``L`` (c, p) is a combination of the rows of X, (c,) bool.

    ``l beta`` is estimable when ``l_dropped = l_kept N``.  Without relations (no rows at hand) only
    rows that leave the dropped columns alone pass.
    """
    dropped = np.setdiff1d(np.arange(L.shape[1]), kept)
    implied = np.zeros((len(L), len(dropped))) if relations is None else L[:, kept] @ relations
    size = np.abs(L).max(axis=1, initial=0.0)
    if relations is not None and relations.size:
        size = np.maximum(size, (np.abs(L[:, kept]) @ np.abs(relations)).max(axis=1))
    return (np.abs(L[:, dropped] - implied) <= 1e-7 * size[:, None]).all(axis=1)
