"""Roots of a score that is estimated from probes.

With several factors too large to factor, log|V0| is known only with a Monte
Carlo error of the order of 1, far too much to compare two values, while the
score has an error of a fraction of its standard deviation.  So the search
solves ``score = 0``: steps of average information (Gilmour, Thompson & Cullis
1995, doi:10.2307/2533274) in the coordinates of `chart`, judged by the
decrement ``g'H^-1 g / 2``, the squared distance to the root in standard errors.
The probes are the same in every evaluation, hence the estimated score is one
smooth function with a root of its own.

The first iterations use few probes, the last ones all; more are added until the
Monte Carlo error asked for holds.
"""

import numpy as np

from fastlmm_core.criterion.information import average_hessian
from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.covariance import ThetaMap
from fastlmm_core.optimize.certificate import MonteCarlo, Step
from fastlmm_core.optimize.chart import Chart
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.driver import (
    INTERRUPTED,
    Optimum,
    _finish,
    _limited,
    _Search,
    _step,
    _stop,
    _try_boundary,
)
from fastlmm_core.optimize.newton import quadratic
from fastlmm_core.optimize.start import estimate, starting_factors

FIRST_PROBES = 16
FIRST_TARGET = 1e-4
"""Decrement (squared standard errors) from which the search goes on with all probes."""
SHARE = 0.01
"""The decrement stops below this share of what the probes' error contributes to it."""
TARGET = 1e-10
MAX_PROBES = 2000
SOLVED = "score below its Monte Carlo error"


class _ScoreSearch(_Search):
    """A search that never compares values: any of them is within the noise."""

    noise = float("inf")


def solve_score(
    objective: ProfiledObjective,
    theta_map: ThetaMap,
    *,
    start: np.ndarray | None = None,
    control: Control | None = None,
    names: list[str] | None = None,
) -> Optimum:
    """Like `minimize`, for an engine whose log|V0| and F are estimates.

    The certificate holds the Monte Carlo errors; ``converged`` is False where
    ``control.mc_error`` could not be reached with `MAX_PROBES` probes.

    Raises
    ------
    NumericalError : the equations cannot be solved at the starting value.
    """
    control = control or Control()
    engine = objective.engine
    wanted = control.probes or engine.probes
    before = objective.n_values, objective.n_gradients
    engine.set_probes(min(FIRST_PROBES, wanted), control.seed, rough=wanted > FIRST_PROBES)
    chart = Chart(theta_map, starting_factors(objective, theta_map, start, 0, control.seed))
    search = _ScoreSearch(objective, control, chart, objective.evaluate(chart.Lambda(chart.M)), [], {})
    errors = None
    try:
        if wanted > engine.probes:
            _iterate_until(search, coarse=True)
            _refine(search, wanted)
        while True:
            _iterate_until(search, coarse=False)
            if not search.converged:
                break
            errors = monte_carlo(objective, theta_map, search)
            if control.mc_error is None or errors.worst <= control.mc_error:
                break
            if engine.probes >= MAX_PROBES:
                search.converged = False
                search.reason = (
                    f"a Monte Carlo error of {control.mc_error:.2g} needs more than {MAX_PROBES} probes"
                )
                break
            factor = 1.2 * (errors.worst / control.mc_error) ** 2
            _refine(search, min(MAX_PROBES, int(np.ceil(engine.probes * factor))))
    except KeyboardInterrupt:
        search.converged, search.reason = False, INTERRUPTED
    except NumericalError as error:
        search.converged, search.reason = False, str(error)
    objective.gradient(search.point)
    objective.at(search.point)
    errors = errors or monte_carlo(objective, theta_map, search)
    counts = objective.n_values - before[0], objective.n_gradients - before[1]
    optimum = _finish(theta_map, search, counts, 1, names)
    optimum.certificate.monte_carlo = errors
    return optimum


def scouted_start(objective: ProfiledObjective, theta_map: ThetaMap, control: Control) -> np.ndarray | None:
    """theta found with the probes of the engine's ``scout``, from which an exact search needs a step or two.

    Loose: an error of a hundredth of a standard error costs the exact search nothing.
    """
    scout = ProfiledObjective(objective.engine.scout(), objective.n, objective.reml)
    try:
        found = solve_score(
            scout, theta_map, control=Control(probes=FIRST_PROBES, tol=1e-7, seed=control.seed)
        )
    except NumericalError:
        return None
    if found.certificate.reason == INTERRUPTED:
        raise KeyboardInterrupt  # there is no fit to return yet
    return found.theta


def monte_carlo(objective: ProfiledObjective, theta_map: ThetaMap, search: _Search) -> MonteCarlo:
    """Errors at the point of a search: ``H^-1 Cov(score) H^-1`` against ``2 H^-1`` in theta."""
    theta = theta_map.theta_from_Lambda(search.chart.Lambda(search.chart.M))
    directions = theta_map.directions(theta)
    objective.gradient(search.point)
    H = average_hessian(objective, search.point, directions)
    inverse = _pseudo_inverse(H)
    noise = objective.engine.score_noise(directions)
    squares, variances = np.diag(inverse @ noise @ inverse), 2.0 * np.diag(inverse)
    known = variances > 0
    ratio = np.full(len(theta), np.nan)
    ratio[known] = np.sqrt(np.maximum(squares[known], 0.0) / variances[known])
    return MonteCarlo(tuple(ratio.tolist()), 0.5 * objective.engine.logdet_sd, objective.engine.probes)


