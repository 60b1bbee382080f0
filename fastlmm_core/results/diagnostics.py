"""What a fit says about its predictions, its rows and its clusters."""

from functools import cached_property, partial

import pandas as pd

from fastlmm_core.inference.kackar_harville import kackar_harville
from fastlmm_core.inference.prediction import VariedErrors, prediction_errors
from fastlmm_core.inference.robust import KINDS
from fastlmm_core.results import compare, predict_errors, reliability, residual_kinds, robust
from fastlmm_core.results.autocorrelation import autocorrelation
from fastlmm_core.results.check import Check, check_fit
from fastlmm_core.results.coefficients import choose
from fastlmm_core.results.influence import Influence
from fastlmm_core.results.predict import chosen_factors, predict_new
from fastlmm_core.results.predict_stream import predict_stream
from fastlmm_core.results.rowblocks import equations
from fastlmm_core.stream.sources import is_stream


class Diagnostics:
    """Methods of `LMMResults` beyond estimates and tests."""

    def __getstate__(self) -> dict:
        """Copies and pickles leave out what needs the equations."""
        without = ("_prediction_errors", "_varied_errors", "_estimation_errors")
        return {k: v for k, v in self.__dict__.items() if k not in without}

    @cached_property
    def _prediction_errors(self):
        """Prediction error variances at the optimum."""
        return prediction_errors(equations(self))

    @cached_property
    def _varied_errors(self) -> VariedErrors:
        """The same at other values of theta, for degrees of freedom."""
        return VariedErrors(equations(self))

    @cached_property
    def _estimation_errors(self):
        """What the estimation of theta adds to prediction error variances."""
        return kackar_harville(equations(self), self._prediction_errors)

    def predict(
        self, newdata=None, *, re="all", new_levels: str = "error", se: bool = False, interval=None,
        level: float = 0.95, condition_on=None, out=None, correction: str | None = None,
    ):  # fmt: skip
        """Predicted response, by the rows of ``newdata`` (by default those of the fit).

        Parameters
        ----------
        newdata : table of any kind `lmer` takes, or None.
        re : ``"all"`` random effects, ``"none"`` (population), or a list of groups.
        new_levels : of unseen levels: ``"error"``, ``"population"``: effect 0, or ``"missing"``: NaN.
        se : also standard errors.
        interval : None, or limits for
            ``"mean"``, the expected response, ``x'beta`` plus the random effects that are predicted;
            ``"observation"``, a new observation there: adds ``z'Sigma z`` of the random effects that are
            not predicted (groups not in ``re``, unseen levels) and ``sigma^2 / weight``;
            ``"new_cluster"``, the expected response in a new cluster: every random effect is drawn
            anew but those of groups that ``re`` lists by name, so that with ``re`` ``"all"`` or ``"none"``
            the mean is the population's and the variance that of ``x'beta`` plus ``z'Sigma z``.
        level : coverage of the interval.
        condition_on : table with the response, optional
            Rows of clusters the fit did not see (or more rows of those it saw): predictions are
            those of the mixed-model equations with these rows added, at the variances of the fit.
        out : path, optional
            Write the predictions there, batch by batch (``.parquet``, ``.arrow`` or ``.csv``), and return
            the path; the file appears when it is complete.
        correction : of the errors for the estimation of the variance parameters: None, as if they were known;
            ``"kackar-harville"`` adds the variance g3 that it gives the prediction; ``"prasad-rao"`` adds it
            twice, as the usual variance is itself too small by g3 on average.  Not with ``condition_on``.

        Returns
        -------
        Series, or with ``se`` or ``interval`` a DataFrame with columns ``mean, se`` and, with an
        interval, ``lower, upper``; ``se`` belongs to what the interval is for.  NaN where a value the
        model needs is missing.

        Raises
        ------
        DataError : unseen levels with ``new_levels="error"``, or columns that are absent.
        ModelError : errors of random effects of very many crossed levels.

        Notes
        -----
        Errors hold the uncertainty of beta and of the random effects together, from the inverse of the
        mixed-model equations (Henderson 1975, doi:10.2307/2529430; McLean, Sanders & Stroup 1991,
        doi:10.1080/00031305.1991.10475767), and not that of the variance parameters.  For it, limits use
        t with Satterthwaite's degrees of freedom of the whole variance, random effects and residual
        included (normal for fits by probes), while ``se`` leaves out Kackar & Harville's term (1984,
        doi:10.1080/01621459.1984.10477102) unless ``correction`` adds it (Prasad & Rao 1990,
        doi:10.1080/01621459.1990.10475320): to first order, where groups are few or small.  Of population
        means ``contrast`` and ``emmeans`` with ``ddf="kenward-roger"`` have it too.  Weights of new rows are
        read from the column named in `lmer`, and are 1 where there is none.
        """
        predict_errors.check_options(interval, level, new_levels, correction)
        if out is not None or (newdata is not None and is_stream(newdata)):
            options = {
                "re": re, "new_levels": new_levels, "se": se, "interval": interval, "level": level,
                "condition_on": condition_on, "correction": correction,
            }  # fmt: skip
            return predict_stream(self, newdata, out, options)
        if condition_on is not None:
            if correction is not None:
                raise ValueError("correction is not offered with condition_on")
            return predict_errors.predict_given(
                self, newdata, condition_on, re, new_levels, interval, level, se
            )
        if correction is not None and not se and interval is None:
            raise ValueError("correction is of standard errors and intervals: ask for se=True or an interval")
        if se or interval is not None:
            return predict_errors.predict_table(self, newdata, re, new_levels, interval, level, correction)
        groups = self._facts.factors
        factors = chosen_factors(re, groups)
        if newdata is None:
            if len(factors) == len(groups):
                return self.fittedvalues.rename("predicted")
            return self._rows.series(self._rows.mean(factors), "predicted")
        effects = self._solved.random_effects if factors else ()
        return predict_new(self._spec, newdata, self._beta, effects, factors, groups, new_levels)

    # random effects

    def reliability(self) -> dict:
        """Reliability of each predicted random effect, dict group -> DataFrame levels x columns.

        ``1 - PEV / variance``: 0 for a level without information, 1 for one that is known exactly.
        PEV is Henderson's prediction error variance, which includes the uncertainty of beta;
        NaN for terms whose variance is estimated as 0.

        Notes
        -----
        Henderson (1975), doi:10.2307/2529430; Mrode (2014), *Linear Models for the Prediction of Animal
        Breeding Values*, section 3.4.
        """
        return reliability.reliability_frames(self)

    def ranef_table(self, level: float = 0.95) -> pd.DataFrame:
        """Random effects as rows ``group, term, level, value, cond_sd, pev, lower, upper``.

        Parameters
        ----------
        level : coverage of the limits.

        Returns
        -------
        DataFrame : ``cond_sd`` is lme4's, given beta; ``pev`` the prediction error variance
            ``Var(b^ - b)``, beta's uncertainty included; the limits are ``value -+ z sqrt(pev)``.
        """
        return reliability.ranef_long(self, level)

    def joint_cov(self) -> pd.DataFrame:
        """Joint covariance of ``(beta^, b^ - b)``, the inverse of the mixed-model equations times sigma^2.

        Rows and columns are labelled ``(group, level, term)``; fixed effects have group ``"fixed"``.

        Raises
        ------
        ModelError : more than 3000 effects.
        """
        return reliability.joint_frame(self)

    def shrinkage(self, group: str | None = None) -> pd.DataFrame:
        """Least squares within each level of a group beside what the mixed model predicts for it.

        Parameters
        ----------
        group : grouping factor, by default the first.

        Returns
        -------
        DataFrame
            Levels x ``(ols | blup, column of the random effects)``, fixed effects included in both; the other
            fixed and random effects are held at their estimates.  NaN for levels with too few rows.

        Notes
        -----
        Where all fixed effects are random too, ``ols`` is ``coef(lmList(...))`` of R's lme4 and ``blup`` is
        `coef`; ``plot.shrinkage`` draws the table (``shrinkageplot`` of MixedModels.jl).
        """
        return self.plot._shrinkage_table(self.plot._group(group))[0]

    # cluster-robust inference

    def robust(self, kind: str = "CR2", cluster=None, alpha: float = 0.05) -> pd.DataFrame:
        """Fixed effects with cluster-robust standard errors, tests and limits.

        Parameters
        ----------
        kind : ``"CR0"``, ``"CR1"``, ``"CR2"`` or ``"CR3"`` (the jackknife over clusters).
        cluster : str or (nobs,) array, optional
            A grouping factor, a column of the data, or labels of the rows used.  By default the
            outermost grouping factor.
        alpha : one minus the coverage of the limits.

        Returns
        -------
        DataFrame p x ``estimate, std_error, df, t, p, lower, upper``; ``df`` is Satterthwaite's of Bell and
        McCaffrey under the fitted model.

        Raises
        ------
        ModelError : one cluster, clusters crossed with the random effects, or (CR2) a cluster of
            over 4000 rows.

        Notes
        -----
        Pustejovsky & Tipton (2018), doi:10.1080/07350015.2016.1247004; numbers are those of R's clubSandwich,
        which does not take prior weights.  Costs one n_i x n_i eigenproblem per cluster (CR2), of
        k + p where clusters are the levels of the only factor; the others one pass over the rows.
        """
        return robust.robust_table(self, kind, cluster, alpha)

    def _robust_covariances(self, cluster) -> dict:
        return {kind: partial(robust.robust_covariance, self, kind, cluster) for kind in KINDS}

    def _robust_tables(self, cluster) -> dict:
        return {kind: partial(robust.robust_parts, self, kind, cluster) for kind in KINDS}

    # rows and groups

    def influence(self, by=None) -> Influence:
        """What deleting each row, or each group, does to the fixed effects, at the variances of the fit.

        Parameters
        ----------
        by : None for single rows, a grouping factor, a column of the data, or labels of the rows used.

        Returns
        -------
        Influence : Series ``leverage, leverage_fixed, cooks_distance, mdffits, covratio, covtrace``,
            DataFrames ``dfbeta, dfbetas, params`` (levels x coefficients), and `Influence.frame` with
            all scalars.  NaN where the coefficients cannot be estimated without a group.

        Raises
        ------
        ModelError : very many groups that share random effects with other rows.

        Notes
        -----
        Exact down-dating, no refit (Demidenko & Stukel 2005, doi:10.1002/sim.1974; Haslett 1999,
        J. R. Statist. Soc. B 61, 603-609).  Groups of an outermost factor, and groups
        within levels of the innermost of nested ones, cost one pass over the rows.
        """
        return Influence(self, by)

    def residuals(self, kind: str = "response") -> pd.Series:
        """Residuals by the rows used.

        Parameters
        ----------
        kind : ``"response"``: response minus `fittedvalues`, as `resid`;
            ``"pearson"``: those times ``sqrt(weight) / sigma``, as `resid_scaled`;
            ``"studentized"``: over their own standard deviation, ``sigma sqrt((1 - leverage) / weight)``;
            ``"marginal"``: response minus ``X beta`` and offset;
            ``"cluster"``: marginal ones decorrelated within the outermost cluster, ``L_i^-1 (y_i - X_i
            beta)`` with ``V_i = L_i L_i'``: independent with variance 1 if the model holds.

        Raises
        ------
        ModelError : ``"cluster"`` with crossed factors, or a cluster of over 4000 rows.

        Notes
        -----
        Nobre & Singer (2007), doi:10.1002/bimj.200610341; Fitzmaurice, Laird & Ware (2011), section 10.2.
        """
        values = choose(kind, residual_kinds.KINDS, "kind of residual")(self)
        return self._rows.series(values, "resid" if kind == "response" else f"resid_{kind}")

    def acf(
        self, by=None, order=None, max_lag: int | None = None, kind: str = "pearson", level: float = 0.95
    ) -> pd.DataFrame:
        """Autocorrelation of the residuals within groups.

        Parameters
        ----------
        by : grouping factor, column of the data, or labels of the rows used; by default the factor with the
            most levels.
        order : column, or values by the rows used, that say which row comes before which; by default as
            they are.
        max_lag : by default ``10 log10(nobs)``, at most what the longest group has.
        kind : of residuals, see `residuals`.  Conditional ones are correlated a little, negatively, if the
            model holds; ``"cluster"`` ones are not.
        level : of ``limit``.

        Returns
        -------
        DataFrame
            By ``lag``: ``acf``, the number ``n`` of pairs, and ``limit``: beyond it an autocorrelation of
            independent residuals lies with probability ``1 - level``.

        Notes
        -----
        As ``ACF`` of R's nlme (Pinheiro & Bates 2000, section 5.3.3).  Models with correlated residuals
        cannot be fitted here; a random slope in time often takes up what is found.
        """
        return autocorrelation(self, by, order, max_lag, kind, level)

    def check(self) -> Check:
        """What to look at before believing the fit; print it, or take its ``frame``.

        Whether the search ended at an optimum; random terms with a share of the variance below 1e-3 or a
        correlation beyond 0.99; the largest studentized residual and the farthest group (Bonferroni's
        p); shape of residuals and random effects; residual variance along the mean and between
        groups; the group that moves a coefficient most.  A line is marked where p is below 0.01 (and, for
        shapes, skewness beyond 0.5 or excess kurtosis beyond 1; for variances, a ratio of residual sizes
        beyond 1.2 along the mean or 1.5 for a group), or a coefficient moves by over one standard error.

        Returns
        -------
        Check : ``str``, ``frame`` (``check, where, statistic, value, p, flag, message``), ``flagged``,
            and ``skipped``: of a fit without rows (from statistics, or read from a file), the checks
            that sums by level cannot make.

        Notes
        -----
        Random effects are compared with the spread of their predictions, ``Sigma - Var(b^ - b)`` (Lange &
        Ryan 1989, doi:10.1214/aos/1176347130); shrunken effects look more normal than they are, so a
        shape that passes proves little.  Variances: Koenker (1981) along the mean; Raudenbush & Bryk
        (2002), section 9.4, between groups.
        """
        return check_fit(self)

    # comparison

    @property
    def aicc(self) -> float:
        """`aic` corrected for small samples, ``+ 2 k (k + 1) / (n - k - 1)`` (Hurvich & Tsai 1989)."""
        return compare.corrected_aic(self)

    def caic(self, method: str = "greven-kneib") -> float:
        """Conditional AIC: of predictions for the clusters at hand, not for new ones.

        ``-2 log f(y | beta, b) + 2 (df + 1)``.

        Parameters
        ----------
        method : ``"greven-kneib"``: df is the trace of ``d fitted / d y`` with theta estimated from y;
            ``"vaida-blanchard"``: the same with theta as if known, the sum of the leverages.

        Raises
        ------
        DataError : the fit has lost its statistics, or is one by probes without rows.
        ModelError : very many crossed levels (not with ``"vaida-blanchard"``).

        Notes
        -----
        Computed from sums by level, without the rows.
        Vaida & Blanchard (2005), doi:10.1093/biomet/92.2.351; Greven & Kneib (2010),
        doi:10.1093/biomet/asq042: with the first, a model with a random effect never loses to the
        one without.  Both use sigma^2 of the fit; parameters on their bound are taken as fixed.
        """
        return compare.conditional_aic(self, method)

    def loo(self, by=None) -> compare.LeaveOut:
        """Predict each row, or each group of rows, from all the others, at the variances of the fit.

        Parameters
        ----------
        by : as for `influence`.

        Returns
        -------
        LeaveOut : ``table`` by group, ``predicted`` by row, ``elpd``, ``se``, ``rmse``.

        Notes
        -----
        Closed form, no refit: ``y_D - E(y_D | others) = P_DD^-1 (P y)_D``, covariance ``sigma^2 P_DD^-1``,
        ``P = V0^-1 - V0^-1 X Q X'V0^-1``; fixed effects are estimated anew without the group.
        """
        return compare.LeaveOut(self, by)
