"""What a model must know of its columns before the pass: factor levels and transform states.

Grouping factors are not among it: their levels are numbered in the stream.  Only
the columns concerned are read.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..data.factors import encode
from ..data.table import FACTOR, Table
from ..errors import DataError, ModelError
from ..formula.algebra import Piece
from ..formula.evaluate import CONSTANTS, Categorical, compile_expression
from ..formula.pieces import Frame
from ..formula.reader import RowReader, formula_plan
from .levels import has_own_order, sorted_order
from .moments import Moments, recipe
from .sources import Source

WHOLE_BYTES = 512 << 20
"""A column whose transform must be learned is held whole up to this size."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Per piece of the formula its levels (None for a number) and its transforms' states."""

    levels: tuple[pd.Index | None, ...]
    states: tuple[dict, ...]
    passed: bool

    def occurring(self, counts) -> "Learned":
        """Without the levels that no row used has; ``counts`` per piece (levels,) or None."""
        levels = tuple(
            known if known is None or count is None else known[count > 0]
            for known, count in zip(self.levels, counts, strict=True)
        )
        return Learned(levels, self.states, self.passed)


def text_columns(text: str, is_column: bool, names) -> list[str]:
    """Columns that an expression reads."""
    if is_column or text in names:
        return [text]
    if text[:1] == text[-1:] == "`":
        return [text.strip("`")]
    if text.isidentifier():
        return [text]
    expression = compile_expression(text)
    if isinstance(expression, Categorical):
        if expression.column is not None and (
            expression.column in names or expression.column not in CONSTANTS
        ):
            return [expression.column]
        expression = compile_expression(expression.inner)
    return [name for name in expression.names if name in names or name not in CONSTANTS]


def needed_columns(parsed, pieces, weights, names) -> list[str]:
    """Columns that a model reads, each once."""
    found = [name for piece in pieces for name in text_columns(piece.text, piece.is_column, names)]
    found += text_columns(parsed.response, False, names)
    for bar in parsed.bars:
        for group in bar.group:
            found += [group] if group in names or "(" not in group else text_columns(group, False, names)
    for text in parsed.offsets:
        found += text_columns(text, False, names)
    return list(dict.fromkeys([*found, *([weights] if weights is not None else [])]))


def piece_names(parsed) -> tuple[Piece, ...]:
    """The pieces of a formula without any data."""
    return formula_plan(parsed)[0]


def check_columns(parsed, columns, source: Source) -> None:
    """FormulaError for the first column that the source does not have."""
    frame = Frame(Table({name: np.empty(0) for name in source.names}), parsed.text)
    for name in columns:
        frame.column(name)


def learn(parsed, source: Source, first, levels=None) -> Learned:
    """Look through the columns whose levels or transforms the model needs.

    Parameters
    ----------
    first : a native frame with the first rows.
    levels : dict column or piece -> sequence of levels, which need no look.

    Raises
    ------
    ModelError
        Something must be learned and the source can be read only once, or a transform needs more
        rows than fit.
    """
    levels = {name: pd.Index(list(values)) for name, values in (levels or {}).items()}
    reader = RowReader(parsed, Table(first))
    states = [{} for _ in reader.pieces]
    found = [reader.frame.evaluate(piece, state) for piece, state in zip(reader.pieces, states, strict=True)]
    known = [_declared(one, levels) for one in found]
    unknown = [p for p, one in enumerate(found) if one.kind == FACTOR and known[p] is None]
    stateful = [p for p, state in enumerate(states) if state]
    if not unknown and not stateful:
        return Learned(tuple(known), tuple(states), False)
    pieces = reader.pieces
    if not source.again:
        for place in unknown:
            known[place] = _categories(found[place], first)
        unknown = [place for place in unknown if known[place] is None]
        if unknown or stateful:
            names = ", ".join(str(pieces[place]) for place in (*unknown, *stateful))
            raise ModelError(
                f"{names}: levels and transforms are learned in a first look at the data, and this "
                f"{source.kind} can be read only once: pass a callable that returns a new one, give levels=, "
                "or make the column categorical or a plain number"
            )
        return Learned(tuple(known), tuple(states), False)
    seen, whole = {place: _Seen() for place in unknown}, {place: _Whole() for place in stateful}
    columns = dict.fromkeys(
        name for place in (*unknown, *stateful)
        for name in text_columns(pieces[place].text, pieces[place].is_column, source.names)
    )  # fmt: skip
    for batch in source.batches(columns):
        frame = Frame(Table(batch.data), parsed.text)
        for place in unknown:
            seen[place].add(frame.evaluate(pieces[place], {}), batch)
        for place in stateful:
            whole[place].add(frame, pieces[place], source.names)
    for place in unknown:
        known[place] = seen[place].levels()
    for place in stateful:
        states[place] = whole[place].state(pieces[place], parsed.text)
    return Learned(tuple(known), tuple(states), True)


