"""Fitting a solved model again: by another criterion, or to another response.

Nothing here touches the rows; the statistics that depend on the response are
two columns of C and one of every R_f.
"""

from dataclasses import replace

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.crossprod.layout import build_layout
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.formula.terms import Design
from fastlmm_core.inference.estimates import FixedCoordinates, build_estimates
from fastlmm_core.inference.simulate import RowStatistics
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.covariance import ThetaMap
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.driver import Optimum, minimize

PARALLEL_WORK = 1e8
"""Flops of one evaluation from which threads are worth waking."""


def engine_threads(solved: SolvedModel) -> int:
    """Threads the fit's engine was given; where it does not say, all if the work is worth them."""
    known = getattr(solved.objective.engine, "n_threads", None)
    if known is None:
        known = resolve_threads(None) if solved.objective.work > PARALLEL_WORK else 1
    return int(known)


def fresh_objective(
    solved: SolvedModel,
    products: CrossProducts | None = None,
    reml: bool | None = None,
    n_threads: int | None = None,
    engine: str | None = None,
) -> ProfiledObjective:
    """The model's criterion on an engine of its own, so that nobody's last Lambda is overwritten."""
    products = solved.products if products is None else products
    chosen = choose_engine(
        products,
        solved.fixed.kept,
        engine=solved.objective.engine.name if engine is None else engine,
        n_threads=engine_threads(solved) if n_threads is None else n_threads,
    )
    reml = solved.estimates.reml if reml is None else reml
    return ProfiledObjective(chosen, products.n, reml, products.sum_log_weights)


def with_response(products: CrossProducts, Uy: np.ndarray, yy: float, Zy: list[np.ndarray]) -> CrossProducts:
    """The statistics for another response y~.

    Parameters
    ----------
    Uy : (u,) ``U'W y~``; its entry at the response is not read.
    yy : ``y~'W y~``.
    Zy : per factor (levels, k) ``Z_f'W y~``.
    """
    y = products.y
    C = products.C.copy()
    C[y] = Uy
    C[:, y] = Uy
    C[y, y] = yy
    R = []
    for Rf, Zyf in zip(products.R, Zy, strict=True):
        changed = Rf.copy()
        changed[:, :, y] = Zyf
        R.append(changed)
    return replace(products, C=C, R=tuple(R))


def solve_again(
    solved: SolvedModel,
    objective: ProfiledObjective,
    products: CrossProducts | None = None,
    fixed: FixedCoordinates | None = None,
    theta_map: ThetaMap | None = None,
    start: np.ndarray | None = None,
    control: Control | None = None,
    names: list[str] | None = None,
) -> tuple[SolvedModel, Optimum]:
    """Minimise another criterion, and estimate; what is not given is that of ``solved``.

    Raises
    ------
    ModelError : the criterion cannot be minimised.
    """
    fixed = solved.fixed if fixed is None else fixed
    theta_map = solved.theta_map if theta_map is None else theta_map
    try:
        optimum = minimize(objective, theta_map, start=start, control=control, names=names)
    except NumericalError as error:
        raise ModelError(f"the model cannot be fitted again: {error}") from error
    products = solved.products if products is None else products
    estimates = build_estimates(
        optimum.point,
        optimum.theta,
        theta_map,
        objective.reml,
        objective.n,
        products.sum_log_weights,
        fixed,
    )
    return SolvedModel(objective, optimum.point, theta_map, estimates, fixed, products), optimum


def refit_response(
    solved: SolvedModel, design: Design, names: list[str] | None = None
) -> tuple[SolvedModel, Optimum]:
    """Fit ``design``, which differs from the design of the fit in its response only.

    One light pass over the rows; the search starts from the last optimum.

    Raises
    ------
    ModelError : the response is constant or fitted exactly.
    """
    standardization = standardize(design)
    layout = build_layout(design, standardization)
    y = (design.response - standardization.y_center) / standardization.y_scale
    products = with_response(solved.products, *RowStatistics(design, layout)(y))
    gram = products.C[np.ix_(products.x, products.x)]
    standardization = standardization.with_gram(gram)
    kept = solved.fixed.kept
    fixed = replace(
        solved.fixed,
        shift=standardization.beta(np.zeros(len(kept)), kept),
        scale=standardization.y_scale,
    )
    again, optimum = solve_again(
        solved,
        fresh_objective(solved, products),
        products=products,
        fixed=fixed,
        start=solved.estimates.theta,
        names=names,
    )
    if not optimum.point.r2 > 1e-13 * products.C[products.y, products.y]:
        raise ModelError("the residual variance is zero: the model fits the response exactly")
    return again, optimum


def by_maximum_likelihood(solved: SolvedModel) -> SolvedModel:
    """The same model by ML; itself when it was fitted so."""
    if not solved.estimates.reml:
        return solved
    objective = fresh_objective(solved, reml=False)
    start = solved.estimates.theta if not (solved.estimates.theta == 0).all() else None
    return solve_again(solved, objective, start=start)[0]
