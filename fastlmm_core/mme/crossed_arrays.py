"""`CrossProducts` of crossed factors -> the arrays of the kernels.

The leaf, ``order[0]``, keeps its coupling ``N_i`` by entries: one stacked
column index and k values per entry.  The other factors are stacked; their
diagonal blocks and mutual pairs are one list of blocks by rows.  Everything
here is done once per model.
"""

import os
from dataclasses import dataclass

import numpy as np

from fastlmm_core._kernels._crossed import MAX_K, transpose_entries
from fastlmm_core._typing import Float, Int64
from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.errors import ModelError

CHUNKS = 64
"""Pieces of parallel work: fixed, so that sums do not depend on the number of threads."""

PANEL_COLUMNS = 128
"""Columns of W' that one symmetric rank update takes at a time."""


@dataclass(frozen=True, eq=False)
class CrossedArrays:
    """``kernel`` as `_crossed.Leaf` takes it; right-hand sides ``B`` (levels k, u), ``Bc`` (m, u)."""

    kernel: dict[str, np.ndarray]
    B: Float
    Bc: Float
    offset: Int64
    work: float


def crossed_arrays(cp: CrossProducts, columns: Int64, dense: bool = True) -> CrossedArrays:
    """Arrays for the columns ``[X y]`` at positions ``columns`` of U.

    With ``dense``, for a dense Schur complement: leaf levels that touch many
    columns are set aside for BLAS, and ModelError is raised when the matrix does
    not fit in the memory that is available.
    """
    leaf, stacked = cp.order[0], cp.order[1:]
    k = [len(z) for z in cp.z]
    if max(k) > MAX_K:
        raise ModelError(f"a random term has {max(k)} columns; crossed factors allow at most {MAX_K}")
    width = np.array([k[f] for f in stacked], np.int32)
    levels = np.array([cp.levels[f] for f in stacked], np.int64)
    unit = np.concatenate([[0], np.cumsum(levels)])
    offset = np.concatenate([[0], np.cumsum(levels * width)])
    if dense:
        check_memory(cp, int(offset[-1]))

    row_ptr, index, N = _entries(cp, leaf, stacked, offset)
    m, entries = int(offset[-1]), len(index)
    heavy = _heavy_levels(np.diff(row_ptr), m, k[leaf]) if dense else np.zeros(len(row_ptr) - 1, bool)
    by_column = transpose_entries(m, row_ptr, index, heavy.view(np.uint8))
    col_ptr, light_end, entry, level, cost = by_column
    kernel = {
        "A": _own_blocks(cp, leaf),
        "row_ptr": row_ptr,
        "index": index if entries else np.zeros(1, np.int32),
        "N": N if entries else np.zeros((1, k[leaf])),
        "col_ptr": col_ptr,
        "light_end": light_end,
        "entry": entry,
        "level": level,
        "heavy": np.flatnonzero(heavy).astype(np.int32),
        "width": width,
        "offset": offset,
        "unit": unit,
        "level_chunk": balanced_chunks(np.diff(row_ptr) + 4 * k[leaf] ** 2),
        "column_chunk": balanced_chunks(cost),
        **_stacked_blocks(cp, stacked, unit),
    }
    Bc = np.concatenate([cp.R[f][:, :, columns].reshape(-1, len(columns)) for f in stacked])
    B = np.ascontiguousarray(cp.R[leaf][:, :, columns]).reshape(-1, len(columns))
    work = float(cost.sum() + entries + k[leaf] ** 2 * cp.levels[leaf])
    return CrossedArrays(kernel, B, np.ascontiguousarray(Bc), offset, work)


def check_pairs(pairs: PairBlocks, rows: int, columns: int, shape: tuple[int, int]) -> None:
    """Raise ValueError unless the blocks are a valid compressed matrix of rows x columns levels."""
    indptr, indices = pairs.indptr, pairs.indices
    valid = (
        len(indptr) == rows + 1
        and indptr[0] == 0
        and indptr[-1] == len(indices)
        and pairs.blocks.shape == (len(indices), *shape)
        and bool((np.diff(indptr) >= 0).all())
    )
    if valid and len(indices):
        step = np.diff(indices) > 0
        step[indptr[1:-1][(indptr[1:-1] > 0) & (indptr[1:-1] < len(indices))] - 1] = True
        valid = bool(indices.min() >= 0 and indices.max() < columns and step.all())
    if not valid:
        raise ValueError("pair blocks are not a compressed matrix with ascending indices in range")


def _own_blocks(cp: CrossProducts, f: int) -> Float:
    """Z_fi'W Z_fi, (levels, k, k)."""
    return np.ascontiguousarray(cp.R[f][:, :, cp.z[f]])


def merge_rows(indptrs: list[Int64]) -> tuple[Int64, list[Int64]]:
    """Row pointers of several compressed matrices side by side, and where each one's items go."""
    merged = np.sum(indptrs, axis=0)
    before = np.zeros(len(merged) - 1, np.int64)
    places = []
    for indptr in indptrs:
        shift = merged[:-1] + before - indptr[:-1]
        counts = np.diff(indptr)
        places.append(np.arange(indptr[-1]) + np.repeat(shift, counts))
        before += counts
    return merged, places


