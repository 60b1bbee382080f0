"""Predicted seconds of the engines for crossed factors, from sizes alone.

Constants are CPU times of one core, fitted to measured steps on twelve structures by
``bench/engine_costs.py``, which says how far off they are; another machine differs by a factor.
Predictions for one thread decide, so that what is fitted does not depend on the number of threads.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.crossprod.statistics import CrossProducts

CUBE = 1.6e-11
"""Seconds per m^3 of a dense factor and its inverse."""

SQUARE = 1.6e-8
"""Per element of the dense matrix that is written, gathered and read."""

SCATTER = 5e-10
"""Per multiplication of the assembly, values and traces."""

ENTRY = 9e-9
"""Per entry of N, column of the leaf and column of U: right-hand sides and average information."""

FLOP = 1.8e-11
"""Per flop of the sparse factor; its selected inverse takes two more each, counted here."""

STORED = 8.5e-8
"""Per number of the sparse factor, moved rather than multiplied."""

NEAR, FAR = 1.2e-9, 6e-9
"""Per multiplication of the sparse assembly, in and beyond the cache."""

CACHE = 1 << 20
"""Entries of S that are near."""

LEVEL = 4.5e-8
"""Per leaf level, its columns squared and column of U."""

PRODUCT, PRODUCT_FAR = 2.5e-10, 5e-10
"""Per entry of N, column of the leaf, right-hand side and product of conjugate gradients, with sums that
stay in the cache and with others."""

CACHE_ROWS = 8192
"""Stacked columns of which `LANES` sums stay in the cache."""

ROW = 1.3e-8
"""The same per stacked column."""

ITERATIONS = 7
"""Products that conjugate gradients take, about."""

LANES = 16
"""Right-hand sides of one product."""

PARALLEL = {"dense": 0.8, "sparse": 0.5, "iterative": 0.9, "tree": 0.9, "collapsed": 0.0}
"""Share of a step that threads divide, about."""


@dataclass(frozen=True)
class Sizes:
    """What costs depend on.

    ``m`` stacked columns, ``entries`` of the coupling N (stacked columns that meet leaf levels), ``work``
    half the sum over leaf levels of their squares, ``own`` entries that couple the stacked columns among
    themselves, ``sets`` columns of Z of the stacked factors, ``levels`` and ``k`` of the leaf, ``u`` of U.
    """

    m: int
    entries: int
    work: float
    own: int
    sets: int
    levels: int
    k: int
    u: int

    @property
    def assembly(self) -> float:
        """Multiplications of one assembly."""
        return self.work * self.k

    @property
    def sides(self) -> float:
        """Numbers that right-hand sides take."""
        return float(self.entries) * self.k * self.u


def sizes_of(cp: CrossProducts) -> Sizes:
    """Of crossed factors."""
    leaf, stacked = cp.order[0], cp.order[1:]
    k = [len(z) for z in cp.z]
    degree = np.sum([np.diff(cp.pairs[leaf, f].indptr) * float(k[f]) for f in stacked], axis=0)
    own = [
        pairs.indices.size * k[f] * k[g] for (f, g), pairs in cp.pairs.items() if leaf not in (f, g)
    ]  # between stacked factors, each pair once
    return Sizes(
        m=sum(cp.levels[f] * k[f] for f in stacked),
        entries=int(degree.sum()),
        work=0.5 * float(degree @ degree),
        own=2 * sum(own),
        sets=sum(k[f] for f in stacked),
        levels=cp.levels[leaf],
        k=k[leaf],
        u=cp.C.shape[0],
    )


def dense_seconds(s: Sizes) -> float:
    """One value with gradient and average information, one thread."""
    return CUBE * float(s.m) ** 3 + SQUARE * float(s.m) ** 2 + SCATTER * s.assembly + ENTRY * s.sides


def dense_flops(s: Sizes) -> float:
    """Factor, inverse and two passes over the pairs of entries of each leaf level."""
    return float(s.m) ** 3 + 4.0 * s.assembly


def sparse_seconds(s: Sizes, nnz_S: float, nnz_L: float, flops: float) -> float:
    """The same with a sparse factor of ``nnz_L`` entries and ``flops``."""
    scatter = FAR if nnz_S > CACHE else NEAR
    levels = LEVEL * float(s.levels) * s.k**2 * s.u
    return FLOP * flops + STORED * nnz_L + scatter * s.assembly + levels


def sparse_flops(s: Sizes, flops: float) -> float:
    """Factor, selected inverse and assembly."""
    return 3.0 * flops + 4.0 * s.assembly


def right_hand_sides(s: Sizes, probes: int) -> int:
    """Columns that an iterative step solves for, padded to whole lanes."""
    return s.sets * (-(-probes // LANES) * LANES) + 8 * (-(-s.u // 8)) + LANES


def iterative_seconds(s: Sizes, probes: int) -> float:
    """One estimated value with gradient and average information by conjugate gradients, one thread."""
    products = ITERATIONS * right_hand_sides(s, probes)
    product = PRODUCT if s.m <= CACHE_ROWS else PRODUCT_FAR
    return products * (product * (float(s.entries) * s.k + s.own) + ROW * s.m + 8.5e-6)


def iterative_flops(s: Sizes, probes: int) -> float:
    """Two multiplications and additions per entry and product."""
    products = ITERATIONS * right_hand_sides(s, probes)
    return products * (4.0 * s.entries * s.k + 2.0 * s.own)


def with_threads(engine: str, seconds: float, n_threads: int) -> float:
    """About what ``seconds`` of one thread become."""
    share = PARALLEL[engine]
    return seconds * (1.0 - share + share / max(n_threads, 1))
