"""Tables of what the other scripts measured, from the CSV files that they left below ``bench/results``."""

import csv
import json

OTHERS = (
    ("inference", "Inference after the fit", "python -m bench.inference", ""),
    (
        "crossed_large", "Large crossed models",
        "python -m bench.crossed_large M1:engine=iterative M1 WF W7 ML32 "
        "--csv bench/results/crossed_large.csv",
        "case rows levels engine seconds cpu gb_beyond_frame criterion probes mc_error_se loglik_sd",
    ),
    (
        "crossed_seeds", "Iterative fits against the exact one",
        "python -m bench.crossed_seeds M1 ML1 WF --seeds 3 --csv bench/results/crossed_seeds.csv", "",
    ),
    (
        "crossed_seeds_large", "Iterative fits against each other, where a factor does not fit",
        "python -m bench.crossed_seeds W7 ML32 --seeds 2 --no-exact "
        "--csv bench/results/crossed_seeds_large.csv", "",
    ),
    (
        "sparse_factor", "Sparse factor against CHOLMOD, milliseconds",
        "python -m bench.sparse_factor --threads 2 --csv bench/results/sparse_factor.csv", "",
    ),
    (
        "engine_costs", "Predicted and measured seconds of a step of each crossed engine",
        "python -m bench.engine_costs --threads 2 --csv bench/results/engine_costs.csv",
        "structure engine taken m pairs nonzeros gflop mb predicted wall cpu ratio gradient/factor",
    ),
    (
        "scale", "Files against their decoding by pyarrow", "python -m bench.scale",
        "what repeat file_mb rows groups seconds cpu peak_mb forecast_mb criterion",
    ),
    (
        "scale_growth", "Files of up to 200 million rows", "python -m bench.scale --growth",
        "rows groups files seconds cpu seconds_ns pass_ns peak_mb forecast_mb criterion",
    ),
    ("containers", "One model over every kind of table", "python -m bench.containers", ""),
    ("encoding", "Encoding of grouping columns", "python -m bench.encoding", ""),
    ("dask_workers", "Workers of a Dask cluster", "python -m bench.dask_workers", ""),
    ("append", "One percent of new rows", "python -m bench.append", ""),
)  # fmt: skip
"""CSV, title, the command that makes it, and the columns that are shown, all if empty."""
WIDEST = 60
"""Characters of a cell that are shown; the CSV has the rest."""


def markdown(results):
    """Lines of Markdown: a section per CSV that is there, with its machine and settings."""
    text = []
    for name, title, command, shown in OTHERS:
        path = results / f"{name}.csv"
        if path.exists():
            text += [f"## {title}", "", f"`{command}`", "", *_table(path, shown.split()), ""]
            if (results.parent / "plots" / f"{name}.png").exists():
                text += [f"![{name}](plots/{name}.png)", ""]
    return text


def _table(path, shown):
    with open(path, newline="", encoding="utf-8") as file:
        lines = file.readlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    fields = [field for field in shown or rows[0] if any(row[field] for row in rows)]
    text = ["| " + " | ".join(field.replace("_", " ") for field in fields) + " |", "|" + "---|" * len(fields)]
    return text + ["| " + " | ".join(_cell(row[field]) for field in fields) + " |" for row in rows]


def _cell(text):
    """Numbers in four digits, except whole ones and criteria; lists without their quotes."""
    try:
        number = float(text)
        whole = number == int(number) or abs(number) >= 1e5
        return text if whole or "e" in text else f"{number:.4g}"
    except (ValueError, OverflowError):
        pass
    if text.startswith("["):
        text = ", ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in json.loads(text))
    if text.startswith("{"):
        text = ", ".join(f"{name} {value}" for name, value in json.loads(text).items())
    text = text.replace("|", "/")
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
