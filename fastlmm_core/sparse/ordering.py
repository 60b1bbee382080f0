"""Fill-reducing orders of a symmetric pattern."""

from dataclasses import dataclass

import numpy as np

from fastlmm_core._kernels import _sparse
from fastlmm_core._typing import Int32, Int64

MINIMUM_DEGREE = "minimum degree"
NATURAL = "natural"


@dataclass(frozen=True, eq=False)
class BlockPattern:
    """Lower triangle of a symmetric matrix by block columns.

    ``ptr`` (units + 1,) int64 and ``idx`` int32, ascending within a unit with the
    unit itself first; ``width`` (units,) int32 columns of each unit.  Values come
    unit by unit: for each of its columns the scalar rows ``rows[row_ptr[v] :
    row_ptr[v + 1]]``, those above the diagonal included but not read.
    """

    ptr: Int64
    idx: Int32
    width: Int32
    unit_column: Int64
    row_ptr: Int64
    rows: Int32
    value_ptr: Int64

    @classmethod
    def from_units(cls, ptr: Int64, idx: Int32, width: Int32) -> "BlockPattern":
        """Expand a pattern of units to scalar rows."""
        ptr, idx = np.ascontiguousarray(ptr, np.int64), np.ascontiguousarray(idx, np.int32)
        width = np.ascontiguousarray(width, np.int32)
        units, starts = len(width), ptr[:-1]
        if len(ptr) != units + 1 or (np.diff(ptr) < 1).any() or (idx[starts] != np.arange(units)).any():
            raise ValueError("every unit of a pattern begins with itself")
        column = _running(width)
        entry_width = width[idx]
        before = _running(entry_width)
        row_ptr = before[ptr]
        if (width == 1).all():
            rows = idx
        else:
            first = np.repeat(column[idx] - before[:-1], entry_width)
            rows = (first + np.arange(before[-1])).astype(np.int32)
        return cls(ptr, idx, width, column, row_ptr, rows, _running(np.diff(row_ptr) * width))

    @property
    def m(self) -> int:
        """Scalar columns."""
        return int(self.unit_column[-1])

    @property
    def n_values(self) -> int:
        """Length of an array of values."""
        return int(self.value_ptr[-1])


def _running(counts) -> Int64:
    """0 and the cumulative sums."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


@dataclass(frozen=True, eq=False)
class Ordering:
    """``order[j]`` is the unit eliminated j-th, by ``rule``; ``ptr``, ``idx`` the full adjacency."""

    order: Int32
    rule: str
    ptr: Int64
    idx: Int32


def order_pattern(pattern: BlockPattern, rule: str | np.ndarray = MINIMUM_DEGREE) -> Ordering:
    """Order the units of a pattern.

    Parameters
    ----------
    pattern : BlockPattern
    rule : "minimum degree" (approximate, quotient graph), "natural", "cholmod" or
        "cholmod metis" (amd, nesdis, ...) where scikit-sparse is installed, or a
        permutation (units,) of integers

    Notes
    -----
    Units with more than max(16, 10 sqrt(units)) neighbours go last, as in Amestoy,
    Davis & Duff (2004, doi:10.1145/1024074.1024081).
    """
    ptr, idx = _sparse.symmetrize(pattern.ptr, pattern.idx)
    units = len(pattern.width)
    if not isinstance(rule, str):
        return Ordering(np.ascontiguousarray(rule, np.int32), "given", ptr, idx)
    if rule.split()[:1] == ["cholmod"]:
        from fastlmm_core.sparse.cholmod import cholmod_order

        return Ordering(cholmod_order(pattern, *rule.split()[1:]), rule, ptr, idx)
    if rule == NATURAL:
        return Ordering(np.arange(units, dtype=np.int32), rule, ptr, idx)
    if rule != MINIMUM_DEGREE:
        raise ValueError(
            f"unknown ordering rule {rule!r}; choose {MINIMUM_DEGREE!r}, {NATURAL!r} or a permutation"
        )
    dense = int(max(16, 10 * np.sqrt(units)))
    return Ordering(_sparse.minimum_degree(ptr, idx, pattern.width, dense), rule, ptr, idx)
