"""How far a pass is: rows, rows per second, time left."""

import sys
from contextlib import contextmanager
from time import perf_counter

EVERY = 0.2  # seconds between two states of a line in a terminal
EVERY_LINE = 10.0  # and between two lines of a log


@contextmanager
def reporter(progress, total: int | None, done: int = 0, what: str = "fastlmm_core", unit="rows"):
    """A function that takes the number of rows just read.

    Parameters
    ----------
    progress : None, bool or callable
        True draws a bar with tqdm or rich, whichever is installed, in terminals and notebooks, else
        a line on stderr; a callable gets ``(rows so far, rows in all or None)``.
    total, done : rows in all where that is known, and those read by an earlier run.
    what, unit : name of the pass, and of what is counted.
    """
    if progress is None or progress is False:
        yield lambda rows: None
    elif callable(progress):
        yield _counting(progress, total, done)
    else:
        with _bar(total, done, what, unit) as add:
            yield add


def _counting(progress, total, done):
    count = [done]

    def add(rows):
        count[0] += rows
        progress(count[0], total)

    return add


def _bar(*how):
    try:
        return _tqdm(*how)
    except ImportError:
        pass
    try:
        return _rich(*how)
    except ImportError:
        return _line(*how)


def _tqdm(total, done, what, unit):
    from tqdm.auto import tqdm

    @contextmanager
    def bar():
        with tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=True, desc=what) as shown:
            yield shown.update

    return bar()


def _rich(total, done, what, unit):
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} {unit}, {{task.fields[speed]:,.0f}} {unit}/s"),
        TimeRemainingColumn(),
    )  # fmt: skip

    @contextmanager
    def bar():
        started, count = perf_counter(), [0]
        with Progress(*columns, console=Console(stderr=True)) as shown:
            task = shown.add_task(what, total=total, completed=done, speed=0.0)

            def add(rows):
                count[0] += rows
                speed = count[0] / max(perf_counter() - started, 1e-9)
                shown.update(task, advance=rows, speed=speed)

            yield add

    return bar()


@contextmanager
def _line(*how):
    line = _Line(*how)
    try:
        yield line.add
    finally:
        line.end()


class _Line:
    """One line on stderr: overwritten in a terminal, a new one now and then elsewhere."""

    def __init__(self, total, done, what, unit):
        self.total, self.rows, self.first, self.what, self.unit = total, done, done, what, unit
        self.started = self.shown = perf_counter()
        self.terminal = sys.stderr.isatty()

    def add(self, rows):
        self.rows += rows
        now = perf_counter()
        if now - self.shown >= (EVERY if self.terminal else EVERY_LINE):
            self.shown = now
            self.write("" if self.terminal else "\n")

    def write(self, ending):
        seconds = max(perf_counter() - self.started, 1e-9)
        speed = (self.rows - self.first) / seconds
        text = f"{self.what}: {self.rows:,} {self.unit}, {speed:,.0f} {self.unit}/s"
        if self.total and speed > 0:
            left = max(0.0, (self.total - self.rows) / speed)
            text += f", {self.rows / self.total:.0%}, {left:,.0f} s left"
        start = "\r" if self.terminal else ""
        sys.stderr.write(f"{start}{text:<79}{ending}" if self.terminal else f"{text}{ending}")
        sys.stderr.flush()

    def end(self):
        self.write("\n")
