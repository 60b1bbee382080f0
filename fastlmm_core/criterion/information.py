"""Second derivatives of the profiled objective.

For symmetric directions X, Y in the T of one grouping factor, with
``P_i = G_i Q G_i'``, ``g_i = G_i v``, ``H_X = sum G_i'X G_i`` over the columns of
X, ``h_X = sum G_i'X g_i`` and ``a_X = sum g_i'X g_i``, the exact Hessian is

    - sum tr(X F Y F) + [REML] (2 sum tr(X F Y P) - tr(H_X Q H_Y Q))
    + (N / r2) (2 sum g'X F Y g - 2 h_X'Q h_Y) - N a_X a_Y / r2^2.

For several factors the traces need blocks no engine forms; average information
(Gilmour, Thompson & Cullis 1995, doi:10.2307/2533274) replaces them in the
search, ``(N / r2) w_X'P w_Y - N a_X a_Y / r2^2``, and differences of the
analytic gradient where the observed information is wanted.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.covariance import ThetaMap
from fastlmm_core.mme.engine import Direction

EXPENSIVE = 5e6
"""Flops of one gradient above which differences are one-sided."""

LONG = 1.5e9
"""Flops of one gradient by probes above which there are no differences: they take
tenths of a second for each parameter."""


def hessian_T(
    objective: ProfiledObjective, point: Point, directions: Sequence[Direction], kind: str = "exact"
) -> np.ndarray | None:
    """Hessian (r, r) of the profiled objective along directions in T~.

    ``kind="exact"`` returns None when the engine has no second moments (several
    factors); ``kind="average"`` is the average information, positive semidefinite.
    """
    objective.gradient(point)
    if kind == "average":
        return average_hessian(objective, point, directions)
    if kind != "exact":
        raise ValueError(f"kind is 'exact' or 'average', not {kind!r}")
    if len(point.F) != 1:
        return None
    k = len(point.F[0])
    return exact_hessian(objective, point, np.array([X for _, X in directions]).reshape(-1, k * k))


def exact_hessian(objective: ProfiledObjective, point: Point, X: np.ndarray) -> np.ndarray | None:
    """Exact Hessian (r, r) for one factor; ``X`` (r, k*k) holds the symmetric directions as rows."""
    objective.gradient(point)
    objective.at(point)
    sums = objective.engine.second_moments(point.Q, point.v)
    if sums is None:
        return None
    p, k, v, Q = objective.p, len(point.F[0]), point.v, point.Q
    ratio = point.N / point.r2
    # tr(X F Y M) = X[a,b] F[b,c] Y[c,d] M[d,a], and the sums hold F[b,c] M[d,a] at [b,c,d,a]
    moments = (2.0 * ratio) * sums.Fg - sums.FF
    if objective.reml:
        moments += 2.0 * sums.FP
    H = X @ moments.transpose(3, 0, 1, 2).reshape(k * k, k * k) @ X.T
    # Full = sum G_i'X G_i over [X y]: H_X is its corner, h_X = Full[:p] v, a_X = v'Full v
    Full = (X @ point.GG[0].reshape(k * k, -1)).reshape(len(X), p + 1, p + 1)
    Fv = Full @ v
    a = Fv @ v
    if p:
        h = Fv[:, :p]
        H -= (2.0 * ratio) * (h @ Q @ h.T)
        if objective.reml:
            HX = Full[:, :p, :p]
            H -= (Q @ HX @ Q).reshape(len(X), -1) @ HX.transpose(0, 2, 1).reshape(len(X), -1).T
    H -= np.outer(a, a * (point.N / point.r2**2))
    return 0.5 * (H + H.T)


def average_hessian(
    objective: ProfiledObjective, point: Point, directions: Sequence[Direction]
) -> np.ndarray:
    """Average information (r, r) on the scale of the objective, sigma^2 profiled out."""
    objective.gradient(point)
    objective.at(point)
    W = objective.engine.average_information(point.Q, point.v, list(directions))
    a = quadratic_forms(point, directions)
    H = (point.N / point.r2) * np.asarray(W) - np.outer(a, a * (point.N / point.r2**2))
    return 0.5 * (H + H.T)


def quadratic_forms(point: Point, directions: Sequence[Direction]) -> np.ndarray:
    """``a_X = sum_i g_i'X g_i`` (r,) for each direction; needs the gradient's ``GG``."""
    gg = [(GG @ point.v) @ point.v for GG in point.GG]
    return np.array([float((gg[f] * X).sum()) for f, X in directions])


def theta_gradient(point: Point, directions: Sequence[Direction]) -> np.ndarray:
    """Gradient (r,) along directions, ``tr(D X)``."""
    return np.array([float((point.D[f] * X).sum()) for f, X in directions])


def theta_hessian(
    objective: ProfiledObjective,
    theta_map: ThetaMap,
    theta: np.ndarray,
    point: Point | None = None,
    directions: Sequence[Direction] | None = None,
) -> np.ndarray:
    """Observed Hessian (n_theta, n_theta) of the profiled objective in theta, original units.

    Exact for one grouping factor.  Otherwise by differences of the analytic
    gradient, central or, where one gradient is expensive, one-sided; T is a
    smooth function of theta also across a diagonal entry of 0.  A gradient that is
    estimated from probes, the same ones at every theta, is differentiated like an
    exact one; where that takes long (`is_averaged`) average information stands in.
    ``point`` saves an evaluation when the objective at theta is at hand, ``directions`` are
    ``theta_map.directions(theta)``.
    """
    theta = np.asarray(theta, float)
    if point is None:
        point = objective.evaluate(theta_map.to_Lambda(theta))
    objective.gradient(point)
    directions = theta_map.directions(theta) if directions is None else directions
    H = hessian_T(objective, point, directions, "average" if is_averaged(objective) else "exact")
    if H is not None:
        return H + theta_map.curvature(point.D)

    def gradient(theta):
        there = objective.evaluate(theta_map.to_Lambda(theta))
        objective.gradient(there)
        return theta_gradient(there, theta_map.directions(theta))

    base = theta_gradient(point, directions)
    scales = natural_scales(theta_map, theta)
    if getattr(objective.engine, "stochastic", False):  # systems are solved to five digits: longer steps
        return difference_hessian(gradient, theta, scales, base, False, step_size=1e-2)
    return difference_hessian(gradient, theta, scales, base, objective.work > EXPENSIVE)


def is_averaged(objective: ProfiledObjective) -> bool:
    """Whether average information stands in for the observed one: gradients by probes that take long."""
    return getattr(objective.engine, "stochastic", False) and objective.work > LONG


def natural_scales(theta_map: ThetaMap, theta: np.ndarray) -> np.ndarray:
    """Size of each theta in its own units: the sd of its row of T, or a small one in standardized units."""
    sd = [np.sqrt(T.diagonal()) for T in theta_map.term_T(theta)]
    unit = [np.sqrt((B**2).sum(1)) for B in theta_map.maps]
    return np.array([max(sd[t][a], 0.03 * unit[t][a]) for t, a, _ in theta_map.entries])


def difference_hessian(
    gradient: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    scales: np.ndarray,
    base: np.ndarray,
    one_sided: bool,
    step_size: float | None = None,
) -> np.ndarray:
    """Symmetrised differences of ``gradient`` around x; steps 1e-5 (one-sided) or 1e-4 of ``scales``."""
    if step_size is None:
        step_size = 1e-5 if one_sided else 1e-4
    H = np.empty((len(x), len(x)))
    for j in range(len(x)):
        step = np.zeros(len(x))
        step[j] = scales[j] * step_size
        try:
            ahead = gradient(x + step)
            H[j] = (ahead - base) / step[j] if one_sided else (ahead - gradient(x - step)) / (2 * step[j])
        except NumericalError as error:
            raise NumericalError(f"no Hessian by differences along parameter {j}: {error}") from error
    return 0.5 * (H + H.T)
