"""What a terminal shows: tables and progress by rich where it is installed, else plain text.

Pipes and files get plain text always, so that what is written does not depend on what is installed.
"""

import sys
from contextlib import contextmanager

import click

try:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
except ImportError:
    Console = None


def in_colours() -> bool:
    """Whether tables are drawn: rich is there and stdout is a terminal."""
    return Console is not None and sys.stdout.isatty()


def show_summary(summary) -> None:
    """A summary as tables, or as its text."""
    if not in_colours():
        click.echo(str(summary))
        return
    console = Console()
    for section in summary.sections():
        if isinstance(section, list):
            for line in section:
                console.print(Text(line, _style(line)))
        else:
            caption, header, rows = section
            console.print(_table(caption, header, rows, (0, 1) if "Groups" in header else (0,)))


def show_table(caption: str, header: list, rows: list, left=(0,)) -> None:
    """Rows under a header; the columns ``left`` are text."""
    texts = [[str(cell) for cell in row] for row in rows]
    if in_colours():
        Console().print(_table(caption, header, texts, left))
        return
    widths = [max(map(len, column)) for column in zip(header, *texts)]
    for row in (header, *texts):
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ]
        click.echo("  ".join(cells).rstrip())


def _table(caption, header, rows, left=(0,)):
    table = Table(title=Text(caption, "bold"), box=SIMPLE_HEAD, title_justify="left")
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="left" if place in left else "right", no_wrap=place not in left)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _style(line: str) -> str:
    if line.startswith("Fit: "):
        return "red" if "NOT converged" in line else "green"
    return "yellow" if line.startswith(("Singular", "Dropped")) else ""


@contextmanager
def stages(wanted: bool | None):
    """What `lmer` takes as ``progress`` for data in memory: a bar over the stages on stderr.

    ``wanted`` None shows it in terminals only; without rich, stages are lines.
    """
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield None
    elif Console is None:
        yield True if wanted else None
    else:
        columns = (TextColumn("{task.description:<15}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=not wanted) as shown:
            task = shown.add_task("reading", total=1.0)
            yield lambda stage, done: shown.update(task, description=stage, completed=done)
