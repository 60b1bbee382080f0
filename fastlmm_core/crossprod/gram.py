"""The one pass over the rows: a `Design` becomes `CrossProducts`.

Each factor's sums R_f are scattered in one of three ways.  Small R_f: straight
into partial copies, one per piece of rows, added afterwards.  Sorted codes:
straight into one R_f, pieces cut between levels.  Otherwise rows are
partitioned by ranges of levels first, because adding to memory out of cache
once per row costs three times as much as moving the rows.  Pieces depend on
the data alone, so results do not depend on the number of threads.
"""

import numpy as np

from fastlmm_core._kernels._pass import SLICES, pair_blocks, pass_direct, pass_radix
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
RECORDS_BYTES = 24 << 20  # one chunk of partitioned rows
BUCKET_BYTES = 1 << 18  # R_f of one bucket stays in L2
MAX_BUCKETS = 1024


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
    gram = products.C[np.ix_(products.x, products.x)]
    return products, standardization.with_gram(gram), layout


def accumulate(design: Design, layout: Layout, *, n_threads: int | None = None) -> CrossProducts:
    """`CrossProducts` of a design's rows for a layout made for them (see `layout_of_batch`)."""
    threads = resolve_threads(n_threads)
    weights = None if design.weights is None else np.ascontiguousarray(design.weights, np.float64)
    R = [np.zeros((G, k, len(layout.columns))) for G, k in zip(layout.levels, layout.k, strict=True)]
    counts = [np.zeros(G, np.int64) for G in layout.levels]
    C, pairs = add_rows(design, layout, R, counts, n_threads=threads)
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


def _scatter(design, layout, weights, R, counts, threads):
    """Adds to R and counts per factor; returns C."""
    program = column_program(row_atoms(design), layout.columns, design.n)
    u = len(layout.columns)
    small = [f for f in range(len(R)) if R[f].nbytes <= DIRECT_BYTES]
    ordered = [f for f in range(len(R)) if f not in small and layout.is_sorted[f]]
    C = None
    for direct in ([*small, *ordered[:1]], *([f] for f in ordered[1:])):
        if direct or len(small) + len(ordered) == len(R):
            part = _direct(design, layout, program, weights, direct, R, counts, C is None, threads)
            C = part if C is None else C
    for f in range(len(R)):
        if f not in small and f not in ordered:
            C_partial = np.zeros((SLICES, u, u)) if C is None else None
            _radix(
                program, weights, design.factors[f].codes, layout.z[f], R[f], counts[f], C_partial, threads
            )
            C = _symmetric(C_partial) if C is None else C
    return C


def _direct(design, layout, program, weights, factors, R, counts, with_C, threads):
    """Scatter small factors into copies and at most one sorted factor in place; returns C when asked."""
    n, u = design.n, len(layout.columns)
    shared = [f for f in factors if R[f].nbytes > DIRECT_BYTES]
    copied = [f for f in factors if f not in shared]
    copy_bytes = max(1, sum(R[f].nbytes + counts[f].nbytes for f in copied))
    pieces = int(np.clip(COPIES_BYTES // copy_bytes, MIN_PIECES, MAX_PIECES))
    pieces = max(1, min(pieces, n // PIECE_ROWS))
    bounds = np.arange(pieces + 1, dtype=np.int64) * n // pieces
    for f in shared:
        bounds = _between_levels(design.factors[f].codes, bounds)
    arguments = []
    for f in factors:
        copies = 1 if f in shared or pieces == 1 else pieces
        R_copies = R[f][None] if copies == 1 else np.zeros((copies, *R[f].shape))
        count_copies = counts[f][None] if copies == 1 else np.zeros((copies, *counts[f].shape), np.int64)
        arguments.append((design.factors[f].codes, layout.z[f], R_copies, count_copies, copies == 1))
    C_partial = np.zeros((pieces, u, u)) if with_C else None
    pass_direct(program, weights, bounds, arguments, C_partial, threads)
    for f, (_, _, R_copies, count_copies, in_place) in zip(factors, arguments, strict=True):
        if not in_place:
            R[f] += R_copies.sum(axis=0)
            counts[f] += count_copies.sum(axis=0)
    return _symmetric(C_partial) if with_C else None


def _between_levels(codes, bounds):
    """Move cuts of sorted codes to the end of the level they fall in."""
    cuts = [np.searchsorted(codes, codes[b - 1], side="right") for b in bounds[1:-1]]
    return np.array([0, *cuts, len(codes)], np.int64)


def _radix(program, weights, codes, z, R, counts, C_partial, threads):
    G, k, u = R.shape
    rows = min(program.n, max(PIECE_ROWS, RECORDS_BYTES // (8 * (u + 1))))
    shift = max(0, int(np.log2(BUCKET_BYTES / (8 * k * u)))) if 8 * k * u < BUCKET_BYTES else 0
    while shift > 0 and (G >> shift) < 32:
        shift -= 1
    while (G >> shift) >= MAX_BUCKETS:
        shift += 1
    records = np.empty((rows, u + 1))
    pass_radix(program, weights, codes, z, R[None], counts[None], shift, records, C_partial, threads)


def _symmetric(C_partial):
    """Add the pieces in order and mirror the upper triangle."""
    upper = np.triu(C_partial.sum(axis=0))
    return upper + np.triu(upper, 1).T


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
