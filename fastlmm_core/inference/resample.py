"""Cluster bootstrap: whole clusters drawn with replacement, each copy a cluster of its own.

For nested factors with clusters made of levels of the outermost one, the statistics of a resample are those
of its clusters: ``C = sum of m_i C_i`` over the clusters with their multiplicities m_i, and the blocks
R_f of the drawn levels side by side.  The rows are read once, for the C_i.  Otherwise the rows of the drawn
clusters are taken and summed anew; grouping factors within clusters get a level per copy, factors
across clusters (crossed with them) keep theirs.

Davison & Hinkley (1997), Bootstrap Methods and Their Application, section 3.8; Ren et al. (2010),
doi:10.1080/02664760903046102, for nested clusters: the highest level alone is resampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastlmm_core.crossprod.gram import accumulate
from fastlmm_core.crossprod.layout import Layout, build_layout, row_atoms
from fastlmm_core.crossprod.rows import column_program
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.formula.terms import Design
from fastlmm_core.inference.bootstrap import Refitter
from fastlmm_core.inference.solved import SolvedModel

ROWS = 1 << 16
"""Rows evaluated at a time."""
KEPT_BYTES = 1 << 30
"""Memory for the cross-products of each cluster."""
SINGULAR = 1e-10
"""A pivot of the scaled ``X'WX`` below this: the resample lacks what a coefficient needs."""


@dataclass(frozen=True, eq=False)
class Resample:
    """Statistics of one resample; ``levels`` per factor: the fit's levels its levels are copies of."""

    products: CrossProducts
    levels: tuple[np.ndarray, ...]


