"""Newton's method on a product of cones of positive semidefinite matrices.

Every term's relative covariance T lives on the manifold of some rank, in the
coordinates of `chart`.  An iteration forms gradient and Hessian there, and

* takes a Newton step, eigenvalues by absolute value, with a line search;
* where the step would carry the last pivot of a term through zero, tries the
  face of the cone where it is exactly zero and stays if the criterion is not
  higher and the Karush-Kuhn-Tucker condition holds there;
* where a term without full rank has a direction along which the criterion
  falls, adds that direction to the step.

So a variance of zero is found, not approached, and a search that starts on the
boundary leaves it.  The search ends when the Newton decrement, the criterion
still to gain, is negligible, the Hessian has no negative eigenvalue on the free
coordinates and the condition holds on the others.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.criterion.profiled import EPS, Point, ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.blas_threads import blas_threads
from fastlmm_core.mme.covariance import ThetaMap, lower_factor
from fastlmm_core.optimize.certificate import Certificate, Step
from fastlmm_core.optimize.chart import Chart
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.newton import Quadratic, descent, differenced, quadratic
from fastlmm_core.optimize.start import (
    check_start,
    few_data,
    n_effects,
    shares_factor,
    starting_factors,
    unmatched,
    wanted_starts,
)

SHRINK = 0.1
"""A pivot keeps at least this fraction of itself in one step."""
CHEAP = 2e6
"""Flops of one gradient below which its differences may polish average information,
and one more iteration for the last digits of theta is welcome."""
INTERRUPTED = "interrupted"
GAINED = "Newton decrement below tolerance"
VANISHED = 1e-6
"""Residual variance, in units of the response's, that a search which finds no minimum went to 0 with."""
SATURATED = "the residual variance goes to 0: the random effects can fit the response exactly"
WORST_NOISE = 1e-6
"""Of the criterion: a search that cannot come closer than this has not converged."""
SADDLE = -1e-6
"""Scaled Hessian eigenvalue below which a stationary point is not a minimum."""


@dataclass(eq=False)
class Optimum:
    """Where a search ended.

    ``Lambda`` and ``T`` per factor (k, k), standardized; ``theta`` in original
    units and lme4's order; ``point`` has its gradient filled.
    """

    Lambda: list[np.ndarray]
    T: list[np.ndarray]
    theta: np.ndarray
    point: Point
    certificate: Certificate


@dataclass(eq=False)
class _Search:
    """One start: the current chart and point, and what has been seen on the way."""

    objective: ProfiledObjective
    control: Control
    chart: Chart
    point: Point
    trace: list[Step]
    regrets: dict[int, float]
    model: Quadratic | None = None
    decrement: float = float("nan")
    min_eigenvalue: float = float("nan")
    scaled_gradient: float = 0.0
    direction: np.ndarray | None = None  # of the smallest eigenvalue, in the chart
    converged: bool = False
    reason: str = ""
    iterations: int = 0
    slow: int = 0  # steps in a row that left much of what was to gain

    @property
    def noise(self) -> float:
        return self.objective.rounding(self.point.value)

    @property
    def vanishing(self) -> bool:
        """Whether the search was lost where the random effects fit the response exactly."""
        return not self.converged and self.point.s2 < VANISHED

    @property
    def floor(self) -> float:
        tol = self.control.tol
        if tol is None:
            tol = 1e-12 if self.objective.work <= CHEAP else 1e-10
        return max(tol, self.noise)

    @property
    def rounding_bound(self) -> bool:
        """What is left to gain may be less than the error in the values compared."""
        return self.decrement <= max(1e3 * self.noise, 1e-9)


def minimize(
    objective: ProfiledObjective,
    theta_map: ThetaMap,
    *,
    start: np.ndarray | None = None,
    control: Control | None = None,
    names: list[str] | None = None,
) -> Optimum:
    """Minimise the profiled objective over the relative covariances.

    The engine is left at the optimum, ready for `Engine.random_effects`.

    Parameters
    ----------
    objective, theta_map : the model.
    start : theta (n_theta,) in original units; None chooses.
    control : tolerances and number of starts.
    names : of the entries of theta, for the certificate.

    Raises
    ------
    NumericalError : the objective cannot be evaluated at any starting value.
    ValueError : ``start`` is not n_theta finite numbers.
    """
    with blas_threads(1):  # threads of BLAS take longer to wake up than small matrices take
        return _minimize(objective, theta_map, start, control or Control(), names)


