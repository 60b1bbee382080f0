"""Encoding of grouping columns: against a copy of the column, and against `pandas.factorize`.

    python -m bench.encoding        # 10M rows, 1 minute

Integers in a dense range and scattered over 64 bits, and text, each with few and many levels.  "stream" is
what a pass does, batch by batch with one thread; "memory" what a fit of a frame does, which also sorts the
levels, with one thread, and "memory2" with two.  All ways take turns in one process; seconds are medians.
Writes ``results/encoding.csv``.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from fastlmm_core.data.factors import encode, encode_integers
from fastlmm_core.data.table import Table
from fastlmm_core.stream.levels import LevelTable
from fastlmm_core.stream.sources import take

from . import records

BATCH = 1 << 21
LEVELS = (1_000, 100_000, 1_000_000)


def stream(table, name):
    """Codes of all batches, by a table of levels that grows."""
    levels = LevelTable(name)
    for start in range(0, table.num_rows, BATCH):
        batch = Table(take(table, [name], start, start + BATCH))
        levels.encode(batch.column(name))
    return len(levels)


def text_in_memory(table, n_threads):
    return encode(Table(table).column("g"), n_threads=n_threads)


def columns(rows, rng):
    """(kind, levels, numpy column)."""
    scattered = rng.integers(-(2**62), 2**62, max(LEVELS))
    for levels in LEVELS:
        g = rng.integers(0, levels, rows)
        yield "dense", levels, g
        yield "sparse", levels, scattered[g]
        yield "text", levels, g


def ways(kind, values):
    """Name -> what is timed."""
    if kind == "text":
        table = pa.table({"g": pa.array(values).cast(pa.string())})
        series = pd.Series(table["g"].to_pandas())
        found = {}
        memory = partial(text_in_memory, table)
    else:
        table, series = pa.table({"g": values}), values
        found = {"copy": lambda: np.copy(values)}
        memory = partial(encode_integers, values)
    return found | {
        "memory": lambda: memory(n_threads=1),
        "memory2": lambda: memory(n_threads=2),
        "stream": lambda: stream(table, "g"),
        "pandas": lambda: pd.factorize(series),
    }


def measure(found, repeats):
    """Median seconds of every way, by turns."""
    times = {name: [] for name in found}
    for _ in range(repeats + 1):
        for name, work in found.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(some[1:]) for name, some in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="folder of the results")
    options = parser.parse_args()
    rows = []
    for kind, levels, values in columns(options.rows, np.random.default_rng(1)):
        seconds = measure(ways(kind, values), options.repeats)
        row = {"kind": kind, "levels": levels, **{f"{name}_s": value for name, value in seconds.items()}}
        if "copy" in seconds:
            row |= {"stream_copies": seconds["stream"] / seconds["copy"]}
        ours = ("stream", "memory", "memory2")
        row |= {f"{name}_faster": seconds["pandas"] / seconds[name] for name in ours}
        rows.append(row)
        records.tell(row)
    records.write("encoding", rows, {"rows": options.rows, "repeats": options.repeats}, options.out)


if __name__ == "__main__":
    main()
