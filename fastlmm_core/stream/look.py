"""The first look at the data: levels of factors and states of transforms, from the columns concerned.

A `Look` holds what some rows showed; looks of disjoint rows add up, in the order of
the rows, so that threads and the workers of a cluster can share the reading.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from ..crossprod.threads import resolve_threads
from ..data.factors import encode
from ..data.table import FACTOR, Table
from ..errors import DataError, FastLMMError, ModelError
from ..formula.pieces import Frame
from .ahead import ahead
from .columns import text_columns
from .levels import has_own_order, sorted_order
from .moments import Moments, center_and_scale, recipe
from .progress import reporter

WHOLE_BYTES = 512 << 20
"""A column whose transform must be learned is held whole up to this size."""


class Look:
    """What rows show of pieces that need a first look.

    Parameters
    ----------
    text : str
        The formula.
    names : of the data's columns.
    unknown, stateful : dict place -> Piece
        Factors without known levels, and pieces with transforms to be learned.
    first : Frame
        Of the first rows: sums of powers are taken about their mean.
    """

    def __init__(self, text, names, unknown, stateful, first):
        self.text, self.names, self.unknown, self.stateful = text, list(names), unknown, stateful
        self.seen = {place: _Seen() for place in unknown}
        self.whole = {place: _Whole(piece, first) for place, piece in stateful.items()}

    @property
    def columns(self) -> list[str]:
        """What has to be read."""
        pieces = [*self.unknown.values(), *self.stateful.values()]
        found = [name for p in pieces for name in text_columns(p.text, p.is_column, self.names)]
        return list(dict.fromkeys(found))

    @property
    def pieces(self) -> tuple[str, ...]:
        return tuple(str(piece) for piece in (*self.unknown.values(), *self.stateful.values()))

    def fresh(self) -> "Look":
        """The same questions, no rows yet."""
        found = object.__new__(Look)
        found.__dict__.update(self.__dict__)
        found.seen = {place: _Seen() for place in self.unknown}
        found.whole = {place: whole.fresh() for place, whole in self.whole.items()}
        return found

    def add(self, data, label: str) -> "Look":
        """Take in the rows of a native frame; `DataError` and `ModelError` say where."""
        try:
            frame = Frame(Table(data), self.text)
            for place, piece in self.unknown.items():
                self.seen[place].add(frame.evaluate(piece, {}), data)
            for place in self.stateful:
                self.whole[place].add(frame, self.names)
        except FastLMMError as error:
            raise type(error)(f"{label}: {error}") from error
        return self

    def merge(self, other: "Look") -> "Look":
        """Take in what later rows showed."""
        for place, seen in self.seen.items():
            seen.merge(other.seen[place])
        for place, whole in self.whole.items():
            whole.merge(other.whole[place], self.text)
        return self

    def levels(self, place) -> pd.Index:
        return self.seen[place].levels()

    def state(self, place) -> dict:
        return self.whole[place].state(self.text)


def look_through(look: Look, source, progress=None, n_threads=None) -> Look:
    """Every row of a source: a thread decodes ahead, others evaluate; findings are added in order."""
    threads = resolve_threads(n_threads)
    what = f"first pass, {', '.join(look.pieces)}"
    with reporter(progress, source.rows, what=what) as report, ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for batch in ahead(source.batches(look.columns)):
                waiting.append(pool.submit(_one, look.fresh(), batch))
                if len(waiting) > threads:
                    _take(look, waiting, report)
            while waiting:
                _take(look, waiting, report)
        finally:
            for task in waiting:
                task.cancel()
    return look


def _one(look, batch):
    return look.add(batch.data, batch.label), len(Table(batch.data))


def _take(look, waiting, report):
    found, rows = waiting.popleft().result()
    look.merge(found)
    report(rows)


class _Seen:
    """Levels of a factor that occur in any batch."""

    def __init__(self):
        self.own_order, self.order, self.kept = False, {}, None

    def add(self, found, data):
        if found.kind != FACTOR:
            raise DataError(f"{found.piece} is a number here and a factor in earlier rows")
        column = found.column
        rows = None if column.missing is None else ~column.missing
        if rows is not None and not rows.any() or not len(column.values):
            return
        if column.kind == FACTOR and has_own_order(data, column.name):
            self._in_order(column.levels.tolist())
        self._keep(encode(column, rows)[1])

    def _in_order(self, levels):
        self.own_order = True
        for level in levels:
            self.order.setdefault(level, len(self.order))

    def _keep(self, levels):
        self.kept = levels if self.kept is None else self.kept.union(levels, sort=False)

    def merge(self, other):
        if other.own_order:
            self._in_order(other.order)
        if other.kept is not None:
            self._keep(other.kept)

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

    def __init__(self, piece, first):
        self.piece, self.how = piece, recipe(piece)
        self.about = None if self.how is None else center_and_scale(_values(first, self.how.inner))
        self.parts, self.bytes, self.moments = {}, 0, None

    def fresh(self):
        found = object.__new__(_Whole)
        found.piece, found.how, found.about = self.piece, self.how, self.about
        found.parts, found.bytes, found.moments = {}, 0, None
        return found

    def add(self, frame, names):
        if self.moments is not None:
            return self.moments.add(_values(frame, self.how.inner))
        for name in text_columns(self.piece.text, self.piece.is_column, names):
            column = frame.column(name)
            if column.kind == FACTOR:
                raise ModelError(f"{self.piece}: a transform of text cannot be learned in a stream")
            values = column.values.astype(np.float64)
            if column.missing is not None:
                values[column.missing] = np.nan
            self._hold(name, [values])
        if self.bytes > WHOLE_BYTES:
            self._let_go(frame.text)

    def merge(self, other, text):
        for name, parts in other.parts.items():
            self._hold(name, parts)
        if other.moments is not None or self.moments is not None or self.bytes > WHOLE_BYTES:
            self._let_go(text)
        if other.moments is not None:
            self.moments.merge(other.moments)

    def _hold(self, name, parts):
        self.parts.setdefault(name, []).extend(parts)
        self.bytes += sum(part.nbytes for part in parts)

    def _let_go(self, text):
        """Keep sums of powers in place of the values."""
        if self.how is None:
            raise ModelError(
                f"{self.piece} is learned from all its values, which take more than {WHOLE_BYTES >> 20} MB "
                "here: compute the column beforehand, or write it with constants (knots, I((x - 50) / 10))"
            )
        if self.moments is None:
            self.moments = Moments(self.how, *self.about)
        if self.parts:
            self.moments.add(_values(Frame(self._table(), text), self.how.inner))
        self.parts, self.bytes = {}, 0

    def _table(self):
        return Table({name: np.concatenate(parts) for name, parts in self.parts.items()})

    def state(self, text):
        if self.moments is not None:
            return self.moments.state()
        state: dict = {}
        Frame(self._table(), text).evaluate(self.piece, state)
        return state


def _values(frame, piece):
    """Values of a number, without the missing ones."""
    values = frame.evaluate(piece, {}).arrays[0].astype(np.float64)
    return values[~np.isnan(values)]