def _minimize(objective: ProfiledObjective, theta_map: ThetaMap, start, control: Control, names) -> Optimum:
    start = None if start is None else check_start(start, theta_map.n_theta, names)
    if getattr(objective.engine, "stochastic", False):
        from fastlmm_core.optimize.score import solve_score

        return solve_score(objective, theta_map, start=start, control=control, names=names)
    if start is None and getattr(objective.engine, "scout", None) is not None:
        from fastlmm_core.optimize.score import scouted_start

        start = scouted_start(objective, theta_map, control)
    values, gradients = objective.n_values, objective.n_gradients
    best: _Search | None = None
    done, wanted = 0, control.n_starts or wanted_starts(objective, theta_map)
    while done < wanted:
        number, done = done, done + 1
        try:
            factors = starting_factors(objective, theta_map, start, number, control.seed)
            found = _search(objective, theta_map, factors, control, best)
        except NumericalError:
            continue
        if best is None or _better(found, best):
            best = found
        if found.reason == INTERRUPTED or (control.n_starts is None and number == 0 and _settled(found)):
            break
    if best is None:
        best = _search(objective, theta_map, [np.eye(b.q) for b in theta_map.blocks], control)
    objective.gradient(best.point)
    objective.at(best.point)
    counts = objective.n_values - values, objective.n_gradients - gradients
    return _finish(theta_map, best, counts, done, names)


def _better(found: _Search, best: _Search) -> bool:
    """Lower, but a minimum wins over a path along which the residual variance vanishes.

    With about as many random effects as rows the criterion may fall without a bound, or to a
    limit that no theta attains.
    """
    if found.vanishing != best.vanishing:
        return best.vanishing
    return found.point.value < best.point.value - max(1e-8, best.noise)


def _settled(first: _Search) -> bool:
    """A first search that ended in the interior, with one term per factor and data enough."""
    objective, chart = first.objective, first.chart
    interior = all(term.rank == b.q for term, b in zip(chart.layout.terms, chart.map.blocks, strict=True))
    certain = first.converged and interior and first.min_eigenvalue > 0.0
    certain = certain and not shares_factor(chart.map) and not few_data(objective, chart.map)
    return certain and not unmatched(objective, chart.map)


def _search(objective, theta_map, factors, control, known: _Search | None = None) -> _Search:
    """Iterate from per-term factors until converged, out of iterations or interrupted."""
    chart = Chart(theta_map, factors)
    point = objective.evaluate(chart.Lambda(chart.M))
    search = _Search(objective, control, chart, point, [], {})
    saturated = n_effects(objective, theta_map) + objective.p + theta_map.n_theta >= objective.n
    try:
        while not (saturated and search.point.s2 < 1e-2 * VANISHED):
            if known is not None and _same_basin(search, known):
                search.reason = "joined an earlier start"
                break
            if _iterate(search):
                break
            if search.iterations >= control.max_iter:
                search.reason = f"no convergence in {control.max_iter} iterations"
                if search.decrement < WORST_NOISE and _is_noise(search):
                    _stop(search, "no decrease beyond rounding error")
                break
    except KeyboardInterrupt:
        search.converged, search.reason = False, INTERRUPTED
    except NumericalError as error:
        search.converged, search.reason = False, str(error)
    if saturated and search.vanishing and search.reason != INTERRUPTED:
        search.reason = SATURATED
    return search


def _iterate(search: _Search) -> bool:
    """One iteration; true when the search is over."""
    objective, chart, point = search.objective, search.chart, search.point
    kind = "exact" if len(chart.map.k) == 1 else "average"
    search.model = model = quadratic(objective, chart, point, kind)
    if len(model.g) == 0:
        search.decrement, search.min_eigenvalue, search.scaled_gradient = 0.0, float("nan"), 0.0
        return _stop(search, "every variance is zero and the criterion rises in all directions")
    previous = search.decrement
    step = _step(search, model)
    search.iterations += 1
    stalled = search.rounding_bound and search.decrement > 0.25 * previous
    if search.decrement <= search.floor or stalled:
        if not (model.exact and search.min_eigenvalue < SADDLE):
            search.trace.append(Step(point.value, search.decrement, 0.0))
            return _stop(search, "Newton decrement at rounding error" if stalled else GAINED)
        length = _leave_saddle(search)
    else:
        length = _try_boundary(search, step) or _line_search(search, step)
    search.trace.append(Step(point.value, search.decrement, length))
    if length == 0.0:
        if search.rounding_bound or _is_noise(search):
            return _stop(search, "no decrease beyond rounding error")
        search.reason = "line search found no decrease"
        return True
    return False


def _is_noise(search: _Search) -> bool:
    """Whether what is left to gain is within the error of the values compared."""
    if search.decrement <= search.objective.cancellation(search.point.r2):
        return True
    return search.decrement <= min(10.0 * _measured_noise(search), WORST_NOISE)


