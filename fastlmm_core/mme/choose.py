"""Which engine for which structure; the only place that decides."""

from functools import partial
from typing import Any

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.mme.collapsed import CollapsedEngine, can_collapse
from fastlmm_core.mme.engine import Engine
from fastlmm_core.mme.forecast import forecast, nested_reason, scout_seconds
from fastlmm_core.mme.moment_start import moment_ratios
from fastlmm_core.mme.tree import TreeEngine
from fastlmm_core.mme.unmatched import unmatched_means

SMALL = 300
"""Columns of the Schur complement up to which the dense one takes a millisecond and nothing is counted."""

NAMES = ("auto", "collapsed", "tree", "crossed", "dense", "sparse", "iterative")

AFFORDABLE_SECONDS = 100.0
"""Predicted seconds of one exact step, one thread, above which probes take its place."""

CLEARLY = 0.8
"""The sparse equations are taken where they are predicted to need less than this share of the dense time:
a factor of other data may fill in more than its count says about time."""

SCOUT_SECONDS = 0.2
"""From here on a search by probes finds the start of the exact one, if it costs less than two steps."""


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
    if engine == "collapsed" or (engine == "auto" and can_collapse(cp, n_threads)):
        chosen, reason = CollapsedEngine(cp, keep, n_threads), nested_reason(cp, "collapsed")
    elif engine == "tree" or (engine == "auto" and cp.structure == "tree"):
        chosen, reason = TreeEngine(cp, keep, n_threads), nested_reason(cp, "tree")
    else:
        chosen, reason = _crossed(cp, keep, engine, n_threads)
        chosen.moment_ratios = lambda: moment_ratios(cp, keep)
    chosen.unmatched = partial(unmatched_means, cp, keep)
    chosen.reason = reason if engine == "auto" else f"asked for; {reason}"
    return chosen


def _crossed(cp: CrossProducts, keep, engine: str, n_threads: int) -> tuple[Engine, str]:
    """Dense, sparse or no Schur complement; kernels are imported when they are needed."""
    from fastlmm_core.mme.costs import sizes_of
    from fastlmm_core.mme.crossed import CrossedEngine
    from fastlmm_core.mme.iterative import IterativeEngine
    from fastlmm_core.mme.schur_counts import analyse_schur
    from fastlmm_core.mme.sparse_schur import SparseSchurEngine

    if cp.structure != "crossed":
        raise ModelError(f"the engine {engine!r} is for crossed grouping factors; these are nested")
    sizes = sizes_of(cp)
    if engine in ("crossed", "dense"):
        return CrossedEngine(cp, keep, n_threads), f"dense Schur complement, m = {sizes.m} columns"
    if engine == "auto" and sizes.m <= SMALL:
        return CrossedEngine(cp, keep, n_threads), (
            f"dense Schur complement: it is small, m = {sizes.m} columns"
        )
    if engine == "iterative":
        _check_iterative(cp, sizes, None)
        return IterativeEngine(cp, keep, n_threads), f"conjugate gradients and probes, m = {sizes.m} columns"
    analysis = analyse_schur(cp, n_threads, always=engine == "sparse")
    if engine == "sparse":
        reason = f"sparse Schur complement: {analysis.counts.describe()}"
        return SparseSchurEngine(cp, keep, n_threads, analysis), reason
    name, why = verdict(analysis.counts, sizes)
    reason = f"{why}; {analysis.counts.describe()}"
    if name == "iterative":
        _check_iterative(cp, sizes, analysis)
        return IterativeEngine(cp, keep, n_threads), reason
    exact: Any = SparseSchurEngine(cp, keep, n_threads, analysis) if name == "sparse" else None
    if exact is None:
        exact = CrossedEngine(cp, keep, n_threads)
    if _is_scouted(analysis.counts, sizes):
        exact.scout = lambda: _scout(cp, keep, n_threads)
    return exact, reason


def _scout(cp: CrossProducts, keep, n_threads: int) -> Engine:
    """The engine whose search finds the start of an exact one."""
    from fastlmm_core.mme.iterative import IterativeEngine

    engine: Any = IterativeEngine(cp, keep, n_threads)
    engine.moment_ratios = lambda: moment_ratios(cp, keep)
    return engine


def verdict(counts, sizes) -> tuple[str, str]:
    """The engine for crossed factors with these counts, and why; predictions for one thread decide."""
    if sizes.m <= SMALL:
        return "dense", f"dense Schur complement: it is small, m = {sizes.m} columns"
    name, seconds = _exact(counts)
    if name is None or seconds > AFFORDABLE_SECONDS:
        why = "no factor fits in memory" if name is None else f"a factor would take {seconds:.2g} s a step"
        return "iterative", f"conjugate gradients and probes: {why}"
    if name == "sparse" and not counts.dense_fits:
        why = "the dense matrix does not fit in memory"
    elif name == "sparse":
        why = f"a step takes {counts.sparse_seconds / counts.dense_seconds:.2g} of the time of a dense one"
    elif counts.sparse_seconds is None:
        why = f"{counts.density_S:.2g} of S is filled before it is factored"
    elif not counts.sparse_fits:
        why = "the sparse factor does not fit in memory"
    else:
        why = f"a sparse step takes {counts.sparse_seconds / counts.dense_seconds:.2g} of its time"
    started = ", started from probes" if _is_scouted(counts, sizes) else ""
    return name, f"{name} Schur complement{started}: {why}"


def _exact(counts) -> tuple[str | None, float]:
    """The cheaper exact engine that fits, and its predicted seconds per step."""
    if counts.sparse_fits and (
        not counts.dense_fits or counts.sparse_seconds < CLEARLY * counts.dense_seconds
    ):
        return "sparse", counts.sparse_seconds
    return ("dense", counts.dense_seconds) if counts.dense_fits else (None, float("inf"))


def _is_scouted(counts, sizes) -> bool:
    """Whether a search by probes finds the start of the exact one."""
    seconds = _exact(counts)[1]
    return seconds >= SCOUT_SECONDS and scout_seconds(sizes) <= 2.0 * seconds


def _check_iterative(cp: CrossProducts, sizes, analysis) -> None:
    """Raise ModelError, with the figures of all engines, where not even conjugate gradients fit."""
    from fastlmm_core.mme import crossed_arrays
    from fastlmm_core.mme.iterative_arrays import iterative_bytes

    needed, available = iterative_bytes(sizes), crossed_arrays.available_bytes()
    if available is not None and needed > available:
        table = forecast(cp, engine="iterative", analysis=analysis)
        raise ModelError(
            f"the equations of the crossed factors need {needed / 1e9:.3g} GB iteratively, and "
            f"{available / 1e9:.3g} GB are available\n{table}"
        )