def _entries(cp, leaf, stacked, offset):
    """N_i as (row_ptr, index, values (entries, k)): the k_f columns of a pair side by side."""
    k = len(cp.z[leaf])
    pairs = [cp.pairs[leaf, f] for f in stacked]
    for f, pair in zip(stacked, pairs):
        check_pairs(pair, cp.levels[leaf], cp.levels[f], (k, len(cp.z[f])))
    row_ptr, places = merge_rows([pair.indptr * len(cp.z[f]) for f, pair in zip(stacked, pairs)])
    index = np.empty(row_ptr[-1], np.int32)
    N = np.empty((row_ptr[-1], k))
    for f, pair, place, first in zip(stacked, pairs, places, offset):
        kf = len(cp.z[f])
        index[place] = (first + pair.indices[:, None].astype(np.int64) * kf + np.arange(kf)).ravel()
        N[place] = pair.blocks.transpose(0, 2, 1).reshape(-1, k)
    return row_ptr, index, N


def _stacked_blocks(cp, stacked, unit):
    """Blocks of A_cc on and right of the diagonal, by unit (level of a stacked factor)."""
    parts = []
    for q, f in enumerate(stacked):
        kf, G = len(cp.z[f]), cp.levels[f]
        own = PairBlocks(np.arange(G + 1), np.arange(G, dtype=np.int32), _own_blocks(cp, f))
        row = [(own, q)]
        for s, g in enumerate(stacked[q + 1 :], q + 1):
            check_pairs(cp.pairs[f, g], G, cp.levels[g], (kf, len(cp.z[g])))
            row.append((cp.pairs[f, g], s))
        parts.append(row)
    pointers, units, starts, values, used, blocks = [np.zeros(1, np.int64)], [], [], [], 0, 0
    for row in parts:
        pointer, places = merge_rows([pair.indptr for pair, _ in row])
        columns, start = np.empty(pointer[-1], np.int32), np.empty(pointer[-1], np.int64)
        for (pair, s), place in zip(row, places):
            size = pair.blocks.shape[1] * pair.blocks.shape[2]
            columns[place] = unit[s] + pair.indices
            start[place] = used + size * np.arange(len(pair.indices))
            values.append(pair.blocks.ravel())
            used += pair.blocks.size
        pointers.append(blocks + pointer[1:])
        units.append(columns)
        starts.append(start)
        blocks += pointer[-1]
    return {
        "stacked_ptr": np.concatenate(pointers),
        "stacked_unit": np.concatenate(units),
        "stacked_start": np.concatenate(starts),
        "stacked_value": np.concatenate(values),
    }


def _heavy_levels(degree: Int64, m: int, k: int) -> np.ndarray:
    """Leaf levels for which a dense rank-k update is cheaper than scattering.

    One scattered update costs about 1 ns, a dense one 0.04 ns in a full panel;
    a panel that is nearly empty pays for a pass over the whole matrix instead.
    """
    heavy = 3 * degree >= m
    if m > 512 and heavy.sum() * k < 8:
        heavy[:] = False
    return heavy


def balanced_chunks(cost: Int64) -> Int64:
    """Bounds of at most CHUNKS pieces of about equal cost."""
    total = np.cumsum(cost)
    cuts = np.searchsorted(total, total[-1] * np.arange(1, CHUNKS) / CHUNKS) + 1
    return np.unique(np.concatenate([[0], np.minimum(cuts, len(cost)), [len(cost)]])).astype(np.int64)


def dense_bytes(cp: CrossProducts, m: int) -> int:
    """Memory that the engine allocates besides the cross-products themselves."""
    leaf, k = cp.order[0], len(cp.z[cp.order[0]])
    entries = sum(len(cp.pairs[leaf, f].indices) * len(cp.z[f]) for f in cp.order[1:])
    panels = 2 * 8 * m * max(PANEL_COLUMNS, k)
    per_level = 8 * k * (2 * k + 3 * cp.C.shape[0])
    return 8 * m * m + panels + entries * (16 * k + 24) + cp.levels[leaf] * per_level


def available_bytes() -> int | None:
    """Memory that can be had without swapping, or None where the system does not say."""
    limits = []
    try:  # Linux: an estimate that counts the page cache as available
        with open("/proc/meminfo", encoding="ascii") as lines:
            limits += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    try:  # a container's limit, if there is one; the word "max" means none
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as text:
            limits.append(int(text.read()))
    except (OSError, ValueError):
        pass
    if not limits:
        try:
            limits.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return None
    return min(limits)


def check_memory(cp: CrossProducts, m: int) -> None:
    """Raise ModelError, with the figures, when the dense Schur complement does not fit."""
    needed, available = dense_bytes(cp, m), available_bytes()
    if available is not None and needed > available:
        raise ModelError(
            f"crossed factors leave {m} random-effect columns after eliminating the largest factor; "
            f"the dense equations need {needed / 1e9:.3g} GB and {available / 1e9:.3g} GB are available"
        )
