"""Decode, encode, accumulate: the pass over a source's batches.

A thread decodes ahead into a short queue while this one encodes and adds; the
kernels and Arrow release the interpreter.  Batches are added in their order.  By
default the kernels leave one processor to the decoding: threads that wait for
each other while a third has their processor cost more than they bring.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..crossprod.threads import resolve_threads
from ..errors import DataError
from .accumulator import Accumulator
from .plan import Plan
from .progress import reporter
from .sources import Batch, Source
from .statistics import CrossProducts

AHEAD = 2  # batches that wait


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
    new_files: list = []
    rows = done.n_total if done else 0
    with reporter(progress, source.rows, rows) as report:
        batches = source.batches(plan.columns, frozenset(done.files) if done else frozenset())
        for batch in ahead(batches):
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


class _End:
    """Of the batches; with the error that ended them, if any."""

    def __init__(self, error=None):
        self.error = error


def ahead(batches: Iterator[Batch], size: int = AHEAD) -> Iterator[Batch]:
    """The same batches, read by a thread that is at most ``size`` ahead.

    When the consumer stops early, by an error or Ctrl-C, so does the thread.
    """
    waiting: queue.Queue = queue.Queue(maxsize=size)
    stop = threading.Event()

    def put(item):
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read():
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
            put(_End())
        except BaseException as error:  # raised again where the batches are used
            put(_End(error))
        finally:
            close = getattr(batches, "close", None)
            if stop.is_set() and close is not None:
                close()

    thread = threading.Thread(target=read, name="fastlmm_core-read", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join(timeout=5.0)
