"""What `lmer` returns: an immutable fit with accessors, each computed on request."""

import warnings
from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, MonteCarloWarning
from fastlmm_core.inference.satterthwaite import coefficient_df
from fastlmm_core.results.accessors import Accessors
from fastlmm_core.results.coefficients import FixedEffects, choose
from fastlmm_core.results.components import component_frames
from fastlmm_core.results.criterion import by_criterion, criterion_at
from fastlmm_core.results.diagnostics import Diagnostics
from fastlmm_core.results.export import Exports
from fastlmm_core.results.facts import MixedFacts
from fastlmm_core.results.fitrows import AbsentRows, FitRows
from fastlmm_core.results.ranef import coefficient_frames, ranef_frames
from fastlmm_core.results.resampling import Resampling
from fastlmm_core.results.simulating import Simulation
from fastlmm_core.results.summary import DF_METHODS, MixedSummary
from fastlmm_core.results.testing import Testing
from fastlmm_core.results.varcorr import group_covariances, varcorr_frame
from fastlmm_core.results.variance import icc_values, r2_values
from fastlmm_core.results.variance_errors import SCALES, component_covariance, with_errors

SINGULAR = 1e-4
"""A diagonal theta below this is at its bound (lme4's ``isSingular``)."""


class LMMResults(FixedEffects, Accessors, Diagnostics, Resampling, Simulation, Testing, Exports):
    """A fitted linear mixed model.

    Made by `fastlmm_core.lmer`.  Names follow statsmodels and lme4; every table
    is a new pandas object, so a fit never changes.

    Attributes
    ----------
    formula, response_name, method : str
        ``method`` is ``"REML"`` or ``"ML"``.
    theta : (m,) float64
        Relative covariance parameters, lme4's order and units.
    sigma, scale : float
        Residual standard deviation (units of the response) and variance.
    nobs, n_dropped : int
    convergence : Convergence
        How the search ended: counts, scaled gradient, smallest eigenvalue, boundary.
    timings : dict
        Seconds per stage of the fit.
    """

    def __init__(
        self, facts: MixedFacts, solved, convergence, rows: FitRows | AbsentRows, spec, timings=None
    ):
        estimates = solved.estimates
        self.__dict__.update(
            _facts=facts, _solved=solved, convergence=convergence, _rows=rows, _spec=spec,
            timings=dict(timings or {}), _estimates=estimates, _names=facts.coefficients,
            _beta=estimates.beta, _kept=estimates.kept, _vcov=estimates.vcov,
        )  # fmt: skip

    # fixed effects: see FixedEffects

    @cached_property
    def _df(self) -> np.ndarray:
        """Satterthwaite's degrees of freedom (r,)."""
        return coefficient_df(self._vcov, self._solved.calculus)

    def cov_params(self, kind: str = "model", cluster=None) -> pd.DataFrame:
        """Covariance of the fixed effects, p x p; aliased rows and columns are NaN.

        Parameters
        ----------
        kind : ``"model"``: ``sigma^2 (X'V0^-1X)^-1``; ``"kenward-roger"``: adjusted for the
            estimation of the variance parameters (REML fits); ``"CR0"`` to ``"CR3"``:
            cluster-robust, see `robust`.
        cluster : of the cluster-robust kinds; by default the outermost grouping factor.

        Raises
        ------
        ModelError : Kenward-Roger of an ML fit, or one that would take minutes (message has the figures).
        """
        kinds = {"model": lambda: self._vcov, "kenward-roger": lambda: self._solved.kenward_roger.adjusted}
        kinds |= self._robust_covariances(cluster)
        return self._cov_frame(choose(kind, kinds, "kind of covariance")())

    def conf_int(
        self, alpha: float = 0.05, method: str = "satterthwaite", cluster=None, **options
    ) -> pd.DataFrame:
        """Confidence limits of the fixed effects, columns ``lower, upper``.

        Parameters
        ----------
        alpha : one minus the coverage.
        method : ``"satterthwaite"`` (t), ``"wald"`` (normal), ``"kenward-roger"`` (t with
            adjusted standard errors, REML fits), ``"profile"`` (see `profile`) or ``"boot"``
            (percentiles of `bootstrap`), which also give rows for standard deviations and
            correlations of the random effects and for sigma.
        cluster : of methods ``"CR0"`` to ``"CR3"`` (t, cluster-robust errors, see `robust`).
        options : ``which``, a name or list of names: only these rows, in this order (``"profile"`` also
            knows ``"theta_"`` and ``"beta_"``, and computes no others); of `bootstrap` (``nsim``, ``seed``,
            ``kind="cluster"``, ``by``, ``n_jobs``, ...) with method ``"boot"``; of `profile` (``n_jobs``)
            with ``"profile"``.
        """
        which = None if method == "profile" else options.pop("which", None)
        methods = {
            "satterthwaite": lambda: (self._se, self._full(self._df)),
            "wald": lambda: (self._se, np.full(len(self._names), np.inf)),
            "kenward-roger": self._kenward_roger_table,
            **self._robust_tables(cluster),
        }
        tables = self._refitted_tables(alpha, options)
        if options and method not in tables:
            raise TypeError(f"method {method!r} takes no option {next(iter(options))!r}")
        chosen = choose(method, methods | tables, "method")()
        table = chosen if method in tables else self._interval_frame(alpha, *chosen)
        return table if which is None else _rows_of(table, which)

    def _kenward_roger_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors and degrees of freedom (p,)."""
        found = self._solved.kenward_roger
        return self._full(np.sqrt(np.diag(found.adjusted))), self._full(found.coefficient_df())

    # variance parameters

    @property
    def theta(self) -> np.ndarray:
        return self._estimates.theta.copy()

    @property
    def sigma(self) -> float:
        return self._estimates.sigma

    @property
    def _covariances(self) -> list[np.ndarray]:
        """Sigma of each term, sigma^2 T."""
        return [self.scale * T for T in self._estimates.terms]

    @property
    def _blocks(self):
        return [
            (key, term.names, cov)
            for key, term, cov in zip(self._facts.keys, self._facts.terms, self._covariances, strict=True)
        ]

    def varcorr(self, se: bool = False, level: float = 0.95) -> pd.DataFrame:
        """Variances and covariances, columns ``group, var1, var2, vcov, sdcor``.

        As lme4's ``as.data.frame(VarCorr(fit))``: of each term variances, then covariances; a second term
        of a group is ``id.1``; the residual is last.

        Parameters
        ----------
        se : also ``se_vcov, se_sdcor``, standard errors by the delta method (see `cov_varcorr`), and ``lower,
            upper`` of ``sdcor``: normal limits of the logarithm of a standard deviation and of Fisher's z of
            a correlation.  NaN where a variance is estimated as 0.  With few groups the limits of
            ``profile`` and ``bootstrap`` are to be preferred.
        level : coverage of the limits.
        """
        table = varcorr_frame(self._blocks, self.sigma)
        return with_errors(self, table, level) if se else table

    def cov_varcorr(self, scale: str = "sd") -> pd.DataFrame:
        """Asymptotic covariance of the estimated variance parameters.

        Parameters
        ----------
        scale : ``"sd"``: standard deviations, correlations and sigma, named as in `profile`; ``"var"``:
            variances, covariances and sigma^2.

        Returns
        -------
        DataFrame, in the order of `theta`, sigma last; NaN where a variance is estimated as 0.

        Notes
        -----
        Twice the inverse Hessian of the criterion, exact for one grouping factor, else by differences of
        the exact gradient (Bates, Maechler, Bolker & Walker 2015, section 5, on why such errors are not
        shown by default: the distribution of the estimates is skewed).
        """
        return component_covariance(self, choose(scale, dict.fromkeys(SCALES, scale), "scale"))

    @property
    def cov_re(self) -> dict[str, pd.DataFrame]:
        """Per grouping factor the covariance of its random effects (q x q), over all its terms."""
        terms = [
            (t.factor, t.names, cov) for t, cov in zip(self._facts.terms, self._covariances, strict=True)
        ]
        return group_covariances(terms, self._facts.factors)

    def re_pca(self) -> dict[str, pd.DataFrame]:
        """Principal components of the random effects, dict group -> DataFrame.

        A frame is q x ``sdev, proportion, cumulative``: ``sdev`` (over sigma) are the singular values of
        Lambda of all terms of a group, ``proportion`` the share of the variance, ``cumulative`` its sum
        so far (NaN where all variances are 0).  A component with no share is a direction that the data
        do not support.

        Notes
        -----
        As ``rePCA`` of R's lme4 (Bates, Kliegl, Vasishth & Baayen 2015, arXiv:1506.04967).
        """
        return component_frames(self)

    @property
    def engine(self) -> str:
        """What solved the mixed-model equations: collapsed, tree, crossed (dense), sparse or iterative."""
        return self._facts.engine

    @property
    def engine_reason(self) -> str:
        """Why this engine, with the sizes and predictions of those that were weighed."""
        return self._facts.engine_reason

    @property
    def is_singular(self) -> bool:
        """Whether some diagonal theta is below 1e-4, lme4's rule."""
        estimates = self._estimates
        return bool((estimates.theta[estimates.theta_lower == 0] < SINGULAR).any())

    @property
    def converged(self) -> bool:
        """Whether the certificate of an optimum holds."""
        return bool(self.convergence.converged)

    def icc(self) -> pd.Series:
        """Intraclass correlation: ``adjusted`` for the fixed effects, and ``unadjusted``.

        Variances as in `r2`; adjusted is ``random / (random + residual)``.
        """
        return pd.Series(icc_values(*self._rows.variances, self.scale), name="icc")

    def r2(self) -> pd.Series:
        """``marginal`` and ``conditional`` R2.

        Nakagawa & Schielzeth (2013); Johnson (2014), doi:10.1111/2041-210X.12225.  Fixed
        variance is that of ``X beta`` over rows (n - 1), random the mean over rows of ``diag(Z Sigma Z')``.
        """
        return pd.Series(r2_values(*self._rows.variances, self.scale), name="r2")

    # random effects

    def ranef(self, cond_var: bool = False):
        """Predicted random effects (BLUPs), dict group -> DataFrame levels x columns.

        All terms of a group share one frame.  With ``cond_var=True`` a pair: that
        dict, and a dict group -> array (levels, q, q) of the covariances given y,
        beta and the variance parameters.
        """
        facts = self._facts
        columns = [facts.factor_columns(f) for f in range(len(facts.factors))]
        frames = ranef_frames(facts.factors, facts.levels, columns, self._solved.random_effects)
        if not cond_var:
            return frames
        covariances = {
            group: self._solved.conditional_covariance(f).copy() for f, group in enumerate(facts.factors)
        }
        return frames, covariances

    def coef(self) -> dict[str, pd.DataFrame]:
        """Fixed plus random effects per level, dict group -> DataFrame."""
        return coefficient_frames(self.ranef(), self.params)

    # likelihood

    @property
    def llf(self) -> float:
        """Log-likelihood; of a REML fit the restricted one.

        An iterative fit estimates it, with the sd ``convergence.monte_carlo.loglik_sd``.

        Warns
        -----
        MonteCarloWarning : that sd is above 0.05.
        """
        errors = self.convergence.monte_carlo
        if errors is not None and errors.loglik_sd > errors.NOTABLE_SD:
            warnings.warn(
                f"the log-likelihood is an estimate with sd {errors.loglik_sd:.2g}: differences between "
                "models below a few of these mean nothing; more probes (Control(probes=)) narrow it",
                MonteCarloWarning,
                stacklevel=2,
            )
        return -0.5 * self._estimates.objective

    @property
    def deviance(self) -> float:
        """-2 log-likelihood; of a REML fit at its theta, as lme4's ``deviance(fit, REML=FALSE)``."""
        return self._estimates.deviance

    @property
    def reml_criterion(self) -> float:
        """-2 restricted log-likelihood of a REML fit."""
        if not self._estimates.reml:
            raise AttributeError("reml_criterion belongs to fits with reml=True; this one has a deviance")
        return self._estimates.reml_criterion

    @property
    def df_modelwc(self) -> int:
        """Number of parameters: fixed effects kept, theta and sigma."""
        return len(self._kept) + len(self._estimates.theta) + 1

    @property
    def df_resid(self) -> int:
        """``nobs - df_modelwc``, as lme4's ``df.residual``."""
        return self.nobs - self.df_modelwc

    def objective(self, theta=None) -> float:
        """The criterion at ``theta`` (m,), lme4's order; the smallest value is at `theta`, the default.

        -2 log-likelihood, of a REML fit the restricted one, with the fixed effects and sigma that are best
        there: what lme4's ``devfun`` and MixedModels.jl's ``objective!`` compute.

        Raises
        ------
        ValueError : another number of values, or diagonal ones below 0.
        DataError : the fit has lost its statistics.
        """
        at = self.theta if theta is None else np.asarray(theta, float)
        if at.shape != self.theta.shape or not np.isfinite(at).all():
            raise ValueError(f"theta has {len(self.theta)} finite values, found {np.shape(theta)}")
        if (at < self._estimates.theta_lower).any():
            raise ValueError("diagonal entries of theta are at least 0")
        return criterion_at(self, at)

    def to_ml(self) -> "LMMResults":
        """The same model by maximum likelihood, as lme4's ``refitML``; an ML fit is returned as it is.

        The search starts at this fit's theta and reads no rows, so that fits from statistics and those read
        from a file that has them will do.  (`r2` and `icc` of a weighted fit from a file are then NaN: their
        sums over rows have no weights.)

        Raises
        ------
        DataError : the fit has lost its statistics.
        ModelError : the criterion cannot be minimised.

        Warns
        -----
        ConvergenceWarning : the search ended without a certificate.
        """
        return by_criterion(self, False)

    def to_reml(self) -> "LMMResults":
        """The same model by REML; see `to_ml`."""
        return by_criterion(self, True)

    # counts and names

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels per grouping factor."""
        return {
            group: len(levels) for group, levels in zip(self._facts.factors, self._facts.levels, strict=True)
        }

    @cached_property
    def plot(self):
        """Figures of the fit: ``fit.plot.residuals()``, ``fit.plot.qq()``, ``fit.plot.ranef()``, ..."""
        from fastlmm_core.results.plots import PlotAccessor

        return PlotAccessor(self)

    @property
    def method(self) -> str:
        return "REML" if self._estimates.reml else "ML"

    @property
    def _frame(self) -> pd.DataFrame:
        return self._rows.frame

    def marginal_cov(self, group: str, level) -> pd.DataFrame:
        """Fitted covariance ``sigma^2 (Z_i Lambda Lambda' Z_i' + W_i^-1)`` of the rows of one cluster.

        All random terms enter, also those of other groups.  Row and column labels
        are those of the data.
        """
        facts = self._facts
        if group not in facts.factors:
            raise DataError(
                f"no grouping factor {group!r}; the model has {', '.join(map(repr, facts.factors))}"
            )
        f = facts.factors.index(group)
        if level not in facts.levels[f] and str(level) in facts.levels[f]:  # 308 for "308", as in new data
            level = str(level)
        if level not in facts.levels[f]:
            raise DataError(
                f"no level {level!r} of {group!r}; the first levels are {list(facts.levels[f][:5])}"
            )
        return self._rows.cluster_covariance(f, facts.levels[f].get_loc(level), self._covariances, self.scale)

    def summary(self, ddf: str = "satterthwaite"):
        """A summary that prints like lmerTest's, shows as tables in notebooks, and has DataFrames.

        Parameters
        ----------
        ddf : ``"satterthwaite"``, or ``"kenward-roger"``: degrees of freedom and standard errors of the tests
            (REML fits).
        """
        return MixedSummary(self, choose(ddf, DF_METHODS, "ddf"))

    def __repr__(self) -> str:
        groups = ", ".join(f"{group}: {count}" for group, count in self.ngroups.items())
        return f"<LMMResults {self.formula!r} by {self.method}, {self.nobs} rows, {groups}>"


def _rows_of(table: pd.DataFrame, which) -> pd.DataFrame:
    """Rows by name; ValueError for one that is not there."""
    names = [which] if isinstance(which, str) else list(which)
    for name in names:
        choose(name, dict.fromkeys(table.index), "parameter")
    return table.loc[names]
