"""Batches in, sums out: the state of one pass over the rows."""

from dataclasses import replace

import numpy as np
import pandas as pd

from .._kernels._encode import used_levels
from .._kernels._pass import occurring
from ..crossprod.gram import add_rows, count_place
from ..crossprod.layout import layout_of_batch
from ..crossprod.rows import ScaledColumn
from ..crossprod.threads import resolve_threads
from ..data.factors import match
from ..data.table import FACTOR, Table
from ..errors import DataError, FastLMMError
from ..formula.reader import RowReader
from ..formula.terms import Atom, Design, GroupingFactor
from .learn import UnknownLevels
from .levels import IntegerKeys, LevelTable, has_own_order, increasing
from .pairs import PairSums
from .plan import Plan
from .statistics import CrossProducts, Levels, LevelSet

MOVED_LEVELS = 1 << 10  # at once: most have no gap among them


class Accumulator:
    """Adds batches of rows to the statistics of a plan.

    Parameters
    ----------
    plan : Plan
    n_threads : int or None
        Threads of the kernels; results are the same bits for any number.
    """

    def __init__(self, plan: Plan, n_threads: int | None = None):
        self.plan, self.threads = plan, resolve_threads(n_threads)
        layout = plan.layout
        self.u = len(layout.columns)
        self.tables = {name: LevelTable(name) for parts in plan.groups for name in parts}
        self.crossings = [[IntegerKeys() for _ in parts[1:]] for parts in plan.groups]
        weighted = plan.spec.weights is not None
        self.places = [count_place(layout, f, weighted) for f in range(len(layout.k))]
        self.sizes = [0] * len(layout.k)
        self.R = [np.zeros((0, k, self.u)) for k in layout.k]
        self.counts = [None if at else np.zeros(0, np.int64) for at in self.places]
        self.pairs = {
            (f, g): PairSums(layout.k[f], layout.k[g])
            for f in range(len(layout.k)) for g in range(f + 1, len(layout.k))
        }  # fmt: skip
        self.C = np.zeros((self.u, self.u))
        self.separate = needs_moments(layout, weighted)
        self.moments = np.zeros((self.u + 1, self.u + 1)) if self.separate else None
        self.n = self.n_total = self.n_zero_weight = 0
        self.sum_log_weights = 0.0
        self.missing: dict[str, int] = {}
        self.y_range = (np.inf, -np.inf)
        self.used = [
            np.zeros(len(piece.levels), np.int64) if piece.kind == FACTOR else None
            for piece in plan.spec.pieces
        ]

    def add(self, data, label: str = "") -> int:
        """Add the rows of a native frame; returns how many there were.

        Raises
        ------
        DataError, FormulaError
            As for a frame in memory; ``label`` says where.
        """
        try:
            return self._add(data)
        except FastLMMError as error:
            if not label:
                raise
            raise type(error)(f"{label}: {error}") from error

    def _add(self, data):
        table = Table(data)
        if not table.n:
            return 0
        spec = self.plan.spec
        reader = RowReader(self.plan.parsed, table, self.threads)
        values = reader.read(
            [piece.state for piece in spec.pieces], spec.weights, None, self.plan.na_action, may_be_empty=True
        )
        report = reader.report
        self.n_total += report.n_total
        self.n_zero_weight += report.n_zero_weight
        for name, count in report.missing_by_column.items():
            self.missing[name] = self.missing.get(name, 0) + count
        if not report.n_used:
            return table.n
        design = self._design(reader, values, data)
        self._accumulate(design)
        self.n += design.n
        if not self.y_range[0] < self.y_range[1]:
            y = design.response
            self.y_range = min(self.y_range[0], float(y.min())), max(self.y_range[1], float(y.max()))
        if design.weights is not None:
            self.sum_log_weights += float(np.log(design.weights).sum())
        return table.n

    def go_on(self, stats: CrossProducts) -> None:
        """Take over earlier sums of the same plan, before the first rows.

        The next rows are added to them in place, which spares a union of levels and a second set of sums.
        """
        codes = [self._known(stats.levels[f], f) for f in range(len(self.R))]
        for f, at in enumerate(codes):
            if not len(at):
                continue
            place = slice(at[0], at[-1] + 1) if _in_a_row(at) else at
            self._reserve(f, int(at.max()) + 1)
            self.R[f][place] = stats.R[f]
            if self.counts[f] is not None:
                self.counts[f][place] = stats.counts[f]
        for (f, g), sums in self.pairs.items():
            found = stats.pairs[f, g]
            sums.go_on(codes[f][found.f], codes[g][found.g], found.blocks)
        self.C += stats.C
        if self.separate:
            self.moments += stats.moments
        self.n, self.n_total, self.n_zero_weight = stats.n, stats.n_total, stats.n_zero_weight
        self.sum_log_weights, self.missing = stats.sum_log_weights, dict(stats.missing)
        self.y_range = stats.y_range
        self.used = [None if found is None else found.copy() for found in stats.used]

    def _known(self, levels, f):
        """Codes of the levels of a grouping factor of earlier sums."""
        names = self.plan.groups[f]
        codes = [
            self.tables[name].add_levels(part.index, part.categories)
            for name, part in zip(names, levels.parts, strict=True)
        ]
        if len(codes) == 1:  # every value is a level, in its order
            return codes[0]
        return self._crossed(f, [code[digit] for code, digit in zip(codes, levels.digits, strict=True)])

    def _crossed(self, f, codes):
        """Codes of a grouping factor from those of its parts."""
        found = codes[0]
        try:
            for keys, code in zip(self.crossings[f], codes[1:], strict=True):
                found = keys.encode((found.astype(np.int64) << 32) | code, self.threads)
        except OverflowError:
            raise DataError(f"{':'.join(self.plan.groups[f])!r} has more than 2^31 - 2 levels") from None
        return found

    # -- rows to a design ------------------------------------------------------

    def _design(self, reader, values, data) -> Design:
        spec = self.plan.spec
        codes = {
            place: self._factor(reader, place)
            for place, piece in enumerate(spec.pieces)
            if piece.kind == FACTOR
        }
        atoms = []
        for atom in spec.atoms:
            if atom.table is not None:
                atoms.append(Atom(atom.name, codes[atom.piece], atom.table))
                continue
            found = reader.found[atom.piece]
            if found.kind == FACTOR:
                raise DataError(f"{found.piece} is not a number in these rows, as it was in earlier ones")
            atoms.append(Atom(atom.name, np.ascontiguousarray(reader.used(found.arrays[atom.part]))))
        factors = self._groups(reader, values, data)
        return Design(
            reader.report.n_used, tuple(atoms), spec.fixed, self.plan.standardization.ones, spec.terms,
            factors,
            np.ascontiguousarray(values.response), values.response_name, values.offset, values.weights,
        )  # fmt: skip

    def _factor(self, reader, place):
        """Codes of a factor of the fixed or random columns among its known levels."""
        found, levels = reader.found[place], self.plan.spec.pieces[place].levels
        if found.kind != FACTOR:
            raise DataError(f"{found.piece} is a number in these rows and was a factor in earlier ones")
        codes, unseen = _matched(found.column, levels)
        codes = np.ascontiguousarray(reader.used(codes))
        if codes.min() < 0:
            shown = ", ".join(map(repr, unseen[:5])) + (", ..." if len(unseen) > 5 else "")
            raise UnknownLevels(
                f"{found.piece} has the level{'s' * (len(unseen) > 1)} {shown}, not known to the plan: "
                "make the plan of all the data, or name all levels with levels="
            )
        if not self.used[place].all():
            occur = used_levels(codes, len(levels), self.threads)
            self.used[place] += np.bincount(codes, minlength=len(levels)) > 0 if occur is None else occur
        return codes

    def _groups(self, reader, values, data):
        codes = {}
        for name, column in values.groups.items():
            own_order = has_own_order(data, column.name)
            codes[name] = self.tables[name].encode(column, reader.rows, own_order, self.threads)
        factors = []
        for f, parts in enumerate(self.plan.groups):
            found = self._crossed(f, [codes[name] for name in parts])
            n_levels = self.crossings[f][-1].n if self.crossings[f] else len(self.tables[parts[0]])
            factors.append(GroupingFactor(":".join(parts), found, pd.RangeIndex(n_levels)))
        return tuple(factors)

    # -- a design to sums --------------------------------------------------------

    def _accumulate(self, design):
        sizes = tuple(len(factor.levels) for factor in design.factors)
        for f, size in enumerate(sizes):
            self._reserve(f, size)
        layout = layout_of_batch(replace(self.plan.layout, levels=sizes), design)
        R = [sums[:size] for sums, size in zip(self.R, sizes, strict=True)]
        counts = [None if n is None else n[:size] for n, size in zip(self.counts, sizes, strict=True)]
        C, pairs = add_rows(design, layout, R, counts, n_threads=self.threads)
        self.C += C
        for key, blocks in pairs.items():
            self.pairs[key].add(blocks)
        if self.separate:
            self.moments += unweighted_moments(design, layout, self.threads)

    def _reserve(self, f, size):
        self.sizes[f] = max(size, self.sizes[f])
        if size <= len(self.R[f]):
            return
        room = size + min(size, 1 << 22)  # what is not used yet takes no memory
        self.R[f] = _widened(self.R[f], room)
        if self.counts[f] is not None:
            self.counts[f] = _widened(self.counts[f], room)

    # -- the result ----------------------------------------------------------------

    def finish(self, last: bool = False) -> CrossProducts:
        """The sums so far, levels in their order.

        With ``last`` large sums are put in order where they are, and the accumulator is spent;
        without, it can go on.
        """
        ranks, levels, R, counts = [], [], [], []
        for f, parts in enumerate(self.plan.groups):
            sums, codes, found = self._occurring(f)
            known, order = self._level_set(f, parts, codes)
            if order is not None:
                codes, found = codes[order], found[order]
            levels.append(known)
            ranks.append(_ranks(codes, len(sums)) if self.pairs else None)
            R.append(sums[codes] if order is not None else _packed(sums, codes, last))
            counts.append(found)
        pairs = {(f, g): sums.sorted(ranks[f], ranks[g]) for (f, g), sums in self.pairs.items()}
        return CrossProducts(
            plan=self.plan, n=self.n, n_total=self.n_total, n_zero_weight=self.n_zero_weight,
            missing=dict(self.missing), sum_log_weights=self.sum_log_weights, y_range=self.y_range,
            C=self.C.copy(), moments=None if self.moments is None else self.moments.copy(),
            levels=tuple(levels), R=tuple(R), counts=tuple(counts), pairs=pairs,
            used=tuple(None if found is None else found.copy() for found in self.used),
        )  # fmt: skip

    def _occurring(self, f):
        """R of the codes so far, those that have rows, and their numbers of rows."""
        at, sums = self.places[f], self.R[f][: self.sizes[f]]
        if at:
            return sums, *occurring(sums, *at)
        counts = self.counts[f][: self.sizes[f]]
        codes = np.flatnonzero(counts)
        return sums, codes, counts[codes]

    def _level_set(self, f, parts, code):
        """The levels of these codes, and the order that the codes must be put in, None where they have it."""
        digits = []
        for keys in reversed(self.crossings[f]):
            key = keys.keys(code)
            digits.append((key & 0xFFFFFFFF).astype(np.int64))
            code = key >> 32
        digits = [code, *reversed(digits)]
        known, ranks = [], []
        for name, digit in zip(parts, digits, strict=True):
            found, rank = Levels.of_table(self.tables[name], digit)
            known.append(found)
            ranks.append(rank)
        if len(parts) == 1 and increasing(ranks[0]):
            return LevelSet(tuple(known), tuple(ranks)), None
        order = np.lexsort(ranks[::-1])
        found = LevelSet(tuple(known), tuple(rank[order] for rank in ranks))
        return found, None if increasing(order) else order


