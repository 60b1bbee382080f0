"""Profile likelihood of one parameter: the deviance minimised over all others.

The signed root ``zeta = sign(tau - tau^) sqrt(d(tau) - d^)`` is near a straight
line (Bates, Maechler, Bolker & Walker 2015, section 5.1; lme4's `profile`).  The
others are re-optimised by Newton's method from the place the tangent of the path
predicts, and an end point solves ``zeta = z`` by Newton's method with the exact
slope ``zeta' = d'(tau) / (2 zeta)``, safeguarded by a bracket.
"""

from dataclasses import dataclass, field

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.inference.deviance import Coordinates, Deviance, Expansion, Target
from fastlmm_core.inference.estimated import check_likelihood
from fastlmm_core.inference.solved import SolvedModel

DECREMENT = 1e-10
"""Newton decrement at which the others count as optimal; zeta of 2 is then good to 1e-10."""
ROOT = 1e-6
"""How close zeta comes to the wanted value: limits are good to 1e-6 of a standard error."""
VANISHED = 6.0
"""By how much the logarithm of a standard deviation is lowered to see what its effect is worth."""
GRID_STEP = 0.4
"""Distance in zeta of the points of a curve."""


@dataclass(eq=False)
class _Place:
    """A point of the path: tau, the other coordinates, zeta and its slope."""

    tau: float
    x: np.ndarray
    expansion: Expansion
    zeta: float


class _Jump(Exception):
    """zeta is not continuous after ``tau``."""

    def __init__(self, tau: float):
        super().__init__(tau)
        self.tau = tau


