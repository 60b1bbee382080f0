"""`CrossProducts` of crossed factors -> the arrays of the iterative kernels, and their size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from fastlmm_core._kernels._iterative import MAX_K
from fastlmm_core._typing import Float, Int64
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.mme.costs import LANES, Sizes
from fastlmm_core.mme.crossed_arrays import check_pairs

MAX_CHUNKS = 64
SUMS_BYTES = 96 << 20
"""All private sums of the pieces of leaf levels together."""


@dataclass(frozen=True, eq=False)
class IterativeArrays:
    """``kernel`` as `_iterative.Operator` takes it.

    ``A`` (levels, k, k) of the leaf, ``own`` (m, widest) the diagonal blocks of
    A_cc by rows, right-hand sides ``B`` (levels, k, u) and ``Bc`` (m, u).
    """

    kernel: dict[str, np.ndarray]
    A: Float
    own: Float
    B: Float
    Bc: Float
    offset: Int64


def iterative_arrays(cp: CrossProducts, columns: Int64) -> IterativeArrays:
    """Arrays for the columns ``[X y]`` at positions ``columns`` of U; pairs are shared where they can be."""
    leaf, stacked = cp.order[0], cp.order[1:]
    k = [len(z) for z in cp.z]
    if max(k) > MAX_K:
        raise ModelError(f"a random term has {max(k)} columns; crossed factors allow at most {MAX_K}")
    width = np.array([k[f] for f in stacked], np.int32)
    levels = np.array([cp.levels[f] for f in stacked], np.int64)
    offset = np.concatenate([[0], np.cumsum(levels * width)])
    m = int(offset[-1])
    if m > np.iinfo(np.int32).max:
        raise ModelError(f"{m} random-effect columns remain after eliminating the largest factor: too many")
    row_ptr, index, N = _entries(cp, leaf, stacked, offset)
    own = _own_matrix(cp, stacked)
    unit_width = np.repeat(width, levels * width)
    kernel = {
        "k": k[leaf],
        "offset": offset,
        "width": width,
        "unit_width": unit_width,
        "row_ptr": row_ptr,
        "index": index if len(index) else np.zeros(1, np.int32),
        "N": N if len(N) else np.zeros((1, k[leaf])),
        "own_ptr": own.indptr.astype(np.int64),
        "own_index": own.indices.astype(np.int32),
        "own_value": np.ascontiguousarray(own.data, np.float64),
        "level_chunk": _cuts(np.diff(row_ptr) + 4 * k[leaf] ** 2, level_chunks(len(index), m)),
        "column_chunk": _column_cuts(np.diff(own.indptr) + 8, offset, width),
    }
    own_blocks = np.zeros((m, int(width.max())))
    for f, first, last in zip(stacked, offset[:-1], offset[1:]):
        own_blocks[first:last, : k[f]] = cp.R[f][:, :, cp.z[f]].reshape(-1, k[f])
    return IterativeArrays(
        kernel,
        np.ascontiguousarray(cp.R[leaf][:, :, cp.z[leaf]]),
        own_blocks,
        np.ascontiguousarray(cp.R[leaf][:, :, columns]),
        np.concatenate([cp.R[f][:, :, columns].reshape(-1, len(columns)) for f in stacked]),
        offset,
    )


def level_chunks(entries: int, m: int) -> int:
    """Pieces of leaf levels: each costs a private sum of m rows, so that few entries have few."""
    return int(np.clip(min(entries // (16 * m + 1), SUMS_BYTES // (8 * LANES * m)), 4, MAX_CHUNKS))


def _entries(cp, leaf, stacked, offset):
    """N_i as (row_ptr, index, values (entries, k)), the columns of a unit side by side."""
    k = len(cp.z[leaf])
    pairs = [cp.pairs[leaf, f] for f in stacked]
    for f, pair in zip(stacked, pairs):
        check_pairs(pair, cp.levels[leaf], cp.levels[f], (k, len(cp.z[f])))
    if len(pairs) == 1 and len(cp.z[stacked[0]]) == 1:
        (pair,) = pairs
        return pair.indptr, np.ascontiguousarray(pair.indices, np.int32), _compact(pair.blocks.reshape(-1, k))
    row_ptr = np.sum([pair.indptr * len(cp.z[f]) for f, pair in zip(stacked, pairs)], axis=0).astype(np.int64)
    index, N = np.empty(row_ptr[-1], np.int32), np.empty((row_ptr[-1], k))
    before = np.zeros(len(row_ptr) - 1, np.int64)
    for f, pair, first in zip(stacked, pairs, offset):
        kf, counts = len(cp.z[f]), np.diff(pair.indptr)
        start = row_ptr[:-1] + before - pair.indptr[:-1] * kf
        place = np.repeat(start, counts * kf) + np.arange(len(pair.indices) * kf)
        index[place] = (first + pair.indices[:, None].astype(np.int64) * kf + np.arange(kf)).ravel()
        N[place] = pair.blocks.transpose(0, 2, 1).reshape(-1, k)
        before += counts * kf
    return row_ptr, index, _compact(N)


def _compact(N: Float) -> np.ndarray:
    """In single precision where that is exact, as for counts."""
    single = N.astype(np.float32)
    exact = all(np.array_equal(single[at : at + 65536], N[at : at + 65536]) for at in range(0, len(N), 65536))
    return np.ascontiguousarray(single) if exact else np.ascontiguousarray(N)


def _own_matrix(cp, stacked):
    """A_cc (m, m), both triangles, by rows."""
    grid: list[list[Any]] = [[None] * len(stacked) for _ in stacked]
    for a, f in enumerate(stacked):
        G, kf = cp.levels[f], len(cp.z[f])
        blocks = np.ascontiguousarray(cp.R[f][:, :, cp.z[f]])
        grid[a][a] = sparse.bsr_matrix((blocks, np.arange(G), np.arange(G + 1)), shape=(G * kf, G * kf))
        for b, g in enumerate(stacked[a + 1 :], a + 1):
            pair, kg = cp.pairs[f, g], len(cp.z[g])
            check_pairs(pair, G, cp.levels[g], (kf, kg))
            grid[a][b] = sparse.bsr_matrix(
                (pair.blocks, pair.indices, pair.indptr), shape=(G * kf, cp.levels[g] * kg)
            )
            grid[b][a] = grid[a][b].T
    if len(stacked) == 1:
        return grid[0][0].tocsr()
    return sparse.bmat(grid, format="csr")


def _cuts(cost: Int64, pieces: int) -> Int64:
    """Bounds of at most ``pieces`` pieces of about equal cost."""
    total = np.cumsum(cost)
    at = np.searchsorted(total, total[-1] * np.arange(1, pieces) / pieces) + 1
    return np.unique(np.concatenate([[0], np.minimum(at, len(cost)), [len(cost)]])).astype(np.int64)


def _column_cuts(cost, offset, width) -> Int64:
    """Pieces of stacked columns, cut between units."""
    cuts = _cuts(cost, MAX_CHUNKS)
    f = np.clip(np.searchsorted(offset, cuts, side="right") - 1, 0, len(width) - 1)
    return np.unique(offset[f] + (cuts - offset[f]) // width[f] * width[f])


def iterative_bytes(sizes: Sizes) -> int:
    """Memory that the engine allocates besides the cross-products."""
    buffers = (level_chunks(sizes.entries, sizes.m) + 14) * 8 * LANES * sizes.m
    per_level = 8 * sizes.k * (4 * sizes.k + 4 * sizes.u + LANES)
    return int(sizes.entries * (8 * sizes.k + 4) + sizes.own * 12 + buffers + sizes.levels * per_level)
