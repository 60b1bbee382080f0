"""Tables and figures of a run: ``python -m bench.report run [more runs]``.

Reads ``bench/results/<run>.csv`` and writes ``bench/RESULTS.md`` and ``bench/plots/*.png``.  A ratio above 1
means that the best peer of the same run took that many times as long as fastlmm_core.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path.append(str(ROOT))
    __package__ = "bench"

from bench import figures, tables  # noqa: E402
from bench.libraries import LIBRARIES, YARDSTICK  # noqa: E402

OURS = "ours"
TOLERANCE = 1e-3  # -2 log-likelihood units above the best of the same kind that count as a worse fit


def read(path):
    """(settings, rows) of one CSV."""
    with open(path, newline="") as file:
        text = file.readlines()
    comments = [line[2:].rstrip("\n") for line in text if line.startswith("# ")]
    settings = dict(line.split(": ", 1) for line in comments if ": " in line)
    return settings, list(csv.DictReader(line for line in text if not line.startswith("#")))


def seconds(line):
    return float(line["seconds"]) if line and line["status"] == "ok" else None


def duration(value):
    """Seconds in three digits with a readable unit."""
    if value < 1e-3:
        return f"{1e6 * value:.3g} µs"
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def cell(line):
    """A time, or why there is none."""
    if line is None:
        return ""
    if line["status"] == "ok":
        return duration(float(line["seconds"])) + ("\\*" if line["cold"] == "1" else "")
    if line["status"] == "timeout":
        return line["detail"].replace("above", ">")
    return "–" if line["status"] == "unsupported" else line["status"]


def by_case(rows):
    """case, scale, threads -> library -> row, in the order of the CSV."""
    table = {}
    for line in rows:
        table.setdefault((line["case"], line["scale"], line["threads"]), {})[line["library"]] = line
    return table


def best_peer(lines):
    """(library, seconds) of the fastest peer whose criterion is not worse than the best of its kind."""
    lowest = {}
    for line in lines.values():
        if line["status"] == "ok" and line["criterion"]:
            lowest[line["kind"]] = min(lowest.get(line["kind"], float("inf")), float(line["criterion"]))
    found = [
        (seconds(line), name) for name, line in lines.items()
        if name not in (OURS, YARDSTICK) and line["status"] == "ok" and line["criterion"]
        and float(line["criterion"]) <= lowest[line["kind"]] + TOLERANCE
    ]
    return (min(found)[1], min(found)[0]) if found else (None, None)


def overview(table):
    """One row per case, one column per library, and the ratio to the best peer."""
    used = [name for name in LIBRARIES if any(name in lines for lines in table.values())]
    labels = [LIBRARIES[name].label for name in used]
    text = ["| case | rows | threads | " + " | ".join(labels) + " | best peer / ours |",
            "|---|---|---|" + "---|" * (len(used) + 1)]
    for (case, scale, threads), lines in table.items():
        first = next(iter(lines.values()))
        name, time = best_peer(lines)
        own = seconds(lines.get(OURS))
        ratio = f"{time / own:.2f} ({LIBRARIES[name].label})" if name and own else ""
        title = f"**{case}** {first['title']}" + (f" (scale {scale})" if float(scale) != 1 else "")
        times = " | ".join(cell(lines.get(library)) for library in used)
        text.append(f"| {title} | {int(first['rows']):,} | {threads} | {times} | {ratio} |")
    return text


def details(case, lines):
    """Criterion, spread, memory, stages of every library on one case."""
    first = next(iter(lines.values()))
    lowest = {}
    for line in lines.values():
        if line["status"] == "ok" and line["criterion"]:
            lowest[line["kind"]] = min(lowest.get(line["kind"], float("inf")), float(line["criterion"]))
    text = [f"### {case[0]}: {first['title']}", "",
            f"{int(first['rows']):,} rows; levels {first['levels']}; frame {first['frame_mb']} MiB; "
            f"{case[2]} thread(s); scale {case[1]}.", "",
            "| library | time (min–max) | CPU | criterion | above best | kind | evaluations | peak MiB "
            "| stages |", "|" + "---|" * 9]
    for name, line in lines.items():
        if line["status"] != "ok":
            reason = line["detail"][:120].replace("|", "/")
            text.append(f"| {LIBRARIES[name].label} | {line['status']}: {reason} | | | | | | | |")
            continue
        spread = f"{duration(float(line['seconds_min']))}–{duration(float(line['seconds_max']))}"
        criterion, above = "", ""
        if line["criterion"]:
            criterion = f"{float(line['criterion']):.6f}"
            above = f"{float(line['criterion']) - lowest[line['kind']]:.1e}"
        stages = ", ".join(f"{key} {duration(value)}" for key, value in json.loads(line["stages"]).items())
        text.append(
            f"| {LIBRARIES[name].label} | {cell(line)} ({spread}) | {duration(float(line['cpu_seconds']))} | "
            f"{criterion} | {above} | {line['kind']} | {line['evaluations']} | {line['peak_mb']} | {stages} |"
        )
    return [*text, ""]


def versions(rows):
    """One line per library with the versions it ran with."""
    found = {}
    for line in rows:
        found[line["library"]] = json.loads(line["versions"] or "{}") or found.get(line["library"], {})
    text = []
    for name, what in found.items():
        known = ", ".join(f"{package} {number}" for package, number in what.items())
        text.append(f"- {LIBRARIES[name].label}: {known or 'no version, see the status of its fits'}")
    return text


NOTES = """\
Each library fits in memory in a process of its own with every thread pool pinned; the data are loaded before
the clock starts. The time is from the frame to the printed summary (standard errors, and degrees of freedom
where the library has them): the median of the repeats after a warm-up fit that is dropped. `*`: one cold fit,
because it took longer than the threshold. `–`: the library does not fit this model. The criterion is -2
(restricted) log-likelihood; a peer that ends more than 0.001 above the lowest of its kind is not taken as the
best peer. Peak memory is the largest resident size during the first fit less that after the imports, so it
holds the data once. The last column of the table is the time of the best peer over that of fastlmm_core. The
yardstick is one copy of the model's columns and X'X of its numeric columns by BLAS.
"""


def write(names, target, plots):
    """The whole report of some runs; returns the paths written."""
    settings, rows = {}, []
    for name in names:
        found, more = read(ROOT / "bench" / "results" / f"{name}.csv")
        settings |= found
        rows += more
    table = by_case(rows)
    text = ["# Benchmarks", "", NOTES, "## Machine", ""]
    text += [f"- {key}: {value}" for key, value in settings.items()]
    text += ["", "## Versions", "", *versions(rows), "", "## Times", "", *overview(table), ""]
    drawn = figures.draw(rows, plots)
    if drawn:
        text += ["## Growth", "", *(f"![{path.stem}](plots/{path.name})" for path in drawn), ""]
    remarks = ROOT / "bench" / "remarks.md"  # written by hand: targets and what fell short
    text += [remarks.read_text(encoding="utf-8")] if remarks.exists() else []
    text += tables.markdown(ROOT / "bench" / "results")
    text += ["## Cases", ""]
    for case, lines in table.items():
        text += details(case, lines)
    target.write_text("\n".join(text))
    return [target, *drawn]


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("runs", nargs="*", default=["run"], help="names of CSV files below bench/results")
    parser.add_argument("--to", type=Path, default=ROOT / "bench" / "RESULTS.md")
    parser.add_argument("--plots", type=Path, default=ROOT / "bench" / "plots")
    options = parser.parse_args(argv)
    for path in write(options.runs or ["run"], options.to, options.plots):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