def _matched(column, levels):
    """`match`, for a factor by its few levels alone."""
    if column.kind != FACTOR or column.levels.dtype.kind != levels.dtype.kind:
        return match(column, levels)
    if column.levels.equals(levels):
        return column.values, []
    place = levels.get_indexer(column.levels)
    unseen = column.levels[place < 0].tolist()
    small = np.int8 if len(levels) < 128 else np.int32
    return np.append(place, -1).astype(small)[column.values], unseen


def _widened(sums, size):
    wider = np.zeros((size, *sums.shape[1:]), sums.dtype)
    wider[: len(sums)] = sums
    return wider


def _packed(sums, codes, in_place):
    """``sums[codes]`` of increasing codes; in the same memory when that is allowed."""
    if in_place and _in_a_row(codes):
        return sums[codes[0] : codes[-1] + 1]
    found = sums if in_place else np.empty((len(codes), *sums.shape[1:]), sums.dtype)
    for at in range(0, len(codes), MOVED_LEVELS):
        some = codes[at : at + MOVED_LEVELS]  # some >= at: nothing is overwritten before it is read
        run = some[-1] - some[0] == len(some) - 1
        found[at : at + len(some)] = sums[some[0] : some[-1] + 1] if run else sums[some]
    return found[: len(codes)]


def _in_a_row(codes) -> bool:
    """Whether each code is the one before and 1."""
    return len(codes) > 0 and codes[-1] - codes[0] == len(codes) - 1 and increasing(codes)


def _ranks(order, size):
    rank = np.full(size, -1, np.int64)
    rank[order] = np.arange(len(order))
    return rank


def needs_moments(layout, weighted: bool) -> bool:
    """Whether sums of columns cannot be read off C: weighted rows, or no constant column."""
    return weighted or not any(column.is_one for column in layout.columns)


def unweighted_moments(design, layout, threads) -> np.ndarray:
    """``[U 1]'[U 1]`` (u + 1, u + 1) over the rows, without weights."""
    bare = replace(
        layout, columns=(*layout.columns, ScaledColumn()), z=(), levels=(), structure="none", order=(),
        is_sorted=(), term_slices=(),
    )  # fmt: skip
    return add_rows(replace(design, weights=None, factors=(), terms=()), bare, [], [], n_threads=threads)[0]