@dataclass(eq=False)
class Path:
    """The profile of one target.

    Parameters
    ----------
    solved : an ML fit.
    objective : its criterion, on an engine no one else uses meanwhile.
    target : what is held.

    ``tau`` is the internal scale: log sigma, the angle ``asin cor``, else the parameter itself in
    units of y~ (`to_natural` undoes this).  ``improvement`` is by how much the deviance fell below
    that of the fit, which then was no global optimum.
    """

    solved: SolvedModel
    objective: ProfiledObjective
    target: Target
    _known: dict[float, _Place] = field(default_factory=dict)

    def __post_init__(self):
        solved, target = self.solved, self.target
        check_likelihood(solved.objective, "a profile")
        self.coordinates = Coordinates(solved.theta_map, target)
        constraint = None
        self._shift, self._scale = 0.0, solved.fixed.scale
        if target.kind == "beta":
            (j,) = target.at
            constraint, self._shift = solved.fixed.A[j], float(solved.fixed.shift[j])
        self.deviance = Deviance(self.objective, self.coordinates, constraint)
        estimates = solved.estimates
        x = self.coordinates.x_of(list(estimates.terms), solved.point.s2)
        at = float(constraint @ solved.point.beta) if constraint is not None else x[self.coordinates.held]
        if target.kind == "sigma":
            at *= 0.5
        if target.kind == "sd":
            at = abs(at)
        self.low = {"sd": 0.0, "cor": -np.pi / 2}.get(target.kind, -np.inf)
        self.high = np.pi / 2 if target.kind == "cor" else np.inf
        self.exact = len(solved.theta_map.k) == 1
        self.estimate, self.best, self.improvement = at, np.inf, 0.0
        start = self._expand(x, at)
        self.best = start.value
        self._known[at] = _Place(at, x, start, 0.0)
        self.se = self._standard_error(start)

    def use(self, objective: ProfiledObjective) -> "Path":
        """Go on with another engine of the same statistics; results are the same bits."""
        self.objective = self.deviance.objective = objective
        return self

    def to_natural(self, tau: float) -> float:
        """The parameter in the units of the data."""
        kind = self.target.kind
        if kind == "sigma":
            return self._scale * float(np.exp(tau))
        if kind == "cor":
            return float(np.sin(tau))
        return self._shift + self._scale * tau

    def end(self, zeta: float) -> float:
        """Where the profile reaches ``zeta`` (negative below the estimate), in units of the data.

        The bound of the parameter (sd 0, correlation -1 or 1) where it does not, and
        NaN where no minimum was found on the way.
        """
        try:
            tau = self._root(zeta)
            for _ in range(4):
                if not self._lower_without_effect(tau):
                    break
                tau = self._root(zeta)
            return self.to_natural(tau)
        except NumericalError:
            return float("nan")

    def _lower_without_effect(self, tau: float) -> bool:
        """Whether a correlation's deviance is lower at tau where one of the two effects vanishes.

        There the correlation does not matter, so the profile never rises above that
        minimum; the path from the estimate may.  The lower place replaces what is known.
        """
        if self.target.kind != "cor" or tau in (self.low, self.high):
            return False
        place, first = self._known[tau], self.coordinates.held - 1
        for j in (first, first + self.solved.theta_map.blocks[self.target.at[0]].q):
            x = place.x.copy()
            x[j] -= VANISHED
            there = self._try(x, tau)
            try:
                x, there = (x, there) if there is None else self._optimise(x, there, tau)
            except NumericalError:
                continue
            if there is None or there.value > place.expansion.value - 1e-5:
                continue
            side = np.sign(tau - self.estimate)
            for known in [known for known in self._known if side * (known - tau) >= 0]:
                del self._known[known]
            zeta = side * np.sqrt(max(there.value - self.best, 0.0))
            self._known[tau] = _Place(tau, x, there, float(zeta))
            return True
        return False

    def curve(self, reach: float) -> list[tuple[float, float, float]]:
        """(value, zeta, dzeta/dvalue) at steps of 0.4 in zeta out to ``reach``, or a bound, on both sides."""
        count = int(np.ceil(reach / GRID_STEP))
        wanted = [sign * reach * (i + 1) / count for sign in (-1, 1) for i in range(count)]
        taus = {self.estimate}
        for z in sorted(wanted, key=abs):
            try:
                taus.add(self._root(z, tol=0.05))
            except NumericalError:
                continue
        return [(self.to_natural(tau), self._known[tau].zeta, self._slope(tau)) for tau in sorted(taus)]

    def _slope(self, tau: float) -> float:
        """dzeta / dvalue; at the estimate from the curvature."""
        place = self._known[tau]
        natural = {
            "sigma": self._scale * np.exp(tau),
            "cor": np.cos(tau),
        }.get(self.target.kind, self._scale)
        if place.zeta == 0.0:
            near = min((p for p in self._known.values() if p.zeta), key=lambda p: abs(p.zeta), default=None)
            secant = near is not None and not self.exact
            slope = near.zeta / (near.tau - tau) if secant else 1.0 / self.se
        else:
            slope = 0.5 * self._derivative(place) / place.zeta
        return float(slope / natural) if natural > 0 else float("nan")

    def _derivative(self, place: _Place) -> float:
        """d'(tau): the others being optimal, the partial derivative."""
        held = self.coordinates.held
        if held is None:
            return float(place.expansion.g[-1])
        return float(place.expansion.g[held]) * (2.0 if self.target.kind == "sigma" else 1.0)

    def _free(self) -> np.ndarray:
        held = self.coordinates.held
        return np.array([j for j in range(self.coordinates.m + 1) if j != held], int)

    def _standard_error(self, start: Expansion) -> float:
        """``sqrt(2 / curvature)`` of the profile at the estimate, or a guess where it has none."""
        free, held = self._free(), self.coordinates.held
        at = len(start.g) - 1 if held is None else held
        H = start.H
        tangent = _solve(H[np.ix_(free, free)], H[free, at])
        curvature = (H[at, at] - H[free, at] @ tangent) * (4.0 if self.target.kind == "sigma" else 1.0)
        if curvature > 1e-10 and np.isfinite(curvature):
            return float(np.sqrt(2.0 / curvature))
        return 0.3 * float(np.exp(0.5 * self._known[self.estimate].x[-1])) + 0.3 * abs(self.estimate)

    def _expand(self, x: np.ndarray, tau: float) -> Expansion:
        return self.deviance.evaluate(x, tau)

    def _try(self, x: np.ndarray, tau: float) -> Expansion | None:
        try:
            return self.deviance.evaluate(x, tau)
        except NumericalError:
            return None

    def _at(self, tau: float) -> _Place:
        """The others optimal at tau, from the nearest known place."""
        if tau in self._known:
            return self._known[tau]
        near = self._known[min(self._known, key=lambda known: abs(known - tau))]
        x, expansion = self._optimise(*self._predicted(near, tau), tau)
        drop = expansion.value - self.best
        self.improvement = max(self.improvement, -drop)
        zeta = np.sign(tau - self.estimate) * np.sqrt(max(drop, 0.0))
        self._known[tau] = _Place(tau, x, expansion, float(zeta))
        return self._known[tau]

    def _with_tau(self, x: np.ndarray, tau: float) -> np.ndarray:
        x, held = x.copy(), self.coordinates.held
        if held is not None:
            x[held] = 2.0 * tau if self.target.kind == "sigma" else tau
        return x

    def _predicted(self, near: _Place, tau: float) -> tuple[np.ndarray, Expansion]:
        """Along the tangent of the path of optima."""
        free, held = self._free(), self.coordinates.held
        at = len(near.expansion.g) - 1 if held is None else held
        H = near.expansion.H
        move = (tau - near.tau) * (2.0 if self.target.kind == "sigma" else 1.0)
        x = self._with_tau(near.x, tau)
        step = -move * _solve(H[np.ix_(free, free)], H[free, at])
        size = np.abs(x[free]).max() + 1.0
        if np.isfinite(step).all() and np.abs(step).max(initial=0.0) < 2.0 * size:
            predicted = x.copy()
            predicted[free] += step
            there = self._try(predicted, tau)
            if there is not None:
                decrement, lowest = _newton(there.g[free], there.H[np.ix_(free, free)])[1:3]
                if decrement < 0.1 and lowest > 0.0:
                    return predicted, there
            stay = self._try(x, tau)
            if there is not None and (stay is None or there.value <= stay.value):
                return predicted, there
        return x, self._expand(x, tau)

    def _optimise(self, x: np.ndarray, expansion: Expansion, tau: float) -> tuple[np.ndarray, Expansion]:
        """Newton's method over the free coordinates; a saddle is left along its negative curvature."""
        free = self._free()
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for iteration in range(60):
            g, H = expansion.g[free], expansion.H[np.ix_(free, free)]
            if not self.exact:
                H = _secant(H, pairs[-2 * len(free) :])
            step, decrement, lowest, direction = _newton(g, H)
            noise = self.objective.rounding(expansion.value)
            # where Sigma loses rank the path may lie in a curved valley: Newton's steps crawl, zeta stays put
            slack = 1.0 if iteration < 10 else 1e3 if iteration < 20 else 1e4
            if decrement < max(slack * DECREMENT, noise):
                if lowest > -1e-5:
                    return x, expansion
                step, decrement = 0.3 * direction, 0.0
            limit = 2.0 * np.abs(x[free]).max(initial=0.0) + 1.0
            step = step * min(1.0, limit / max(np.abs(step).max(initial=0.0), 1e-300))
            slope, length = float(g @ step), 1.0
            for _ in range(25):
                moved = x.copy()
                moved[free] += length * step
                there = self._try(moved, tau)
                if there and there.value <= expansion.value + 1e-4 * length * min(slope, 0.0) + noise:
                    break
                length *= 0.4
            else:
                if decrement < 1e-6:
                    return x, expansion
                raise NumericalError("the profile could not be optimised")
            x, expansion = moved, there
            pairs.append((length * step, expansion.g[free] - g))
        raise NumericalError("the profile did not converge")

    def _root(self, wanted: float, tol: float = ROOT) -> float:
        """tau with ``zeta(tau) = wanted``, or the bound before it."""
        stride = 4.0
        for _ in range(4):
            try:
                return self._search(wanted, tol, stride)
            except _Jump as jump:
                # beyond the jump the others were caught in a worse minimum: forget it, go in shorter steps
                side = 1.0 if wanted > 0 else -1.0
                for tau in [tau for tau in self._known if side * (tau - jump.tau) > 0]:
                    del self._known[tau]
                stride *= 0.2
        raise NumericalError("the profile jumps")

    def _search(self, wanted: float, tol: float, stride: float) -> float:
        side = 1.0 if wanted > 0 else -1.0
        bound = self.high if side > 0 else self.low
        inside, outside = self._bracket(wanted, side)
        place = self._known[inside]
        for _ in range(100):
            tau = self._propose(place, wanted, side, inside, outside, stride)
            if side * (tau - bound) >= 0:
                place = self._at(bound)
                if side * (place.zeta - wanted) <= 0:
                    return bound
                tau, outside = bound, bound
            place = self._at(tau)
            if abs(place.zeta - wanted) < tol:
                return tau
            if side * (place.zeta - wanted) < 0:
                inside = tau
            else:
                outside = tau
            if outside is not None and abs(outside - inside) < 1e-5 * self.se:
                gap = abs(self._known[outside].zeta - self._known[inside].zeta)
                if gap > 0.01:
                    raise _Jump(inside)
                if abs(outside - inside) <= 1e-14 * (abs(outside) + abs(inside)):
                    return inside
        raise NumericalError("the end of the profile was not found")

    def _bracket(self, wanted, side):
        """Known places next to the root: the last inside, and the first outside or None."""
        same = [p for p in self._known.values() if side * (p.tau - self.estimate) >= 0]
        inside = [p.tau for p in same if side * (p.zeta - wanted) <= 0]
        outside = [p.tau for p in same if side * (p.zeta - wanted) > 0]
        nearest = (min if side > 0 else max)(outside) if outside else None
        return (max if side > 0 else min)(inside), nearest

    def _propose(self, place: _Place, wanted, side, inside, outside, stride) -> float:
        """Newton's step in zeta from a place, kept within the bracket."""
        if place.zeta == 0.0:
            step = (wanted - 0.0) * self.se
        else:
            slope = 0.5 * self._derivative(place) / place.zeta
            step = (wanted - place.zeta) / slope if slope > 0 else side * self.se
        reach = stride * abs(wanted) * self.se
        step = np.clip(step, -reach, reach)
        tau = place.tau + step
        if side * (tau - inside) <= 0:
            tau = inside + side * min(self.se, reach) if outside is None else 0.5 * (inside + outside)
        if outside is not None and side * (tau - outside) >= 0:
            tau = 0.5 * (inside + outside)
        return float(tau)


