"""Sums over co-occurring levels of two factors, for factors whose levels still grow.

An entry is a number ``level_f * 2^32 + level_g`` and a block Z_f'W Z_g (k_f, k_g).
Batches are kept apart until a later one is as large, so that each entry is merged
O(log batches) times; what is merged depends on sizes alone, so results repeat.
"""

from dataclasses import dataclass

import numpy as np

from ..crossprod.statistics import PairBlocks

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
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        return cls((keys >> SHIFT).astype(np.int32), (keys & LOW).astype(np.int32), blocks[order])

    def relabelled(self, f_to, g_to) -> "Pairs":
        """With other level numbers: f_to[f], g_to[g]."""
        return Pairs.of_keys((f_to[self.f].astype(np.int64) << SHIFT) | g_to[self.g], self.blocks)

    def merge(self, other: "Pairs") -> "Pairs":
        return Pairs.of_keys(*add_sorted((self.keys, self.blocks), (other.keys, other.blocks)))

    def transposed(self) -> "Pairs":
        """Of (g, f)."""
        keys = (self.g.astype(np.int64) << SHIFT) | self.f
        return Pairs.of_keys(keys, np.ascontiguousarray(self.blocks.transpose(0, 2, 1)))

    def parents(self, levels: int) -> np.ndarray | None:
        """The level of g that each level of f occurs with, None when one occurs with several."""
        if len(self.f) != levels or (np.diff(self.f) == 0).any():
            return None
        return self.g.copy()

    def compressed(self, levels: int) -> PairBlocks:
        """By rows of f."""
        indptr = np.searchsorted(self.f, np.arange(levels + 1)).astype(np.int64)
        return PairBlocks(indptr, self.g, np.ascontiguousarray(self.blocks))


def add_sorted(a, b):
    """The sum of two ``(increasing keys, blocks)``."""
    if not len(a[0]) or not len(b[0]):
        return b if len(b[0]) else a
    union = np.union1d(a[0], b[0])
    blocks = np.zeros((len(union), *a[1].shape[1:]))
    for keys, part in (a, b):
        blocks[np.searchsorted(union, keys)] += part
    return union, blocks


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

    def sorted(self, f_to, g_to) -> Pairs:
        """All pairs, with their final level numbers."""
        while len(self.runs) > 1:
            last = self.runs.pop()
            self.runs[-1] = add_sorted(self.runs[-1], last)
        keys, blocks = self.runs[0] if self.runs else self.empty
        return Pairs.of_keys((f_to[keys >> SHIFT] << SHIFT) | g_to[keys & LOW], blocks)