def _measured_noise(search: _Search) -> float:
    """Largest change of the criterion when Lambda changes by a few units in its last place.

    Columns of Z that nearly cancel lose more digits than `_Search.noise` knows of.
    """
    changes = [0.0]
    for sign in (-8.0, -3.0, 5.0, 11.0):
        try:
            there = search.objective.evaluate([L * (1.0 + sign * EPS) for L in search.point.Lambda])
        except NumericalError:
            continue
        changes.append(abs(there.value - search.point.value))
    return max(changes)


def _stop(search: _Search, reason: str) -> bool:
    search.converged, search.reason = True, reason
    return True


def _step(search: _Search, model: Quadratic) -> np.ndarray:
    """The Newton step; released directions that it does not want are left out."""
    previous = search.decrement
    while True:
        step, decrement, low, vector, worst = descent(model.g, model.H)
        keep = [i for i in range(len(model.released)) if step[model.m + i] > 0]
        if len(keep) == len(model.released):
            break
        index = np.array([*range(model.m), *(model.m + i for i in keep)], int)
        model.released = [model.released[i] for i in keep]
        model.g, model.H = model.g[index], model.H[index[:, None], index]
        if not len(index):
            search.decrement, search.min_eigenvalue = 0.0, float("nan")
            return np.zeros(0)
    slow = not decrement < previous / 30
    search.slow = search.slow + 1 if decrement > 0.1 * previous else 0
    cheap = search.objective.work <= CHEAP or search.slow > len(model.g)  # about what differences cost
    if cheap and slow and not model.exact and not model.released and search.floor < decrement < 1e-2:
        model.H = differenced(search.objective, search.chart, model)
        step, decrement, low, vector, worst = descent(model.g, model.H)
        model.exact = True
    search.decrement, search.min_eigenvalue, search.scaled_gradient = decrement, low, worst
    search.direction = vector[: model.m]
    return step


def _limited(search: _Search, step: np.ndarray, skip=()) -> np.ndarray:
    """Keep pivots above `SHRINK` of themselves and the step within a few lengths of M.

    The column of an offending pivot is shortened alone if the step still goes
    down, else the whole step.
    """
    chart, model = search.chart, search.model
    step, x, cut = step.copy(), chart.x, 1.0
    for t, term in enumerate(chart.layout.terms):
        for b, j in enumerate(term.pivots):
            if t in skip and b == term.rank - 1:
                continue
            if step[j] < (SHRINK - 1.0) * x[j]:
                ratio = (SHRINK - 1.0) * x[j] / step[j]
                if b == term.rank - 1:
                    step[term.last] *= ratio
                else:
                    cut = min(cut, ratio)
    for part in chart.layout.parts:
        size, length = np.sqrt(x[part] @ x[part]), np.sqrt(step[part] @ step[part])
        cut = min(cut, (2.0 * size + 1.0) / max(length, 1e-300))
    if len(step) > model.m:
        total = sum(float((M * M).sum()) for M in chart.M)
        cut = min(cut, (4.0 * total + 4.0) / step[model.m :].max())
    return cut * step


def _try_boundary(search: _Search, step: np.ndarray) -> float:
    """Go to the face of the cone the step points through, if it is right; 1.0 if taken, else 0.0."""
    chart, x = search.chart, search.chart.x
    drop = {}
    for t, term in enumerate(chart.layout.terms):
        if not term.rank or any(entry[0] == t for entry in search.model.released):
            continue
        last, column = term.last, x[term.last]
        size = float(column @ column)
        ratio = 1.0 + float(column @ step[last]) / size
        # T = t c c' with the last column c: slope and curvature in t at 1; linear in t, Newton
        # says at once what in c itself, where c = 0 is stationary, would be approached by halves
        slope = 0.5 * float(search.model.g[last] @ column)
        curvature = 0.25 * (float(column @ search.model.H[last[:, None], last] @ column) - 2.0 * slope)
        aims_at_zero = ratio <= SHRINK or (slope > 0 and slope >= 0.9 * curvature)
        if aims_at_zero and size < 0.1 * search.regrets.get(t, np.inf):
            drop[t] = size
    if not drop:
        return 0.0
    m = search.model.m
    M = chart.moved(x + _limited(search, step, drop)[:m])
    if _accept_face(search, chart.terms(M, drop)):
        return 1.0
    search.regrets.update(drop)
    return 0.0


