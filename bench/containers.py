"""One model over every kind of table: the same criterion, and the time from the table to the fitted model.

    python -m bench.containers        # 1M rows, half a minute

Writes ``results/containers.csv``; ``difference`` is relative, to the criterion of the pandas frame.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

import fastlmm_core as flm

from . import records
from .parquet_rows import CHUNK, chunk

FORMULA = "y ~ f + x + x2 + (1 + x | g)"
PARTS = 4


def containers(table, folder):
    """Name -> a function that returns the data anew."""
    import dask.dataframe

    frame = table.to_pandas()
    polars = pl.from_arrow(table)
    step = -(-table.num_rows // PARTS)
    for part in range(PARTS):
        pq.write_table(table.slice(part * step, step), folder / f"{part}.parquet")
    with pa.ipc.new_file(folder / "rows.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=CHUNK)
    frame.to_csv(folder / "rows.csv", index=False)
    files = str(folder / "*.parquet")
    connection = duckdb.connect()
    return {
        "pandas": lambda: frame,
        "polars": lambda: polars,
        "pyarrow Table": lambda: table,
        "dict of arrays": lambda: {name: frame[name] for name in frame},
        "polars LazyFrame": lambda: pl.scan_parquet(files),
        "pyarrow RecordBatchReader": lambda: table.to_reader(CHUNK // 4),
        "pyarrow Dataset": lambda: pa.dataset.dataset(sorted(folder.glob("*.parquet"))),
        "DuckDB relation": lambda: connection.read_parquet(files),
        "Parquet": lambda: files,
        "Arrow IPC": lambda: folder / "rows.arrow",
        "CSV": lambda: folder / "rows.csv",
        "iterator of frames": lambda: (
            lambda: (frame.iloc[at : at + step] for at in range(0, len(frame), step))
        ),
        "Dask DataFrame": lambda: dask.dataframe.read_parquet(files),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--groups", type=int, default=10**5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", help="folder of the results")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    table = chunk(rng, options.rows, rng.standard_normal((options.groups, 2)) * np.sqrt(0.5), options.groups)
    rows = []
    with tempfile.TemporaryDirectory(prefix="containers") as folder:
        for name, make in containers(table, Path(folder)).items():
            seconds = []
            for _ in range(options.repeats + 1):
                data = make()
                started = time.perf_counter()
                fit = flm.lmer(FORMULA, data)
                seconds.append(time.perf_counter() - started)
            criterion = float(-2 * fit.llf)
            rows.append(
                {"table": name, "criterion": repr(criterion), "seconds": statistics.median(seconds[1:])}
            )
            rows[-1]["difference"] = abs(criterion / float(rows[0]["criterion"]) - 1)
            records.tell(rows[-1])
    largest = max(row["difference"] for row in rows)
    records.tell({"largest relative difference": largest})
    versions = {module.__name__: module.__version__ for module in (pd, pl, pa, duckdb)}
    settings = {"formula": FORMULA, "rows": options.rows, "groups": options.groups, "versions": versions}
    records.write("containers", rows, settings | {"largest relative difference": largest}, options.out)


if __name__ == "__main__":
    main()
