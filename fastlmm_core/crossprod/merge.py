"""Statistics of disjoint batches of rows add up."""

from dataclasses import replace

import numpy as np

from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.errors import ModelError


def merge(a: CrossProducts, b: CrossProducts) -> CrossProducts:
    """The statistics of the rows of ``a`` and ``b`` together.

    Both must come from the same layout and standardization (same columns, levels
    and centres); only shapes can be checked here.  Associative and commutative up
    to rounding.  Raises ModelError when layouts differ, or when a level has
    different parents in the two batches, so that the factors are not nested.
    """
    same = (
        a.C.shape == b.C.shape
        and a.levels == b.levels
        and (a.structure, a.order, a.weighted) == (b.structure, b.order, b.weighted)
        and all(np.array_equal(za, zb) for za, zb in zip(a.z, b.z, strict=True))
    )
    if not same:
        raise ModelError("statistics of different layouts cannot be merged; build every batch from one plan")
    return replace(
        a,
        n=a.n + b.n,
        sum_log_weights=a.sum_log_weights + b.sum_log_weights,
        C=a.C + b.C,
        R=tuple(Ra + Rb for Ra, Rb in zip(a.R, b.R, strict=True)),
        counts=tuple(ca + cb for ca, cb in zip(a.counts, b.counts, strict=True)),
        parent=tuple(_merge_parents(pa, pb) for pa, pb in zip(a.parent, b.parent, strict=True)),
        pairs={key: _merge_pairs(a.pairs[key], b.pairs[key], a.levels[key[1]]) for key in a.pairs},
    )


def _merge_parents(a, b):
    """A level absent from a batch has parent -1 there."""
    if ((a >= 0) & (b >= 0) & (a != b)).any():
        level = int(np.flatnonzero((a >= 0) & (b >= 0) & (a != b))[0])
        raise ModelError(f"level {level} of an inner grouping factor has two outer levels: not nested")
    return np.where(a >= 0, a, b)


def _merge_pairs(a, b, levels_g):
    keys = [_keys(pairs, levels_g) for pairs in (a, b)]
    union = np.union1d(*keys)
    blocks = np.zeros((len(union), *a.blocks.shape[1:]))
    for pairs, key in zip((a, b), keys, strict=True):
        blocks[np.searchsorted(union, key)] += pairs.blocks
    levels_f = len(a.indptr) - 1
    indptr = np.searchsorted(union, np.arange(levels_f + 1, dtype=np.int64) * levels_g)
    return PairBlocks(indptr.astype(np.int64), (union % levels_g).astype(np.int32), blocks)


def _keys(pairs, levels_g):
    level_f = np.repeat(np.arange(len(pairs.indptr) - 1, dtype=np.int64), np.diff(pairs.indptr))
    return level_f * levels_g + pairs.indices
