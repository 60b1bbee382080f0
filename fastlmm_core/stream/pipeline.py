"""Decode, encode, accumulate: the pass over a source's batches.

A thread decodes ahead into a short queue while this one encodes and adds; the
kernels and Arrow release the interpreter.  Batches are added in their order.  By
default the kernels leave one processor to the decoding while there is something to
decode: threads that wait for each other while a third has their processor cost more
than they bring.
"""

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


def accumulate(
    plan: Plan, source: Source, *, n_threads=None, progress=None, checkpoint=None
) -> CrossProducts:
    """Statistics of a source's rows under a plan.

    Parameters
    ----------
    checkpoint : path or None
        After each complete file the statistics are saved there; files that it holds already (same
        path, size and time) are not read again.

    Raises
    ------
    DataError
        Rows or files that cannot be used, naming them; a checkpoint of another model.
    """
    done = _resume(plan, checkpoint)
    plan = plan if done is None else done.plan  # its centres may be of other first rows
    total = Accumulator(plan, n_threads or max(1, resolve_threads(None) - 1))

    def read():
        total.threads = resolve_threads(n_threads)

    new_files: list = []
    rows = done.n_total if done else 0
    with reporter(progress, source.rows, rows) as report:
        batches = source.batches(plan.columns, frozenset(done.files) if done else frozenset())
        for batch in ahead(batches, ended=read):
            report(total.add(batch.data, batch.label))
            if batch.completes is not None and checkpoint is not None:
                new_files.append(batch.completes)
                _total(done, total, new_files).save(checkpoint)
    return _total(done, total, new_files, last=True)


def _resume(plan, checkpoint):
    if checkpoint is None or not Path(checkpoint).exists():
        return None
    done = CrossProducts.load(checkpoint)
    if not done.plan.same_model(plan):
        raise DataError(
            f"{checkpoint} holds statistics of another model ({done.plan.formula!r}), or of other levels or "
            "transforms: give another path, or remove it"
        )
    return done


def _total(done, total, files, last=False):
    found = replace(total.finish(last), files=tuple(files))
    return found if done is None else done.merge(found)
