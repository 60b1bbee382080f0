"""How much memory a pass and a fit will take, from what the first rows and the files' own statistics tell."""

from dataclasses import dataclass

import numpy as np

from ..data.factors import cross_keys, encode
from ..data.table import FACTOR, Table
from ..formula.pieces import Frame
from .ahead import AHEAD
from .levels import has_own_order
from .look import WHOLE_BYTES
from .sources import batch_rows_of

FIXED = 96 << 20
"""Bytes that do not grow: buffers of the kernels and of the reader, code loaded on first use."""
IN_HAND = AHEAD + 2
"""Batches at once: some wait, one is decoded, one is used."""
ROOM = 2.2
"""Sums have room for levels to come: while it grows, the old and the new are both there."""
KEYS = 64
"""Bytes of tables and orders per level: values, lookups, ranks."""
ENGINE = 1.6
"""What an engine for one factor, or nested ones, holds beyond the statistics, in their size."""
MARGIN = 1.25
"""Estimates of the number of levels that the first rows do not show are taken that much higher."""
TEXT_LEVEL = 160
"""Bytes of a level that is text, with its place in a table."""


@dataclass(frozen=True)
class Expected:
    """Number of levels of a grouping factor to expect, and how that is known."""

    levels: int
    how: str
    text: bool = False


@dataclass(frozen=True)
class Forecast:
    """Bytes that a fit takes beyond what the process holds before.

    Attributes
    ----------
    levels : dict of str to int
        Per grouping factor, as expected.
    batches, learning, statistics, fit : int
        Of the rows in hand, of a first pass, of the sums while they grow, and of the fit made from them.
    peak : int
        The most at any time.
    """

    levels: dict
    batches: int
    learning: int
    statistics: int
    fit: int

    @property
    def peak(self) -> int:
        return self.batches + max(self.learning, self.statistics, self.fit)


def forecast(plan, levels=None) -> Forecast:
    """The `Forecast` of a plan.

    Parameters
    ----------
    levels : dict of grouping factor -> number of levels, where more is known than the plan knows.

    Notes
    -----
    The engine for crossed factors is chosen after the pass, when it is known which levels occur
    together: its matrices come on top.
    """
    known = {name: found.levels for name, found in plan.expected.items()} | dict(levels or {})
    rows = plan.rows if plan.rows is not None else 1 << 62
    at_once = min(rows, batch_rows_of(plan.row_bytes))
    per_row = plan.row_bytes + 12 * len(plan.groups)
    u = len(plan.layout.columns)
    sums = grown = 0
    for name, k in zip(plan.group_names, plan.layout.k, strict=True):
        size = known.get(name, 0) * (8 * (k * u + 1))
        extra = TEXT_LEVEL if name in plan.expected and plan.expected[name].text else 0
        sums += size + known.get(name, 0) * (KEYS / 4 + extra)
        grown += ROOM * size + known.get(name, 0) * (KEYS + extra)
    for f in range(len(plan.groups)):
        for g in range(f + 1, len(plan.groups)):
            together = min(rows, np.prod([float(known.get(plan.group_names[h], 0)) for h in (f, g)]))
            block = 8 * plan.layout.k[f] * plan.layout.k[g] + 8
            sums += together * block
            grown += together * 3 * block
    batches = FIXED + plan.mapped_bytes + IN_HAND * at_once * per_row
    stateful = sum(bool(piece.state) for piece in plan.spec.pieces)
    learning = 3 * stateful * min(8 * rows, WHOLE_BYTES)  # parts, joined, and what the transform makes
    return Forecast(known, int(batches), int(learning), int(grown), int((1 + ENGINE) * sums))


def expected_levels(groups, first, source, parsed) -> dict[str, Expected]:
    """Per grouping factor the levels to expect in all rows.

    Categories of a categorical; else the range of whole numbers, where the files tell it and it is
    not far above the estimate from the first rows: that of Chao (1984), d + f1 (f1 - 1) / (2 (f2 + 1)) for d
    values of which f1 occur once and f2 twice, or in proportion where equal values stand together.
    """
    frame = Frame(Table(first), parsed.text)
    found = {}
    for parts in groups:
        columns = [frame.factor(name) for name in parts]
        text = any(column.kind == FACTOR for column in columns)
        rows = np.ones(len(frame.table), bool)
        for column in columns:
            if column.missing is not None:
                rows &= ~column.missing
        if not rows.any():
            continue
        codes = [encode(column, rows) for column in columns]
        keys = cross_keys([code.astype(np.int64) for code, _ in codes], [len(index) for _, index in codes])
        levels, how = _estimate(keys, source.rows), "estimated from the first rows"
        if len(parts) == 1:
            levels, how = _known(columns[0], parts[0], first, source, levels, how)
        found[":".join(parts)] = Expected(int(levels), how, text)
    return found


def _estimate(keys, rows):
    values, counts = np.unique(keys, return_counts=True)
    d, m = len(values), len(keys)
    if rows is not None and m >= rows:
        return d
    beside = m - 1 - np.count_nonzero(np.diff(keys))  # rows whose level is that of the row before
    if 2 * beside >= m - d:
        expected = d if rows is None else d * rows / m
    else:
        once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
        expected = d + once * (once - 1) / (2 * (twice + 1))
    return min(d + MARGIN * (expected - d), np.inf if rows is None else rows)


def _known(column, name, first, source, levels, how):
    if column.kind == FACTOR and has_own_order(first, name) and len(column.levels) >= levels:
        return len(column.levels), "categories"
    span = source.span(name)
    if span is not None and span <= 4 * levels:
        return span if source.rows is None else min(span, source.rows), "range of the values in the files"
    return levels, how
