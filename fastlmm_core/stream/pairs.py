"""Sums over co-occurring levels of two factors, for factors whose levels still grow.

An entry is a number ``level_f * 2^32 + level_g`` and a block Z_f'W Z_g (k_f, k_g).
Batches are kept apart until a later one is as large, so that each entry is merged
O(log batches) times; what is merged depends on sizes alone, so results repeat.
"""

from dataclasses import dataclass

import numpy as np

from .._kernels._merge import order_codes
from ..crossprod.statistics import PairBlocks
from .levels import increasing
from .unions import join_keys

SHIFT = 32
LOW = (1 << SHIFT) - 1


@dataclass(frozen=True, eq=False)
class Pairs:
    """``f`` and ``g`` (m,) int32 in lexicographic order, ``blocks`` (m, k_f, k_g)."""

    f: np.ndarray
    g: np.ndarray
    blocks: np.ndarray

    @property
    def keys(self) -> np.ndarray:
        return (self.f.astype(np.int64) << SHIFT) | self.g

    @classmethod
    def of_keys(cls, keys, blocks) -> "Pairs":
        """From keys in any order."""
        if not increasing(keys):
            order = np.argsort(keys, kind="stable")
            keys, blocks = keys[order], blocks[order]
        return cls((keys >> SHIFT).astype(np.int32), (keys & LOW).astype(np.int32), blocks)

    def relabelled(self, f_to, g_to) -> "Pairs":
        """With other level numbers: f_to[f], g_to[g], or the same where that is None."""
        if f_to is None and g_to is None:
            return self
        f = self.f if f_to is None else f_to[self.f]
        g = self.g if g_to is None else g_to[self.g]
        return Pairs.of_keys((f.astype(np.int64) << SHIFT) | g, self.blocks)

    def merge(self, other: "Pairs") -> "Pairs":
        keys, union = join_keys(self.keys, other.keys)
        blocks = union.add(self.blocks, other.blocks)
        if union.mine is None:
            return Pairs(self.f, self.g, blocks)
        return Pairs.of_keys(keys, blocks)

    def transposed(self) -> "Pairs":
        """Of (g, f)."""
        order = order_codes(self.g, int(self.g.max(initial=0)) + 1)
        blocks = np.ascontiguousarray(self.blocks[order].transpose(0, 2, 1))
        return Pairs(self.g[order], self.f[order], blocks)

    def parents(self, levels: int) -> np.ndarray | None:
        """The level of g that each level of f occurs with, None when one occurs with several."""
        if len(self.f) != levels or (np.diff(self.f) == 0).any():
            return None
        return self.g.copy()

    def compressed(self, levels: int) -> PairBlocks:
        """By rows of f."""
        indptr = np.zeros(levels + 1, np.int64)
        np.cumsum(np.bincount(self.f, minlength=levels), out=indptr[1:])
        return PairBlocks(indptr, self.g, np.ascontiguousarray(self.blocks))


def add_sorted(a, b, n_threads=1):
    """The sum of two ``(increasing keys, blocks)``."""
    keys, union = join_keys(a[0], b[0], n_threads)
    return keys, union.add(a[1], b[1], n_threads)


class PairSums:
    """Sums over pairs of two factors, batch after batch."""

    def __init__(self, k_f: int, k_g: int):
        self.empty = np.empty(0, np.int64), np.empty((0, k_f, k_g))
        self.runs: list = []

    def add(self, batch: PairBlocks) -> None:
        f = np.repeat(np.arange(len(batch.indptr) - 1, dtype=np.int64), np.diff(batch.indptr))
        self.runs.append(((f << SHIFT) | batch.indices, batch.blocks))
        while len(self.runs) > 1 and 2 * len(self.runs[-1][0]) >= len(self.runs[-2][0]):
            last = self.runs.pop()
            self.runs[-1] = add_sorted(self.runs[-1], last)

    def go_on(self, f, g, blocks) -> None:
        """Take over earlier sums of these pairs of levels, before the first batch."""
        keys = (f.astype(np.int64) << SHIFT) | g
        order = np.argsort(keys)
        self.runs = [(keys[order], blocks[order])]

    def sorted(self, f_to, g_to) -> Pairs:
        """All pairs, with their final level numbers."""
        while len(self.runs) > 1:
            last = self.runs.pop()
            self.runs[-1] = add_sorted(self.runs[-1], last)
        keys, blocks = self.runs[0] if self.runs else self.empty
        return Pairs.of_keys((f_to[keys >> SHIFT] << SHIFT) | g_to[keys & LOW], blocks)
