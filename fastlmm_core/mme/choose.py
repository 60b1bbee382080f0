"""Which engine for which structure; the only place that decides."""

from typing import Any

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.mme.collapsed import CollapsedEngine, can_collapse
from fastlmm_core.mme.engine import Engine
from fastlmm_core.mme.tree import TreeEngine

SMALL = 300
"""Columns of the Schur complement up to which the dense one takes a millisecond and nothing is counted."""

FULL_FACTOR = 0.5
"""Share of the lower triangle that the sparse factor fills from which the dense one is as fast."""

NAMES = ("auto", "collapsed", "tree", "crossed", "dense", "sparse", "iterative")

AFFORDABLE_SECONDS = 60.0
"""Predicted seconds of one exact evaluation above which probes take its place."""

SCOUT_SECONDS = 1.0
"""From here on a search by probes finds the start of the exact one, if it costs less than two evaluations."""


def choose_engine(cp: CrossProducts, keep, *, engine: str = "auto", n_threads: int = 1) -> Engine:
    """The engine for these statistics; its attribute ``reason`` (str) says why this one, with figures.

    Parameters
    ----------
    cp : CrossProducts
    keep : (p,) int, positions in ``cp.x`` of the columns of X to use
    engine : "auto", or one of "collapsed", "tree", "crossed" (alias "dense"), "sparse", "iterative" to
        force it;
        for nested factors "sparse" is "tree"
    n_threads : threads of the kernels; results do not depend on it

    Raises
    ------
    ModelError
        no grouping factor, an unknown name, an engine that does not fit the structure, or equations
        that do not fit in memory (nothing large has been allocated then)
    """
    if cp.structure == "none":
        raise ModelError("a model without grouping factors has no mixed-model equations to solve")
    if engine not in NAMES:
        raise ModelError(f"unknown engine {engine!r}; choose {', '.join(NAMES)}")
    if engine == "sparse" and cp.structure == "tree":
        engine = "tree"
    chosen: Any
    if engine == "collapsed" or (engine == "auto" and can_collapse(cp)):
        chosen = CollapsedEngine(cp, keep, n_threads)
        reason = "one random intercept: levels with the same number of rows are one record"
    elif engine == "tree" or (engine == "auto" and cp.structure == "tree"):
        chosen = TreeEngine(cp, keep, n_threads)
        chain = (
            "one grouping factor" if len(cp.order) == 1 else f"{len(cp.order)} grouping factors, each nested"
        )
        reason = f"{chain}: the equations stay block-diagonal"
    else:
        chosen, reason = _crossed(cp, keep, engine, n_threads)
    chosen.reason = reason if engine == "auto" else f"asked for; {reason}"
    return chosen


def _crossed(cp: CrossProducts, keep, engine: str, n_threads: int) -> tuple[Engine, str]:
    """Dense or sparse Schur complement; kernels are imported when they are needed."""
    from fastlmm_core.mme.crossed import CrossedEngine

    m = sum(cp.levels[f] * len(cp.z[f]) for f in cp.order[1:])
    if engine in ("crossed", "dense"):
        return CrossedEngine(cp, keep, n_threads), f"dense Schur complement, m = {m} columns"
    if engine == "iterative":
        from fastlmm_core.mme.iterative import IterativeEngine

        return IterativeEngine(cp, keep, n_threads), f"conjugate gradients and probes, m = {m} columns"
    if engine == "auto" and m <= SMALL:
        return CrossedEngine(cp, keep, n_threads), f"dense Schur complement: it is small, m = {m} columns"

    from fastlmm_core.mme.schur_counts import analyse_schur
    from fastlmm_core.mme.sparse_schur import SparseSchurEngine

    analysis = analyse_schur(cp, n_threads, always=engine == "sparse")
    counts = analysis.counts
    if engine == "sparse":
        return SparseSchurEngine(
            cp, keep, n_threads, analysis
        ), f"sparse Schur complement: {counts.describe()}"
    seconds = []
    if counts.dense_fits:
        seconds.append(counts.dense_seconds)
    if counts.sparse_fits:
        seconds.append(counts.sparse_seconds)
    if not seconds or min(seconds) > AFFORDABLE_SECONDS:
        return _iterative(cp, keep, n_threads, counts)
    if counts.sparse_fits and (not counts.dense_fits or _is_cheaper(counts)):
        exact: Any = SparseSchurEngine(cp, keep, n_threads, analysis)
        reason = f"sparse Schur complement: {counts.describe()}"
    else:
        exact, reason = CrossedEngine(cp, keep, n_threads), f"dense Schur complement: {counts.describe()}"
    return exact, reason + _scouted(exact, cp, keep, n_threads, min(seconds))


def _iterative(cp: CrossProducts, keep, n_threads: int, counts) -> tuple[Engine, str]:
    """Probes, where no factorization is affordable."""
    from fastlmm_core.mme.crossed_arrays import available_bytes
    from fastlmm_core.mme.iterative import IterativeEngine
    from fastlmm_core.mme.iterative_arrays import iterative_forecast

    forecast, available = iterative_forecast(cp), available_bytes()
    words = f"{forecast.bytes / 1e9:.2g} GB, about {forecast.seconds / n_threads:.2g} s"
    if available is not None and forecast.bytes > available:
        raise ModelError(
            f"the equations of the crossed factors do not fit in memory, not even iteratively ({words}): "
            f"{counts.describe()}"
        )
    return IterativeEngine(
        cp, keep, n_threads
    ), f"conjugate gradients and probes ({words}): {counts.describe()}"


def _scouted(exact: Any, cp: CrossProducts, keep, n_threads: int, seconds: float) -> str:
    """Let a search by probes find the start where that is cheaper; the reason says so."""
    from fastlmm_core.mme.iterative_arrays import iterative_forecast

    if seconds < SCOUT_SECONDS or iterative_forecast(cp).seconds > 2.0 * seconds:
        return ""

    def scout():
        from fastlmm_core.mme.iterative import IterativeEngine

        return IterativeEngine(cp, keep, n_threads)

    exact.scout = scout
    return "; started from probes"


def _is_cheaper(counts) -> bool:
    """The sparse equations are clearly cheaper."""
    return counts.density_L < FULL_FACTOR and counts.sparse_seconds < 0.8 * counts.dense_seconds
