"""Row quantities of a fit: fitted values, residuals, one cluster's covariance.

They are computed by the row kernels from the design, which refers to the
caller's arrays; nothing is copied or kept until it is asked for.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import (
    PredictorPart,
    add_random_effects,
    dense_columns,
    linear_predictor,
    quantiles_and_moments,
)
from fastlmm_core.errors import DataError
from fastlmm_core.formula.terms import Design

BLOCK = 1 << 18
"""Rows evaluated at once where columns must be stored."""

STORED_ROWS = 1 << 21
"""Up to here the summary keeps the fitted values it computes; beyond, it evaluates them by blocks."""


def locked(values: np.ndarray) -> np.ndarray:
    """The array, marked read-only."""
    values.flags.writeable = False
    return values


@dataclass(frozen=True, eq=False)
class RowFrame:
    """The caller's data, ``mask`` (n_total,) bool of the rows used, None for all, and the labels of those."""

    data: object
    mask: np.ndarray | None
    labels: pd.Index

    def frame(self) -> pd.DataFrame:
        """As pandas, with the labels as index."""
        data = self.data
        if not isinstance(data, pd.DataFrame):
            convert = getattr(data, "to_pandas", None)
            data = convert() if convert is not None else pd.DataFrame(data)
        data = data if self.mask is None else data[self.mask]
        return data.set_axis(self.labels, axis=0)


class FitRows:
    """Rows of a fit.

    Parameters
    ----------
    design : the data of the model.
    source : the caller's data and which of its rows are used.
    beta : (p,) with NaN for aliased columns.
    solved : what offers ``random_effects``, per factor (levels, k); None without random effects.
    sigma : residual standard deviation.
    covariances : Sigma per random term.
    """

    def __init__(self, design: Design, source: RowFrame, beta, solved, sigma, covariances=(), n_threads=None):
        self.design, self.source = design, source
        self.beta, self.solved, self.sigma = np.nan_to_num(beta), solved, sigma
        self.covariances, self.n_threads = covariances, n_threads

    @property
    def labels(self) -> pd.Index:
        return self.source.labels

    @property
    def frame(self) -> pd.DataFrame:
        """The data's columns on the rows used."""
        return self.source.frame()

    def series(self, values: np.ndarray, name: str) -> pd.Series:
        """Values by the rows used, with the data's labels."""
        return pd.Series(values, index=self.labels, name=name, copy=True)

    def linear(self) -> np.ndarray:
        """``X beta`` without the offset, (n,)."""
        design = self.design
        return linear_predictor(design.atoms, design.fixed, self.beta, design.n, n_threads=self.n_threads)

    def mean(self, factors) -> np.ndarray:
        """``offset + X beta + sum of Z b`` over the given factors, (n,)."""
        design, values = self.design, self.linear()
        effects = self.solved.random_effects if factors else ()
        for f in factors:
            columns = [column for term in design.terms if term.factor == f for column in term.columns]
            codes = design.factors[f].codes
            add_random_effects(values, codes, design.atoms, columns, effects[f], n_threads=self.n_threads)
        if design.offset is not None:
            values += design.offset
        return values

    @cached_property
    def fitted(self) -> np.ndarray:
        return locked(self.mean(range(len(self.design.factors))))

    @cached_property
    def residuals(self) -> np.ndarray:
        """``design.response`` has the offset taken out, ``fitted`` has it in."""
        values = self.design.response - self.fitted
        if self.design.offset is not None:
            values += self.design.offset
        return locked(values)

    @cached_property
    def scaled_residuals(self) -> np.ndarray:
        values = self.residuals / self.sigma
        if self.design.weights is not None:
            values *= np.sqrt(self.design.weights)
        return locked(values)

    @cached_property
    def quantiles(self) -> np.ndarray:
        """Minimum, quartiles and maximum of the scaled residuals."""
        design, mean = self.design, self._predictor_parts()
        if design.n <= STORED_ROWS or "fitted" in self.__dict__:
            mean = self.fitted if design.offset is None else self.fitted - design.offset
        return quantiles_and_moments(
            design.response, mean, self.sigma, design.weights, n_threads=self.n_threads
        )[0]

    def _predictor_parts(self) -> list[PredictorPart]:
        """The summands of ``fitted - offset``."""
        design, used = self.design, np.flatnonzero(self.beta)
        columns = [design.fixed[j] for j in used]
        parts = [PredictorPart(design.atoms, columns, None, self.beta[None, used])]
        for f, factor in enumerate(design.factors):
            columns = [column for term in design.terms if term.factor == f for column in term.columns]
            parts.append(PredictorPart(design.atoms, columns, factor.codes, self.solved.random_effects[f]))
        return parts

    @cached_property
    def variances(self) -> tuple[float, float]:
        """Variance of ``X beta`` over rows, and the mean of ``diag(Z Sigma Z')``."""
        design, random = self.design, 0.0
        for start in range(0, design.n, BLOCK):
            rows = slice(start, min(start + BLOCK, design.n))
            for term, cov in zip(design.terms, self.covariances, strict=True):
                Z = dense_columns(design.atoms, term.columns, design.n, rows)
                random += float(np.einsum("ia,ab,ib->", Z, cov, Z, optimize=True))
        return float(np.var(self.linear(), ddof=1)), random / design.n

    @cached_property
    def model_squares(self) -> tuple[float, float]:
        """Weighted sums of squares of the fitted values, about their weighted mean and about 0."""
        fitted, weights = self.fitted, self.design.weights
        w = np.ones(len(fitted)) if weights is None else weights
        centred = fitted - (w @ fitted) / w.sum()
        return float(w @ centred**2), float(w @ fitted**2)

    def cluster_covariance(self, factor: int, level: int, covariances, scale: float) -> pd.DataFrame:
        """``sum_t Z_t (I kron Sigma_t) Z_t' + scale W^-1`` on the rows of one level, (n_i, n_i)."""
        design = self.design
        rows = np.flatnonzero(design.factors[factor].codes == level)
        V = np.zeros((len(rows), len(rows)))
        for term, cov in zip(design.terms, covariances, strict=True):
            Z = dense_columns(design.atoms, term.columns, design.n, rows)
            codes = design.factors[term.factor].codes[rows]
            V += np.where(codes[:, None] == codes[None, :], Z @ cov @ Z.T, 0.0)
        weights = 1.0 if design.weights is None else design.weights[rows]
        V[np.diag_indices(len(rows))] += scale / weights
        return pd.DataFrame(V, index=self.labels[rows], columns=self.labels[rows])


class AbsentRows:
    """Stands for the rows of a fit that was loaded from a file: its summaries, but no rows."""

    def __init__(self, known: dict):
        self.__dict__.update(known)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(
            "this fit was loaded from a file, which holds no data rows: fitted values, residuals and one "
            "cluster's covariance need the fit made by lmer or lm; predict(newdata) works here too"
        )
