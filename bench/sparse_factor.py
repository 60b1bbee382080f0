"""The sparse factor against CHOLMOD, and a whole fit of workers x firms.

    python -m bench.sparse_factor                  factor, inverse and solve on patterns of Schur complements
    python -m bench.sparse_factor --fit            also 1M rows, 200k workers x 20k firms, 2 percent away
    python -m bench.sparse_factor --threads 2 --csv bench/results/sparse_factor.csv

Needs scikit-sparse 0.4 for the columns of CHOLMOD; its speed is that of the BLAS it is linked to, which is
the system's.  Times are the least of the repeats, in milliseconds; all thread pools are pinned.
"""

import argparse
import csv
import os
import sys
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path.append(str(ROOT))

COLUMNS = (
    "matrix",
    "m",
    "nnz(L)",
    "Gflop",
    "analyse",
    "factor",
    "selected",
    "solve",
    "analyse",
    "factor",
    "solve",
)


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m bench.sparse_factor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=1, help="of every thread pool (default 1)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="also write the figures here")
    parser.add_argument("--fit", action="store_true", help="also time a whole fit")
    return parser.parse_args(argv)


def graph(m, a, b):
    """M_c = I + graph Laplacian of the pairs (a, b): what movers between firms leave."""
    import numpy as np
    import scipy.sparse as sp

    apart = a != b
    W = sp.coo_array((np.full(apart.sum(), -0.3), (a[apart], b[apart])), shape=(m, m)).tocsr()
    W = W + W.T
    return sp.csc_array(W + sp.diags(np.asarray(abs(W).sum(axis=1)).ravel() + 1.0))


def matrices():
    """Name -> matrix, the patterns that data leave."""
    import numpy as np

    rng = np.random.default_rng(1)
    near = rng.integers(0, 20000, 60000)
    i, j = np.divmod(np.arange(300 * 300), 300)
    right, down = np.flatnonzero(j < 299), np.flatnonzero(i < 299)
    yield "local mobility", graph(20000, near, (near + 1 + rng.integers(0, 30, 60000)) % 20000)
    yield "random 0.5%", graph(20000, *rng.integers(0, 20000, (2, 30000)))
    yield "random 2%", graph(5000, *rng.integers(0, 5000, (2, 20000)))
    yield "nested", graph(20000, np.arange(20000), np.arange(20000) // 20 * 20)
    yield "grid", graph(90000, np.append(right, down), np.append(right + 1, down + 300))


def least(repeats, call):
    """Least time of some calls in milliseconds, after one more."""
    call()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return 1e3 * min(times)


def ours(A, repeats, n_threads):
    """(analyse, factor, selected inverse, solve), the factor."""
    import numpy as np
    import scipy.sparse as sp

    from fastlmm_core.sparse.cholesky import Factor
    from fastlmm_core.sparse.ordering import BlockPattern
    from fastlmm_core.sparse.selinv import SelectedInverse
    from fastlmm_core.sparse.symbolic import analyse_pattern

    L = sp.csc_array(sp.tril(A))
    L.sort_indices()
    pattern = BlockPattern.from_units(L.indptr, L.indices, np.ones(A.shape[0], np.int32))
    made = least(repeats, lambda: Factor(analyse_pattern(pattern), n_threads))
    factor = Factor(analyse_pattern(pattern), n_threads)
    inverse = SelectedInverse(factor)
    b = np.ones((A.shape[0], 6))
    steps = (lambda: factor.update(L.data), inverse.update, lambda: factor.solve(b))
    return (made, *(least(repeats, step) for step in steps)), factor


def theirs(A, repeats):
    """(analyse, factor, solve) and the log-determinant by CHOLMOD, or None."""
    import numpy as np
    import scipy.sparse as sp

    try:
        from sksparse.cholmod import analyze
    except ImportError:
        return None
    A = sp.csc_matrix(A)
    made = least(repeats, lambda: analyze(A, ordering_method="amd"))
    factor = analyze(A, ordering_method="amd")
    b = np.asfortranarray(np.ones((A.shape[0], 6)))
    times = made, least(repeats, lambda: factor.cholesky_inplace(A)), least(repeats, lambda: factor(b))
    return times, factor.logdet()


def compare(repeats, n_threads, write):
    """One line per matrix; the same as rows for a file."""
    rows = []
    write(f"{'':48}{'ours':>36}{'CHOLMOD':>27}\n")
    write(
        "".join(f"{name:>{16 if q == 0 else 9}}" for q, name in enumerate(COLUMNS)) + "   logdets differ by\n"
    )
    for name, A in matrices():
        times, factor = ours(A, repeats, n_threads)
        other = theirs(A, repeats)
        symbolic = factor.symbolic
        row = f"{name:>16}{A.shape[0]:9d}{symbolic.nnz:9.2e}{symbolic.flops / 1e9:9.2g}"
        row += "".join(f"{t:9.2f}" for t in times)
        if other is not None:
            row += "".join(f"{t:9.2f}" for t in other[0]) + f"   {abs(other[1] / factor.logdet - 1):.1e}"
        write(row + "\n")
        figures = {"matrix": name, "m": A.shape[0], "nnz_L": symbolic.nnz, "flops": symbolic.flops}
        figures |= dict(zip(("analyse_ms", "factor_ms", "selected_ms", "solve_ms"), times, strict=True))
        names = ("cholmod_analyse_ms", "cholmod_factor_ms", "cholmod_solve_ms")
        figures |= dict(zip(names, ("", "", "") if other is None else other[0], strict=True))
        figures["logdet_apart"] = "" if other is None else abs(other[1] / factor.logdet - 1)
        rows.append({"threads": n_threads, **figures})
    return rows


def workers_and_firms(n=1_000_000, workers=200_000, firms=20_000, away=0.02):
    """Rows of workers who are at home in one firm, and a share of rows in any firm."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    worker = np.concatenate([np.arange(workers), rng.integers(0, workers, n - workers)])
    home = np.concatenate([np.arange(firms), rng.integers(0, firms, workers - firms)])
    firm = np.where(rng.random(n) < away, rng.integers(0, firms, n), home[worker])
    x = rng.normal(size=(n, 3))
    y = 1 + x.sum(axis=1) + rng.normal(size=workers)[worker] + 0.7 * rng.normal(size=firms)[firm]
    y += rng.normal(size=n)
    return pd.DataFrame({"y": y, "x1": x[:, 0], "x2": x[:, 1], "x3": x[:, 2], "worker": worker, "firm": firm})


def fit(repeats, n_threads, write):
    import fastlmm_core as flm

    data = workers_and_firms()
    formula = "y ~ x1 + x2 + x3 + (1 | worker) + (1 | firm)"
    seconds = least(repeats, lambda: flm.lmer(formula, data, n_threads=n_threads)) / 1e3
    write(f"1M rows, 200k workers x 20k firms, 2 percent of rows away: {seconds:.2f} s\n")


def main(argv=None):
    args = arguments(argv)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if os.environ.get(name) != str(args.threads):  # pools read these when they are loaded: begin again
            os.environ.update(OMP_NUM_THREADS=str(args.threads), OPENBLAS_NUM_THREADS=str(args.threads))
            given = list(sys.argv[1:] if argv is None else argv)
            os.execv(sys.executable, [sys.executable, str(Path(__file__).resolve()), *given])
    rows = compare(args.repeats, args.threads, sys.stdout.write)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if args.fit:
        fit(args.repeats, args.threads, sys.stdout.write)


if __name__ == "__main__":
    main()
