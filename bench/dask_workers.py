"""Parquet files on one and two worker processes of Dask, and with a worker that is killed.

    python -m bench.dask_workers        # 50M rows in 20 files, 3 minutes, 1.8 GB of disk

Every worker has one thread.  Times are from paths to the fitted model, medians, after a run over one file.
Writes ``results/dask_workers.csv``.
"""

import argparse
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

from . import records
from .parquet_rows import generate

FORMULA = "y ~ f + x + x2 + (1 | g)"


def timed(folder, client, kill_after=None):
    """Seconds, criterion and the process that was killed, of one fit."""
    import fastlmm_core as flm

    killed = []

    def kill():
        pids = client.run(os.getpid)
        killed.append(pids[sorted(pids)[0]])
        os.kill(killed[0], signal.SIGKILL)

    timer = threading.Timer(kill_after, kill) if kill_after else None
    started = time.perf_counter()
    if timer:
        timer.start()
    fit = flm.lmer(FORMULA, str(folder), client=client)
    seconds = time.perf_counter() - started
    if timer:
        timer.join()
    return {"seconds": seconds, "criterion": float(-2 * fit.llf), "killed": len(killed)}


def on_workers(folder, workers, options):
    """Rows of the results for a cluster of ``workers`` processes."""
    from distributed import Client, LocalCluster

    shape = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    first = sorted(Path(folder).glob("*.parquet"))[0]
    with LocalCluster(**shape) as cluster, Client(cluster) as client:
        timed(first, client)
        runs = [timed(folder, client) for _ in range(options.repeats)]
        seconds = statistics.median(run["seconds"] for run in runs)
        yield {"workers": workers, "killed": 0, "seconds": seconds, "criterion": repr(runs[0]["criterion"])}
        if workers > 1:
            run = timed(folder, client, kill_after=0.4 * seconds)
            yield {"workers": workers} | run | {"criterion": repr(run["criterion"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=50 * 10**6)
    parser.add_argument("--groups", type=int, default=10**5)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the files are made")
    parser.add_argument("--out", help="folder of the results")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dask", dir=options.folder))
    rows = []
    try:
        generate(folder, options.rows, options.groups, options.files, False, processes=2, plain=True)
        for workers in (1, 2):
            for row in on_workers(folder, workers, options):
                rows.append(row)
                records.tell(row)
    finally:
        shutil.rmtree(folder)
    faster = rows[0]["seconds"] / rows[1]["seconds"]
    records.tell({"2 workers are faster by": faster})
    settings = {"formula": FORMULA, "rows": options.rows, "groups": options.groups, "faster": f"{faster:.3g}"}
    records.write("dask_workers", rows, settings, options.out)


if __name__ == "__main__":
    main()