def _declared(found, levels):
    """Levels that the caller or the formula names."""
    if found.kind != FACTOR:
        return None
    for name in (found.piece.text, found.column.name):
        if name in levels:
            return levels[name]
    if not found.piece.is_column:
        expression = compile_expression(found.piece.text)
        if isinstance(expression, Categorical) and expression.levels is not None:
            return pd.Index(expression.levels)
    return None


def _categories(found, first):
    """All categories of a categorical."""
    if found.column.kind == FACTOR and has_own_order(first, found.column.name):
        return found.column.levels
    return None


class _Seen:
    """Levels of a factor that occur in any batch."""

    def __init__(self):
        self.own_order, self.order, self.kept = False, {}, None

    def add(self, found, batch):
        if found.kind != FACTOR:
            raise DataError(f"{batch.label}: {found.piece} is a number here and a factor in earlier rows")
        column = found.column
        rows = None if column.missing is None else ~column.missing
        if rows is not None and not rows.any() or not len(column.values):
            return
        occurring = encode(column, rows)[1]
        if column.kind == FACTOR and has_own_order(batch.data, column.name):
            self.own_order = True
            for level in column.levels.tolist():
                self.order.setdefault(level, len(self.order))
        self.kept = occurring if self.kept is None else self.kept.union(occurring, sort=False)

    def levels(self):
        if self.kept is None:
            return pd.Index([], dtype=object)
        if self.own_order:
            return self.kept[
                np.argsort([self.order.get(level, len(self.order)) for level in self.kept.tolist()])
            ]
        return self.kept[sorted_order(self.kept)]


class _Whole:
    """All values of the columns of a stateful transform; of too many, what sums of powers tell."""

    def __init__(self):
        self.parts, self.bytes, self.moments = {}, 0, None

    def add(self, frame, piece, names):
        if self.moments is not None:
            return self.moments.add(_values(frame, self.moments.how.inner))
        for name in text_columns(piece.text, piece.is_column, names):
            column = frame.column(name)
            if column.kind == FACTOR:
                raise ModelError(f"{piece}: a transform of text cannot be learned in a stream")
            values = column.values.astype(np.float64)
            if column.missing is not None:
                values[column.missing] = np.nan
            self.parts.setdefault(name, []).append(values)
            self.bytes += values.nbytes
        if self.bytes > WHOLE_BYTES:
            self._let_go(piece, frame.text)

    def _let_go(self, piece, text):
        how = recipe(piece)
        if how is None:
            raise ModelError(
                f"{piece} is learned from all its values, which take more than {WHOLE_BYTES >> 20} MB here: "
                "compute the column beforehand, or write it with constants (knots, I((x - 50) / 10))"
            )
        self.moments = Moments(how)
        self.moments.add(_values(Frame(self._table(), text), how.inner))
        self.parts = {}

    def _table(self):
        return Table({name: np.concatenate(parts) for name, parts in self.parts.items()})

    def state(self, piece, text):
        if self.moments is not None:
            return self.moments.state()
        state: dict = {}
        Frame(self._table(), text).evaluate(piece, state)
        return state


def _values(frame, piece):
    """Values of a number, without the missing ones."""
    values = frame.evaluate(piece, {}).arrays[0].astype(np.float64)
    return values[~np.isnan(values)]