class ClusterResampler(Refitter):
    """Fits a solved model to clusters drawn with replacement.

    Parameters
    ----------
    solved : the fit
    design : its rows
    codes : (n,) int, cluster of each row, 0 .. J - 1, all of them occur
    """

    chunk = 10
    engine = "auto"

    def __init__(self, solved: SolvedModel, design: Design, codes: np.ndarray):
        super().__init__(solved)
        self.design, self.codes = design, np.asarray(codes)
        self.J = int(self.codes.max()) + 1
        if self.J < 2:
            raise ModelError("a cluster bootstrap needs at least two clusters")
        self.layout = build_layout(design, standardize(design))
        products = solved.products
        self._C: np.ndarray | None = None
        if products.structure == "tree":
            outer = design.factors[products.order[-1]]
            u = len(products.C)
            if np.array_equal(outer.codes, self.codes) and 8 * self.J * u * u <= KEPT_BYTES:
                self._sum_clusters(u)

    @property
    def by_statistics(self) -> bool:
        """Whether a resample is a weighting of sums by cluster."""
        return self._C is not None

    def _sum_clusters(self, u: int) -> None:
        """Per cluster ``C_i``, rows, logarithms of weights, and which levels of each factor it holds."""
        design, J, products = self.design, self.J, self.solved.products
        program = column_program(row_atoms(design), list(self.layout.columns), design.n)
        C = np.zeros((u, u, J))
        for lo in range(0, design.n, ROWS):
            hi = min(lo + ROWS, design.n)
            U, at = np.asfortranarray(program.dense(lo, hi)), self.codes[lo:hi]
            W = U if design.weights is None else np.asfortranarray(U * design.weights[lo:hi, None])
            for a in range(u):
                for b in range(a + 1):
                    C[a, b] += np.bincount(at, W[:, a] * U[:, b], J)
        C = C + np.tril(C.transpose(2, 0, 1), -1).transpose(2, 1, 0)
        self._C = np.ascontiguousarray(C.transpose(2, 0, 1)).reshape(J, u * u)
        self._rows = np.bincount(self.codes, minlength=J)
        logs = None if design.weights is None else np.bincount(self.codes, np.log(design.weights), J)
        self._logs = np.zeros(J) if logs is None else logs
        self._inside = {}
        above = np.arange(J)
        for d in range(len(products.order) - 1, -1, -1):
            f = products.order[d]
            if d < len(products.order) - 1:
                above = above[np.asarray(products.parent[d])]
            order = np.argsort(above, kind="stable")
            self._inside[f] = order, np.searchsorted(above[order], np.arange(J + 1))

    def samples(self, generators: Sequence[np.random.Generator]) -> list[Resample | None]:
        """One resample per generator; None where X has lost rank."""
        result: list[Resample | None] = []
        for generator in generators:
            drawn = np.sort(generator.integers(0, self.J, self.J))
            found = self._weighted(drawn) if self.by_statistics else self._taken(drawn)
            result.append(found if self._full_rank(found.products) else None)
        return result

    def _full_rank(self, products: CrossProducts) -> bool:
        x = np.asarray(products.x)[self.solved.fixed.kept]
        S = products.C[np.ix_(x, x)]
        d = np.sqrt(S.diagonal())
        if not len(x) or not (d > 0).all():
            return not len(x)
        return bool(np.linalg.eigvalsh(S / np.outer(d, d))[0] > SINGULAR)

    def _weighted(self, drawn: np.ndarray) -> Resample:
        old, u = self.solved.products, len(self.solved.products.C)
        times = np.bincount(drawn, minlength=self.J).astype(float)
        taken, copies = [], []
        for f in range(len(old.levels)):
            order, starts = self._inside[f]
            counts = np.diff(starts)[drawn]
            first = np.cumsum(counts) - counts
            copy = np.repeat(np.arange(self.J), counts)
            taken.append(order[starts[drawn][copy] + np.arange(len(copy)) - first[copy]])
            copies.append(copy)
        parent = []
        for d in range(len(old.order) - 1):
            f, g = old.order[d], old.order[d + 1]
            # place of each level of the outer factor among those of its own cluster
            order, starts = self._inside[g]
            place = np.empty(len(order), np.int64)
            place[order] = np.arange(len(order)) - np.repeat(starts[:-1], np.diff(starts))
            counts = np.diff(starts)[drawn]
            first = np.cumsum(counts) - counts
            up = np.asarray(old.parent[d])[taken[f]]
            parent.append((first[copies[f]] + place[up]).astype(np.int32))
        products = replace(
            old,
            n=int(self._rows @ times),
            sum_log_weights=float(self._logs @ times),
            C=(times @ self._C).reshape(u, u),
            levels=tuple(len(part) for part in taken),
            R=tuple(np.ascontiguousarray(R[part]) for R, part in zip(old.R, taken, strict=True)),
            counts=tuple(np.asarray(c)[part] for c, part in zip(old.counts, taken, strict=True)),
            parent=tuple(parent),
        )
        return Resample(products, tuple(taken))

    def _taken(self, drawn: np.ndarray) -> Resample:
        order = np.argsort(self.codes, kind="stable")
        starts = np.searchsorted(self.codes[order], np.arange(self.J + 1))
        counts = np.diff(starts)[drawn]
        first = np.cumsum(counts) - counts
        copy = np.repeat(np.arange(self.J), counts)
        rows = order[starts[drawn][copy] + np.arange(len(copy)) - first[copy]]
        design, levels, factors = self.design, [], []
        for factor in design.factors:
            inside = self._is_inside(factor.codes)
            key = copy * len(factor.levels) + factor.codes[rows] if inside else factor.codes[rows]
            found, codes = np.unique(key, return_inverse=True)
            levels.append(found % len(factor.levels))
            factors.append(replace(factor, codes=codes.astype(np.int32), levels=factor.levels[levels[-1]]))
        weights = None if design.weights is None else design.weights[rows]
        taken = replace(
            design,
            n=len(rows),
            atoms=tuple(replace(a, values=np.ascontiguousarray(a.values[rows])) for a in design.atoms),
            factors=tuple(factors),
            response=design.response[rows],
            offset=None,
            weights=weights,
        )
        layout = self._layout(taken)
        return Resample(accumulate(taken, layout, n_threads=1), tuple(levels))

    def _is_inside(self, codes: np.ndarray) -> bool:
        """Whether each level lies within one cluster."""
        first = np.empty(int(codes.max()) + 1, np.int64)
        first[codes] = self.codes
        return bool((first[codes] == self.codes).all())

    def _layout(self, taken: Design) -> Layout:
        """Columns, centres and scales of the fit, levels and nesting of the resample."""
        return build_layout(taken, standardize(self.design))
