"""Reference grids: the points at which marginal means are predictions.

A grid has every combination of the levels of the factors of the fixed part, with numeric
variables at their means (Searle, Speed & Milliken 1980, doi:10.2307/2684063; Lenth's emmeans).
A numeric variable with at most two values counts as a factor, as in emmeans.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.data.table import FACTOR
from fastlmm_core.errors import DataError, FormulaError
from fastlmm_core.formula.algebra import Piece
from fastlmm_core.formula.evaluate import CONSTANTS, Categorical, compile_expression
from fastlmm_core.formula.spec import DesignSpec

LARGEST = 1 << 20
"""Points of a grid."""

Read = Callable[[str], pd.Series]


@dataclass(frozen=True, eq=False)
class Variable:
    """One column of the data that the fixed part uses, and its values in the grid.

    ``discrete``: its values are levels to average over or to compare; ``factor``: the model
    reads the column itself as a factor.
    """

    name: str
    values: pd.Index
    discrete: bool
    factor: bool = False


def grid_variables(spec: DesignSpec, read: Read, at: dict | None = None) -> list[Variable]:
    """Variables of the fixed part in order of appearance.

    Parameters
    ----------
    read : the data's column of a name, on the rows used
    at : name -> value or values, in place of levels or of the mean

    Raises
    ------
    FormulaError : ``at`` names no variable of the fixed part.
    DataError : ``at`` holds levels the fit did not see.
    """
    at, found, factors = dict(at or {}), {}, set()
    pieces = sorted({piece for term in spec.fixed_terms for piece in term.pieces})
    for place in pieces:
        piece = spec.pieces[place]
        names, is_factor = variable_names(piece.piece), piece.kind == FACTOR
        for name in names:
            if is_factor and len(names) == 1:
                found[name] = piece.levels
                factors |= {name} if piece.piece.is_column else set()
            else:
                found.setdefault(name, None)
    for text in spec.offsets:
        for name in variable_names(Piece(text.strip("`"), text.strip("`").isidentifier())):
            found.setdefault(name, None)
    for name in at:
        if name not in found:
            known = ", ".join(map(repr, found)) or "none"
            raise FormulaError(
                f"at names {name!r}, which the fixed part does not use; its variables: {known}"
            )
    return [
        replace(_variable(name, levels, read, at.get(name)), factor=name in factors)
        for name, levels in found.items()
    ]


def variable_names(piece) -> list[str]:
    """Columns of the data that a piece of the formula reads."""
    if piece.is_column:
        return [piece.text]
    expression = compile_expression(piece.text)
    if isinstance(expression, Categorical):
        if expression.column is not None:
            return [expression.column]
        expression = compile_expression(expression.inner)
    return [name for name in expression.names if name not in CONSTANTS]


def _variable(name: str, levels: pd.Index | None, read: Read, wanted) -> Variable:
    values = None if wanted is None else pd.Index(np.atleast_1d(np.asarray(wanted)))
    if levels is None and values is not None and pd.api.types.is_numeric_dtype(values.dtype):
        return Variable(name, values, len(values) > 1)
    if levels is None:
        column = read(name)
        if pd.api.types.is_numeric_dtype(column.dtype):
            if values is not None:
                raise DataError(f"at: {name!r} is a number in the data, found {values[0]!r}")
            return _numeric(name, column)
        levels = pd.Index(column.astype("category").cat.categories)
    if values is not None:
        if len(values) and isinstance(values[0], str) != isinstance(levels[0], str):
            by_text = {str(level): level for level in levels}
            values = pd.Index([by_text.get(str(value), value) for value in values])
        unknown = [value for value in values if value not in levels]
        if unknown:
            raise DataError(f"at: {name!r} has no level {unknown[0]!r}; its levels: {list(levels[:12])}")
    return Variable(name, levels if values is None else values, True)


def _numeric(name: str, column: pd.Series) -> Variable:
    numbers = column.to_numpy()
    first = numbers[0]
    others = numbers[numbers != first]
    if len(others) == 0 or (others == others[0]).all():
        return Variable(name, pd.Index(np.unique(numbers)), True)
    return Variable(name, pd.Index([float(np.mean(numbers, dtype=np.float64))]), False)


@dataclass(frozen=True, eq=False)
class Grid:
    """Points (n,) by variable; ``codes`` (n, variables) are positions in the variables' values."""

    variables: tuple[Variable, ...]
    codes: np.ndarray

    @classmethod
    def full(cls, variables) -> "Grid":
        """Every combination, the first variable fastest."""
        sizes = [len(variable.values) for variable in variables]
        if prod(sizes) > LARGEST:
            shape = " x ".join(f"{v.name}: {len(v.values)}" for v in variables if len(v.values) > 1)
            raise DataError(f"a reference grid of {prod(sizes)} points is too large ({shape}); use at")
        codes = (
            np.indices(sizes[::-1]).reshape(len(sizes), -1)[::-1].T if sizes else np.zeros((1, 0), np.int64)
        )
        return cls(tuple(variables), codes)

    def frame(self, instead: dict | None = None) -> pd.DataFrame:
        """The points as data; ``instead`` maps names to values that all points get."""
        columns = {
            v.name: pd.Categorical.from_codes(self.codes[:, j], v.values)
            if v.factor
            else v.values.take(self.codes[:, j])
            for j, v in enumerate(self.variables)
        }
        columns |= {name: np.full(len(self.codes), value) for name, value in (instead or {}).items()}
        return pd.DataFrame(columns, index=range(len(self.codes)))

    def place(self, name: str) -> int:
        return [variable.name for variable in self.variables].index(name)


