"""Rows of a fit whose data were read in batches: what the statistics tell, and the rest by reading again."""

from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import add_random_effects, linear_predictor
from fastlmm_core.data.table import Table
from fastlmm_core.errors import DataError
from fastlmm_core.formula.reader import RowReader

MEMORY_SHARE = 0.25
"""Row quantities are kept when they take at most this part of the memory that is free."""


class StatisticsRows:
    """Stands for the rows of a fit that was made from statistics: two variances, but no rows.

    Parameters
    ----------
    moments : (u + 1, u + 1), ``[U 1]'[U 1]`` without weights, in standardized coordinates.
    layout : positions of the columns.
    beta : (kept,) standardized coefficients and ``kept`` their columns.
    covariances : standardized relative covariance of each term.
    scales : standard deviation of the residuals, and scale of the response in the statistics.
    fixed_map : (kept, kept), A with ``X_kept A = X~_kept``.
    """

    def __init__(self, moments, layout, beta, kept, covariances, n, scales, fixed_map):
        self.moments, self.layout, self.n = moments, layout, n
        self.beta, self.kept, self.terms = beta, kept, covariances
        self.scales, self.fixed_map = scales, fixed_map

    @property
    def quantiles(self) -> np.ndarray:
        """Of residuals: not known."""
        return np.full(5, np.nan)

    @cached_property
    def variances(self) -> tuple[float, float]:
        """Variance of ``X beta`` over rows, and the mean of ``diag(Z Sigma Z')``, from the sums alone."""
        M, n, (sigma, y_scale) = self.moments, self.n, self.scales
        x = self.layout.x[self.kept]
        square = self.beta @ M[np.ix_(x, x)] @ self.beta
        total = M[-1, x] @ self.beta
        fixed = max(0.0, (square - total**2 / n) / (n - 1)) * y_scale**2
        random = 0.0
        for (f, start, q), T in zip(self.layout.term_slices, self.terms, strict=True):
            z = self.layout.z[f][start : start + q]
            random += float(np.sum(T * M[np.ix_(z, z)]))
        return float(fixed), random * sigma**2 / n

    def __getattr__(self, name):
        if name.startswith("__") or name in ("moments", "scales"):
            raise AttributeError(name)
        raise DataError(
            "this fit was made from statistics, which hold no rows: fitted values, residuals and one "
            "cluster's covariance need the data; predict(data) gives fitted values, and "
            "predict(data, out='file.parquet') writes them"
        )


class SourceRows(StatisticsRows):
    """Rows that are read again on request, from a source that allows it."""

    def __init__(self, *known, source, plan, spec, effects, beta_original):
        super().__init__(*known)
        self._known = known
        self.source, self.plan, self.spec = source, plan, spec
        self.effects, self.beta_original = effects, np.nan_to_num(beta_original)

    def __reduce__(self):
        """Copies and pickles hold what the statistics tell, not the way to the data."""
        return StatisticsRows, self._known

    def series(self, values: np.ndarray, name: str) -> pd.Series:
        """Values by the rows used, numbered by their place in the data."""
        return pd.Series(values, index=self.labels, name=name, copy=True)

    @property
    def labels(self) -> pd.Index:
        """Places of the rows used in the data."""
        return pd.Index(self._read["place"])

    @property
    def fitted(self) -> np.ndarray:
        return self._read["fitted"]

    @property
    def residuals(self) -> np.ndarray:
        return self._read["response"] - self._read["fitted"]

    @property
    def scaled_residuals(self) -> np.ndarray:
        scaled = self.residuals / self.scales[0]
        return scaled * np.sqrt(self._read["weights"]) if "weights" in self._read else scaled

    def mean(self, factors) -> np.ndarray:
        """``offset + X beta + sum of Z b`` over the given factors."""
        return np.concatenate([values["fitted"] for values in self._batches(list(factors))])

    @cached_property
    def _read(self) -> dict[str, np.ndarray]:
        parts = list(self._batches(range(len(self.spec.groups))))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _batches(self, factors):
        """Per batch the values of its rows that are used."""
        free = free_memory()
        if free is not None and 4 * 8 * self.n > MEMORY_SHARE * free:
            raise DataError(
                f"values of {self.n} rows do not fit well in the memory that is free: "
                "predict(data, out='file.parquet') writes them"
            )
        start = 0
        for batch in self.source.batches(self.plan.columns):
            found = self._values(batch.data, factors, start)
            start += found.pop("n")
            yield found

    def _values(self, data, factors, start):
        rows = self.spec.evaluate(data, random=[self.spec.groups[f].name for f in factors])
        values = linear_predictor(rows.atoms, rows.fixed, self.beta_original, rows.n)
        for f in factors:
            columns = [column for term in rows.terms if term.factor == f for column in term.columns]
            add_random_effects(values, rows.codes[f], rows.atoms, columns, self.effects()[f])
        reader = RowReader(self.plan.parsed, Table(data))
        states = [piece.state for piece in self.spec.pieces]
        found = reader.read(states, self.spec.weights, None, "drop", may_be_empty=True)
        used = slice(None) if reader.rows is None else reader.rows
        offset = 0.0 if found.offset is None else found.offset
        result = {
            "n": rows.n,
            "place": start + np.arange(rows.n)[used],
            "fitted": values[used] + offset,
            "response": found.response + offset,
        }
        return result if found.weights is None else result | {"weights": found.weights}


def free_memory() -> int | None:
    """Bytes that a program can still use, None where the system does not tell."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
