"""One library on one case in one process: ``python -m bench.worker settings.json result.json``.

The first fit warms up the process; its time is dropped and its peak memory kept.  If it took
longer than ``settings["slow"]`` seconds it is the measurement, marked as cold.
"""

import gc
import importlib
import json
import resource
import sys
import time
import warnings

from . import memory, store
from .model import Model


def _cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _timed(adapter, prepared, model, settings):
    gc.collect()
    wall, cpu = time.perf_counter(), _cpu()
    answer = adapter.fit(prepared, model, settings)
    return {"seconds": time.perf_counter() - wall, "cpu": _cpu() - cpu, **answer}


def measure(settings):
    """Runs of one library on one case.

    Returns
    -------
    dict for JSON: ``status``, and when that is ``"ok"`` the runs, memory and versions
    """
    adapter = importlib.import_module(f"bench.libraries.{settings['library']}")
    try:
        versions = adapter.load()
    except ImportError as err:
        return {"status": "not installed", "detail": str(err)}
    record = json.loads((store.Path(settings["data"]) / "case.json").read_text())
    model = Model.from_record(record["model"])
    refusal = adapter.refuses(model)
    if refusal:
        return {"status": "unsupported", "detail": refusal, "versions": versions}
    after_imports = memory.resident()
    record, frame = store.read(settings["data"])
    prepared = adapter.prepare(frame, model)
    gc.collect()
    ready = memory.resident()
    memory.reset_peak()
    first = _timed(adapter, prepared, model, settings)
    bytes_peak = memory.peak()
    cold = first["seconds"] > settings["slow"]
    again = 0 if cold else settings["repeats"]
    runs = [_timed(adapter, prepared, model, settings) for _ in range(again)] or [first]
    return {
        "status": "ok", "runs": runs, "cold": cold, "first_seconds": first["seconds"], "versions": versions,
        "rss_imports": after_imports, "rss_ready": ready, "rss_peak": bytes_peak,
    }


def main():
    source, target = sys.argv[1:3]
    with open(source) as file:
        settings = json.load(file)
    warnings.simplefilter("ignore")
    try:
        result = measure(settings)
    except Exception as err:  # a peer may fail in any way; the harness reports it
        result = {"status": "error", "detail": f"{type(err).__name__}: {err}"[:500]}
    with open(target, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
