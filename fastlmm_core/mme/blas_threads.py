"""Threads of the BLAS libraries that SciPy and NumPy were linked with.

OpenBLAS and MKL keep a pool of threads of their own, whose size is one number per
process.  `blas_threads` sets it while a computation runs and gives it back: our
kernels share out single-threaded BLAS calls among their own threads, and
``n_threads=1`` keeps to one core.  Where no library offers the setting
(Accelerate, the reference BLAS, Windows) nothing happens.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

PREFIXES, SUFFIXES = ("scipy_openblas", "openblas"), ("", "64_", "_", "_64")
"""Spellings of ``openblas_set_num_threads`` in wheels and distributions."""


@dataclass(frozen=True)
class Pool:
    """One library's number of threads."""

    get: Callable[[], int]
    set: Callable[[int], None]


@lru_cache(maxsize=1)
def pools() -> tuple[Pool, ...]:
    """The libraries behind ``scipy.linalg.cython_lapack`` and NumPy's products, each once."""
    import scipy.linalg.cython_lapack  # noqa: F401

    names = "scipy.linalg.cython_lapack", "numpy._core._multiarray_umath", "numpy.core._multiarray_umath"
    found: dict[int, Pool] = {}
    for name in names:
        pool = _pool_behind(getattr(sys.modules.get(name), "__file__", None))
        if pool is not None:
            found.setdefault(*pool)
    return tuple(found.values())


def _pool_behind(path: str | None) -> tuple[int, Pool] | None:
    """Address of the setter and the pool, looked up among the libraries a loaded module depends on."""
    if path is None or not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        library = ctypes.CDLL(path, os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None
    pairs = [(f"{p}_get_num_threads{s}", f"{p}_set_num_threads{s}") for p in PREFIXES for s in SUFFIXES]
    for getter, setter in [*pairs, ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")]:
        if getter.endswith("_") and not getter.endswith("64_"):
            continue  # Fortran's spelling takes a pointer
        get, put = getattr(library, getter, None), getattr(library, setter, None)
        if get is not None and put is not None:
            get.argtypes, get.restype = [], ctypes.c_int
            put.argtypes, put.restype = [ctypes.c_int], None
            return ctypes.cast(put, ctypes.c_void_p).value or 0, Pool(get, put)
    return None


class _Requests:
    """Numbers asked for by computations under way; the latest one holds, the first to come saves."""

    def __init__(self):
        self.lock = threading.Lock()
        self.active: list[list[int]] = []
        self.saved: list[int] = []

    def enter(self, request: list[int]) -> None:
        with self.lock:
            if not self.active:
                self.saved = [pool.get() for pool in pools()]
            self.active.append(request)
            self._apply()

    def leave(self, request: list[int]) -> None:
        with self.lock:
            self.active = [other for other in self.active if other is not request]
            self._apply()

    def _apply(self):
        for pool, saved in zip(pools(), self.saved):
            wanted = self.active[-1][0] if self.active else saved
            if pool.get() != wanted:
                pool.set(wanted)


_REQUESTS = _Requests()


@contextmanager
def blas_threads(n_threads: int = 1) -> Iterator[None]:
    """Keep BLAS to ``n_threads``; on leaving, what was set before holds again.

    Of computations that overlap in several threads the latest decides, and the setting from before
    all of them comes back when the last one ends.
    """
    request = [n_threads]
    _REQUESTS.enter(request)
    try:
        yield
    finally:
        _REQUESTS.leave(request)


def single_blas(method: Callable) -> Callable:
    """A method during which BLAS keeps to one thread."""

    def wrapped(self, *args, **kwargs):
        with blas_threads(1):
            return method(self, *args, **kwargs)

    wrapped.__name__, wrapped.__doc__ = method.__name__, method.__doc__
    return wrapped
