"""What the cross-products are of: the distinct columns of [X y Z] and how factors relate.

Random terms on one grouping factor are amalgamated: factor f has the columns
of its terms side by side, k_f in all.
"""

from dataclasses import dataclass, replace

import numpy as np

from fastlmm_core._kernels._pass import find_parents, scan_codes
from fastlmm_core.crossprod.rows import ScaledColumn
from fastlmm_core.crossprod.standardize import Standardization
from fastlmm_core.errors import DataError, ModelError
from fastlmm_core.formula.terms import Atom, Design, GroupingFactor


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions in U, and the structure of the grouping factors.

    ``columns`` are the u distinct columns U, products of `row_atoms`; ``x`` (p,), ``y``
    and ``z[f]`` (k_f,) are positions in it.  No array has the length of the rows.
    ``term_slices[t] = (factor, start, q)``: the columns of random term t within its
    factor.  ``structure``, ``order`` and ``parent`` are those of `CrossProducts`;
    ``is_sorted[f]`` says that the codes of factor f never decrease.  ``fixed_names``
    (p) are the names of the columns of X.
    """

    columns: tuple[ScaledColumn, ...]
    x: np.ndarray
    y: int
    z: tuple[np.ndarray, ...]
    levels: tuple[int, ...]
    term_slices: tuple[tuple[int, int, int], ...]
    structure: str
    order: tuple[int, ...]
    parent: tuple[np.ndarray, ...]
    is_sorted: tuple[bool, ...]
    fixed_names: tuple[str, ...]

    @property
    def k(self) -> tuple[int, ...]:
        """Columns of each factor's Z."""
        return tuple(len(z) for z in self.z)


def row_atoms(design: Design) -> tuple[Atom, ...]:
    """The atoms that a layout's columns refer to: the design's, and the response last."""
    return (*design.atoms, Atom(design.response_name, np.ascontiguousarray(design.response)))


def layout_of_batch(layout: Layout, design: Design) -> Layout:
    """A known layout for another batch of rows: only what depends on the rows is found anew.

    A level that does not occur in the batch has parent -1.  Raises ModelError when
    factors that were nested are not nested in the batch.
    """
    is_sorted = tuple(_check_codes(factor) for factor in design.factors)
    parent = []
    for inner, outer in zip(layout.order, layout.order[1:], strict=False):
        if layout.structure != "tree":
            break
        found = find_parents(design.factors[inner].codes, design.factors[outer].codes, layout.levels[inner])
        if found is None:
            names = design.factors[inner].name, design.factors[outer].name
            raise ModelError("{} is not nested in {} as it was in earlier rows".format(*names))
        parent.append(found)
    return replace(layout, parent=tuple(parent), is_sorted=is_sorted)


def build_layout(design: Design, standardization: Standardization) -> Layout:
    """Lay out the cross-products of a design.

    Raises DataError when a factor's codes do not lie in ``[0, levels)``.
    """
    place: dict[ScaledColumn, int] = {}

    # Fixed columns get a position each, even when two of them are the same column.
    columns = list(standardization.x_columns)
    for j, column in enumerate(columns):
        place.setdefault(column, j)
    x = np.arange(len(columns), dtype=np.int32)
    y = len(columns)
    columns.append(
        ScaledColumn((len(design.atoms),), (standardization.y_center,), 1.0 / standardization.y_scale)
    )
    z: list[list[int]] = [[] for _ in design.factors]
    term_slices = []
    for term, scaled in zip(design.terms, standardization.z_columns, strict=True):
        term_slices.append((term.factor, len(z[term.factor]), len(scaled)))
        for column in scaled:
            if column not in place:
                place[column] = len(columns)
                columns.append(column)
            z[term.factor].append(place[column])
    levels = tuple(len(factor.levels) for factor in design.factors)
    is_sorted = tuple(_check_codes(factor) for factor in design.factors)
    structure, order, parent = _structure(design.factors, levels, [len(columns_f) for columns_f in z])
    return Layout(
        columns=tuple(columns),
        x=x,
        y=y,
        z=tuple(np.array(columns_f, np.int32) for columns_f in z),
        levels=levels,
        term_slices=tuple(term_slices),
        structure=structure,
        order=order,
        parent=parent,
        is_sorted=is_sorted,
        fixed_names=tuple(column.name for column in design.fixed),
    )


def _check_codes(factor: GroupingFactor) -> bool:
    smallest, largest, is_sorted = scan_codes(factor.codes)
    if smallest < 0 or largest >= len(factor.levels):
        raise DataError(
            f"grouping factor {factor.name!r} has codes {smallest}..{largest} for {len(factor.levels)} levels"
        )
    return is_sorted


def _structure(factors, levels, k):
    """Structure, order and parents: a chain of nesting when there is one, else the largest factor first."""
    if not factors:
        return "none", (), ()
    chain = sorted(range(len(factors)), key=lambda f: -levels[f])
    parent = []
    for inner, outer in zip(chain, chain[1:], strict=False):
        found = find_parents(factors[inner].codes, factors[outer].codes, levels[inner])
        if found is None:
            return "crossed", tuple(sorted(range(len(factors)), key=lambda f: -levels[f] * k[f])), ()
        parent.append(found)
    return "tree", tuple(chain), tuple(parent)
