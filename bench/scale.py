"""Fits of files: time relative to pyarrow's own decode of the same columns, and peak memory.

    python -m bench.scale --rows 10_000_000 --groups 1_000_000                       # W8 as one Parquet file
    python -m bench.scale --rows 200_000_000 --groups 5_000_000 --files 20 --slope   # about 7 GB of files

Rows are drawn and written in a stream, and the files are removed afterwards unless ``--keep``.
Every measurement runs in a process of its own; it prints one JSON object per line.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import memory
from .environment import describe

CHUNK = 1 << 20  # rows drawn at once, and rows of a row group
COLUMNS = ["y", "f", "x", "x2", "g"]


def generate(folder, rows, groups, files, slope, seed=1):
    """Write ``files`` Parquet files of a random-intercept (or slope) model, keys in random order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    b = rng.standard_normal((groups, 2 if slope else 1)) * np.sqrt(0.5)
    bounds = np.arange(files + 1) * rows // files
    for at, (lo, hi) in enumerate(zip(bounds, bounds[1:], strict=False)):
        writer = None
        for start in range(lo, hi, CHUNK):
            table = _chunk(pa, rng, min(CHUNK, hi - start), b, groups)
            if writer is None:
                writer = pq.ParquetWriter(Path(folder, f"{at:04d}.parquet"), table.schema)
            writer.write_table(table)
        writer.close()


def _chunk(pa, rng, n, b, groups):
    level = rng.integers(0, 3, n)
    x, x2 = rng.standard_normal((2, n))
    g = rng.integers(0, groups, n)
    y = np.array([1.0, 1.3, 0.8])[level] + 0.5 * x - 0.25 * x2 + b[g, 0] + rng.standard_normal(n)
    if b.shape[1] > 1:
        y += b[g, 1] * x
    f = pa.DictionaryArray.from_arrays(pa.array(level, pa.int8()), ["a", "b", "c"])
    return pa.table({"y": y, "f": f, "x": x, "x2": x2, "g": g + 1})


def decode(folder):
    """Seconds that pyarrow takes to decode the columns, a row group at a time."""
    import pyarrow.parquet as pq

    started, cpu, rows = time.perf_counter(), time.process_time(), 0
    for path in sorted(Path(folder).glob("*.parquet")):
        with pq.ParquetFile(path, memory_map=True) as file:
            for group in range(file.num_row_groups):
                rows += file.read_row_group(group, columns=COLUMNS, use_threads=True).num_rows
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "rows": rows}


def fit(folder, formula, threads):
    """Seconds from paths to a fitted model."""
    import fastlmm_core as flm

    lmer = flm.lmer  # imports
    started, cpu = time.perf_counter(), time.process_time()
    found = lmer(formula, folder, n_threads=threads)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu": cpu, "rows": found.nobs, "groups": found.ngroups, "llf": found.llf,
        "theta": found.theta.tolist(), "converged": found.converged, "stages": found.timings,
    }  # fmt: skip


def _measured(what, folder, formula, threads):
    command = [sys.executable, "-m", "bench.scale", "--measure", what, "--folder", str(folder)]
    command += ["--formula", formula, *(["--threads", str(threads)] if threads else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run(options):
    """Generate, measure, remove."""
    folder = Path(options.folder or tempfile.mkdtemp(prefix="scale"))
    folder.mkdir(parents=True, exist_ok=True)
    formula = options.formula or f"y ~ f + x + x2 + ({'1 + x' if options.slope else '1'} | g)"
    made = not any(folder.glob("*.parquet"))
    try:
        if made:
            generate(folder, options.rows, options.groups, options.files, options.slope)
        size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        print(json.dumps({"environment": describe(), "formula": formula, "file_bytes": size}), flush=True)
        best = {}
        for _ in range(options.repeats):
            for what in ("decode", "fit"):
                found = _measured(what, folder, formula, options.threads)
                print(json.dumps({what: found}), flush=True)
                best[what] = min(best.get(what, np.inf), found["seconds"])
        print(json.dumps({"relative": best["fit"] / best["decode"]}))
    finally:
        if made and not options.keep:
            shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--groups", type=int, default=10**6)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder")
    parser.add_argument("--formula")
    parser.add_argument("--slope", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--measure", choices=["decode", "fit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is None:
        return run(options)
    memory.reset_peak()
    if options.measure == "decode":
        found = decode(options.folder)
    else:
        found = fit(options.folder, options.formula, options.threads)
    print(json.dumps(found | {"peak_bytes": memory.peak()}))


if __name__ == "__main__":
    main()
