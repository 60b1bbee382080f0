"""Responses drawn from a fitted model, by rows, and the statistics of a response."""

from collections.abc import Sequence

import numpy as np

from fastlmm_core.crossprod.layout import Layout, row_atoms
from fastlmm_core.crossprod.rows import add_random_effects, column_program
from fastlmm_core.formula.terms import Design
from fastlmm_core.mme.covariance import ThetaMap

BLOCK = 1 << 16
"""Rows whose columns are evaluated at once."""
KEPT_BYTES = 1 << 26
"""Columns up to this size are evaluated once for many responses."""


class RowStatistics:
    """Cross-products of other responses with the columns of a design.

    Calling it with y~ (n,) gives ``U'W y~`` (u,), 0 at the place of the design's own
    response, ``y~'W y~``, and per factor ``Z_f'W y~`` (levels, k); O(n u), no copies of
    the columns beyond a block.
    """

    def __init__(self, design: Design, layout: Layout, keep_columns: bool = False):
        self.design, self.layout = design, layout
        columns = list(layout.columns)
        self._others = np.array([j for j in range(len(columns)) if j != layout.y], int)
        self._program = column_program(row_atoms(design), [columns[j] for j in self._others], design.n)
        place = {j: i for i, j in enumerate(self._others)}
        self._z = [[place[j] for j in z] for z in layout.z]
        small = 8 * design.n * len(self._others) <= KEPT_BYTES
        self._dense = self._program.dense(0, design.n) if keep_columns and small else None

    def __call__(self, y: np.ndarray) -> tuple[np.ndarray, float, list[np.ndarray]]:
        design, layout = self.design, self.layout
        Uy, yy = np.zeros(len(layout.columns)), 0.0
        Zy = [np.zeros((G, k)) for G, k in zip(layout.levels, layout.k, strict=True)]
        step = design.n if self._dense is not None else BLOCK
        for lo in range(0, design.n, step):
            hi = min(lo + step, design.n)
            U = self._dense if self._dense is not None else self._program.dense(lo, hi)
            part = y[lo:hi]
            wy = part if design.weights is None else design.weights[lo:hi] * part
            Uy[self._others] += U.T @ wy
            yy += float(wy @ part)
            for factor, z, sums in zip(design.factors, self._z, Zy, strict=True):
                codes = factor.codes[lo:hi]
                for a, j in enumerate(z):
                    sums[:, a] += np.bincount(codes, U[:, j] * wy, minlength=len(sums))
        return Uy, yy, Zy


def draw_effects(
    theta_map: ThetaMap, theta: np.ndarray, sigma: float, levels: Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Random effects per factor (levels, k) in the units of ``sigma``, ``b_i = sigma L z_i`` per term."""
    effects = [np.empty((G, k)) for G, k in zip(levels, theta_map.k, strict=True)]
    for block, L in zip(theta_map.blocks, theta_map.term_L(theta), strict=True):
        z = rng.standard_normal((levels[block.factor], block.q))
        effects[block.factor][:, block.rows] = sigma * (z @ L.T)
    return effects


def add_effects(
    values: np.ndarray, design: Design, effects: Sequence[np.ndarray], n_threads: int | None = None
) -> np.ndarray:
    """``values + Z b`` by rows, in place, for b per factor (levels, k) in original units."""
    for f, b in enumerate(effects):
        columns = [column for term in design.terms if term.factor == f for column in term.columns]
        add_random_effects(values, design.factors[f].codes, design.atoms, columns, b, n_threads=n_threads)
    return values


def draw_errors(design: Design, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Residuals (n,), variance ``sigma^2 / weight``."""
    e = rng.standard_normal(design.n)
    e *= sigma
    if design.weights is not None:
        e /= np.sqrt(design.weights)
    return e
