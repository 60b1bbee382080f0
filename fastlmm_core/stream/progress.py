"""How far a pass is: rows, rows per second, time left."""

import sys
from contextlib import contextmanager
from time import perf_counter

EVERY = 0.2  # seconds between two lines


@contextmanager
def reporter(progress, total: int | None, done: int = 0):
    """A function that takes the number of rows just read.

    Parameters
    ----------
    progress : None, bool or callable
        True draws a bar with tqdm where it is installed, else a line on stderr; a callable gets
        ``(rows so far, rows in all or None)``.
    """
    if progress is None or progress is False:
        yield lambda rows: None
        return
    if callable(progress):
        yield _counting(progress, total, done)
        return
    try:
        from tqdm import tqdm
    except ImportError:
        line = _Line(total, done)
        try:
            yield line.add
        finally:
            line.end()
        return
    with tqdm(total=total, initial=done, unit=" rows", unit_scale=True, desc="fastlmm_core") as bar:
        yield bar.update


def _counting(progress, total, done):
    count = [done]

    def add(rows):
        count[0] += rows
        progress(count[0], total)

    return add


class _Line:
    """One line on stderr, overwritten."""

    def __init__(self, total, done):
        self.total, self.rows, self.first = total, done, done
        self.started, self.shown = perf_counter(), 0.0

    def add(self, rows):
        self.rows += rows
        now = perf_counter()
        if now - self.shown >= EVERY:
            self.shown = now
            self.write()

    def write(self):
        seconds = max(perf_counter() - self.started, 1e-9)
        speed = (self.rows - self.first) / seconds
        text = f"fastlmm_core: {self.rows:,} rows, {speed:,.0f} rows/s"
        if self.total and speed > 0:
            left = max(0.0, (self.total - self.rows) / speed)
            text += f", {self.rows / self.total:.0%}, {left:,.0f} s left"
        sys.stderr.write(f"\r{text:<79}")
        sys.stderr.flush()

    def end(self):
        self.write()
        sys.stderr.write("\n")
