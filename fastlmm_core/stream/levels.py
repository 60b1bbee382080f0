"""Grouping values to codes over many batches: tables that grow as new values appear.

Codes are numbered batch by batch as new values appear; `level_sets.Levels` gives the
order that a fit in memory would have given the levels, so that statistics can be
permuted once, at the end.
"""

from itertools import repeat

import numpy as np
import pandas as pd

from .._kernels._encode import KeyTable, key_range, shifted_codes, used_levels
from ..data.factors import encode_integers
from ..data.table import FACTOR, TIME, Table, TextColumn, numeric_column
from ..data.texts import TextKeys, order_of_texts, texts_of
from ..errors import DataError

DENSE_SLOTS = 1 << 22  # slots of a lookup table that are always allowed
DENSE_PER_LEVEL = 8  # and per row of a batch or level known beyond that
DIRECT_SLOTS = 1 << 10  # keys this close together are codes themselves
DIRECT_PER_LEVEL = 8  # so are keys when one in so many occurs, by what the first batch lets expect
DIRECT_PER_FOUND = 32  # and one in so many occurs in it
DIRECT_MOST = 1 << 30


class IntegerKeys:
    """int64 keys to codes.

    Keys close together are their own codes, up to a shift: then some codes may not occur.  Other
    dense keys go through a lookup table, the rest through a hash table.
    """

    def __init__(self):
        self.n = 0
        self._direct = True
        self._keys: list[np.ndarray] = []
        self._low, self._lookup = 0, np.empty(0, np.int32)
        self._table: KeyTable | None = None

    def keys(self, codes=None) -> np.ndarray:
        """int64 keys of these codes, or (n,) of all."""
        if self._direct:
            codes = np.arange(self.n) if codes is None else codes
            return self._low + codes if self._low or codes.dtype != np.int64 else codes
        if self._table is not None:
            return self._table.keys() if codes is None else self._table.keys()[codes]
        if len(self._keys) != 1:
            self._keys = [np.concatenate([np.empty(0, np.int64), *self._keys])]
        return self._keys[0] if codes is None else self._keys[0][codes]

    def encode(self, keys: np.ndarray, n_threads: int = 1) -> np.ndarray:
        """Codes (m,) int32; keys not seen before get the next ones."""
        if not len(keys):
            return np.empty(0, np.int32)
        keys = np.ascontiguousarray(keys)
        if self._direct:
            codes = self._shifted(keys, n_threads)
            if codes is not None:
                return codes
            self._keys, self._direct = [self.keys()], False
            self._lookup = np.arange(self.n, dtype=np.int32)
        if self._table is None and not self._covers(keys):
            self._to_hash()
        if self._table is None:
            return self._dense(keys)
        codes = self._table.encode(keys.astype(np.int64, copy=False), n_threads)
        self.n = len(self._table)
        return codes

    def _shifted(self, keys, n_threads):
        """Keys as codes of their own; None when they are too far apart."""
        room = max(DIRECT_SLOTS, min(2 * self.n, DIRECT_MOST))
        if not self.n:
            low, high = key_range(keys, n_threads)
            self._low = 0 if 0 <= low <= high - low else low
            room = max(DIRECT_SLOTS, min(DIRECT_PER_FOUND * len(keys), DIRECT_MOST))
            if high - self._low >= room:
                return None
        codes, low, high = shifted_codes(keys, self._low, n_threads)
        after = high - self._low + 1
        if low < self._low or after > room:
            return None
        if not self.n and after > DIRECT_SLOTS:
            found = int(np.count_nonzero(used_levels(codes, after, n_threads)))
            if after > min(DIRECT_PER_LEVEL * expected_levels(len(keys), found), DIRECT_PER_FOUND * found):
                return None
        self.n = max(self.n, after)
        return codes

    def _covers(self, keys):
        """Widen the lookup table to these keys; False when they are too far apart."""
        low, high = key_range(keys)
        end = self._low + len(self._lookup)
        if len(self._lookup):
            if self._low <= low and high < end:
                return True
            low, high = min(low, self._low), max(high + 1, end)
        else:
            high += 1
        if 0 < low <= high - low:
            low = 0  # then keys need no shift
        if high - low > max(DENSE_SLOTS, DENSE_PER_LEVEL * (len(keys) + self.n)):
            return False
        if low < -(2**62) or high > 2**62:
            return False
        wider = np.full(high - low, -1, np.int32)
        wider[self._low - low : self._low - low + len(self._lookup)] = self._lookup
        self._low, self._lookup = low, wider
        return True

    def _dense(self, keys):
        if keys.dtype == np.int32 and not -(2**31) <= self._low < 2**30:
            keys = keys.astype(np.int64)
        places = keys - keys.dtype.type(self._low) if self._low else keys
        codes = self._lookup.take(places)
        if codes.min() < 0:
            rows = np.flatnonzero(codes < 0)
            _, new = encode_integers(keys[rows])
            self._lookup[new - self._low] = self._append(new)
            codes[rows] = self._lookup[places[rows]]
        return codes

    def _append(self, new):
        codes = np.arange(self.n, self.n + len(new), dtype=np.int32)
        self.n += len(new)
        if self.n >= 2**31 - 1:
            raise OverflowError("a grouping column has 2^31 levels or more")
        self._keys.append(new)
        return codes

    def _to_hash(self):
        known, self._table = self.keys(), KeyTable()
        self._table.encode(known)
        self._keys, self._lookup = [], np.empty(0, np.int32)