def _accept_face(search: _Search, factors: list[np.ndarray]) -> bool:
    """Move to these factors if the criterion is not higher there and no lost direction lowers it."""
    objective = search.objective
    chart = Chart(search.chart.map, factors)
    try:
        point = objective.evaluate(chart.Lambda(chart.M))
    except NumericalError:
        return False
    if point.value > search.point.value + search.noise:
        return False
    if any(value < 0 for _, value, _ in chart.lost(objective.gradient(point))):
        return False
    search.chart, search.point = chart, point
    return True


def _line_search(search: _Search, step: np.ndarray) -> float:
    """Backtracking with quadratic interpolation; returns the step length, 0.0 on failure."""
    model = search.model
    limited = _limited(search, step)
    slope = float(model.g @ limited)
    if not slope < 0:
        limited = step * min(1.0, 0.1 * np.abs(search.chart.x).max(initial=1.0) / np.abs(step).max())
        slope = float(model.g @ limited)
    length = 1.0
    for _ in range(40):
        value = _move(search, limited, length, slope)
        if value is None:
            return length
        if -slope * length < search.noise:
            break
        gap = value - search.point.value - slope * length
        best = -slope * length**2 / (2.0 * gap) if np.isfinite(gap) and gap > 0 else 0.0
        length = float(min(max(best, 0.1 * length), 0.5 * length))
    return 0.0


def _move(search: _Search, step: np.ndarray, length: float, slope: float) -> float | None:
    """Take ``length * step`` if it lowers the criterion enough (None), else say its value there."""
    chart, model = search.chart, search.model
    M = chart.moved(chart.x + length * step[: model.m])
    extra = {t: np.sqrt(length * amount) * w for (t, _, w), amount in zip(model.released, step[model.m :])}
    try:
        if extra:
            moved = Chart(chart.map, chart.terms(M, extra=extra))
            point = search.objective.evaluate(moved.Lambda(moved.M))
        else:
            point = search.objective.evaluate(chart.Lambda(M))
    except NumericalError:
        return float("inf")
    slack = max(search.noise, search.decrement) if search.rounding_bound else search.noise
    if point.value > search.point.value + 1e-4 * slope * length + slack:
        return point.value
    search.chart = moved if extra else Chart(chart.map, chart.terms(M))
    search.point = point
    return None


def _leave_saddle(search: _Search) -> float:
    """Search both ways along the direction of negative curvature."""
    chart = search.chart
    step = np.zeros(len(search.model.g))
    step[: search.model.m] = search.direction
    length = float(np.sqrt(step @ step))
    if length == 0.0:
        return 0.0
    size = 0.5 * (float(np.sqrt(chart.x @ chart.x)) + 0.1) / length
    # a decrease that rounding cannot feign, as the slope of Armijo's condition
    slope = -1e4 * (4.0 * search.noise + 2.0 * search.decrement)
    for _ in range(12):
        for sign in (1.0, -1.0):
            if _move(search, sign * size * step, 1.0, slope) is None:
                return size
        size *= 0.3
    return 0.0


def _same_basin(search: _Search, known: _Search) -> bool:
    """A later start has come so close to an earlier optimum that it can only end there."""
    if not known.converged or not -1e-8 < search.point.value - known.point.value < 0.5:
        return False
    gap = scale = 0.0
    for L, K in zip(search.point.Lambda, known.point.Lambda):
        T, U = L @ L.T, K @ K.T
        gap, scale = gap + float(((T - U) ** 2).sum()), scale + float((U * U).sum())
    return gap <= 0.01 * scale + 1e-12


def _finish(theta_map, best: _Search, counts, n_starts, names) -> Optimum:
    """Back to original units, with the certificate."""
    chart = best.chart
    factors = chart.terms(chart.M)
    Lambda = [np.zeros((k, k)) for k in theta_map.k]
    for block, M in zip(theta_map.blocks, factors):
        Lambda[block.factor][block.rows, block.rows] = lower_factor(M)
    theta = theta_map.theta_from_Lambda(Lambda)
    names = list(names) if names is not None else [f"theta[{j}]" for j in range(theta_map.n_theta)]
    boundary = tuple(
        name for name, value, low in zip(names, theta, theta_map.lower) if low == 0 and value == 0
    )
    certificate = Certificate(
        converged=best.converged,
        reason=best.reason,
        iterations=best.iterations,
        n_values=counts[0],
        n_gradients=counts[1],
        newton_decrement=best.decrement,
        max_scaled_gradient=best.scaled_gradient,
        min_hessian_eigenvalue=best.min_eigenvalue,
        boundary=boundary,
        kkt_min_eigenvalue=best.model.kkt if best.model is not None else float("nan"),
        n_starts=n_starts,
        trace=best.trace,
    )
    return Optimum(Lambda, [L @ L.T for L in Lambda], theta, best.point, certificate)
