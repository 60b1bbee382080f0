"""The linear algebra of one Newton step."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
from scipy.linalg.lapack import dsyevd

from fastlmm_core.criterion.information import (
    average_hessian,
    difference_hessian,
    exact_hessian,
)
from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.optimize.chart import Chart

FLOOR = 1e-9
"""Smallest eigenvalue, relative to a unit diagonal, that a step trusts."""


@dataclass(eq=False)
class Quadratic:
    """The objective near a chart's centre: gradient, Hessian, and directions of release.

    The first ``m`` coordinates are the chart's; one more per entry of
    ``released`` is the amount of ``w w'`` added to the T of a term that lost
    rank, where that lowers the objective.
    """

    m: int
    g: np.ndarray
    H: np.ndarray
    released: list[tuple[int, float, np.ndarray]]
    kkt: float
    exact: bool


def second_derivatives(objective: ProfiledObjective, point: Point, X: list[np.ndarray], kind: str):
    """(H, exact) in T along the rows X_f (m_f, k, k) of each factor, in that order."""
    if kind == "exact":
        H = exact_hessian(objective, point, X[0].reshape(len(X[0]), -1))
        if H is not None:
            return H, True
    flat = [(f, direction) for f, Xf in enumerate(X) for direction in Xf]
    return average_hessian(objective, point, flat), False


def quadratic(objective: ProfiledObjective, chart: Chart, point: Point, kind: str) -> Quadratic:
    """Gradient and Hessian in the chart and along the directions that would regain lost rank."""
    D = objective.gradient(point)
    lost = chart.lost(D)
    released = [entry for entry in lost if entry[1] < 0]
    X, blocks = chart.directions(), chart.map.blocks
    # factor by factor the chart's directions, then the released ones of that factor
    position, order = 0, [[], []]
    for f, k in enumerate(chart.map.k):
        order[0] += range(position, position + len(X[f]))
        position += len(X[f])
        for t, _, w in released:
            if blocks[t].factor == f:
                extra = np.zeros((1, k, k))
                extra[0, blocks[t].rows, blocks[t].rows] = np.outer(w, w)
                X[f] = np.concatenate([X[f], extra])
                order[1].append(position)
                position += 1
    released.sort(key=lambda entry: blocks[entry[0]].factor)
    m, g = chart.layout.size, chart.gradient(D)
    kkt = min((value for _, value, _ in lost), default=float("nan"))
    if position == 0:
        return Quadratic(0, g, np.zeros((0, 0)), [], kkt, True)
    H, exact = second_derivatives(objective, point, X, kind)
    if released:
        both = np.array(order[0] + order[1])
        H = H[both[:, None], both]
        g = np.concatenate([g, [value for _, value, _ in released]])
    chart.add_curvature(H[:m, :m], D)
    return Quadratic(m, g, H, released, kkt, exact)


def differenced(objective: ProfiledObjective, chart: Chart, model: Quadratic) -> np.ndarray:
    """Observed Hessian in the chart by one-sided differences of the gradient, at a fixed chart."""

    def gradient(x):
        M = chart.moved(x)
        there = objective.evaluate(chart.Lambda(M))
        D = objective.gradient(there)
        layout = chart.layout
        return np.concatenate([2.0 * (Df @ Mf)[r, c] for Df, Mf, r, c in zip(D, M, layout.rows, layout.cols)])

    scales = np.full(model.m, 0.0)
    for part, M in zip(chart.layout.parts, chart.M):
        scales[part] = max(float(np.sqrt((M * M).sum())), 1e-3)
    return difference_hessian(gradient, chart.x, scales, model.g[: model.m], one_sided=True)


def descent(g: np.ndarray, H: np.ndarray) -> tuple[np.ndarray, float, float, np.ndarray, float]:
    """Newton step with the eigenvalues of the scaled Hessian replaced by their absolute values.

    Returns the step, its decrement ``g'|H|^-1 g / 2``, the smallest eigenvalue of
    the Hessian scaled to a unit diagonal, its vector in the coordinates of g, and
    the largest scaled gradient.
    """
    diagonal = np.abs(H.diagonal())
    d = 1.0 / np.sqrt(np.maximum(diagonal, max(1e-12 * diagonal.max(), 1e-300)))
    if not isfinite(float(H.sum()) + float(g.sum())):
        raise NumericalError("the derivatives of the criterion are not finite")
    values, vectors, _ = dsyevd(H * d[:, None] * d)
    scaled = d * g
    along = vectors.T @ scaled
    newton = along / np.maximum(np.abs(values), FLOOR * max(1.0, abs(values[-1])))
    worst = float(np.abs(scaled).max())
    return -d * (vectors @ newton), 0.5 * float(along @ newton), float(values[0]), d * vectors[:, 0], worst
