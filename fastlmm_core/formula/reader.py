"""The rows of a table as a formula sees them: pieces evaluated, rows chosen, nothing coded yet."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..data.factors import encode
from ..data.table import FACTOR, numeric_column, what_it_holds
from ..errors import DataError
from .algebra import Piece, term_text, terms_of
from .pieces import Frame
from .rows import choose_rows
from .spec import number_values


@lru_cache(maxsize=512)
def formula_plan(parsed):
    """Pieces in order of appearance, and the terms of the fixed part and of each bar as piece numbers."""
    pieces = {}

    def numbered(source):
        return tuple(
            tuple(pieces.setdefault(piece, len(pieces)) for piece in term) for term in terms_of(source)
        )

    fixed = numbered(parsed.fixed)
    names = tuple(term_text(term) for term in terms_of(parsed.fixed))
    bars = tuple(numbered(bar.lhs) for bar in parsed.bars)
    text = parsed.response
    plain = text.isidentifier() or (text[0] == text[-1] == "`" and text.count("`") == 2)
    return tuple(pieces), fixed, names, bars, Piece(text.strip("`") if plain else text, plain)


@dataclass(frozen=True, eq=False)
class RowValues:
    """Response (less the offset), weights and offset on the rows used, and the grouping columns."""

    response: np.ndarray
    response_name: str
    weights: np.ndarray | None
    weights_name: str | None
    offset: np.ndarray | None
    offsets: tuple[str, ...]
    groups: dict


class RowReader:
    """Evaluates the pieces of a formula over a table and chooses the rows."""

    def __init__(self, parsed, table, n_threads=1):
        self.parsed, self.table, self.n_threads = parsed, table, n_threads
        self.frame = Frame(table, parsed.text)
        self.pieces, self.fixed_terms, self.term_names, self.bar_terms, self.response = formula_plan(parsed)
        self.missing, self.infinite = {}, {}
        self.encoded = {}

    def read(self, states, weights, offset, na_action, may_be_empty=False):
        """The `RowValues`; ``states`` of the transforms are filled, or used where they are full."""
        self.found = [self.note(self.frame.evaluate(p, s)) for p, s in zip(self.pieces, states)]
        response, response_name = self.response_values()
        groups = self.group_columns()
        weights, weights_name = self.weight_values(weights)
        offset, offsets = self.offset_total(offset)
        self.report = choose_rows(
            self.table, self.missing, self.infinite, weights, na_action, may_be_empty
        )
        self.rows = self.report.mask
        response, weights, offset = (None if v is None else self.used(v) for v in (response, weights, offset))
        if offset is not None:
            response = response - offset
        return RowValues(response, response_name, weights, weights_name, offset, offsets, groups)

    # -- values over all rows ------------------------------------------------

    def note(self, found):
        """Remembers what is missing or infinite in an evaluated piece."""
        self.missing.update(found.missing)
        self.infinite.update(found.infinite)
        return found

    def response_values(self):
        found = self.note(self.frame.evaluate(self.response, {}))
        if found.kind == FACTOR:
            raise DataError(
                f"the response {self.response.text!r} is not a number: {what_it_holds(found.column)}"
            )
        if len(found.arrays) != 1:
            raise DataError(
                f"the response {self.response.text!r} has {len(found.arrays)} columns, one is needed"
            )
        return found.arrays[0].astype(np.float64, copy=False), self.response.text

    def group_columns(self):
        """``{name: Column}`` of everything behind a bar."""
        columns = {}
        for bar in self.parsed.bars:
            for name in bar.group:
                if name not in columns:
                    column = columns[name] = self.frame.factor(name)
                    if column.missing is not None:
                        self.missing[name] = column.missing
                    if column.infinite is not None:
                        self.infinite[name] = column.infinite
        return columns

    def weight_values(self, weights):
        if weights is None:
            return None, None
        name = weights if isinstance(weights, str) else None
        column = self.frame.column(name) if name else self.own_column("weights", weights)
        return self.number_column(column), name

    def offset_total(self, offset):
        """The sum of all offsets, and those that are expressions of columns."""
        texts = (*self.parsed.offsets, offset) if isinstance(offset, str) else self.parsed.offsets
        total = None
        for text in texts:
            part, mask = number_values(self.frame, text, "offset")
            if mask is not None:
                self.missing[f"offset({text})"] = mask
            total = part if total is None else total + part
        if offset is not None and not isinstance(offset, str):
            part = self.number_column(self.own_column("offset", offset))
            total = part if total is None else total + part
        return total, texts

    def own_column(self, name, values):
        values = np.asarray(values)
        if values.shape != (self.table.n,):
            raise DataError(f"{name} has shape {values.shape}, the data have {self.table.n} rows")
        if values.dtype.kind not in "fiub":
            raise DataError(f"{name} is not numeric: its dtype is {values.dtype}; use pd.to_numeric")
        return numeric_column(name, values)

    def number_column(self, column):
        if column.kind != "numeric":
            raise DataError(
                f"column {column.name!r} is not numeric, as weights and offsets must be: "
                f"{what_it_holds(column)}"
            )
        if column.missing is not None:
            self.missing[column.name] = column.missing
        if column.infinite is not None:
            self.infinite[column.name] = column.infinite
        return column.values.astype(np.float64, copy=False)

    # -- rows used -----------------------------------------------------------

    def used(self, values):
        return values if self.rows is None else values[self.rows]

    def encode(self, column):
        """Codes and levels of a column on the rows used; one encoding per column."""
        key = id(column)
        if key not in self.encoded:
            self.encoded[key] = encode(column, self.rows, self.n_threads)
        return self.encoded[key]
