"""From statistics to estimates: what a fit does once the rows have been read.

rank -> engine -> optimum -> estimates
"""

import sys
from contextlib import contextmanager
from time import perf_counter

import numpy as np

from fastlmm_core.criterion.profiled import NO_RESIDUAL, ProfiledObjective
from fastlmm_core.crossprod.rank import check_rank
from fastlmm_core.errors import DataWarning, ModelError, NumericalError, RankWarning, advise
from fastlmm_core.inference.estimates import FixedCoordinates, build_estimates
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.driver import minimize
from fastlmm_core.results.facts import MixedFacts, Term

FEW_DIGITS = 1e-9
"""Share of the residuals in y'Wy below which their variance has 6 digits or fewer."""

STAGES = ("frame", "design", "cross-products", "optimise", "inference")


class Clock:
    """Times the stages and reports them as they begin."""

    def __init__(self, progress):
        if progress is True:
            progress = _to_stderr
        if progress is not None and progress is not False and not callable(progress):
            raise TypeError(f"progress is None, a bool or a callable, found {progress!r}")
        self.progress = progress or None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str):
        if self.progress:
            self.progress(stage, STAGES.index(stage) / len(STAGES))
        started = perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - started
        if self.progress and stage == STAGES[-1]:
            self.progress("done", 1.0)


def _to_stderr(stage, fraction):
    sys.stderr.write(f"fastlmm_core: {fraction:4.0%} {stage}\n")


def solve(products, standardization, layout, kept, names, *, reml, start, control, threads, clock):
    """Engine, optimum and estimates of a model.

    Parameters
    ----------
    kept : columns of X to keep.
    names : of theta, in lme4's order.

    Returns
    -------
    SolvedModel, and how the search ended
    """
    check_control(control)
    with clock("optimise"):
        engine = _engine(products, kept, control, threads)
        blocks = [TermBlock(*place) for place in layout.term_slices]
        theta_map = ThetaMap(blocks, layout.k, standardization.z_maps)
        total = float(products.C[products.y, products.y])
        objective = ProfiledObjective(engine, products.n, bool(reml), products.sum_log_weights, total=total)
        optimum = _minimize(objective, theta_map, start, control, names)
    with clock("inference"):
        fixed = fixed_coordinates(standardization, kept)
        estimates = build_estimates(
            optimum.point, optimum.theta, theta_map, bool(reml), products.n, products.sum_log_weights, fixed
        )
        _check_residual(optimum.point.r2 / total, optimum.certificate.converged)
        solved = SolvedModel(objective, optimum.point, theta_map, estimates, fixed, products)
    return solved, optimum.certificate


def check_control(control) -> None:
    """TypeError for what is no `Control`."""
    if control is not None and not isinstance(control, Control):
        raise TypeError(f"control is flm.Control(engine=..., tol=..., ...), found {control!r}")


def _engine(products, kept, control: Control | None, threads: int):
    """The engine that fits the structure, or the one a user forces."""
    wanted = "auto" if control is None else control.engine
    available = {"auto": "auto"}
    if products.structure == "tree":
        available["sparse"] = "tree"
    else:
        available["dense"] = "crossed"
        available["sparse"] = "sparse"
        available["iterative"] = "iterative"
    if wanted not in available:
        kind = "nested" if products.structure == "tree" else "crossed"
        raise ValueError(
            f"engine={wanted!r} is not offered for {kind} grouping factors; available: {', '.join(available)}"
        )
    return choose_engine(products, kept, engine=available[wanted], n_threads=threads)


def independent_columns(products, standardization, layout, design) -> np.ndarray:
    """Columns of X to keep; warns of the others."""
    kept, dropped = check_rank(products, standardization, layout, design)
    if dropped:
        constant = _constant(design, layout.fixed_names, dropped)
        shown = ", ".join(name + constant.get(name, "") for name in dropped)
        advise(
            f"fixed-effect columns that are linear in the others were dropped: {shown}; their coefficients "
            "are NaN",
            RankWarning,
        )
    return kept


def _constant(design, names, dropped) -> dict[str, str]:
    """What to say of dropped columns that do not vary, or so little that no fit can tell."""
    found: dict[str, str] = {}
    if design is None:
        return found
    for name, column in zip(names, design.fixed, strict=True):
        if name in dropped and len(column.atoms) == 1 and design.atoms[column.atoms[0]].table is None:
            values = design.atoms[column.atoms[0]].values
            low, high = float(values.min()), float(values.max())
            if high == low:
                found[name] = f" ({low:g} in all rows)"
            elif high - low <= 1e-7 * max(abs(low), abs(high)):
                found[name] = f" (varies by {high - low:.2g} around {low:.2g}: subtract its mean)"
    return found


def _minimize(objective, theta_map, start, control, names):
    try:
        return minimize(objective, theta_map, start=start, control=control, names=names)
    except NumericalError as error:
        raise ModelError(f"the model cannot be fitted to these data: {error}") from error


def _check_residual(share: float, converged: bool) -> None:
    """``share`` of the residuals in y'Wy: an exact fit leaves rounding errors, else few digits."""
    if not share > 1e-13:
        raise ModelError(
            f"{NO_RESIDUAL}, to the accuracy of sums of squares; was it computed from columns of the "
            "formula? If not, subtract what is known of it, as its mean or the prediction of a first fit"
        )
    if converged and share < FEW_DIGITS:
        advise(
            f"the residuals are {share**0.5:.0e} of the response, and sums of squares keep about "
            f"{max(int(np.log10(share / 1e-15)), 1)} digits of their variance: subtract what is known of the "
            "response, as its mean or the prediction of a first fit",
            DataWarning,
        )


def fixed_coordinates(standardization, kept) -> FixedCoordinates:
    p = len(standardization.x_scale)
    return FixedCoordinates(
        p=p,
        kept=kept,
        A=standardization.fixed_map(kept),
        shift=standardization.beta(np.zeros(len(kept)), kept),
        scale=standardization.y_scale,
    )


def theta_names(terms, groups) -> list[str]:
    """lme4's names of theta: ``g.Intercept``, ``g.x.Intercept``, ``g.x``."""
    names = []
    for term in terms:
        group, columns = groups[term.factor].name, [column.name for column in term.columns]
        for b in range(len(columns)):
            names += [
                f"{group}.{columns[a]}" + (f".{columns[b]}" if a > b else "") for a in range(b, len(columns))
            ]
    return names


def mixed_facts(linear: dict, groups, terms, reml, engine) -> MixedFacts:
    """Facts of a mixed model; ``groups`` have names and levels."""
    return MixedFacts(
        **linear,
        reml=bool(reml),
        factors=tuple(factor.name for factor in groups),
        levels=tuple(factor.levels for factor in groups),
        terms=tuple(Term(t.factor, tuple(column.name for column in t.columns)) for t in terms),
        engine=engine.name,
        engine_reason=getattr(engine, "reason", ""),
    )
