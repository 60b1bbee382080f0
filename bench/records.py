"""Rows of a measurement as CSV: the machine and the settings as comment lines, then the rows."""

import csv
import json
import sys
from pathlib import Path

from .environment import describe

RESULTS = Path(__file__).parent / "results"
PLOTS = Path(__file__).parent / "plots"


def write(name, rows, settings=None, folder=None):
    """Write ``results/<name>.csv`` (or below ``folder``); returns the path."""
    path = Path(folder or RESULTS) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="") as file:
        for key, value in (describe() | (settings or {})).items():
            file.write(f"# {key}: {value}\n")
        writer = csv.DictWriter(file, fields, restval="")
        writer.writeheader()
        writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    return path


def _plain(value):
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e7 else value


def tell(row):
    """One JSON object per line on stdout."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
