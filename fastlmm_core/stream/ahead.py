"""Batches read by a thread while another uses them."""

import queue
import threading
from collections.abc import Iterator

from .sources import Batch

AHEAD = 1  # batches that wait


class _End:
    """Of the batches; with the error that ended them, if any."""

    def __init__(self, error=None):
        self.error = error


def ahead(
    batches: Iterator[Batch], size: int = AHEAD, ended=lambda: None, meanwhile=lambda: None
) -> Iterator[Batch]:
    """The same batches, read by a thread that is at most ``size`` ahead.

    When the consumer stops early, by an error or Ctrl-C, so does the thread.  ``ended`` is called by the
    thread as soon as everything is read, ``meanwhile`` by the consumer while the first batch is.
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
            ended()
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
        meanwhile()
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
