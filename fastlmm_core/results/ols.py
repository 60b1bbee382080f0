"""What `lm` returns."""


import numpy as np
import pandas as pd

from fastlmm_core.inference.anova import weighted_triangle
from fastlmm_core.inference.distributions import f_upper
from fastlmm_core.inference.ols import LeastSquares
from fastlmm_core.inference.tests import Residual
from fastlmm_core.results.accessors import Accessors
from fastlmm_core.results.coefficients import FixedEffects, choose
from fastlmm_core.results.export import LinearExports
from fastlmm_core.results.facts import LinearFacts
from fastlmm_core.results.linear_diagnostics import LinearDiagnostics
from fastlmm_core.results.simulating import LinearSimulation
from fastlmm_core.results.summary import LinearSummary
from fastlmm_core.results.testing import Testing


class LMResults(FixedEffects, Accessors, LinearDiagnostics, LinearSimulation, Testing, LinearExports):
    """A linear model fitted by (weighted) least squares.

    Made by `fastlmm_core.lm`.  Conventions are those of R's ``summary(lm)``; the
    names those of `LMMResults` where they apply.

    Attributes
    ----------
    sigma, scale : residual standard deviation (units of the response) and variance
    rsquared, rsquared_adj, fvalue, f_pvalue : about the mean when the formula has an intercept, else about 0
    df_resid : int
    """

    def __init__(self, facts: LinearFacts, estimates: LeastSquares, rows, spec, timings=None):
        self.__dict__.update(
            _facts=facts, _estimates=estimates, _rows=rows, _spec=spec, timings=dict(timings or {}),
            _names=facts.coefficients, _beta=estimates.beta, _kept=estimates.kept, _vcov=estimates.vcov,
        )  # fmt: skip

    @property
    def _df(self) -> np.ndarray:
        return np.full(len(self._kept), float(self.df_resid))

    @property
    def plot(self):
        """Figures of the fit: ``fit.plot.residuals()`` and ``fit.plot.qq()``."""
        from fastlmm_core.results.plots import LinearPlots

        return LinearPlots(self)

    def _methods(self) -> dict:
        return {"residual": lambda: Residual(self._vcov, self.df_resid)}

    def _triangle(self) -> np.ndarray:
        """R with ``R'R = X'WX``: type I sums of squares are sequential."""
        if "triangle" in vars(self._rows):  # a fit that was read from a file
            return self._rows.triangle
        return weighted_triangle(self._rows.design, self._kept, self._rows.design.weights)

    @property
    def _weighted(self) -> bool:
        return self._facts.weights_name is not None

    def cov_params(self, kind: str = "model", cluster=None) -> pd.DataFrame:
        """Covariance of the coefficients, p x p; aliased rows and columns are NaN.

        ``kind`` is ``"model"``, or ``"CR0"`` to ``"CR3"``: cluster-robust, see `robust`.
        """
        kinds = {"model": lambda: self._vcov, **self._robust_covariances(cluster)}
        return self._cov_frame(choose(kind, kinds, "kind of covariance")())

    def conf_int(self, alpha: float = 0.05, method: str = "t") -> pd.DataFrame:
        """Confidence limits, columns ``lower, upper``; ``method`` is ``"t"`` or ``"wald"`` (normal)."""
        df = choose(method, {"t": float(self.df_resid), "wald": np.inf}, "method")
        return self._interval_frame(alpha, self._se, np.full(len(self._names), df))

    @property
    def sigma(self) -> float:
        """Residual standard deviation, units of the response."""
        return self.scale**0.5

    @property
    def df_resid(self) -> int:
        """Rows less coefficients kept."""
        return self._estimates.df_resid

    @property
    def df_modelwc(self) -> int:
        """Coefficients kept and sigma."""
        return len(self._kept) + 1

    # fit

    @property
    def llf(self) -> float:
        """Log-likelihood (of maximum likelihood, as R's ``logLik``)."""
        return self._estimates.llf

    @property
    def _numerator_df(self) -> int:
        return len(self._kept) - self._facts.has_constant

    @property
    def _model_ss(self) -> float:
        centred, plain = self._rows.model_squares
        return centred if self._facts.has_constant else plain

    @property
    def rsquared(self) -> float:
        """Share of the sum of squares explained."""
        return self._model_ss / (self._model_ss + self._estimates.rss) if self._numerator_df else 0.0

    @property
    def rsquared_adj(self) -> float:
        """`rsquared` adjusted for the number of coefficients."""
        if not self._numerator_df:
            return 0.0
        return 1.0 - (1.0 - self.rsquared) * (self.nobs - self._facts.has_constant) / self.df_resid

    @property
    def fvalue(self) -> float:
        """F statistic of all coefficients but the intercept; NaN when there are none."""
        return self._model_ss / self._numerator_df / self.scale if self._numerator_df else float("nan")

    @property
    def f_pvalue(self) -> float:
        """Upper tail of `fvalue`."""
        return f_upper(self.fvalue, self._numerator_df, self.df_resid) if self._numerator_df else float("nan")

    def summary(self):
        """A summary that prints like R's ``summary(lm)``."""
        return LinearSummary(self)

    def __repr__(self) -> str:
        return f"<LMResults {self.formula!r}, {self.nobs} rows>"