class ObjectKeys:
    """Values of any kind, text among them, to codes by a dict."""

    def __init__(self, values=()):
        self._codes = {value: code for code, value in enumerate(values)}

    def __len__(self):
        return len(self._codes)

    def encode(self, values: list) -> np.ndarray:
        """Codes (m,) int32; values not seen before get the next ones."""
        codes = np.fromiter(map(self._codes.get, values, repeat(-1)), np.int32, len(values))
        for place in np.flatnonzero(codes < 0):
            codes[place] = self._codes.setdefault(values[place], len(self._codes))
        return codes

    def levels(self, codes=None) -> pd.Index:
        """The values of these codes, or all by code."""
        found = pd.Index(list(self._codes))
        return found if codes is None else found[codes]


class LevelTable:
    """Values of one grouping column, of any kind, to codes over batches."""

    def __init__(self, name: str):
        self.name = name
        self.kind: str | None = None
        self.dtype = None
        self.own_order = False
        self._integers = IntegerKeys()
        self._texts: TextKeys | ObjectKeys = TextKeys()
        self._last = None

    def __len__(self):
        return len(self._texts) if self.kind == "text" else self._integers.n

    def encode(self, column, rows=None, own_order: bool = False, n_threads: int = 1) -> np.ndarray:
        """Codes (n_used,) int32 of a `Column` on the rows used (bool mask, None for all).

        ``own_order`` says that the column's levels come in an order of their own (a categorical).

        Raises
        ------
        DataError
            If the column is of another type than before, or there are more than 2^31 - 2 levels.
        """
        self._check(column)
        try:
            return self._encode(column, rows, own_order, n_threads)
        except OverflowError:
            raise DataError(f"grouping column {self.name!r} has more than 2^31 - 2 levels") from None

    def _encode(self, column, rows, own_order, n_threads):
        if isinstance(column, TextColumn) and isinstance(self._texts, TextKeys):
            codes = self._texts.encode(column.text, n_threads)
            return codes if rows is None else codes[rows]
        values = column.values if rows is None else column.values[rows]
        if column.kind == FACTOR:
            self.own_order |= own_order
            return self._of_levels(column.levels)[values]
        if self.kind == "float":
            values = np.ascontiguousarray(values, np.float64) + 0.0
            return self._integers.encode(values.view(np.int64), n_threads)
        if values.dtype not in (np.int32, np.int64):
            values = values.astype(np.int64 if values.dtype.kind == "f" else np.int32)
        return self._integers.encode(values, n_threads)

    def add_levels(self, index: pd.Index, categories: pd.Index | None) -> np.ndarray:
        """Codes (n,) int32 of levels as `levels` gives them; ``categories`` is an order of their own."""
        if not len(index):
            return np.empty(0, np.int32)
        if categories is not None:
            index = pd.Categorical.from_codes(categories.get_indexer(index), categories)
        if categories is None and index.dtype == np.int64:
            column = numeric_column(self.name, index.to_numpy())
        else:
            column = Table(pd.DataFrame({self.name: index})).column(self.name)
        return self.encode(column, own_order=categories is not None)

    def _check(self, column):
        kind = _kind(column)
        if self.kind is None:
            self.kind, self.dtype = kind, column.dtype
        if kind == "float" and self.kind == "int":
            self._to_floats()
        if kind == "int" and self.kind == "float":
            return
        if kind != self.kind or column.dtype != self.dtype:
            raise DataError(
                f"grouping column {self.name!r} holds {kind} values here and {self.kind} values before: "
                "convert it to one type"
            )

    def _to_floats(self):
        keys, self._integers, self.kind = self._integers.keys(), IntegerKeys(), "float"
        self._integers.encode(keys.astype(np.float64).view(np.int64))

    def _of_levels(self, levels):
        """Codes of a column's levels, new ones appended."""
        if self._last is not None and (self._last[0] is levels or self._last[0].equals(levels)):
            return self._last[1]
        texts = texts_of(levels) if isinstance(self._texts, TextKeys) else None
        if texts is not None:
            codes = self._texts.encode(texts)
        else:
            if isinstance(self._texts, TextKeys):
                self._texts = ObjectKeys(self._texts.levels().tolist() if len(self._texts) else ())
            codes = self._texts.encode(levels.tolist())
        self._last = levels, codes
        return codes

    def levels(self, codes=None) -> pd.Index:
        """The values of these codes, or all by code."""
        if self.kind == "text":
            return self._texts.levels(codes)
        keys = self._integers.keys(codes)
        if self.kind == "float":
            return pd.Index(keys.view(np.float64))
        if self.kind == "time":
            return pd.Index(keys.view(self.dtype))
        return pd.Index(keys.astype(bool) if self.kind == "bool" else keys, copy=False)


