"""Fits of files: time relative to pyarrow's own decode of the same columns, and peak memory.

    python -m bench.scale                             # W8 as one Parquet file, 1 minute
    python -m bench.scale --growth                    # 10M to 200M rows, 20 files: 2 minutes, 7 GB of disk
    python -m bench.scale --growth --rows 2_000_000   # the same with the largest at 2M rows

Rows are drawn and written in a stream, and the files are removed afterwards.  Every measurement runs in a
process of its own; peak memory is its largest resident size, pages of mapped files included.  Writes
``results/scale.csv``, or ``results/scale_growth.csv`` and ``plots/scale_growth.png``.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import memory, records
from .parquet_rows import COLUMNS, generate

SIZES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of all rows


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
    """Seconds from paths to a fitted model, and the memory that its plan forecast."""
    import pyarrow.parquet  # noqa: F401 - as `decode`, whose time has no imports either

    import fastlmm_core as flm

    lmer = flm.lmer  # imports
    paths = sorted(Path(folder).glob("*.parquet"))
    before = memory.resident()
    started, cpu = time.perf_counter(), time.process_time()
    found = lmer(formula, paths, n_threads=threads)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = memory.peak()
    forecast = before + flm.plan(formula, paths).forecast().peak
    return {
        "seconds": seconds, "cpu": cpu, "rows": found.nobs, "groups": sum(found.ngroups.values()),
        "criterion": repr(float(-2 * found.llf)), "converged": found.converged,
        "stages": json.dumps({name: round(value, 4) for name, value in found.timings.items()}),
        "peak_mb": peak / 2**20, "forecast_mb": forecast / 2**20,
    }  # fmt: skip


def measured(what, folder, formula, threads=None):
    """A measurement in a process of its own."""
    command = [sys.executable, "-m", "bench.scale", "--measure", what, "--folder", str(folder)]
    command += ["--formula", formula, *(["--threads", str(threads)] if threads else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def formula_of(slope):
    return f"y ~ f + x + x2 + ({'1 + x' if slope else '1'} | g)"


def single(options):
    """One size: decode and fit by turns."""
    folder = Path(options.folder or tempfile.mkdtemp(prefix="scale"))
    folder.mkdir(parents=True, exist_ok=True)
    formula = options.formula or formula_of(options.slope)
    made = not any(folder.glob("*.parquet"))
    rows = []
    try:
        if made:
            generate(folder, options.rows, options.groups, options.files, options.slope)
        size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        for repeat in range(options.repeats):
            for what in ("decode", "fit"):
                found = measured(what, folder, formula, options.threads)
                rows.append({"what": what, "repeat": repeat, "file_mb": size / 2**20} | found)
                records.tell(rows[-1])
    finally:
        if made and not options.keep:
            shutil.rmtree(folder)
    median = {
        what: statistics.median(row["seconds"] for row in rows if row["what"] == what)
        for what in ("decode", "fit")
    }
    summary = {
        "decode_s": median["decode"], "fit_s": median["fit"], "relative": median["fit"] / median["decode"],
        "peak_mb": max(row["peak_mb"] for row in rows if row["what"] == "fit"),
    }  # fmt: skip
    records.tell(summary)
    records.write("scale", rows, {"formula": formula, **summary}, options.out)


def growth(options):
    """A set of files for each size, with as many rows to a group in all of them."""
    rows, formula = [], formula_of(True)
    for part in SIZES:
        folder = Path(tempfile.mkdtemp(prefix="scale", dir=options.folder))
        files = max(1, round(options.files * part))
        try:
            n, groups = round(options.rows * part), round(options.groups * part)
            generate(folder, n, groups, files, True, processes=2, plain=True)
            found = measured("fit", folder, formula, options.threads)
        finally:
            shutil.rmtree(folder)
        took = {name: found[name] for name in ("seconds", "cpu")}
        took["pass"] = json.loads(found["stages"])["cross-products"]
        per_row = {f"{name}_ns": 1e9 * value / n for name, value in took.items()}
        rows.append(found | {"files": files} | per_row)
        records.tell(rows[-1])
    path = records.write("scale_growth", rows, {"formula": formula}, options.out)
    draw(rows, (path.parent if options.out else records.PLOTS) / "scale_growth.png")


def draw(rows, path):
    """Time per row and peak memory over rows."""
    from .figures import axes_pair

    with axes_pair(path) as (time_ax, memory_ax):
        size = [row["rows"] for row in rows]
        for name, label, style in (
            ("seconds_ns", "paths to fitted model", "-"),
            ("pass_ns", "the pass", ":"),
        ):
            per_row = [row[name] for row in rows]
            time_ax.plot(size, per_row, style, color="#0072B2", marker="o", ms=4, lw=2.4, label=label)
        time_ax.set(xlabel="Rows", ylabel="Nanoseconds per row", xscale="log", ylim=(0, None))
        for name, label, style in (("peak_mb", "used", "-"), ("forecast_mb", "forecast", ":")):
            memory_ax.plot(size, [row[name] for row in rows], style, color="#0072B2", lw=2.4, label=label)
        memory_ax.set(xlabel="Rows", ylabel="Peak MiB of the process", xscale="log", ylim=(0, None))
        for ax in (time_ax, memory_ax):
            ax.set_xticks(size, [f"{n / 1e6:g}M" for n in size])
            ax.minorticks_off()
            ax.legend(frameon=False, fontsize="small")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--growth", action="store_true", help="sizes up to --rows, with slopes")
    parser.add_argument("--rows", type=int, help="10M, with --growth 200M")
    parser.add_argument("--groups", type=int, help="1M, with --growth a 40th of the rows")
    parser.add_argument("--files", type=int, help="1, with --growth 20")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", help="of the files; those that are there already are used, and stay")
    parser.add_argument("--formula")
    parser.add_argument("--slope", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--out", help="folder of the results")
    parser.add_argument("--measure", choices=["decode", "fit"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is None:
        options.rows = options.rows or (200 * 10**6 if options.growth else 10**7)
        options.groups = options.groups or (options.rows // 40 if options.growth else 10**6)
        options.files = options.files or (20 if options.growth else 1)
        return growth(options) if options.growth else single(options)
    memory.reset_peak()
    if options.measure == "decode":
        found = decode(options.folder)
    else:
        found = fit(options.folder, options.formula, options.threads)
    records.tell({"peak_mb": memory.peak() / 2**20} | found)


if __name__ == "__main__":
    main()
