"""One percent of new rows: added to saved statistics and refitted, against the original fit.

    python -m bench.append        # 50M rows in 20 files and 500,000 more, 2 minutes, 1.8 GB of disk

The original is from paths to the fitted model; the append reads the new file, merges, and searches from the
last optimum.  Loading and saving of the statistics are told apart.  Writes ``results/append.csv``.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from . import records
from .parquet_rows import generate

FORMULA = "y ~ f + x + x2 + (1 + x | g)"


def clocked(work):
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def append(old, path, start):
    """Seconds of the three steps, and the fit."""
    import fastlmm_core as flm

    new, accumulate = clocked(lambda: old.plan.accumulate(path))
    merged, merge = clocked(lambda: old.merge(new))
    fit, refit = clocked(lambda: flm.fit(merged, start=start))
    return fit, {"accumulate_s": accumulate, "merge_s": merge, "refit_s": refit}


def run(options, folder):
    """The rows of the results."""
    import fastlmm_core as flm

    rows, new = options.rows, options.rows // 100
    (folder / "old").mkdir(), (folder / "new").mkdir()
    generate(folder / "old", rows, options.groups, options.files, True, processes=2, plain=True)
    generate(folder / "new", new, options.groups, 1, True, seed=2, plain=True)
    original = [clocked(lambda: flm.lmer(FORMULA, folder / "old")) for _ in range(options.repeats)]
    fit, seconds = original[0][0], statistics.median(found[1] for found in original)
    old = flm.plan(FORMULA, folder / "old").accumulate(folder / "old")
    _, save = clocked(lambda: old.save(folder / "statistics"))
    old, load = clocked(lambda: flm.CrossProducts.load(folder / "statistics"))
    found = [append(old, folder / "new", fit.theta) for _ in range(options.repeats + 1)]
    steps = {
        name: statistics.median(times[name] for _, times in found[1:])
        for name in ("accumulate_s", "merge_s", "refit_s")
    }
    total = sum(steps.values())
    scratch = flm.lmer(FORMULA, [*(folder / "old").iterdir(), *(folder / "new").iterdir()])
    return {
        "rows": rows, "new": new, "groups": options.groups, "original_s": seconds, **steps, "append_s": total,
        "share": total / seconds, "load_s": load, "save_s": save,
        "criterion": repr(float(-2 * found[0][0].llf)), "from_scratch": repr(float(-2 * scratch.llf)),
        "difference": abs(found[0][0].llf / scratch.llf - 1),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=50 * 10**6)
    parser.add_argument("--groups", type=int, default=5 * 10**5)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the files are made")
    parser.add_argument("--out", help="folder of the results")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="append", dir=options.folder))
    try:
        row = run(options, folder)
    finally:
        shutil.rmtree(folder)
    records.tell(row)
    records.write("append", [row], {"formula": FORMULA}, options.out)


if __name__ == "__main__":
    main()
