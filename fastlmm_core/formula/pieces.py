"""Pieces of a formula evaluated over the rows of a table."""

import difflib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..data.factors import match
from ..data.table import (
    FACTOR,
    NUMERIC,
    TIME,
    Column,
    factor_column,
    numeric_column,
    scan,
    what_it_holds,
)
from ..errors import DataError, FormulaError
from .algebra import Piece
from .evaluate import CONSTANTS, Categorical, compile_expression, parts_of, run


@dataclass(eq=False)
class Evaluated:
    """One piece over all rows of a table, before rows are dropped.

    A numeric piece has ``names`` and ``arrays`` of its columns; ``drop`` is the one to leave out
    where the intercept is spanned already.  A factor has a ``column``, and ``contrast`` if its
    expression names one.  ``missing`` and ``infinite`` map what to blame to a mask.
    """

    piece: Piece
    kind: str
    missing: dict
    infinite: dict
    names: list | None = None
    arrays: list | None = None
    drop: int | None = None
    column: Column | None = None
    contrast: Any = None


class Frame:
    """A table with the formula that reads it, for messages that mark the place."""

    def __init__(self, table, text):
        self.table, self.text = table, text

    def column(self, name):
        """The table's column; an unknown one is a `FormulaError` with near matches."""
        if name in self.table:
            return self.table.column(name)
        index = self.table.index
        if index is not None and name in index.names:
            hint = "it is the index of the table: data.reset_index() makes a column of it"
        else:
            hint = _hint(name, self.table.names)
        found = re.search(rf"(?<![\w.`]){re.escape(name)}(?![\w.])|`{re.escape(name)}`", self.text)
        place = f"\n    {self.text}\n    {' ' * found.start()}{'^' * len(found.group())}" if found else ""
        raise FormulaError(f"the data have no column {name!r}: {hint}{place}")

    def evaluate(self, piece, state):
        """The `Evaluated` piece; ``state`` is filled by stateful transforms, or used when it is full."""
        if piece.is_column:
            return self._as_piece(piece, self.column(piece.text))
        expression = compile_expression(piece.text)
        if isinstance(expression, Categorical):
            return self._categorical(piece, expression, state)
        return self._arithmetic(piece, expression, state)

    def factor(self, text):
        """The `Column` behind a grouping name: a column's name, or an expression such as ``factor(g)``."""
        if text in self.table or "(" not in text:
            return self.column(text)
        found = self.evaluate(Piece(text, False), {})
        if found.kind == FACTOR:
            return found.column
        if len(found.arrays) != 1:
            raise FormulaError(f"{text} gives {len(found.arrays)} columns, a grouping factor is one")
        return numeric_column(text, found.arrays[0])

    def _as_piece(self, piece, column):
        missing = {} if column.missing is None else {column.name: column.missing}
        if column.kind == FACTOR:
            return Evaluated(piece, FACTOR, missing, {}, column=column)
        if column.kind == TIME:
            raise DataError(
                f"column {column.name!r} holds times: make it a number (days since the start) or a factor, "
                f"as in (data[{column.name!r}] - data[{column.name!r}].min()) / pd.Timedelta('1D')"
            )
        infinite = {} if column.infinite is None else {column.name: column.infinite}
        return Evaluated(piece, NUMERIC, missing, infinite, [piece.text], [column.values])

    def _categorical(self, piece, expression, state):
        if expression.column is not None and (
            expression.column in self.table or expression.column not in CONSTANTS
        ):
            column = self.column(expression.column)
        else:
            inner = self._arithmetic(piece, compile_expression(expression.inner), state)
            column = numeric_column(expression.inner, inner.arrays[0])
        if column.kind == NUMERIC and column.infinite is not None:
            raise DataError(f"{piece.text}: column {column.name!r} has infinite values")
        if expression.levels is not None:
            codes, _ = match(column, pd.Index(expression.levels))
            column = factor_column(column.name, codes, pd.Index(expression.levels))
        missing = {} if column.missing is None else {column.name: column.missing}
        return Evaluated(piece, FACTOR, missing, {}, column=column, contrast=expression.contrasts)

    def _arithmetic(self, piece, expression, state):
        missing, inputs, blocked = {}, {}, None
        for name in expression.names:
            if name not in self.table and name in CONSTANTS:
                continue
            column = self.column(name)
            if column.missing is not None:
                missing[name] = column.missing
                blocked = column.missing if blocked is None else blocked | column.missing
            inputs[name] = _plain(column)
        rows = None if blocked is None else ~blocked
        if rows is not None:
            inputs = {name: values[rows] for name, values in inputs.items()}
        n = self.table.n if rows is None else int(np.count_nonzero(rows))
        try:
            value = run(expression, inputs, state)
        except FormulaError as error:
            raise _with_text_columns(error, [self.column(name) for name in inputs]) from error
        names, arrays, drop = parts_of(value, n, piece.text)
        if rows is not None:
            arrays = [_spread(array, rows) for array in arrays]
        infinite = {}
        for array in arrays:
            if array.dtype.kind != "f":
                continue
            nan, inf = scan(array)
            if nan is not None and rows is not None:
                nan = nan & rows
            if nan is not None and nan.any():
                missing[piece.text] = missing.get(piece.text, False) | nan
            if inf is not None:
                infinite[piece.text] = infinite.get(piece.text, False) | inf
        return Evaluated(piece, NUMERIC, missing, infinite, names, arrays, drop)


def _with_text_columns(error, columns):
    """The error, naming the columns without numbers that may be the reason."""
    notes = [
        f"column {column.name!r} is not a number: {what_it_holds(column)}"
        for column in columns
        if column.kind == FACTOR
    ]
    return FormulaError("\n".join([str(error), *notes])) if notes else error


def _plain(column):
    """A column as expressions see it: float64, bool, or an object array of levels."""
    if column.kind == NUMERIC:
        return (
            column.values if column.values.dtype.kind == "b" else column.values.astype(np.float64, copy=False)
        )
    if column.kind == TIME:
        return column.values.view(column.dtype)
    return np.append(np.asarray(column.levels, object), [None])[column.values]


def _spread(array, rows):
    full = np.full(len(rows), np.nan)
    full[rows] = array
    return full


def _hint(name, names):
    """What to say to who asks for a column that is not there."""
    near = difflib.get_close_matches(name, names, 3, 0.6)
    near = near or [other for other in names if other.lower() == name.lower()]
    near = near or [other for other in names if name.endswith(f".{other}")]  # data.x
    if near:
        return f"did you mean {', '.join(map(repr, near))}?"
    if len(names) == 1:
        for mark in (";", "\t", "|"):
            if mark in names[0]:
                return (
                    f"they have one column, {names[0]!r}: a file separated by {mark!r} is read by "
                    f"pd.read_csv(file, sep={mark!r})"
                )
    tuples = [other for other in names if other.startswith("(") and repr(name) in other]
    if tuples:
        return (
            f"columns are tuples such as {tuples[0]}: give them one name each, as in "
            "data.columns = ['_'.join(names) for names in data.columns]"
        )
    return f"columns are {_listed(names)}" if names else "they have no columns at all"


def _listed(names, most=12):
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
