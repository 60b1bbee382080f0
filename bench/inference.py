"""Inference after the fit: degrees of freedom, profiles, bootstrap, deletion.

    python -m bench.inference                      all tasks, bench/results/inference.csv and a table
    python -m bench.inference --without-r          ours alone
    python -m bench.inference --rows 100000 --groups 10000 --draws 100      a trial in seconds

The large model is ``y ~ x + (1 + x | g)``, the small one sleepstudy's.  Every repeat has a fit of its own,
as fits keep what they have computed; the clock runs after the fit.  Times are medians, memory is the
peak beyond what is resident before the task, and the check is a number that both sides report.  R's tasks
run in processes of their own up to ``--limit`` seconds, the fit included; lme4, lmerTest and pbkrtest
are optional.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path.append(str(ROOT))

COLUMNS = (
    "task", "library", "rows", "groups", "seconds", "cpu", "aim", "peak_mb", "repeats", "check", "value",
    "note",
)  # fmt: skip
SMALL = "Reaction ~ Days + (Days | Subject)"
LARGE = "y ~ x + (1 + x | g)"


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap replicates (default 1000)")
    parser.add_argument("--threads", type=int, default=2, help="of every thread pool (default 2)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for a task of R with its fit")
    parser.add_argument("--without-r", action="store_true")
    parser.add_argument("--only", nargs="*", help="tasks whose names contain one of these words")
    parser.add_argument("--name", default="inference", help="of the CSV below bench/results")
    return parser.parse_args(argv)


def tasks(draws, threads):
    """Name -> (size, what is timed, name of the check and how to read it, seconds aimed at, most repeats)."""

    def limits(fit):
        return fit.profile().conf_int()

    def bootstrap(fit):
        return fit.bootstrap(draws, seed=1, n_jobs=threads)

    sigma = ("mean sigma", lambda fit, found: found.draws["sigma"].mean())
    lower = ("lower limit of the first sd", lambda fit, found: found.iloc[0, 0])
    df = ("df of the slope", lambda fit, found: fit.df.iloc[1])
    adjusted = ("df of the slope", lambda fit, found: found["df"].iloc[0])
    largest = ("largest distance", lambda fit, found: found.max())

    def cook(group):
        return lambda fit: fit.influence(by=group).cooks_distance

    def clusters(fit):
        return fit.bootstrap(draws, seed=1, n_jobs=threads, kind="cluster")

    def kenward_roger(fit):
        return fit.contrast(fit.params.index[1], ddf="kenward-roger")

    return {
        "large satterthwaite": ("large", lambda fit: fit.df, df, 0.1, 9),
        "large summary": ("large", lambda fit: str(fit.summary()), df, 0.1, 9),
        "large kenward-roger": ("large", kenward_roger, adjusted, 0.5, 9),
        "large cook": ("large", cook("g"), largest, 0.5, 9),
        "large profile": ("large", limits, lower, None, 1),
        "large bootstrap": ("large", bootstrap, sigma, 30.0, 1),
        "large clusters": ("large", clusters, sigma, None, 1),
        "small satterthwaite": ("small", lambda fit: fit.df, df, None, 9),
        "small kenward-roger": ("small", kenward_roger, adjusted, None, 9),
        "small profile": ("small", limits, lower, 0.05, 9),
        "small bootstrap": ("small", bootstrap, sigma, 0.5, 9),
        "small clusters": ("small", clusters, sigma, None, 9),
        "small cook": ("small", cook("Subject"), largest, None, 9),
    }


def large_frame(rows, groups):
    """Rows of the large model: variances 0.5 and 0.2, correlation 0.3, residuals of variance 1."""
    import numpy as np
    import pandas as pd

    from bench.simulate import effects

    rng = np.random.default_rng(4)
    g = rng.permutation(np.arange(rows, dtype=np.int32) % groups)
    covariance = np.array([[0.5, 0.3 * 0.1**0.5], [0.3 * 0.1**0.5, 0.2]])
    x, b = rng.standard_normal(rows), effects(rng, groups, covariance)
    y = 2.0 + 0.5 * x + b[g, 0] + b[g, 1] * x + rng.standard_normal(rows)
    return pd.DataFrame({"y": y, "x": x, "g": g})


def ours(name, task, frame, repeats):
    """One row of the table."""
    import fastlmm_core as flm
    from bench import memory

    size, work, (check, read), aim, most = task
    formula = LARGE if size == "large" else SMALL
    fit = flm.lmer(formula, frame)
    seconds, cpu, peaks, value = [], [], [], None
    warm = 1 if most > 1 else 0
    for i in range(min(repeats, most) + warm):
        if i:
            fit = flm.lmer(formula, frame)
        before = memory.resident()
        memory.reset_peak()
        start, used = perf_counter(), process_time()
        found = work(fit)
        if i >= warm:
            seconds.append(perf_counter() - start)
            cpu.append(process_time() - used)
            peaks.append(memory.peak() - before)
        value = float(read(fit, found))
    return {
        "task": name,
        "library": "fastlmm_core",
        "rows": fit.nobs,
        "groups": next(iter(fit.ngroups.values())),
        "seconds": round(statistics.median(seconds), 5),
        "cpu": round(statistics.median(cpu), 5),
        "aim": aim,
        "peak_mb": round(statistics.median(peaks) / 1e6, 1),
        "repeats": len(seconds),
        "check": check,
        "value": value,
    }


def theirs(name, task, folder, size, draws, limit):
    """The same by R, or None where it does not run."""
    command = ["Rscript", str(ROOT / "bench" / "inference.R"), name, str(folder), str(draws)]
    library = "pbkrtest" if "kenward" in name else "lmerTest" if "satterthwaite" in name else "lme4"
    row = {"task": name, "library": library, "rows": size[0], "groups": size[1], "repeats": 1}
    row["check"] = task[2][0]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return row | {"note": f"over {limit:g} s with its fit"}
    if answer.returncode:
        lines = answer.stderr.strip().splitlines()
        return row | {"note": "failed: " + (lines[-1][:80] if lines else "no message")}
    seconds, value = answer.stdout.split()[-2:]
    note = "refits the variances without each group" if name.endswith("cook") else ""
    return row | {"seconds": float(seconds), "value": float(value), "note": note}


def store(frame, folder):
    """Columns as raw files, which R reads without a parser."""
    for column in frame:
        values = frame[column].to_numpy()
        (values + 1 if column == "g" else values).tofile(Path(folder) / column)


def has_r():
    if shutil.which("Rscript") is None:
        return False
    asked = ["Rscript", "-e", "for (p in c('lmerTest', 'pbkrtest')) loadNamespace(p)"]
    return subprocess.run(asked, capture_output=True).returncode == 0


def table(rows):
    """Text, a line per row."""
    head = f"{'task':22}{'library':14}{'seconds':>10}{'cpu':>9}{'aim':>7}{'peak MB':>9}"
    head += f"  {'check':28}{'value':>14}  note"
    lines = [head]
    for row in rows:
        seconds = f"{row['seconds']:.4f}" if row.get("seconds") is not None else "-"
        cpu = f"{row['cpu']:.4f}" if row.get("cpu") is not None else ""
        aim = f"{row['aim']:g}" if row.get("aim") else ""
        value = f"{row['value']:.6g}" if row.get("value") is not None else ""
        peak = f"{row['peak_mb']:.0f}" if row.get("peak_mb") is not None else ""
        line = f"{row['task']:22}{row['library']:14}{seconds:>10}{cpu:>9}{aim:>7}{peak:>9}"
        lines.append(f"{line}  {row['check']:28}{value:>14}  {row.get('note', '')}".rstrip())
    return "\n".join(lines) + "\n"


def main(argv=None):
    options = arguments(argv)
    from bench.environment import describe, pinned

    os.environ.update(pinned(options.threads))  # before numpy is imported
    import fastlmm_core as flm

    wanted = {
        name: task
        for name, task in tasks(options.draws, options.threads).items()
        if not options.only or any(word in name for word in options.only)
    }
    frames = {"small": flm.load_dataset("sleepstudy")}
    if any(task[0] == "large" for task in wanted.values()):
        frames["large"] = large_frame(options.rows, options.groups)
    sizes = {"small": (180, 18), "large": (options.rows, options.groups)}
    rows, with_r = [], not options.without_r and has_r()
    with tempfile.TemporaryDirectory() as folder:
        if with_r and "large" in frames:
            store(frames["large"], folder)
        for name, task in wanted.items():
            rows.append(ours(name, task, frames[task[0]], options.repeats))
            if with_r and not name.endswith(("summary", "clusters")):
                found = theirs(name, task, folder, sizes[task[0]], options.draws, options.limit)
                rows.append(found)
    path = ROOT / "bench" / "results" / f"{options.name}.csv"
    with open(path, "w", newline="") as stream:
        for key, text in describe().items():
            stream.write(f"# {key}: {text}\n")
        stream.write(f"# threads: {options.threads}\n")
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    sys.stdout.write(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
