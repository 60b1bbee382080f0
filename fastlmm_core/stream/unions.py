"""Unions of two sets of levels, and sums over both.

Sums of a union are written once, by threads that share out its entries: the larger set is
copied, the smaller one added on the way.  They have the same bits whoever comes first.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from .._kernels._merge import add_counts, add_rows, union_keys
from ..crossprod.threads import resolve_threads


@dataclass(frozen=True, eq=False)
class Union:
    """Where each entry of a union comes from.

    ``mine`` and ``theirs`` (size,) int64 are places in the two sets, -1 where the entry is not
    there; None when the union is that set, in its order.
    """

    size: int
    mine: np.ndarray | None = None
    theirs: np.ndarray | None = None

    @classmethod
    def of_places(cls, size: int, at_mine, at_theirs) -> "Union":
        """From the places of both sets in the union; None for all of them in order."""
        return cls(size, _inverse(at_mine, size), _inverse(at_theirs, size))

    def places(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The places of both sets in the union, int64; None for all of them in order."""
        return _forward(self.mine), _forward(self.theirs)

    def add(self, mine: np.ndarray, theirs: np.ndarray, n_threads: int | None = None) -> np.ndarray:
        """The sums (size, ...) of the union from those of both sets; counts int64 or sums float64."""
        threads = resolve_threads(n_threads)
        if mine.dtype.kind == "i":
            a, b = (np.ascontiguousarray(counts, np.int64) for counts in (mine, theirs))
            return add_counts(a, self.mine, b, self.theirs, threads)
        width = prod(mine.shape[1:])
        a, b = (np.ascontiguousarray(sums, np.float64).reshape(len(sums), width) for sums in (mine, theirs))
        return add_rows(a, self.mine, b, self.theirs, threads).reshape(self.size, *mine.shape[1:])


def join_keys(mine: np.ndarray, theirs: np.ndarray, n_threads: int | None = None):
    """The union of two increasing int64 arrays, increasing, and where its keys come from."""
    keys, at_mine, at_theirs = union_keys(mine, theirs, resolve_threads(n_threads))
    return keys, Union(len(keys), at_mine, at_theirs)


def _inverse(places, size):
    if places is None:
        return None
    found = np.full(size, -1)
    found[places] = np.arange(len(places))
    return found


def _forward(origin):
    if origin is None:
        return None
    there = np.flatnonzero(origin >= 0)
    found = np.empty(len(there), np.int64)
    found[origin[there]] = there
    return found
