"""What the Schur complement of crossed factors would cost, dense and sparse, before any of it exists."""

from dataclasses import dataclass

import numpy as np

from fastlmm_core._kernels._crossed import transpose_entries
from fastlmm_core._kernels._schur import Meeting
from fastlmm_core._typing import Int32
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.mme import costs
from fastlmm_core.mme.crossed_arrays import available_bytes, check_pairs, dense_bytes, merge_rows
from fastlmm_core.sparse.ordering import MINIMUM_DEGREE, BlockPattern
from fastlmm_core.sparse.symbolic import Symbolic, analyse_pattern

SAMPLE = 200
"""Columns whose entries are counted to estimate the density of S."""

DENSE_SHARE = 0.5
"""Share of entries from which S is taken to be dense without looking further: its factor is denser still."""

LEAST_SECONDS = 5.0
"""Least conceivable seconds of a sparse factor from which S is not looked at: it fills in to many times
that, and ordering it alone takes longer."""

BYTES_PER_ENTRY = 40
"""Of S: its values, their places, the inverse, the pattern and its ordering."""


@dataclass(frozen=True)
class SchurCounts:
    """Sizes and predicted costs of one evaluation with gradient.

    ``m`` columns; ``work`` the sum over leaf levels of degree^2 / 2 (entries added
    into S); ``nnz_S`` entries of S's lower triangle, estimated from a sample where
    ``exact`` is False; ``nnz_L`` and ``flops`` of its factor, None where S was not
    looked at; bytes of the two engines, and their seconds on one thread.
    """

    m: int
    work: float
    nnz_S: int
    exact: bool
    nnz_L: int | None
    flops: float | None
    dense_bytes: int
    sparse_bytes: int | None
    dense_seconds: float
    sparse_seconds: float | None
    available: int | None

    @property
    def density_S(self) -> float:
        """Share of the lower triangle of S that has entries."""
        return self.nnz_S / (0.5 * self.m * (self.m + 1))

    @property
    def density_L(self) -> float | None:
        """Share of the lower triangle that the factor fills."""
        return None if self.nnz_L is None else self.nnz_L / (0.5 * self.m * (self.m + 1))

    @property
    def dense_fits(self) -> bool:
        """The dense equations fit in the memory that is available."""
        return self.available is None or self.dense_bytes <= self.available

    @property
    def sparse_fits(self) -> bool:
        """The sparse equations were counted and fit."""
        if self.sparse_bytes is None:
            return False
        return self.available is None or self.sparse_bytes <= self.available

    def describe(self) -> str:
        """The figures in one line."""
        text = f"m = {self.m} columns, S {self.density_S:.2g} full"
        if self.nnz_L is not None and self.flops is not None:
            text += f", its factor {self.density_L:.2g} ({self.nnz_L:.3g} entries, {self.flops:.2g} flops)"
        text += f"; dense {self.dense_bytes / 1e9:.2g} GB, {self.dense_seconds:.2g} s per step"
        if self.sparse_bytes is not None and self.sparse_seconds is not None:
            text += f"; sparse {self.sparse_bytes / 1e9:.2g} GB, {self.sparse_seconds:.2g} s per step"
        if self.available is not None:
            text += f"; {self.available / 1e9:.2g} GB available"
        return text


@dataclass(frozen=True, eq=False)
class SchurAnalysis:
    """``counts``, and the pattern of S with its elimination tree where that was built."""

    counts: SchurCounts
    symbolic: Symbolic | None


