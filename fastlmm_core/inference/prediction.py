"""Variances of predictions: fixed and random effects together.

Henderson's mixed-model equations C give ``Var(x'beta^ + z'(b^ - b)) = sigma^2 [x z] C^-1 [x z]'``
(Henderson 1975, doi:10.2307/2529430; McLean, Sanders & Stroup 1991, doi:10.1080/00031305.1991.10475767).
With ``Q = (X'V0^-1 X)^-1``, ``G = Z'V0^-1 X``, K the covariance of b given y and beta,

    C^-1 = [ Q        -Q G'T             ]
           [ -T G Q    K + T G Q G'T     ]

so that one row costs ``z'K z + d'Q d`` with ``d = x - (T G)'z``.  A level that was not seen has
``K = T`` and ``T G = 0``: its effect is 0 with variance T.

Everything here is relative to sigma^2 and in the coordinates of the engine; a
variance has no coordinates but its unit, so only x and z have to be mapped.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.criterion.information import natural_scales
from fastlmm_core.inference.prediction_crossed import level_covariance
from fastlmm_core.inference.prediction_levels import Codes, LevelCovariance, Rows


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows whose linear predictor is wanted.

    ``x`` (n, r), and per factor ``codes`` (n,), ``z`` (n, k), 0 where the factor is left out.
    Codes below 0 are levels without data: -1 none in particular, others name new levels.
    """

    x: np.ndarray
    codes: Codes
    z: Rows

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows) -> "RowBlock":
        return RowBlock(self.x[rows], [c[rows] for c in self.codes], [v[rows] for v in self.z])


@dataclass(frozen=True, eq=False)
class PredictionErrors:
    """Prediction error variances at one optimum; ``levels`` is None where random effects are left out."""

    Q: np.ndarray
    levels: LevelCovariance | None = None

    def residual_x(self, rows: RowBlock) -> np.ndarray:
        """``d = x - (T G)'z`` (n, r)."""
        d = rows.x.copy()
        if self.levels is not None:
            for codes, z, TG in zip(rows.codes, rows.z, self.levels.TG):
                seen = np.flatnonzero(codes >= 0)
                if len(seen) == len(d):
                    d -= np.einsum("nk,nkr->nr", z, TG[codes])
                    continue
                d[seen] -= np.einsum("nk,nkr->nr", z[seen], TG[codes[seen]])
        return d

    def variance(self, rows: RowBlock) -> np.ndarray:
        """``Var(x'beta^ + z'(b^ - b)) / sigma^2`` (n,) over the levels that have data."""
        d = self.residual_x(rows)
        out = np.einsum("nu,nu->n", d @ self.Q, d)
        if self.levels is not None:
            out += self.levels.quadratic(rows.codes, rows.z)
        return out

    def new_level_variance(self, rows: RowBlock, T) -> np.ndarray:
        """``z'T z`` (n,) of the levels without data."""
        out = np.zeros(len(rows))
        for codes, z, block in zip(rows.codes, rows.z, T):
            new = np.flatnonzero(codes < 0)
            out[new] += np.einsum("na,ab,nb->n", z[new], block, z[new])
        return out

    def covariance(self, rows: RowBlock, other: RowBlock) -> np.ndarray:
        """Covariances of prediction errors between two sets of rows (n, n'), new levels included."""
        if self.levels is None:
            return rows.x @ self.Q @ other.x.T
        d = self.residual_x(rows)
        out = d @ self.Q @ (d if other is rows else self.residual_x(other)).T
        out += self.levels.cross(rows.codes, rows.z, other.codes, other.z)
        for c, z, c2, z2, T in zip(rows.codes, rows.z, other.codes, other.z, self.levels.T):
            same = (c[:, None] == c2[None, :]) & (c < -1)[:, None]
            if same.any():
                out += np.where(same, z @ T @ z2.T, 0.0)
        return out


