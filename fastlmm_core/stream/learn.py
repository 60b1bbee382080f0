"""What a model must know of its columns before the pass: factor levels and transform states.

Grouping factors are not among it: their levels are numbered in the stream.  Only
the columns concerned are read.
"""

from dataclasses import dataclass

import pandas as pd

from ..data.factors import encode
from ..data.table import FACTOR, Table
from ..errors import DataError, ModelError
from ..formula.evaluate import Categorical, compile_expression
from ..formula.reader import RowReader
from .levels import has_own_order
from .look import Look, look_through
from .sources import Source


class UnknownLevels(DataError):
    """Rows have a level of a factor that was not known before."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Per piece of the formula its levels (None for a number) and its transforms' states.

    ``passed`` names the pieces that took a first pass over the data; ``assumed`` says that categories
    were taken for all levels, which later rows may prove wrong.
    """

    levels: tuple[pd.Index | None, ...]
    states: tuple[dict, ...]
    passed: tuple[str, ...] = ()
    assumed: bool = False

    def occurring(self, counts) -> "Learned":
        """Without the levels that no row used has; ``counts`` per piece (levels,) or None."""
        levels = tuple(
            known if known is None or count is None else known[count > 0]
            for known, count in zip(self.levels, counts, strict=True)
        )
        return Learned(levels, self.states, self.passed)


def learn(parsed, source: Source, first, levels=None, look_at=look_through, trust=False) -> Learned:
    """Look through the columns whose levels or transforms the model needs.

    Parameters
    ----------
    first : a native frame with the first rows.
    levels : dict column or piece -> sequence of levels, which need no look.
    look_at : callable (Look, Source) -> Look, that reads the source here or elsewhere.
    trust : bool
        Take the categories of a categorical, or of a dictionary, for all its levels where each of them
        is among the first rows; else only a source that is read once is trusted.

    Raises
    ------
    ModelError
        Something must be learned and the source can be read only once, or a transform needs more
        rows than fit.
    """
    levels = {name: pd.Index(list(values)) for name, values in (levels or {}).items()}
    reader = RowReader(parsed, Table(first))
    pieces, states = reader.pieces, [{} for _ in reader.pieces]
    found = [reader.frame.evaluate(piece, state) for piece, state in zip(pieces, states, strict=True)]
    known = [_declared(one, levels) for one in found]
    assumed = False
    for place, one in enumerate(found):
        if one.kind == FACTOR and known[place] is None:
            known[place] = _categories(one, first, source.again, trust)
            assumed |= known[place] is not None and source.again
    unknown = {p: pieces[p] for p, one in enumerate(found) if one.kind == FACTOR and known[p] is None}
    stateful = {p: pieces[p] for p, state in enumerate(states) if state}
    look = Look(parsed.text, source.names, unknown, stateful, reader.frame)
    if not look.pieces:
        return Learned(tuple(known), tuple(states), assumed=assumed)
    if not source.again:
        raise ModelError(
            f"{', '.join(look.pieces)}: levels and transforms are learned in a first look at the data, and "
            f"this {source.kind} can be read only once: pass a callable that returns another, give levels=, "
            "or make the column categorical or a plain number"
        )
    look = look_at(look, source)
    for place in unknown:
        known[place] = look.levels(place)
    for place in stateful:
        states[place] = look.state(place)
    return Learned(tuple(known), tuple(states), look.pieces, assumed)


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


def _categories(found, first, again, trust):
    """All categories of a categorical, where there is no other way or the first rows have each of them."""
    column = found.column
    if column.kind != FACTOR or not has_own_order(first, column.name) or again and not trust:
        return None
    rows = None if column.missing is None else ~column.missing
    if again and len(column.levels) < 2:
        return None
    if again and (rows is not None and not rows.any() or len(encode(column, rows)[1]) < len(column.levels)):
        return None
    return column.levels
