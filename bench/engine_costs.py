"""Predicted against measured times of the engines for crossed factors.

    python -m bench.engine_costs                   all structures, one thread
    python -m bench.engine_costs --threads 2 --csv bench/results/engine_costs.csv
    python -m bench.engine_costs --large --engines dense --repeats 1     10,000 columns, 0.9 GB

One step is a value, its gradient and average information, as in a search.  Measured is the least of the
repeats, in seconds of wall time, beside the CPU time of the process; predicted is what `plan` states.
"""

import argparse
import csv
import os
import sys
from pathlib import Path
from time import perf_counter, process_time

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path.append(str(ROOT))
    __package__ = "bench"

FIELDS = (
    "structure", "engine", "taken", "m", "pairs", "nonzeros", "gflop", "mb", "predicted", "wall", "cpu",
    "ratio", "gradient/factor", "peak_mb",
)  # fmt: skip
SLOWEST = 40.0
"""Predicted seconds of a step above which it is not measured."""


def structures(large=False):
    """Name -> (formula, frame)."""
    import numpy as np

    from bench import simulate
    from bench.crossed_large import ratings
    from bench.sparse_factor import workers_and_firms
    from fastlmm_core.datasets import load_dataset

    rng = np.random.default_rng(5)
    users = "y ~ f + x + (1 | user) + (1 | item)"
    slopes = "y ~ f + x + (1 + x | user) + (1 + x | item)"
    firms = "y ~ x1 + (1 | worker) + (1 | firm)"
    if large:
        frame = simulate.crossed(rng, 1_500_000, 60_000, 10_000, 0.4, 0.2)
        yield "power law 60k x 10k, 1.5M", users, frame
        return
    yield "InstEval, 3 factors", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", load_dataset("InstEval")
    yield (
        "maximal 60 x 40",
        "y ~ a + b + ab + (1 + a + b + ab | subj) + (1 + a + b + ab | item)",
        (simulate.factorial(rng, 60, 40, 10, 0.3 * np.eye(4), 0.3 * np.eye(4))),
    )
    yield "power law 5k x 500, 100k", users, simulate.crossed(rng, 100_000, 5_000, 500, 0.4, 0.2)
    yield "uniform 20k x 2k, 60k", users, simulate.crossed(rng, 60_000, 20_000, 2_000, 0.4, 0.2, 0.0)
    yield "power law 20k x 2k, 300k", users, simulate.crossed(rng, 300_000, 20_000, 2_000, 0.4, 0.2)
    yield "slopes 3k x 300, 60k", slopes, simulate.crossed(rng, 60_000, 3_000, 300, 0.4, 0.2)
    yield "slopes 10k x 800, 60k", slopes, simulate.crossed(rng, 60_000, 10_000, 800, 0.4, 0.2, 0.0)
    yield "workers 20k x firms 2k, 100k", firms, workers_and_firms(100_000, 20_000, 2_000)
    yield "workers 100k x firms 10k, 500k", firms, workers_and_firms(500_000, 100_000, 10_000, 0.005)
    frame = simulate.crossed(rng, 80_000, 4_000, 400, 0.4, 0.2)
    frame["third"] = rng.integers(0, 150, len(frame))
    yield "three factors 4k x 400 x 150", users + " + (1 | third)", frame
    yield (
        "ratings 6k x 2.6k, 1M",
        "rating ~ x + (1 | user) + (1 | movie)",
        ratings(rng, 1_000_000, 6_280, 2_640),
    )
    yield "power law 50k x 5k, 1M", users, simulate.crossed(rng, 1_000_000, 50_000, 5_000, 0.4, 0.2)


def statistics(formula, frame):
    """(cross-products, kept columns) as `lmer` makes them."""
    import numpy as np

    from fastlmm_core.crossprod.gram import build_cross_products
    from fastlmm_core.data.table import Table
    from fastlmm_core.formula.design import build_design
    from fastlmm_core.formula.parse import parse_formula

    design, _, _ = build_design(parse_formula(formula), Table(frame), n_threads=1)
    products, _, _ = build_cross_products(design, n_threads=1)
    return products, np.arange(len(products.x))


def step_times(engine, repeats):
    """Least (wall, CPU) seconds of one step near Lambda = I / 2, and CPU of value and gradient over value."""
    import numpy as np

    p = engine.p
    found = []
    for repeat in range(repeats + 1):
        Lambda = [(0.5 + 0.01 * repeat) * np.eye(k) for k in engine.k]
        wall, cpu = perf_counter(), process_time()
        S = engine.factorize(Lambda)[1]
        value = process_time() - cpu
        engine.moments()
        gradient = process_time() - cpu
        Q = np.linalg.inv(S[:p, :p])
        v = np.append(-Q @ S[:p, p], 1.0)
        directions = [(f, np.eye(k)) for f, k in enumerate(engine.k)]
        engine.average_information(Q, v, directions)
        found.append((perf_counter() - wall, process_time() - cpu, gradient / max(value, 1e-9)))
    return [min(times) for times in zip(*found[1:], strict=True)]


def measure(name, formula, frame, options, write):
    """Rows of one structure, an engine each."""
    from bench import memory
    from fastlmm_core.errors import ModelError
    from fastlmm_core.mme.choose import choose_engine
    from fastlmm_core.mme.forecast import forecast

    products, keep = statistics(formula, frame)
    table = forecast(products, n_threads=options.threads)
    for row in table.rows:
        if row.engine not in options.engines or (row.step_seconds or SLOWEST) >= SLOWEST or not row.fits:
            continue
        before = memory.resident()
        memory.reset_peak()
        try:
            engine = choose_engine(products, keep, engine=row.engine, n_threads=options.threads)
        except ModelError:
            continue
        wall, cpu, ratio = step_times(engine, options.repeats)
        del engine
        write({
            "structure": name, "engine": row.engine, "taken": "*" if row.engine == table.engine else "",
            "m": table.m, "pairs": table.pairs, "nonzeros": row.nonzeros, "gflop": f"{row.flops / 1e9:.3g}",
            "mb": f"{row.bytes / 1e6:.3g}", "predicted": f"{row.step_seconds:.3g}", "wall": f"{wall:.3g}",
            "cpu": f"{cpu:.3g}", "ratio": f"{row.step_seconds / wall:.2f}",
            "gradient/factor": f"{ratio:.2f}", "peak_mb": f"{(memory.peak() - before) / 1e6:.3g}",
        })  # fmt: skip


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.engine_costs", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["dense", "sparse", "iterative"])
    parser.add_argument("--only", default="", help="structures whose name holds this text")
    parser.add_argument("--large", action="store_true", help="one structure of 10,000 columns instead")
    parser.add_argument("--csv", type=Path, help="also write the rows here")
    options = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rows = []

    def write(row):
        rows.append(row)
        widths = (32, 10, 6, 7, 9, 10, 9, 8, 10, 9, 9, 6, 16, 8)
        sys.stdout.write("".join(f"{row[f]!s:>{w}}" for f, w in zip(FIELDS, widths, strict=True)) + "\n")
        sys.stdout.flush()

    write({name: name for name in FIELDS})
    for name, formula, frame in structures(options.large):
        if options.only in name:
            measure(name, formula, frame, options, write)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            csv.DictWriter(file, FIELDS).writerows(rows)


if __name__ == "__main__":
    main()