@dataclass(frozen=True, eq=False)
class Updated:
    """Means and variances (over sigma^2) of linear predictors after more rows were seen."""

    shift: np.ndarray
    variance: np.ndarray


def update_by_rows(
    errors: PredictionErrors, rows: RowBlock, given: RowBlock, residual: np.ndarray, weights
) -> Updated:
    """Predictions for ``rows`` once the responses of the rows ``given`` are known, variances fixed.

    The rows given need not have taken part in the fit: with ``P`` the prediction error
    covariances and ``r = y - prediction``, best linear prediction adds ``P_tg (P_gg + W^-1)^-1 r``.
    The result equals that of the mixed-model equations with the rows appended, fixed effects
    included (Henderson 1975, section 3), at the variances of the fit.

    Parameters
    ----------
    residual : (g,) response minus prediction of the rows given, in any unit.
    weights : (g,) prior weights, or None.

    Returns
    -------
    Updated : ``shift`` in the unit of ``residual``.
    """
    Pgg = errors.covariance(given, given)
    Pgg[np.diag_indices(len(given))] += 1.0 if weights is None else 1.0 / weights
    Ptg = errors.covariance(rows, given)
    gain = np.linalg.solve(Pgg, Ptg.T).T
    before = errors.variance(rows)
    for c, z, T in zip(rows.codes, rows.z, errors.levels.T):
        named = np.flatnonzero(c < -1)
        before[named] += np.einsum("na,ab,nb->n", z[named], T, z[named])
    return Updated(gain @ residual, before - np.einsum("tg,tg->t", gain, Ptg))


def prediction_errors(solved) -> PredictionErrors:
    """Of a `SolvedModel`; ModelError where the covariance between levels does not fit in memory."""
    point, columns = solved.point, solved.products.x[solved.fixed.kept]
    return PredictionErrors(point.Q, level_covariance(solved.products, point.Lambda, columns))


STEP = 1e-5
"""Step in theta, in units of its natural size, of one-sided differences."""

KEPT_BYTES = 1 << 28
"""Memory for prediction errors at other values of theta that may be needed again."""


class VariedErrors:
    """``(step, PredictionErrors)`` with each theta in turn moved by its step; kept while they are small."""

    def __init__(self, solved):
        self.solved = solved
        self._kept: dict[int, tuple[float, PredictionErrors]] = {}
        self._bytes = 0

    def __iter__(self):
        solved = self.solved
        theta, columns = solved.estimates.theta, solved.products.x[solved.fixed.kept]
        for j, step in enumerate(STEP * natural_scales(solved.theta_map, theta)):
            found = self._kept.get(j)
            if found is None:
                Lambda = solved.theta_map.to_Lambda(theta + step * (np.arange(len(theta)) == j))
                with solved._lock:
                    Q = solved.objective.evaluate(Lambda).Q
                levels = level_covariance(solved.products, Lambda, columns)
                found = step, PredictionErrors(Q, levels)
                if self._bytes + levels.nbytes <= KEPT_BYTES:
                    self._kept[j] = found
                    self._bytes += levels.nbytes
            yield found


def satterthwaite_df(varied: VariedErrors, variance: np.ndarray, noise, at) -> np.ndarray:
    """Degrees of freedom (n,) of ``f = sigma^2 variance + noise``, ``noise`` proportional to sigma^2.

    ``at(errors)`` gives ``variance`` (n,) at other values of theta; ``df = 2 f^2 / g'A g``, g the gradient
    in ``(theta, log sigma^2)``, by differences in theta (Giesbrecht & Burns 1985, applied to the
    prediction error variance as a whole).
    """
    solved = varied.solved
    s2 = solved.estimates.sigma2
    f = s2 * variance + noise
    g = [s2 * (at(errors) - variance) / step for step, errors in varied]
    g = np.column_stack([solved.calculus.gradient(np.stack(g, 1)), f])
    spread = np.einsum("nm,mk,nk->n", g, solved.calculus.covariance, g)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 2.0 * f**2 / spread, np.inf)