def _solve(H: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``H^+ b`` on the directions H determines."""
    if not len(b):
        return b
    d = 1.0 / np.sqrt(np.maximum(np.abs(H.diagonal()), 1e-300))
    values, vectors = np.linalg.eigh(H * d[:, None] * d)
    used = values > 1e-9 * max(values[-1], 0.0)
    return d * (vectors[:, used] @ ((vectors[:, used].T @ (d * b)) / values[used]))


def _secant(H: np.ndarray, pairs) -> np.ndarray:
    """Average information corrected by steps taken and the changes of the gradient they made (BFGS).

    Away from the optimum of the others it may be off by a factor, and plain steps oscillate.
    """
    for step, change in pairs:
        along = float(step @ change)
        Hs = H @ step
        if along > 1e-8 * np.sqrt((step @ step) * (change @ change)) and step @ Hs > 0:
            H = H - np.outer(Hs, Hs) / float(step @ Hs) + np.outer(change, change) / along
    return H


def _newton(g: np.ndarray, H: np.ndarray):
    """Step with eigenvalues by absolute value, decrement, smallest scaled eigenvalue and its direction."""
    if not len(g):
        return g, 0.0, 1.0, g
    diagonal = np.abs(H.diagonal())
    d = 1.0 / np.sqrt(np.maximum(diagonal, max(1e-12 * diagonal.max(), 1e-300)))
    values, vectors = np.linalg.eigh(H * d[:, None] * d)
    along = vectors.T @ (d * g)
    newton = along / np.maximum(np.abs(values), 1e-9 * max(1.0, abs(values[-1])))
    return -d * (vectors @ newton), 0.5 * float(along @ newton), float(values[0]), d * vectors[:, 0]