def analyse_schur(
    cp: CrossProducts, n_threads: int = 1, always: bool = False, rule: str = MINIMUM_DEGREE
) -> SchurAnalysis:
    """Count, and keep the pattern; ``always`` forms S even where a sample of it is dense.

    ``rule`` orders S, as for `fastlmm_core.sparse.ordering.order_pattern`.
    """
    meeting, width, work = meeting_units(cp, n_threads)
    m, units = int(width.sum()), len(width)
    # a sample of the columns: entries per unit from that unit on, times widths
    sample = np.unique(np.linspace(0, units - 1, min(units, SAMPLE)).astype(np.int32))
    estimate = meeting.count(sample).mean() * units * (width.astype(float) ** 2).mean()
    nnz_S = int(max(estimate, m))
    bytes_dense, available = dense_bytes(cp, m), available_bytes()
    sizes = costs.sizes_of(cp)
    seconds_dense = costs.dense_seconds(sizes)
    facts = dict(m=m, work=work, dense_bytes=bytes_dense, dense_seconds=seconds_dense, available=available)
    too_large = available is not None and BYTES_PER_ENTRY * nnz_S > available
    # a factor has at least the entries of S, and the sum of c_j^2 over its columns is at least nnz^2 / m
    too_slow = costs.FLOP * nnz_S * (nnz_S / m) > LEAST_SECONDS
    if too_large or not always and (nnz_S > DENSE_SHARE * 0.5 * m * m or too_slow):
        counts = SchurCounts(
            nnz_S=nnz_S, exact=False, nnz_L=None, flops=None, sparse_bytes=None, sparse_seconds=None, **facts
        )
        return SchurAnalysis(counts, None)
    pattern = BlockPattern.from_units(*meeting.pattern(), width)
    symbolic = analyse_pattern(pattern, rule)
    counts = SchurCounts(
        nnz_S=pattern.n_values,
        exact=True,
        nnz_L=symbolic.nnz,
        flops=symbolic.flops,
        sparse_bytes=sparse_bytes(cp, symbolic),
        sparse_seconds=costs.sparse_seconds(sizes, pattern.n_values, symbolic.nnz, symbolic.flops),
        **facts,
    )
    return SchurAnalysis(counts, symbolic)


def sparse_bytes(cp: CrossProducts, symbolic: Symbolic) -> int:
    """Memory that the sparse engine allocates besides the cross-products: factor and selected inverse with
    zeros stored in supernodes, update matrices, values of S twice with their places."""
    per_level = 8 * len(cp.z[cp.order[0]]) * (2 * len(cp.z[cp.order[0]]) + 3 * cp.C.shape[0])
    entries = sum(pairs.blocks.size for pairs in cp.pairs.values())
    largest = float(symbolic.count.max())
    panels = 2 * 1.4 * 8 * symbolic.nnz + 8 * largest * largest
    return int(panels + 32 * symbolic.pattern.n_values + 40 * entries + per_level * cp.levels[cp.order[0]])


def meeting_units(cp: CrossProducts, n_threads: int) -> tuple[Meeting, Int32, float]:
    """Which levels of the stacked factors meet, their widths, and the sum of degree^2 / 2 in columns."""
    leaf, stacked = cp.order[0], cp.order[1:]
    levels = [cp.levels[f] for f in stacked]
    width = np.repeat(np.array([len(cp.z[f]) for f in stacked], np.int32), levels)
    unit = np.concatenate([[0], np.cumsum(levels)]).astype(np.int64)
    pairs = [cp.pairs[leaf, f] for f in stacked]
    for f, pair in zip(stacked, pairs):
        check_pairs(pair, cp.levels[leaf], cp.levels[f], (len(cp.z[leaf]), len(cp.z[f])))
    row_ptr, places = merge_rows([pair.indptr for pair in pairs])
    index = np.zeros(max(row_ptr[-1], 1), np.int32)
    for first, pair, place in zip(unit, pairs, places):
        index[place] = first + pair.indices
    none_heavy = np.zeros(len(row_ptr) - 1, np.uint8)
    col_ptr, _, entry, level, _ = transpose_entries(len(width), row_ptr, index[: row_ptr[-1]], none_heavy)
    stacked_ptr, stacked_unit = _stacked_pairs(cp, stacked, unit)
    arrays = {
        "row_ptr": row_ptr,
        "index": index,
        "col_ptr": col_ptr,
        "entry": entry,
        "level": level,
        "stacked_ptr": stacked_ptr,
        "stacked_unit": stacked_unit,
    }
    running = np.concatenate([[0], np.cumsum(width[index[: row_ptr[-1]]], dtype=np.float64)])
    degree = np.diff(running[row_ptr])
    return Meeting(arrays, n_threads), width, 0.5 * float((degree * degree).sum())


def _stacked_pairs(cp, stacked, unit):
    """Later units that share a row with each stacked unit: (ptr, units)."""
    parts = []
    for q, f in enumerate(stacked):
        later = [cp.pairs[f, g] for g in stacked[q + 1 :]]
        if not later:
            parts.append((np.zeros(cp.levels[f] + 1, np.int64), np.zeros(0, np.int32)))
            continue
        ptr, places = merge_rows([pair.indptr for pair in later])
        units = np.empty(ptr[-1], np.int32)
        for first, pair, place in zip(unit[q + 1 :], later, places):
            units[place] = first + pair.indices
        parts.append((ptr, units))
    counts = np.concatenate([np.diff(ptr) for ptr, _ in parts])
    units = np.concatenate([units for _, units in parts] + [np.zeros(1, np.int32)])
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), units
