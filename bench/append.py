"""One percent of new rows: added to saved statistics and refitted, against the original fit.

    python -m bench.append        # 50M rows in 20 files and 500,000 more, twice, 1 minute, 1.8 GB of disk

The original is from paths to the fitted model; the append adds the new file to the statistics, by
``accumulate(..., onto=)``, and searches from the last optimum.  ``accumulate_s`` and ``merge_s`` are the
same in two steps, as where statistics are shared.  The new rows are of the same groups.  Adding and refitting
cost what the number of groups asks, whatever the rows, so the share depends on the rows of a group: one row
of the results for each size.  ``copy_s`` is one copy of the sums in the same process, which nothing that
leaves the old statistics as they are can beat.  Figures are medians of repetitions, which find memory that
the process has used before; ``first_s`` is the first append, which may not.  Loading and saving of the
statistics are told apart.  Writes ``results/append.csv``.
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
    """Seconds of the two steps, the criterion, and evaluations of the search."""
    import fastlmm_core as flm

    both, add = clocked(lambda: old.plan.accumulate(path, onto=old))
    fit, refit = clocked(lambda: flm.fit(both, start=start))
    return (add, refit), fit.llf, fit.convergence.n_values


def merge(old, path):
    """Seconds of adding in two steps."""
    new, accumulate = clocked(lambda: old.plan.accumulate(path))
    return accumulate, clocked(lambda: old.merge(new))[1]


def times(work, repeats):
    """The median of the seconds; results are let go, as memory that repetitions hold would be counted."""
    return statistics.median(clocked(work)[1] for _ in range(repeats))


def run(options, groups, folder):
    """A row of the results."""
    import fastlmm_core as flm

    rows, new = options.rows, options.rows // 100
    (folder / "old").mkdir(parents=True), (folder / "new").mkdir()
    generate(folder / "old", rows, groups, options.files, True, processes=2, plain=True)
    generate(folder / "new", new, groups, 1, True, plain=True, first=options.files)
    original = times(lambda: flm.lmer(FORMULA, folder / "old"), options.repeats)
    old = flm.plan(FORMULA, folder / "old").accumulate(folder / "old")
    theta = flm.fit(old).theta
    save = times(lambda: old.save(folder / "statistics"), options.repeats)
    load = times(lambda: flm.CrossProducts.load(folder / "statistics"), options.repeats)
    old = flm.CrossProducts.load(folder / "statistics")
    (first, llf, evaluations), *_ = found = [
        append(old, folder / "new", theta) for _ in range(options.repeats + 1)
    ]
    add, refit = (statistics.median(seconds) for seconds in zip(*(f[0] for f in found[1:]), strict=True))
    two = [merge(old, folder / "new") for _ in range(options.repeats)]
    accumulate, merged = (statistics.median(seconds) for seconds in zip(*two, strict=True))
    copy = times(lambda: [R.copy() for R in old.R], options.repeats + 2)
    scratch = flm.lmer(FORMULA, [*(folder / "old").iterdir(), *(folder / "new").iterdir()]).llf
    return {
        "rows": rows, "new": new, "groups": groups, "original_s": original, "append_s": add + refit,
        "share": (add + refit) / original, "add_s": add, "refit_s": refit, "accumulate_s": accumulate,
        "merge_s": merged, "first_s": sum(first), "copy_s": copy,
        "sums_mb": sum(R.nbytes for R in old.R) / 1e6, "evaluations": evaluations,
        "load_s": load, "save_s": save,
        "criterion": repr(float(-2 * llf)), "from_scratch": repr(float(-2 * scratch)),
        "difference": abs(llf / scratch - 1),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=50 * 10**6)
    parser.add_argument("--groups", type=int, nargs="+", default=[5 * 10**5, 5 * 10**4])
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where the files are made")
    parser.add_argument("--out", help="folder of the results")
    options = parser.parse_args()
    found = []
    for groups in options.groups:
        folder = Path(tempfile.mkdtemp(prefix="append", dir=options.folder))
        try:
            found.append(run(options, groups, folder))
        finally:
            shutil.rmtree(folder)
        records.tell(found[-1])
    records.write("append", found, {"formula": FORMULA}, options.out)


if __name__ == "__main__":
    main()
