"""Threads of OpenMP across fork()."""

cdef extern from "flm_threads.h" nogil:
    int flm_one_thread() noexcept


def one_thread():
    """Kernels called by this thread use it alone from now on; whether they were built with OpenMP."""
    return bool(flm_one_thread())
