"""The machine and the settings a run was made with."""

import os
import platform
from datetime import datetime, timezone

POOLS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "ARROW_NUM_THREADS",
)


def pinned(threads):
    """The process environment with every known thread pool set to ``threads``."""
    return os.environ | {name: str(threads) for name in POOLS}


def _proc(path, key):
    try:
        with open(path) as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")
    except OSError:
        return ""


def describe():
    """CPU, memory, load and interpreter, as a flat dict of text."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _proc("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": _proc("/proc/meminfo", "MemTotal"),
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
