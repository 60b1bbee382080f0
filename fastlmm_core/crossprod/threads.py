"""How many threads the kernels use."""

import os

from fastlmm_core._kernels._threads import one_thread

if hasattr(os, "register_at_fork"):
    # libgomp hangs in a child of a process that used threads
    os.register_at_fork(after_in_child=one_thread)


def resolve_threads(n_threads: int | None) -> int:
    """``n_threads``, or by default the processors this process may run on, at most OMP_NUM_THREADS."""
    if n_threads is not None:
        if n_threads < 1:
            raise ValueError(f"n_threads is {n_threads}, expected 1 or more")
        return int(n_threads)
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(available, int(limit))) if limit.isdigit() else max(1, available)
