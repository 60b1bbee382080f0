"""Predictions with errors, deletion diagnostics and robust covariances of a linear model.

The formulas of the mixed model without random effects: ``V0 = W^-1``, so that leverages are those of the
hat matrix, clusters are independent, and single rows as clusters give White's covariances.
"""

from functools import cached_property, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd

from fastlmm_core.data.table import Table
from fastlmm_core.inference.estimates import FixedCoordinates
from fastlmm_core.inference.prediction import PredictionErrors
from fastlmm_core.results import compare, robust
from fastlmm_core.results.coefficients import choose
from fastlmm_core.results.influence import Influence
from fastlmm_core.results.predict import predict_new
from fastlmm_core.results.predict_errors import error_table
from fastlmm_core.results.residual_kinds import studentized_residuals
from fastlmm_core.results.rowblocks import fit_source, new_source, new_weights


class NoLevels:
    """`LevelCovariance` of no factors."""

    T = TG = k = levels = ()

    def quadratic(self, codes, z) -> float:
        return 0.0

    def logdets(self) -> dict:
        return {}


class LinearDiagnostics:
    """Methods of `LMResults` beyond estimates and tests."""

    @cached_property
    def _solved(self):
        """What diagnostics read of a `SolvedModel`; the coordinates are those of the data."""
        r = len(self._kept)
        return SimpleNamespace(
            fixed=FixedCoordinates(len(self._names), self._kept, np.eye(r), np.zeros(r), 1.0),
            theta_map=SimpleNamespace(k=()),
            point=SimpleNamespace(Q=self._estimates.Q),
            products=None,
        )

    @cached_property
    def _prediction_errors(self) -> PredictionErrors:
        return PredictionErrors(self._estimates.Q, NoLevels())

    def predict(self, newdata=None, *, se: bool = False, interval=None, level: float = 0.95):
        """Prediction by the rows of ``newdata`` (default: those of the fit), NaN where one is missing.

        Parameters
        ----------
        newdata : table of any kind `lm` takes, or None.
        se : also standard errors.
        interval : None, ``"mean"`` (of the expected response), or ``"observation"`` (a new one: adds
            ``sigma^2 / weight``).
        level : coverage of the interval.

        Returns
        -------
        Series, or DataFrame ``mean, se`` and, with an interval, ``lower, upper`` (t with `df_resid`).
        """
        if interval not in (None, "mean", "observation"):
            raise ValueError(f"interval is 'mean', 'observation' or None, found {interval!r}")
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, found {level!r}")
        if newdata is None:
            mean = self.fittedvalues.rename("predicted")
        else:
            newdata = Table(newdata)
            mean = predict_new(self._spec, newdata, self._beta, (), ())
        if not se and interval is None:
            return mean
        if newdata is None:
            source = fit_source(self._rows.design, self._rows.labels)
        else:
            rows = self._spec.evaluate(newdata, random=False)
            source = new_source(self._spec, rows, new_weights(self._spec, newdata))
        variance = np.empty(source.n)
        for part in source.slices():
            X = source.X(self._kept, part)
            variance[part] = np.einsum("ni,ni->n", X @ self._vcov, X)
        if interval == "observation":
            variance += self.scale if source.weights is None else self.scale / source.weights
        if source.missing is not None:
            variance[source.missing] = np.nan
        return error_table(mean, variance, float(self.df_resid), interval, level)

    def influence(self, by=None) -> Influence:
        """What deleting each row or group does to the coefficients, at the sigma of the fit.

        Parameters
        ----------
        by : None for single rows, a column of the data, or labels of the rows used.

        Returns
        -------
        Influence : as of a mixed model; Cook (1977), Belsley, Kuh & Welsch (1980).
        """
        return Influence(self, by)

    def loo(self, by=None) -> compare.LeaveOut:
        """Predict each row, or each group of rows, from all the others, at the sigma of the fit."""
        return compare.LeaveOut(self, by)

    def robust(self, kind: str = "CR2", cluster=None, alpha: float = 0.05) -> pd.DataFrame:
        """Coefficients with cluster-robust standard errors, tests and limits.

        Parameters
        ----------
        kind : ``"CR0"``, ``"CR1"``, ``"CR2"`` or ``"CR3"``.
        cluster : a column of the data, or labels of the rows used; by default every row is a cluster,
            which gives White's covariances (CR0 is HC0; CR2 is HC2 and CR3 HC3 without weights).
        alpha : one minus the coverage of the limits.

        Returns
        -------
        DataFrame p x ``estimate, std_error, df, t, p, lower, upper``; see `LMMResults.robust`.
        """
        return robust.robust_table(self, kind, cluster, alpha)

    def residuals(self, kind: str = "response") -> pd.Series:
        """Residuals by the rows used: ``"response"``, ``"pearson"`` (times ``sqrt(weight) / sigma``) or
        ``"studentized"`` (over their own standard deviation, R's ``rstandard``)."""
        kinds = {
            "response": lambda: self._rows.residuals,
            "pearson": lambda: self._rows.scaled_residuals,
            "studentized": lambda: studentized_residuals(self),
        }
        values = choose(kind, kinds, "kind of residual")()
        return self._rows.series(values, "resid" if kind == "response" else f"resid_{kind}")

    @property
    def aicc(self) -> float:
        """`aic` corrected for small samples, ``+ 2 k (k + 1) / (n - k - 1)`` (Hurvich & Tsai 1989)."""
        return compare.corrected_aic(self)

    def _robust_covariances(self, cluster) -> dict:
        return {kind: partial(robust.robust_covariance, self, kind, cluster) for kind in robust.KINDS}
