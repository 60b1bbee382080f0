"""Which engine for which structure; the only place that decides."""

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.mme.collapsed import CollapsedEngine, can_collapse
from fastlmm_core.mme.engine import Engine
from fastlmm_core.mme.tree import TreeEngine


def choose_engine(cp: CrossProducts, keep, *, engine: str = "auto", n_threads: int = 1) -> Engine:
    """The engine for these statistics.

    Parameters
    ----------
    cp : CrossProducts
    keep : (p,) int, positions in ``cp.x`` of the columns of X to use
    engine : "auto", or "collapsed", "tree", "crossed" to force one
    n_threads : threads of the kernels; results do not depend on it

    Raises
    ------
    ModelError
        no grouping factor, an unknown name, or an engine that does not fit the structure
    """
    if cp.structure == "none":
        raise ModelError("a model without grouping factors has no mixed-model equations to solve")
    if engine == "auto":
        engine = "collapsed" if can_collapse(cp) else cp.structure
    if engine == "collapsed":
        return CollapsedEngine(cp, keep, n_threads)
    if engine == "tree":
        return TreeEngine(cp, keep, n_threads)
    if engine == "crossed":
        from fastlmm_core.mme.crossed import CrossedEngine

        return CrossedEngine(cp, keep, n_threads)
    raise ModelError(f"unknown engine {engine!r}; choose auto, collapsed, tree or crossed")
