"""Micro-benchmarks of the compiled parts: ``python -m bench.kernels [--rows 1000000] [--threads 1]``.

Encoding of a grouping column, the pass over the rows, and one evaluation (factorization, first and
second moments) of each engine, with medians, time per row or level, and the bytes a row brings in.
Writes ``bench/results/kernels.csv``.
"""

import argparse
import csv
import gc
import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path.append(str(ROOT))
    __package__ = "bench"

from bench import environment, simulate  # noqa: E402

FIELDS = ("kernel", "case", "unit", "count", "threads", "median_s", "min_s", "max_s", "ns_per_unit",
          "bytes_per_unit", "gb_per_s")


def timed(call, repeats, budget=3.0):
    """Seconds of up to ``repeats`` calls after one that is dropped, at most ``budget`` seconds of them."""
    call()
    gc.collect()
    found = []
    while len(found) < repeats and (not found or sum(found) < budget):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def line(kernel, case, unit, count, threads, seconds, width=0):
    """A row of the table; ``width`` is the bytes read per unit."""
    median = statistics.median(seconds)
    return {
        "kernel": kernel, "case": case, "unit": unit, "count": count, "threads": threads,
        "median_s": f"{median:.4g}", "min_s": f"{min(seconds):.4g}", "max_s": f"{max(seconds):.4g}",
        "ns_per_unit": f"{1e9 * median / count:.3g}", "bytes_per_unit": width or "",
        "gb_per_s": f"{width * count / median / 1e9:.3g}" if width else "",
    }


def designs(rows):
    """name -> (formula, frame); a row of each holds the same two numeric columns and factor."""
    def rng(seed):
        return np.random.default_rng(seed)

    slope, three = [[0.5, 0.1], [0.1, 0.2]], np.diag([0.5, 0.2, 0.1])
    one = simulate.one_factor(rng(1), rows, rows // 10, three)
    yield "(1 | g)", "y ~ f + x + x2 + (1 | g)", one
    yield "(1 + x | g)", "y ~ f + x + x2 + (1 + x | g)", one
    yield "(1 + x | g) sorted", "y ~ f + x + x2 + (1 + x | g)", one.sort_values("g", ignore_index=True)
    yield "(1 + x + x2 | g)", "y ~ f + x + x2 + (1 + x + x2 | g)", one
    few = simulate.one_factor(rng(2), rows, 100, slope)
    yield "(1 + x | g) 100 groups", "y ~ f + x + x2 + (1 + x | g)", few
    inner = simulate.nested(rng(3), rows, rows // 500, rows // 20, 0.2, 0.3)
    yield "(1 | school/classroom)", "y ~ f + x + x2 + (1 | school/classroom)", inner
    both = simulate.crossed(rng(4), rows, rows // 20, max(rows // 1000, 8), 0.4, 0.2)
    yield "(1 | user) + (1 | item)", "y ~ f + x + x2 + (1 | user) + (1 | item)", both


def encoding(rows, threads, repeats):
    """Lines for grouping columns of four kinds."""
    from fastlmm_core.data.factors import encode
    from fastlmm_core.data.table import Table

    rng = np.random.default_rng(0)
    codes = simulate.group_codes(rng, rows, rows // 10)
    ids = rng.permutation(rng.choice(2**40, rows // 10, replace=False))
    frame = {"dense int64": codes, "sparse int64": ids[codes], "int32": codes.astype(np.int32),
             "float64": codes.astype(np.float64)}
    table = Table(frame)
    for name, values in frame.items():
        column = table.column(name)
        seconds = timed(lambda column=column: encode(column, n_threads=threads), repeats)
        yield line("encode", name, "row", rows, threads, seconds, values.itemsize)


def row_bytes(design):
    """Bytes that one row of a design brings in: atoms, codes, response."""
    width = sum(atom.values.itemsize for atom in design.atoms)
    return width + sum(factor.codes.itemsize for factor in design.factors) + design.response.itemsize


def evaluations(case, products, threads, repeats):
    """Lines for one evaluation of the engine of these statistics, at T = I / 2."""
    from fastlmm_core.mme.choose import choose_engine

    engine = choose_engine(products, np.arange(len(products.x)), n_threads=threads)
    factors = [np.sqrt(0.5) * np.eye(k) for k in engine.k]
    levels = sum(engine.levels)
    yield line(f"{engine.name}: set up", case, "level", levels, threads, timed(
        lambda: choose_engine(products, np.arange(len(products.x)), n_threads=threads), min(repeats, 3)))
    yield line(f"{engine.name}: factorize", case, "level", levels, threads,
               timed(lambda: engine.factorize(factors), repeats))
    _, S = engine.factorize(factors)

    def evaluate():
        engine.factorize(factors)
        engine.moments()

    seconds = timed(evaluate, repeats)
    yield line(f"{engine.name}: factorize, moments", case, "level", levels, threads, seconds)
    Q = np.linalg.inv(S[:-1, :-1])
    v = np.append(-Q @ S[:-1, -1], 1.0)
    if engine.second_moments(Q, v) is not None:
        seconds = timed(lambda: engine.second_moments(Q, v), repeats)
        yield line(f"{engine.name}: second moments", case, "level", levels, threads, seconds)
    else:
        directions = [(f, np.eye(k)) for f, k in enumerate(engine.k)]
        seconds = timed(lambda: engine.average_information(Q, v, directions), repeats)
        yield line(f"{engine.name}: average information", case, "level", levels, threads, seconds)


def measure(rows, threads, repeats):
    """All lines, as they come."""
    from fastlmm_core.crossprod.gram import accumulate, build_cross_products
    from fastlmm_core.data.table import Table
    from fastlmm_core.formula.design import build_design
    from fastlmm_core.formula.parse import parse_formula

    yield from encoding(rows, threads, repeats)
    for case, formula, frame in designs(rows):
        parsed = parse_formula(formula)

        def build(parsed=parsed, frame=frame):
            return build_design(parsed, Table(frame), n_threads=threads)[0]

        yield line("design", case, "row", rows, threads, timed(build, repeats))
        design = build()
        products, _, layout = build_cross_products(design, n_threads=threads)
        seconds = timed(lambda d=design, at=layout: accumulate(d, at, n_threads=threads), repeats)
        yield line("pass", case, "row", rows, threads, seconds, row_bytes(design))
        yield from evaluations(case, products, threads, repeats)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--to", type=Path, default=ROOT / "bench" / "results" / "kernels.csv")
    options = parser.parse_args(argv)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    with open(options.to, "w", newline="") as file:
        for name, value in environment.describe().items():
            file.write(f"# {name}: {value}\n")
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for found in measure(options.rows, options.threads, options.repeats):
            writer.writerow(found)
            file.flush()
            rate = f"{found['gb_per_s']} GB/s" if found["gb_per_s"] else ""
            sys.stdout.write(
                f"{found['kernel']:32s} {found['case']:26s} {1e3 * float(found['median_s']):9.3f} ms "
                f"{found['ns_per_unit']:>8s} ns/{found['unit']:5s} {rate}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
