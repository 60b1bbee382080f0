"""Run cases x libraries, each pair in a process of its own, and write one CSV.

    python -m bench.run                                  the default workloads, all libraries
    python -m bench.run --cases W4 W6 --libraries ours glmm lme4 --threads 2
    python -m bench.run --cases rows --limit 60          a scaling series
    python -m bench.run --scale 0.01 --name trial        small, to see that all is well

Rows already in the CSV of the same --name are kept and not run again; --again runs them.
Peers that need another interpreter: --python-of mixedlm=/path/to/python, or --peer-python for all.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # started as a script: find the package, behind whatever is installed
    sys.path.append(str(ROOT))
    __package__ = "bench"

from bench import cases, environment, store  # noqa: E402
from bench.libraries import LIBRARIES  # noqa: E402

RESULTS = ROOT / "bench" / "results"
START = "import sys; sys.path.append(sys.argv.pop(1)); from bench.worker import main; main()"
FIELDS = (
    "case", "title", "scale", "rows", "levels", "library", "label", "threads", "kind", "status", "detail",
    "criterion", "seconds", "seconds_min", "seconds_max", "cpu_seconds", "first_seconds", "repeats", "cold",
    "stages", "evaluations", "converged", "frame_mb", "imports_mb", "data_mb", "peak_mb", "versions",
)


def arguments(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=["default"], metavar="CASE",
                        help=f"names, 'default', 'all' or a series: {', '.join(cases.SERIES)}")
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=list(LIBRARIES),
                        metavar="LIBRARY", help=", ".join(LIBRARIES))
    parser.add_argument("--threads", type=int, default=1, help="of every thread pool (default 1)")
    parser.add_argument("--repeats", type=int, default=5, help="timed fits after the warm-up (default 5)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a library may take per case")
    parser.add_argument("--limit-of", nargs="*", default=[], metavar="LIBRARY=SECONDS", help="other limits")
    parser.add_argument("--slow", type=float, default=30.0,
                        help="a first fit above this is the measurement, marked cold (default 30 s)")
    parser.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    parser.add_argument("--scale", type=float, default=1.0, help="shrink rows and levels of simulated cases")
    parser.add_argument("--name", default="run", help="of the CSV below bench/results")
    parser.add_argument("--again", action="store_true", help="also run what the CSV has already")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter of the Python peers")
    parser.add_argument("--python-of", nargs="*", default=[], metavar="LIBRARY=PATH")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    return parser.parse_args(argv)


def pairs(items, convert=str):
    """``["a=1"]`` as ``{"a": convert("1")}``."""
    return {name: convert(value) for name, value in (item.split("=", 1) for item in items)}


def run_one(library, folder, options, scratch):
    """One library on one case in a fresh process; the worker's result, or the reason there is none."""
    settings, answer = scratch / "settings.json", scratch / "answer.json"
    answer.unlink(missing_ok=True)
    settings.write_text(json.dumps({
        "library": library.name, "data": str(folder), "threads": options.threads, "reml": not options.ml,
        "repeats": options.repeats, "slow": options.slow,
    }))
    if library.language == "R":
        command = ["Rscript", "--vanilla", str(ROOT / "bench" / "libraries" / "lme4.R")]
    else:
        default = sys.executable if library.own else options.peer_python
        interpreter = pairs(options.python_of).get(library.name, default)
        command = [interpreter, "-c", START, str(ROOT)]
    limit = pairs(options.limit_of, float).get(library.name, options.limit)
    log = open(scratch / "log.txt", "w+")
    try:
        process = subprocess.Popen(
            [*command, str(settings), str(answer)], env=environment.pinned(options.threads), cwd=scratch,
            stdout=log, stderr=log, start_new_session=True,
        )
    except FileNotFoundError as err:
        return {"status": "not installed", "detail": str(err)}
    with log:
        try:
            code = process.wait(timeout=limit)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as err:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(err, KeyboardInterrupt):
                raise
            return {"status": "timeout", "detail": f"above {limit:g} s"}
        if not answer.exists():
            log.seek(0)
            what = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            return {"status": "error", "detail": f"{what}: {log.read()[-300:]}"}
    return json.loads(answer.read_text())