def _kind(column):
    if column.kind == FACTOR:
        return "text"
    if column.kind == TIME:
        return "time"
    return {"f": "float", "b": "bool"}.get(column.values.dtype.kind, "int")


def expected_levels(rows: int, found: int) -> float:
    """About how many levels there are, when ``rows`` that may have any of them have ``found`` of them.

    Of rows^2 / 2 pairs of rows one in ``levels`` repeats a level (the birthday problem), which holds
    while most rows show a level for the first time; later nearly all levels are found.
    """
    return found if 2 * found < rows else rows**2 / (2 * max(1, rows - found))


def increasing(values: np.ndarray) -> bool:
    """Whether each value is above the one before."""
    return bool((values[1:] > values[:-1]).all())


def sorted_order(levels: pd.Index) -> np.ndarray:
    """Positions of the levels in increasing order, text by code point, (levels,) int64."""
    if isinstance(levels.dtype, np.dtype) and levels.dtype.kind in "fiubmM":
        return np.argsort(levels.to_numpy(), kind="stable")
    order = order_of_texts(levels)
    if order is not None:
        return order
    values = levels.tolist()
    try:
        order = sorted(range(len(values)), key=values.__getitem__)
    except TypeError:  # values of several types: by their text
        order = sorted(range(len(values)), key=lambda place: str(values[place]))
    return np.array(order, np.int64)


def has_own_order(data, name: str) -> bool:
    """Whether a column of a native frame is categorical with an order of its own."""
    schema = getattr(data, "schema", None)
    if isinstance(data, pd.DataFrame):
        return name in data.columns and isinstance(data[name].dtype, pd.CategoricalDtype)
    if schema is None or not hasattr(schema, "names"):
        return False
    if isinstance(schema.names, list):  # Arrow
        return name in schema.names and str(schema.field(name).type).startswith("dictionary")
    return name in schema and str(schema[name]).startswith("Enum")  # polars
