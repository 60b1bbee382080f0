"""Levels with their order, and their union by value."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..data.arrow import join_labels
from ..data.factors import cross_keys, labels
from ..errors import DataError
from ..formula.saving import pack_index, unpack_index
from ..formula.spec import GroupSpec
from .levels import LevelTable, increasing, sorted_order

SLOTS_PER_LEVEL = 16  # of a table of marks, which is faster than a search up to about here


@dataclass(frozen=True, eq=False)
class Levels:
    """The values of one column that occur; ``categories`` is the order of a categorical, else None."""

    index: pd.Index
    categories: pd.Index | None = None

    @classmethod
    def of_table(cls, table: LevelTable, codes) -> tuple["Levels", np.ndarray]:
        """The levels that ``codes`` have, in order, and the place of each code's level, int32."""
        ordered = increasing(codes)
        present = codes if ordered else np.flatnonzero(np.bincount(codes, minlength=len(table)))
        index = table.levels(present)
        order = None if table.own_order or _is_sorted(index) else sorted_order(index)
        if ordered and order is None:
            places = np.arange(len(index), dtype=np.int32)
        else:
            rank = np.empty(len(table), np.int32)
            rank[present if order is None else present[order]] = np.arange(len(index), dtype=np.int32)
            places = rank[codes]
        categories = table.levels() if table.own_order else None
        return cls(index if order is None else index[order], categories), places

    def merge(self, other: "Levels") -> tuple["Levels", np.ndarray, np.ndarray]:
        """The union and the places of both in it.

        Numbers and text are sorted; of two categoricals one order must begin the other, or their union
        is sorted: so the union does not depend on who comes first.
        """
        a, b = self.index, other.index
        if len(a) and len(b) and _family(a) != _family(b):
            raise DataError(
                f"levels {a[0]!r}, ... and {b[0]!r}, ... are of different types: "
                "convert the column to one type"
            )
        if a.equals(b) and _same(self.categories, other.categories):
            place = np.arange(len(a))
            return self, place, place
        if a.dtype == b.dtype == np.int64 and self.categories is None:
            union, at_a, at_b = merged(a.to_numpy(), b.to_numpy())
            return Levels(pd.Index(union)), at_a, at_b
        union = a.union(b, sort=False)
        categories = _joined(self.categories, other.categories)
        if categories is None:
            union = union[sorted_order(union)]
        else:
            union = categories[categories.isin(union)]
        return Levels(union, categories), union.get_indexer(a), union.get_indexer(b)

    def pack(self):
        return {"index": pack_index(self.index), "categories": pack_index(self.categories)}

    @classmethod
    def unpack(cls, saved) -> "Levels":
        return cls(unpack_index(saved["index"]), unpack_index(saved["categories"]))


def merged(a: np.ndarray, b: np.ndarray):
    """The union of two increasing int64 arrays, and the places of both in it."""
    if not len(a) or not len(b):
        return (b if not len(a) else a), np.arange(len(a)), np.arange(len(b))
    low, high = int(min(a[0], b[0])), int(max(a[-1], b[-1]))
    if high - low < SLOTS_PER_LEVEL * (len(a) + len(b)):
        mark = np.zeros(high - low + 1, bool)
        mark[a - low] = mark[b - low] = True
        place = np.cumsum(mark, dtype=np.int64)
        place -= 1
        return np.flatnonzero(mark) + low, place[a - low], place[b - low]
    union = np.union1d(a, b)
    return union, np.searchsorted(union, a), np.searchsorted(union, b)


def _is_sorted(index):
    return index.dtype.kind in "iufmM" and increasing(index.to_numpy())


def _family(index):
    return {"i": "number", "u": "number", "f": "number", "b": "bool"}.get(index.dtype.kind, index.dtype.kind)


def _same(a, b):
    return (a is None) == (b is None) and (a is None or a.equals(b))


def _joined(a, b):
    if a is None or b is None:
        return None
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    if long[: len(short)].equals(short):
        return long
    union = a.union(b, sort=False)
    return union[sorted_order(union)]


@dataclass(frozen=True, eq=False)
class LevelSet:
    """Levels of a grouping factor: combinations of the levels of its parts.

    ``digits[j]`` (levels,) int32 is the level of part j; combinations are in lexicographic order.
    """

    parts: tuple[Levels, ...]
    digits: tuple[np.ndarray, ...]

    def __len__(self):
        return len(self.digits[0])

    def merge(self, other: "LevelSet") -> tuple["LevelSet", np.ndarray, np.ndarray]:
        """The union and the places of both in it."""
        parts, mine, theirs = [], [], []
        for a, b, da, db in zip(self.parts, other.parts, self.digits, other.digits, strict=True):
            union, at_a, at_b = a.merge(b)
            parts.append(union)
            mine.append(at_a[da].astype(np.int32))
            theirs.append(at_b[db].astype(np.int32))
        sizes = [len(part.index) for part in parts]
        if len(parts) == 1:  # every value is a level, in its order
            return LevelSet(tuple(parts), (np.arange(sizes[0], dtype=np.int32),)), *_at(mine, theirs)
        union, at_a, at_b = merged(cross_keys(mine, sizes), cross_keys(theirs, sizes))
        return LevelSet(tuple(parts), _digits(union, sizes)), at_a, at_b

    def labels(self) -> pd.Index:
        """As `GroupingFactor.levels`."""
        if len(self.parts) == 1:
            return self.parts[0].index
        return join_labels([labels(part.index) for part in self.parts], list(self.digits))

    def group_spec(self, names) -> GroupSpec:
        """What rebuilds the codes on new data."""
        levels = tuple(part.index for part in self.parts)
        keys = None
        if len(self.parts) > 1:
            keys = cross_keys(list(self.digits), [len(index) for index in levels])
        return GroupSpec(":".join(names), tuple(names), levels, keys, self.labels())

    def pack(self):
        return {"parts": [part.pack() for part in self.parts], "digits": list(self.digits)}

    @classmethod
    def unpack(cls, saved) -> "LevelSet":
        digits = tuple(np.asarray(digit, np.int32) for digit in saved["digits"])
        return cls(tuple(Levels.unpack(part) for part in saved["parts"]), digits)


def _at(mine, theirs):
    return mine[0].astype(np.int64), theirs[0].astype(np.int64)


def _digits(keys, sizes):
    found = []
    for size in reversed(sizes):
        keys, digit = np.divmod(keys, max(size, 1))
        found.append(digit.astype(np.int32))
    return tuple(reversed(found))
