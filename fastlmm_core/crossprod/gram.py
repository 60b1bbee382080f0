"""The one pass over the rows: a `Design` becomes `CrossProducts`.

Each factor's sums R_f are scattered in one of three ways.  Small R_f: straight
into partial copies, one per piece of rows, added afterwards.  Sorted codes:
straight into one R_f, pieces cut between levels.  Otherwise threads own sets of
levels of one R_f, and ask for a row's place in memory some rows ahead.  The
order of additions depends on the data alone, so results do not depend on the
number of threads.
"""

import numpy as np

from fastlmm_core._kernels._pass import SLICES, pair_blocks, pass_direct, pass_owned
from fastlmm_core.crossprod.layout import Layout, build_layout, row_atoms
from fastlmm_core.crossprod.rows import column_program
from fastlmm_core.crossprod.standardize import Standardization, standardize
from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.formula.terms import Design

DIRECT_BYTES = 1 << 20  # an R_f up to this size is copied per piece
COPIES_BYTES = 1 << 24  # all copies together
MAX_PIECES, MIN_PIECES = 64, 4
PIECE_ROWS = 8192  # fewer rows do not make a piece
TILE_BYTES = 1 << 18  # rows that a thread prepares for the owners of levels at once
MIN_TILE, MAX_TILE = 512, 1024


def build_cross_products(
    design: Design, *, n_threads: int | None = None
) -> tuple[CrossProducts, Standardization, Layout]:
    """Sums over the rows of a design, in standardized coordinates.

    O(n (u^2 / 2 + sum_f k_f u)) time; beyond the result, some tens of megabytes
    (crossed factors: 8 or 16 bytes per row).  Results are the same bits for any ``n_threads``.
    """
    standardization = standardize(design)
    layout = build_layout(design, standardization)
    products = accumulate(design, layout, n_threads=n_threads)
    gram = products.C[products.x[:, None], products.x]
    return products, standardization.with_gram(gram), layout


def accumulate(design: Design, layout: Layout, *, n_threads: int | None = None) -> CrossProducts:
    """`CrossProducts` of a design's rows for a layout made for them (see `layout_of_batch`)."""
    threads = resolve_threads(n_threads)
    weights = None if design.weights is None else np.ascontiguousarray(design.weights, np.float64)
    R = [np.zeros((G, k, len(layout.columns))) for G, k in zip(layout.levels, layout.k, strict=True)]
    places = [count_place(layout, f, weights is not None) for f in range(len(R))]
    counts = [None if at else np.zeros(G, np.int64) for G, at in zip(layout.levels, places, strict=True)]
    C, pairs = add_rows(design, layout, R, counts, n_threads=threads)
    counts = [
        Rf[:, at[0], at[1]].astype(np.int64) if found is None else found
        for Rf, at, found in zip(R, places, counts, strict=True)
    ]
    return CrossProducts(
        n=design.n,
        sum_log_weights=_sum_log(weights),
        C=C,
        x=layout.x,
        y=layout.y,
        z=layout.z,
        levels=layout.levels,
        R=tuple(R),
        counts=tuple(counts),
        structure=layout.structure,
        order=layout.order,
        parent=layout.parent,
        pairs=pairs,
        weighted=weights is not None,
    )


def add_rows(
    design: Design, layout: Layout, R: list, counts: list, *, n_threads: int | None = None
) -> tuple[np.ndarray, dict[tuple[int, int], PairBlocks]]:
    """Add a design's rows to the sums by level R_f (G_f, k_f, u) and counts (G_f,), in place.

    Counts may be None where `count_place` says that R_f holds them.
    Returns C (u, u) and, where ``layout.structure`` is crossed, the pairs of these rows alone.
    """
    threads = resolve_threads(n_threads)
    weights = None if design.weights is None else np.ascontiguousarray(design.weights, np.float64)
    C = _scatter(design, layout, weights, R, counts, threads)
    pairs = {}
    if layout.structure == "crossed":
        for place, f in enumerate(layout.order):
            for g in layout.order[place + 1 :]:
                pairs[f, g] = _pairs(design, layout, weights, f, g, threads)
    return C, pairs


def count_place(layout: Layout, f: int, weighted: bool) -> tuple[int, int] | None:
    """Where the matrices R_f[i] hold the rows of their level, if anywhere: 1'1 of unweighted rows."""
    if weighted:
        return None
    ones = (a for a, j in enumerate(layout.z[f]) if layout.columns[j].is_one)
    return next(((a, int(layout.z[f][a])) for a in ones), None)