def linear_functions(spec: DesignSpec, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows of X (n, p) and offsets (n,) at the points of a frame."""
    if frame.shape[1] == 0:  # an intercept alone
        frame = pd.DataFrame({"point": range(len(frame))})
    rows = spec.evaluate(frame, random=False)
    X = dense_columns(rows.atoms, rows.fixed, rows.n)
    return X, np.zeros(rows.n) if rows.offset is None else rows.offset


@dataclass(frozen=True)
class Numbers:
    """What a grid needs of a numeric variable; ``values`` are all of them if there are at most two."""

    mean: float
    range: float
    values: tuple[float, ...] | None = None

    @classmethod
    def of(cls, column: pd.Series) -> "Numbers":
        numbers = column.to_numpy()
        low, high = numbers.min(), numbers.max()
        few = bool(((numbers == low) | (numbers == high)).all())
        values = tuple(dict.fromkeys((low.item(), high.item()))) if few else None
        return cls(float(np.mean(numbers, dtype=np.float64)), float(high) - float(low), values)


def slope_functions(
    spec: DesignSpec, grid: Grid, name: str, numbers: Numbers
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of `linear_functions` in one numeric variable, by central differences.

    The step is a thousandth of the variable's range, as in emmeans; exact up to quadratics.
    """
    width = numbers.range * 1e-3
    values = grid.variables[grid.place(name)].values
    if len(values) != 1 or not width > 0:
        raise DataError(f"a slope in {name!r} needs a number that varies, at one value of it")
    ahead, behind = (
        linear_functions(spec, grid.frame({name: float(values[0]) + sign * width / 2})) for sign in (1, -1)
    )
    return tuple((a - b) / width for a, b in zip(ahead, behind))


def averages(grid: Grid, kept: list[str], weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Averages over the points that share the values of the variables in ``kept``, first fastest.

    Returns ``codes`` (c, kept) and the matrix (c, n) of weights; ``weights`` (n,) are proportional
    within an average, None for equal ones.
    """
    places = [grid.place(name) for name in kept]
    key = np.zeros(len(grid.codes), np.int64)
    for place in reversed(places):
        key = key * len(grid.variables[place].values) + grid.codes[:, place]
    order, first, group = np.unique(key, return_index=True, return_inverse=True)
    W = np.zeros((len(order), len(grid.codes)))
    W[group, np.arange(len(group))] = 1.0 if weights is None else weights
    total = W.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        raise DataError("weights are zero for some averages")
    return grid.codes[first][:, places], W / total


WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")


def averaging_weights(grid: Grid, kept: list[str], kind: str, read: Read) -> np.ndarray | None:
    """Weights (n,) of the points of a grid when averaging over what is not ``kept``; None: equal ones.

    ``proportional``: rows that have the combination of what is averaged over; ``outer``: the product of
    its one-way frequencies; ``cells``: rows in the cell of the point itself, kept variables included;
    ``flat``: 1 where that cell has rows.  As in R's emmeans.
    """
    if kind == "equal":
        return None
    discrete = [j for j, v in enumerate(grid.variables) if v.discrete]
    averaged = [j for j in discrete if grid.variables[j].name not in kept]
    if kind == "outer":
        product = np.ones(len(grid.codes))
        for j in averaged:
            product *= _frequencies(grid, [j], read, averaged)
        return product
    counts = _frequencies(grid, averaged if kind == "proportional" else discrete, read)
    return (counts > 0).astype(float) if kind == "flat" else counts


def _frequencies(grid: Grid, places: list[int], read: Read, among: list[int] | None = None) -> np.ndarray:
    """Rows with the values that each point (n,) has in the variables at ``places``.

    Only rows count whose values in the variables ``among`` (default: the same) are in the grid.
    """
    if not places:
        return np.ones(len(grid.codes))
    data_key, point_key, size, seen = 0, np.zeros(len(grid.codes), np.int64), 1, True
    for j in places if among is None else among:
        seen = seen & (positions(grid.variables[j], read) >= 0)
    for j in places:
        variable = grid.variables[j]
        data_key = data_key + np.maximum(positions(variable, read), 0) * size
        point_key += grid.codes[:, j] * size
        size *= len(variable.values)
    return np.bincount(data_key[seen], minlength=size)[point_key].astype(float)


def positions(variable: Variable, read: Read) -> np.ndarray:
    """Position of every row's value in the variable's values, -1 where it is none of them."""
    column = read(variable.name)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return variable.values.get_indexer(column.cat.categories)[column.cat.codes]
    return variable.values.get_indexer(pd.Index(column))


def nested_pairs(spec: DesignSpec, variables) -> list[tuple[str, str]]:
    """(inner, outer) discrete variables as in ``a / b``: each term with the inner one has the outer one."""
    terms = [
        {name for piece in term.pieces for name in variable_names(spec.pieces[piece].piece)}
        for term in spec.fixed_terms
    ]
    names = [variable.name for variable in variables if variable.discrete and len(variable.values) > 1]
    return [
        (inner, outer)
        for inner in names
        for outer in names
        if inner != outer
        and all(outer in term for term in terms if inner in term)
        and not all(inner in term for term in terms if outer in term)
    ]


def drop_foreign_points(grid: Grid, pairs: list[tuple[str, str]], read: Read) -> Grid:
    """The grid without combinations of nested variables that cannot occur.

    Only where each level of the inner variable lies within one level of the outer one, in the data.
    """
    keep = np.ones(len(grid.codes), bool)
    for inner, outer in pairs:
        i, j = grid.place(inner), grid.place(outer)
        at, within = (positions(grid.variables[place], read) for place in (i, j))
        occurs = np.zeros((len(grid.variables[i].values), len(grid.variables[j].values)), bool)
        known = (at >= 0) & (within >= 0)
        occurs[at[known], within[known]] = True
        if (occurs.sum(axis=1) <= 1).all():
            keep &= occurs[grid.codes[:, i], grid.codes[:, j]]
    return Grid(grid.variables, grid.codes[keep])
