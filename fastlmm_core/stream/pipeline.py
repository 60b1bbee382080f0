"""Decode, encode, accumulate: the pass over a source's batches.

A thread decodes ahead into a short queue while this one encodes and adds; the
kernels and Arrow release the interpreter.  Batches are added in their order.  By
default the kernels leave one processor to the decoding while there is something to
decode: threads that wait for each other while a third has their processor cost more
than they bring.
"""

import time
from dataclasses import replace
from pathlib import Path

from ..crossprod.threads import resolve_threads
from ..errors import DataError
from .accumulator import Accumulator
from .ahead import ahead
from .plan import Plan
from .progress import reporter
from .sources import Source
from .statistics import CrossProducts

SHORT_SAVE = 1.0  # seconds: such a save follows every file
READING_PER_SAVE = 9  # times as long as a longer save took, files are read before the next


def accumulate(
    plan: Plan, source: Source, *, onto=None, n_threads=None, progress=None, checkpoint=None
) -> CrossProducts:
    """Statistics of a source's rows under a plan.

    Parameters
    ----------
    onto : CrossProducts or None
        Of earlier rows under the same plan, which these are added to.
    checkpoint : path or None
        After each complete file the statistics are saved there; files that it holds already (same
        path, size and time) are not read again.  Where a save takes longer than a second, so many files
        are read before the next one that saving takes a tenth of the time.

    Raises
    ------
    DataError
        Rows or files that cannot be used, naming them; a checkpoint of another model.
    """
    done = _resume(plan, source, checkpoint) if onto is None else _disjoint(plan, source, onto)
    plan = plan if done is None else done.plan  # its centres may be of other first rows
    total = Accumulator(plan, n_threads or max(1, resolve_threads(None) - 1))

    def read():
        total.threads = resolve_threads(n_threads)

    def begin():
        if done is not None:
            total.go_on(done)

    files = [] if done is None else list(done.files)
    saves = None if checkpoint is None else _Saves(checkpoint)
    rows = done.n_total if done and onto is None else 0
    with reporter(progress, source.rows, rows) as report:
        batches = source.batches(plan.columns, frozenset(files))
        at_end = True  # of a file: the sums are those of complete ones
        try:
            for batch in ahead(batches, ended=read, meanwhile=begin):
                at_end = False
                if batch.last:
                    read()
                report(total.add(batch.data, batch.label))
                if batch.completes is not None and saves is not None:
                    files.append(batch.completes)
                    at_end = True
                    saves.offer(lambda: _total(total, files))
        except BaseException:
            if saves is not None and at_end:
                saves.complete(lambda: _total(total, files))
            raise
    found = _total(total, files, last=True)
    if saves is not None:
        saves.complete(lambda: found)
    return found


class _Saves:
    """Statistics of complete files on disk, as often as their size allows."""

    def __init__(self, path):
        self.path, self.cost, self.waits = path, 0.0, False
        self.saved = time.perf_counter()

    def offer(self, statistics):
        """Save what ``statistics()`` returns, unless a save took long and little was read since."""
        started = time.perf_counter()
        self.waits = self.cost > SHORT_SAVE and started - self.saved < READING_PER_SAVE * self.cost
        if not self.waits:
            statistics().save(self.path)
            self.saved = time.perf_counter()
            self.cost = self.saved - started

    def complete(self, statistics):
        """Save what ``statistics()`` returns, if that of the last files still waits."""
        if self.waits:
            statistics().save(self.path)
            self.waits = False


def _resume(plan, source, checkpoint):
    if checkpoint is None or not Path(checkpoint).exists():
        return None
    done = CrossProducts.load(checkpoint)
    if not done.plan.same_model(plan):
        raise DataError(
            f"{checkpoint} holds statistics of another model ({done.plan.formula!r}), or of other levels or "
            "transforms: give another path, or remove it"
        )
    now = {file.identity() for file in source.files}
    for file in done.files:
        if file not in now:
            there = any(file[0] == path for path, *_ in now)
            raise DataError(
                f"{checkpoint} holds the rows of {file[0]}, which "
                + ("has changed since" if there else "is not among the files of this run")
                + ": give the files that it was made of, and more, or remove it and read all again"
            )
    return done


def _disjoint(plan, source, onto):
    onto.check_same_plan(plan)
    for file in source.files:
        if file.identity() in onto.files:
            raise DataError(f"the rows of {file.path} are in the earlier statistics already")
    return onto


def _total(total, files, last=False):
    return replace(total.finish(last), files=tuple(files))