def _scatter(design, layout, weights, R, counts, threads):
    """Adds to R and counts per factor; returns C."""
    program = column_program(row_atoms(design), layout.columns, design.n)
    small = [f for f in range(len(R)) if R[f].nbytes <= DIRECT_BYTES]
    ordered = [f for f in range(len(R)) if f not in small and layout.is_sorted[f]]
    large = [f for f in range(len(R)) if f not in small and f not in ordered]
    C = None
    for direct in ([*small, *ordered[:1]], *([f] for f in ordered[1:])):
        if direct or not large:
            part = _direct(design, layout, program, weights, direct, R, counts, C is None, threads)
            C = part if C is None else C
    if large:
        part = _owned(design, layout, program, weights, large, R, counts, C is None, threads)
        C = part if C is None else C
    return C


def _direct(design, layout, program, weights, factors, R, counts, with_C, threads):
    """Scatter small factors into copies and at most one sorted factor in place; returns C when asked."""
    n, u = design.n, len(layout.columns)
    shared = [f for f in factors if R[f].nbytes > DIRECT_BYTES]
    copied = [f for f in factors if f not in shared]
    copy_bytes = max(1, sum(R[f].nbytes for f in copied))
    pieces = min(max(COPIES_BYTES // copy_bytes, MIN_PIECES), MAX_PIECES)
    pieces = max(1, min(pieces, n // PIECE_ROWS))
    bounds = np.arange(pieces + 1, dtype=np.int64) * n // pieces
    for f in shared:
        bounds = _between_levels(design.factors[f].codes, bounds)
    arguments = []
    for f in factors:
        copies = 1 if f in shared or pieces == 1 else pieces
        R_copies = R[f][None] if copies == 1 else np.zeros((copies, *R[f].shape))
        count_copies = counts[f]
        if count_copies is not None:
            count_copies = counts[f][None] if copies == 1 else np.zeros((copies, *counts[f].shape), np.int64)
        arguments.append((design.factors[f].codes, layout.z[f], R_copies, count_copies, copies == 1))
    C_partial = np.zeros((pieces, u, u)) if with_C else None
    pass_direct(program, weights, bounds, arguments, C_partial, threads)
    for f, (_, _, R_copies, count_copies, in_place) in zip(factors, arguments, strict=True):
        if not in_place:
            R[f] += R_copies.sum(axis=0)
            if count_copies is not None:
                counts[f] += count_copies.sum(axis=0)
    return _symmetric(C_partial) if with_C else None


def _between_levels(codes, bounds):
    """Move cuts of sorted codes to the end of the level they fall in."""
    cuts = [np.searchsorted(codes, codes[b - 1], side="right") for b in bounds[1:-1]]
    return np.array([0, *cuts, len(codes)], np.int64)


def _owned(design, layout, program, weights, factors, R, counts, with_C, threads):
    """Add rows to factors of any size in any order; returns C when asked."""
    u = len(layout.columns)
    tile = int(np.clip(TILE_BYTES // (8 * u) // MIN_TILE * MIN_TILE, MIN_TILE, MAX_TILE))
    arguments = [
        (design.factors[f].codes, layout.z[f], R[f][None], None if counts[f] is None else counts[f][None])
        for f in factors
    ]
    C_partial = np.zeros((SLICES, u, u)) if with_C else None
    pass_owned(program, weights, tile, arguments, C_partial, threads)
    return _symmetric(C_partial) if with_C else None


def _symmetric(C_partial):
    """Add the pieces in order and mirror the upper triangle."""
    total = C_partial[0] if len(C_partial) == 1 else C_partial.sum(axis=0)
    return np.where(np.tri(len(total), dtype=bool), total.T, total)


def _pairs(design, layout, weights, f, g, threads):
    columns = [layout.columns[j] for j in (*layout.z[f], *layout.z[g])]
    all_ones = weights is None and len(columns) == 2 and all(column.is_one for column in columns)
    return PairBlocks(
        *pair_blocks(
            column_program(row_atoms(design), columns, design.n),
            weights,
            len(layout.z[f]),
            design.factors[f].codes,
            design.factors[g].codes,
            layout.levels[f],
            layout.levels[g],
            all_ones,
            threads,
        )
    )


def _sum_log(weights):
    if weights is None:
        return 0.0
    return float(sum(np.log(weights[at : at + 65536]).sum() for at in range(0, len(weights), 65536)))