def _refine(search: _Search, probes: int) -> None:
    """Go on with ``probes`` probes from where the last step leads."""
    search.objective.engine.set_probes(probes)
    search.objective._last = None
    if search.model is not None and len(search.model.g) and 0 < search.decrement <= FIRST_TARGET:
        chart = search.chart
        factors = _moved(search, _limited(search, search.step), 1.0)
        search.iterations += 1
        search.trace.append(Step(search.point.value, search.decrement, 1.0))
    else:
        chart, factors = search.chart, search.chart.terms(search.chart.M)
    search.chart = Chart(chart.map, factors)
    search.point = search.objective.evaluate(search.chart.Lambda(search.chart.M))
    search.converged = False


def _iterate_until(search: _Search, coarse: bool) -> None:
    """Steps until the decrement is negligible; says so in ``search``."""
    _look(search)
    while True:
        target = _target(search, coarse)
        if search.decrement <= target:
            _stop(search, SOLVED if search.model.m or search.model.released else "every variance is zero")
            break
        if search.iterations >= search.control.max_iter:
            search.converged, search.reason = False, f"no convergence in {search.iterations} iterations"
            break
        previous, value = search.decrement, search.point.value
        search.iterations += 1
        length = _advance(search, target)
        search.trace.append(Step(value, previous, length))
        if previous < 1e-6 and search.decrement > 0.25 * previous:
            _stop(search, "score at the accuracy of its linear systems")
            break


def _look(search: _Search) -> None:
    """Derivatives, Newton step and decrement at the search's point."""
    search.model = quadratic(search.objective, search.chart, search.point, "average")
    if len(search.model.g):
        search.step = _step(search, search.model)
    else:
        search.step = np.zeros(0)
    if not len(search.step):
        search.decrement, search.min_eigenvalue, search.scaled_gradient = 0.0, float("nan"), 0.0


def _target(search: _Search, coarse: bool) -> float:
    """Decrement at which to stop: a share of ``tr(H^-1 Cov(g)) / 2``."""
    if coarse:
        return FIRST_TARGET
    if search.control.tol is not None:
        return search.control.tol
    m = search.model.m
    directions = [(f, X) for f, Xf in enumerate(search.chart.directions()) for X in Xf]
    noise = search.objective.engine.score_noise(directions)
    inverse = _pseudo_inverse(search.model.H[:m, :m]) if m else np.zeros((0, 0))
    return max(TARGET, SHARE * 0.5 * float(np.trace(inverse @ noise)))


def _advance(search: _Search, target: float) -> float:
    """One accepted step; its length, 1 for a face of the cone and 0 for a step of Schall's."""
    if _try_boundary(search, search.step):
        _look(search)
        return 1.0
    kept = search.chart, search.point, search.model, search.step, search.decrement
    best, length = None, 1.0
    for _ in range(4):
        search.chart, search.point, search.model, search.step, search.decrement = kept
        try:
            search.chart = Chart(search.chart.map, _moved(search, _limited(search, search.step), length))
            search.point = search.objective.evaluate(search.chart.Lambda(search.chart.M))
            _look(search)
        except NumericalError:
            length *= 0.25
            continue
        if search.decrement <= max(0.9 * kept[-1], target):
            return length
        if best is None or search.decrement < best[0]:
            best = (
                search.decrement,
                (search.chart, search.point, search.model, search.step, search.decrement),
                length,
            )
        length *= 0.4
    if best is not None and best[0] < 4.0 * kept[-1]:
        search.chart, search.point, search.model, search.step, search.decrement = best[1]
        return best[2]
    factors = estimate(search.objective, kept[0].map, kept[0].terms(kept[0].M))
    search.chart = Chart(kept[0].map, factors)
    search.point = search.objective.evaluate(search.chart.Lambda(search.chart.M))
    _look(search)
    return 0.0


def _moved(search: _Search, step: np.ndarray, length: float) -> list[np.ndarray]:
    """Per-term factors after ``length * step``, released directions added."""
    chart, m = search.chart, search.model.m
    extra = {
        t: np.sqrt(length * amount) * w
        for (t, _, w), amount in zip(search.model.released, step[m:])
        if amount > 0
    }
    return chart.terms(chart.moved(chart.x + length * step[:m]), extra=extra)


def _pseudo_inverse(H: np.ndarray, tol: float = 1e-10) -> np.ndarray:
    """Of a positive semidefinite matrix, judged with its diagonal scaled to 1."""
    d = np.sqrt(np.maximum(H.diagonal(), 0.0))
    d = np.divide(1.0, d, out=np.zeros_like(d), where=d > 0)
    values, vectors = np.linalg.eigh(0.5 * (H + H.T) * np.outer(d, d))
    used = values > tol * max(values.max(initial=0.0), 1e-300)
    V = vectors[:, used] * d[:, None]
    return (V / values[used]) @ V.T
