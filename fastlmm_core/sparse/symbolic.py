"""The pattern of a Cholesky factor: once per pattern, before any number is known."""

from dataclasses import dataclass

import numpy as np

from fastlmm_core._kernels import _sparse
from fastlmm_core._typing import Int32, Int64
from fastlmm_core.sparse.ordering import MINIMUM_DEGREE, BlockPattern, Ordering, order_pattern


@dataclass(frozen=True, eq=False)
class Symbolic:
    """Elimination tree and column counts of a pattern in a given order.

    ``order`` (units,) is postordered, ``parent`` (units,) by position, ``count``
    (units,) scalar rows of a unit's first column, its own included.  ``rule``
    names the ordering; ``nnz`` and ``flops`` are those of the factor (a
    multiplication and an addition count as two).
    """

    pattern: BlockPattern
    ordering: Ordering
    order: Int32
    parent: Int32
    count: Int64
    nnz: int
    flops: float

    @property
    def rule(self) -> str:
        """The ordering rule that was used."""
        return self.ordering.rule


def analyse_pattern(pattern: BlockPattern, rule: str | np.ndarray = MINIMUM_DEGREE) -> Symbolic:
    """Order a pattern and count its factor; no numbers, O(nnz) and about linear in time.

    Elimination tree (Liu 1986, doi:10.1145/6497.6499), column counts (Gilbert, Ng &
    Peyton 1994, doi:10.1137/S089547989223921X).
    """
    ordering = order_pattern(pattern, rule)
    order, parent, count = _sparse.elimination_tree(ordering.ptr, ordering.idx, pattern.width, ordering.order)
    width = pattern.width[order].astype(np.int64)
    nnz = int((width * count - width * (width - 1) // 2).sum())
    # sum over a unit's columns of (count - i)^2, i = 0 .. width - 1
    c, w = count.astype(float), width.astype(float)
    flops = float((w * c * c - c * w * (w - 1) + (w - 1) * w * (2 * w - 1) / 6).sum())
    return Symbolic(pattern, ordering, order, parent, count, nnz, flops)


@dataclass(frozen=True, eq=False)
class Supernodes:
    """Groups of columns with (nearly) one pattern.

    ``panels`` holds the structure for the kernels, ``permutation`` (m,) the column
    of the matrix at each place of the factor, ``nodes`` their number, ``stored`` the
    numbers kept, zeros and upper triangles included.
    """

    panels: _sparse.Panels
    permutation: Int32
    nodes: int
    stored: int


def build_supernodes(symbolic: Symbolic, n_threads: int = 1) -> Supernodes:
    """Group the columns of a factor and lay out its numbers."""
    pattern = symbolic.pattern
    width = pattern.width[symbolic.order]
    places, unit_ptr, parent = _sparse.supernodes(symbolic.parent, symbolic.count, width)
    order = np.ascontiguousarray(symbolic.order[places])
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order), dtype=np.int32)
    last = places[unit_ptr[1:] - 1]
    below = symbolic.count[last] - width[last]
    column = np.concatenate([[0], np.cumsum(width[places], dtype=np.int64)])
    permutation = _expand(pattern.unit_column[:-1][order], pattern.width[order])
    scalar = np.empty_like(permutation)
    scalar[permutation] = np.arange(pattern.m, dtype=np.int32)
    arrays = {
        "unit_ptr": unit_ptr,
        "column": column,
        "parent": parent,
        "row_ptr": np.concatenate([[0], np.cumsum(below)]),
        "order": order,
        "inverse": inverse,
        "scalar": scalar,
        "ptr": symbolic.ordering.ptr,
        "idx": symbolic.ordering.idx,
    }
    values = {
        "unit_column": pattern.unit_column,
        "row_ptr": pattern.row_ptr,
        "rows": pattern.rows,
        "value_ptr": pattern.value_ptr,
    }
    panels = _sparse.Panels(arrays, values, n_threads)
    return Supernodes(panels, permutation, len(parent), panels.size)


def _expand(first: Int64, width: Int32) -> Int32:
    """Scalar columns first[v], first[v] + 1, ... of every unit."""
    starts = np.cumsum(width, dtype=np.int64) - width
    return (np.repeat(first - starts, width) + np.arange(int(width.sum()))).astype(np.int32)
