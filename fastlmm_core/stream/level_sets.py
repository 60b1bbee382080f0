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
from .unions import Union, join_keys


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

    def merge(self, other: "Levels") -> tuple["Levels", Union]:
        """The union, and where its levels come from.

        Numbers and text are sorted; of two categoricals one order must begin the other, or their union
        is sorted: so the union does not depend on who comes first.
        """
        a, b = self.index, other.index
        if len(a) and len(b) and _family(a) != _family(b):
            raise DataError(
                f"levels {a[0]!r}, ... and {b[0]!r}, ... are of different types: "
                "convert the column to one type"
            )
        if a.dtype == b.dtype and a.equals(b) and _same(self.categories, other.categories):
            return self, Union(len(a))
        if a.dtype == b.dtype == np.int64 and self.categories is None and other.categories is None:
            keys, union = join_keys(a.to_numpy(), b.to_numpy())
            found = self if union.mine is None else other if union.theirs is None else Levels(pd.Index(keys))
            return found, union
        categories = _joined(self.categories, other.categories)
        return _known(self, other, categories) or _united(a, b, categories)

    def pack(self):
        return {"index": pack_index(self.index), "categories": pack_index(self.categories)}

    @classmethod
    def unpack(cls, saved) -> "Levels":
        return cls(unpack_index(saved["index"]), unpack_index(saved["categories"]))


def _known(mine, theirs, categories):
    """The union where one of both has all levels and their order, as when rows are appended; else None."""
    if len(mine.index) < len(theirs.index):
        found = _known(theirs, mine, categories)
        return found and (found[0], Union(found[1].size, found[1].theirs, found[1].mine))
    ordered = mine.categories is None if categories is None else _begins(mine.categories, categories)
    if not ordered or mine.index.dtype != theirs.index.dtype:
        return None
    places = mine.index.get_indexer(theirs.index)
    if (places < 0).any():
        return None
    found = mine if _same(mine.categories, categories) else Levels(mine.index, categories)
    return found, Union.of_places(len(mine.index), None, places)


def _united(a, b, categories):
    """The union of any two."""
    union = a.union(b, sort=False)
    if categories is None:
        union = union[sorted_order(union)]
    else:
        union = categories[categories.isin(union)]
    places = Union.of_places(len(union), union.get_indexer(a), union.get_indexer(b))
    return Levels(union, categories), places


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
    if _begins(short, long):
        return long
    union = a.union(b, sort=False)
    return union[sorted_order(union)]


def _begins(short, long):
    return long[: len(short)].equals(short)


@dataclass(frozen=True, eq=False)
class LevelSet:
    """Levels of a grouping factor: combinations of the levels of its parts.

    ``digits[j]`` (levels,) int32 is the level of part j; combinations are in lexicographic order.
    """

    parts: tuple[Levels, ...]
    digits: tuple[np.ndarray, ...]

    def __len__(self):
        return len(self.digits[0])

    def merge(self, other: "LevelSet") -> tuple["LevelSet", Union]:
        """The union, and where its levels come from."""
        if len(self.parts) == 1:  # every value is a level, in its order
            return self._merge_values(other)
        parts, mine, theirs = [], [], []
        for a, b, da, db in zip(self.parts, other.parts, self.digits, other.digits, strict=True):
            part, union = a.merge(b)
            at_a, at_b = union.places()
            parts.append(part)
            mine.append(da if at_a is None else at_a[da])
            theirs.append(db if at_b is None else at_b[db])
        sizes = [len(part.index) for part in parts]
        keys, union = _join(cross_keys(mine, sizes), cross_keys(theirs, sizes))
        return LevelSet(tuple(parts), _digits(keys, sizes)), union

    def _merge_values(self, other):
        levels, union = self.parts[0].merge(other.parts[0])
        for one in (self, other):
            if levels is one.parts[0]:
                return one, union
        return LevelSet((levels,), (np.arange(union.size, dtype=np.int32),)), union

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


def _join(mine, theirs):
    """As `join_keys`, also where a new order of the parts has put the keys in disorder."""
    if increasing(mine) and increasing(theirs):
        return join_keys(mine, theirs)
    keys = np.union1d(mine, theirs)
    return keys, Union.of_places(len(keys), np.searchsorted(keys, mine), np.searchsorted(keys, theirs))


def _digits(keys, sizes):
    found = []
    for size in reversed(sizes):
        keys, digit = np.divmod(keys, max(size, 1))
        found.append(digit.astype(np.int32))
    return tuple(reversed(found))