def row(library, record, options, result):
    """A line of the CSV: medians over the timed runs."""
    mega = 2.0**20
    line = {
        "case": record["name"], "title": record["title"], "scale": record["scale"], "rows": record["rows"],
        "levels": " ".join(map(str, record["levels"])), "library": library.name, "label": library.label,
        "threads": options.threads, "kind": "ML" if options.ml else "REML", "status": result["status"],
        "detail": " ".join(str(result.get("detail", "")).split()),
        "frame_mb": round(record["frame_bytes"] / mega, 1),
        "versions": json.dumps(result.get("versions", {})),
    }
    if result["status"] != "ok":
        return line
    runs = result["runs"]
    seconds = sorted(run["seconds"] for run in runs)
    stages = {name: statistics.median(run["stages"][name] for run in runs) for name in runs[0]["stages"]}
    criterion = runs[0]["criterion"]
    base = result["rss_imports"]
    return line | {
        "kind": runs[0]["kind"], "criterion": "" if criterion is None else repr(criterion),
        "seconds": f"{statistics.median(seconds):.6g}", "seconds_min": f"{seconds[0]:.6g}",
        "seconds_max": f"{seconds[-1]:.6g}", "first_seconds": f"{result['first_seconds']:.6g}",
        "cpu_seconds": f"{statistics.median(run['cpu'] for run in runs):.6g}",
        "repeats": len(runs), "cold": int(result["cold"]),
        "stages": json.dumps({name: float(f"{value:.4g}") for name, value in stages.items()}),
        "evaluations": runs[0].get("evaluations", ""), "converged": runs[0].get("converged", ""),
        "imports_mb": round(base / mega, 1), "data_mb": round((result["rss_ready"] - base) / mega, 1),
        "peak_mb": round((result["rss_peak"] - base) / mega, 1),
    }


def key(line):
    """What makes a row of the CSV the same measurement."""
    return line["case"], str(float(line["scale"])), line["library"], str(line["threads"])


def load(path):
    """Rows of a CSV written before, without the comment lines."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def save(path, lines, settings):
    """Write the environment as comment lines, then the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with open(part, "w", newline="") as file:
        for name, value in settings.items():
            file.write(f"# {name}: {value}\n")
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(lines)
    part.replace(path)


def tell(line):
    """One line of progress."""
    shown = line["detail"]
    if line["status"] == "ok":
        shown = f"{float(line['seconds']):.4g} s  {line['criterion']}"
    sys.stdout.write(f"{line['case']:14s} {line['library']:12s} {line['status']:14s} {shown[:110]}\n")
    sys.stdout.flush()


def main(argv=None):
    options = arguments(argv)
    if options.list:
        for case in cases.CASES.values():
            sys.stdout.write(f"{case.name:16s} {case.title:50s} {case.model.formula}\n")
        return
    path = RESULTS / f"{options.name}.csv"
    settings = environment.describe() | {
        "repeats": options.repeats, "slow": options.slow, "limit": f"{options.limit:g} s"
    }
    lines = {key(line): line for line in load(path)}
    scratch = RESULTS / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    for case in cases.select(options.cases):
        scale = 1.0 if case.fixed_size else options.scale
        folder = store.write(scratch / f"{case.name}-{scale:g}", case, scale)
        record = json.loads((folder / "case.json").read_text())
        for name in options.libraries:
            library = LIBRARIES[name]
            known = case.name, str(scale), name, str(options.threads)
            if known in lines and not options.again:
                continue
            line = row(library, record, options, run_one(library, folder, options, scratch))
            lines[known] = line
            save(path, lines.values(), settings)
            tell(line)


if __name__ == "__main__":
    main()
