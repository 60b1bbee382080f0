"""How far iterative fits are from the exact one, or from each other, beside the errors they state.

    python -m bench.crossed_seeds M1 ML1 WF --seeds 4 --csv bench/results/crossed_seeds.csv
    python -m bench.crossed_seeds W7 ML32 --seeds 3 --no-exact

Each fit runs in a process of its own.  Errors are of theta in standard errors: against the exact fit, or,
with ``--no-exact``, against the mean of the seeds (which hides 1 / seeds of their variance).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from bench.crossed_large import CASES, run, write_csv

FIELDS = (
    "case", "fit", "seconds", "cpu", "probes", "errors_se", "stated_se", "criterion_off", "criterion_sd",
)  # fmt: skip


def compare(case, seeds, settings, exact):
    """Rows of one case: the exact fit where there is one, then the seeds."""
    fits = [run(f"{case}:engine=iterative,seed={seed}{settings}") for seed in range(1, seeds + 1)]
    rows, thetas = [], np.array([fit["theta"] for fit in fits])
    centre, se, criterion = thetas.mean(0), np.array(fits[0]["theta_se"]), None
    if exact:
        truth = run(f"{case}:engine={exact}")
        centre, se, criterion = np.array(truth["theta"]), np.array(truth["theta_se"]), truth["criterion"]
        rows.append({**dict.fromkeys(FIELDS, ""), "case": case, "fit": f"exact, {truth['engine']}",
                     "seconds": truth["seconds"], "cpu": truth["cpu"]})  # fmt: skip
    for seed, fit in enumerate(fits, 1):
        errors = (np.array(fit["theta"]) - centre) / se
        off = "" if criterion is None else round(fit["criterion"] - criterion, 3)
        rows.append({
            "case": case, "fit": f"seed {seed}", "seconds": fit["seconds"], "cpu": fit["cpu"],
            "probes": fit["probes"], "errors_se": [f"{e:.2e}" for e in errors],
            "stated_se": [f"{e:.2e}" for e in fit["mc_error_se"]], "criterion_off": off,
            "criterion_sd": round(2 * fit["loglik_sd"], 3),
        })  # fmt: skip
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.crossed_seeds", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("cases", nargs="+", choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--settings", default="", help="of Control for the seeds, probes=100,mc_error=1e-3")
    parser.add_argument("--no-exact", action="store_true", help="the exact fit is out of reach")
    parser.add_argument("--csv", type=Path, help="also write the rows here")
    options = parser.parse_args(argv)
    settings, rows = f",{options.settings}" if options.settings else "", []
    for case in options.cases:
        found = compare(case, options.seeds, settings, None if options.no_exact else "auto")
        rows += found
        for row in found:
            sys.stdout.write("  ".join(f"{name} {row[name]}" for name in FIELDS if row[name] != "") + "\n")
            sys.stdout.flush()
    if options.csv:
        write_csv(options.csv, rows)


if __name__ == "__main__":
    main()
