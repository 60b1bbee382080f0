"""Summaries: text as lmerTest and R print it, HTML for notebooks, DataFrames for the rest."""

import warnings
from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.errors import MonteCarloWarning
from fastlmm_core.inference.distributions import f_upper, t_two_sided
from fastlmm_core.results import render
from fastlmm_core.results.numbers import format_common, format_one, format_pvalues
from fastlmm_core.results.summaryexport import SummaryExports

QUANTILES = ["Min", "1Q", "Median", "3Q", "Max"]
MIXED_COLUMNS = ["Estimate", "Std. Error", "df", "t value", "Pr(>|t|)"]
LINEAR_COLUMNS = ["Estimate", "Std. Error", "t value", "Pr(>|t|)"]
DF_METHODS = {"satterthwaite": "Satterthwaite", "kenward-roger": "Kenward-Roger"}
MOST_CORRELATIONS = 20
"""Fixed effects above which the correlation block is left out (lme4)."""


class Summary(SummaryExports):
    """Parts of a summary; nothing is computed before it is looked at."""

    columns: list[str]

    def __init__(self, fit):
        self._fit = fit

    @cached_property
    def _values(self) -> np.ndarray:
        """The coefficient table as an array."""
        values = self._coefficient_values()
        return values if len(self.columns) == 5 else values[:, [0, 1, 3, 4]]

    @property
    def coefficients(self) -> pd.DataFrame:
        """Estimates, standard errors, df, t and p; aliased rows are NaN."""
        return pd.DataFrame(self._values.copy(), index=list(self._fit._names), columns=self.columns)

    @property
    def residuals(self) -> pd.Series:
        """Minimum, quartiles and maximum of the residuals shown."""
        return pd.Series(np.array(self._fit._rows.quantiles), index=QUANTILES, name="residuals")

    @property
    def correlation(self) -> pd.DataFrame:
        """Correlations of the fixed effects kept."""
        names = self._kept_names
        return pd.DataFrame(self._correlation, index=names, columns=names)

    @property
    def _correlation(self) -> np.ndarray:
        vcov = self._fit._vcov
        sd = np.sqrt(np.diag(vcov))
        return vcov / np.outer(sd, sd)

    @property
    def _kept_names(self) -> list[str]:
        return [self._fit._names[j] for j in self._fit._kept]

    def _aliased(self) -> list[str]:
        kept = set(self._fit._kept.tolist())
        return [name for j, name in enumerate(self._fit._names) if j not in kept]

    def _formula_lines(self) -> list[str]:
        facts = self._fit._facts
        lines = [f"Formula: {facts.formula}"]
        if facts.data_name:
            lines.append(f"   Data: {facts.data_name}")
        if facts.weights_name:
            lines.append(f"Weights: {facts.weights_name}")
        return lines

    def __repr__(self) -> str:
        return str(self)


class MixedSummary(Summary):
    """Summary of a mixed model."""

    columns = MIXED_COLUMNS

    def __init__(self, fit, ddf: str = "Satterthwaite"):
        super().__init__(fit)
        self._ddf = ddf

    @property
    def _adjusted(self) -> bool:
        return self._ddf != "Satterthwaite"

    def _coefficient_values(self) -> np.ndarray:
        """Estimates, standard errors, df, t, p as (p, 5), by the method of the summary."""
        return _adjusted_values(self._fit) if self._adjusted else super()._coefficient_values()

    def _limits(self, level: float) -> np.ndarray:
        method = "kenward-roger" if self._adjusted else "satterthwaite"
        return self._fit.conf_int(1.0 - level, method).to_numpy()

    @property
    def random_effects(self) -> pd.DataFrame:
        """Variances, standard deviations and correlations, one row per random effect, the residual last."""
        fit = self._fit
        rows = []
        for key, names, cov in fit._blocks:
            sd = np.sqrt(np.diag(cov))
            for a, name in enumerate(names):
                with np.errstate(invalid="ignore", divide="ignore"):
                    correlations = {f"Corr{b + 1}": cov[a, b] / (sd[a] * sd[b]) for b in range(a)}
                rows.append(
                    {"Groups": key, "Name": name, "Variance": cov[a, a], "Std.Dev.": sd[a], **correlations}
                )
        rows.append({"Groups": "Residual", "Name": "", "Variance": fit.scale, "Std.Dev.": fit.sigma})
        return pd.DataFrame(rows)

    def _title(self) -> str:
        how = "REML" if self._fit._estimates.reml else "maximum likelihood"
        return f"Linear mixed model fit by {how}. t-tests use {self._ddf}'s method"

    def _criteria(self) -> tuple[list[str], list[str]]:
        fit = self._fit
        with warnings.catch_warnings():  # the notes say how well the log-likelihood is known
            warnings.simplefilter("ignore", MonteCarloWarning)
            values = format_common(np.round([fit.aic, fit.bic, fit.llf, fit.deviance], 1), 7)
        return ["AIC", "BIC", "logLik", "deviance", "df.resid"], [*values, str(fit.df_resid)]

    def _criterion_text(self) -> str:
        if self._fit._estimates.reml:
            criterion = format_one(round(self._fit._estimates.reml_criterion, 1), 7)
            errors = self._fit.convergence.monte_carlo
            known = "" if errors is None else f" (an estimate, sd {2.0 * errors.loglik_sd:.2g})"
            return f"REML criterion at convergence: {criterion}{known}"
        return render.named_text(*self._criteria())

    def _counts(self) -> str:
        groups = "; ".join(f"{group}, {count}" for group, count in self._fit.ngroups.items())
        return f"Number of obs: {self._fit.nobs}, groups:  {groups}"

    def _notes(self) -> list[str]:
        """How the fit ended, what became of the rows, where the df come from."""
        fit, facts = self._fit, self._fit._facts
        lines = [
            f"Fit: {ending(fit.convergence)}",
            f"Rows: {facts.rows}",
            "df: Satterthwaite, from the exact information of theta and sigma",
        ]
        if (errors := fit.convergence.monte_carlo) is not None:
            averaged = fit._solved.calculus.averaged
            kind = "average information of theta and sigma" if averaged else "information by probes"
            lines[-1] = f"df: Satterthwaite, from the {kind} (approximate)"
            lines.append(
                f"Monte Carlo: {errors.probes} probes; error of theta at most {errors.worst:.2g} standard "
                f"errors; the log-likelihood is an estimate with sd {errors.loglik_sd:.2g}"
            )
        if self._adjusted:
            lines[2] = "df: Kenward-Roger, with adjusted standard errors"
        if fit.is_singular:
            lines.append(
                "Singular fit: a variance is zero or a correlation is 1 or -1 (some theta is at its bound)"
                if fit.convergence.boundary
                else "Some theta is below 1e-4 (singular by lme4's rule), but none is at its bound: rescale "
                "a predictor in very small units"
            )
        if aliased := self._aliased():
            lines.append(f"Dropped from the fixed effects, being linear in the others: {', '.join(aliased)}")
        return lines

    @cached_property
    def _text(self) -> str:
        fit = self._fit
        header, cells = render.random_effect_cells(fit._blocks, fit.sigma)
        blocks = [
            "\n".join([self._title(), *self._formula_lines()]),
            self._criterion_text(),
        ]
        blocks.append(_residual_text(fit._rows.quantiles))
        random = render.text_table(header, cells, [""] * len(cells[0]), right=False)
        blocks.append(f"Random effects:\n{random}\n{self._counts()}")
        if len(fit._kept):
            values = self._values[fit._kept]
            table = render.coefficient_text(self._kept_names, self.columns, values)
            blocks.append(f"Fixed effects:\n{table}")
        if 1 < len(fit._kept) <= MOST_CORRELATIONS:
            table = render.correlation_text(self._kept_names, self._correlation)
            blocks.append(f"Correlation of Fixed Effects:\n{table}")
        elif len(fit._kept) > MOST_CORRELATIONS:
            blocks.append(
                f"Correlation of Fixed Effects: not shown for {len(fit._kept)} > {MOST_CORRELATIONS} "
                "coefficients; it is summary().correlation"
            )
        blocks.append("\n".join(self._notes()))
        return "\n\n".join(blocks)

    def __str__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        fit = self._fit
        parts = [render.html_lines([self._title(), *self._formula_lines()])]
        if fit._estimates.reml:
            parts.append(render.html_lines([self._criterion_text()]))
        else:
            names, values = self._criteria()
            parts.append(render.html_table("Fit", names, [[v] for v in values]))
        header, cells = render.random_effect_cells(fit._blocks, fit.sigma)
        parts.append(render.html_table("Random effects", header, cells))
        parts.append(render.html_lines([self._counts()]))
        if len(fit._kept):
            columns, marked = render.coefficient_cells(self._values[fit._kept])
            head = [*self.columns, ""] if marked else self.columns
            parts.append(render.html_table("Fixed effects", head, columns, self._kept_names))
        parts.append(render.html_lines(self._notes()))
        return f"<div>{''.join(parts)}</div>"


def _adjusted_values(fit) -> np.ndarray:
    """The coefficient table (p, 5) with Kenward and Roger's standard errors and degrees of freedom."""
    se, df = fit._kenward_roger_table()
    t = fit._beta / se
    return np.column_stack([fit._beta, se, df, t, t_two_sided(t, df)])


def _residual_text(quantiles: np.ndarray) -> str:
    """The block of scaled residuals, or why there is none."""
    if np.isnan(quantiles).any():
        return "Scaled residuals: not shown, this fit was made from statistics of the rows"
    return "Scaled residuals:\n" + render.quantile_text(quantiles)


def ending(certificate) -> str:
    """A certificate in words."""
    verdict = "converged" if certificate.converged else "NOT converged"
    steps = f"{certificate.iterations} Newton step{'s' * (certificate.iterations != 1)}"
    words = f"{verdict} after {steps} ({certificate.reason})"
    gain = _small(certificate.newton_decrement, 1e-10)
    gradient = _small(certificate.max_scaled_gradient, 1e-6)
    words += f"; criterion still to gain {gain}, largest scaled gradient {gradient}"
    if certificate.boundary:
        words += f"; at the boundary: {', '.join(certificate.boundary)}"
    return words


def _small(value: float, floor: float) -> str:
    """A number that should be small; below ``floor`` its digits are rounding noise."""
    return f"< {floor:.0e}" if value < floor else format_one(value, 2)


class LinearSummary(Summary):
    """Summary of a model without random effects, as R's ``summary(lm)``."""

    columns = LINEAR_COLUMNS

    def _fit_lines(self) -> list[str]:
        fit = self._fit
        sigma = format_one(float(f"{fit.sigma:.4g}"), 7)
        lines = [f"Residual standard error: {sigma} on {fit.df_resid} degrees of freedom"]
        if fit._numerator_df:
            p = format_pvalues([f_upper(fit.fvalue, fit._numerator_df, fit.df_resid)], 4)[0]
            lines.append(
                f"Multiple R-squared:  {fit.rsquared:.4g},\tAdjusted R-squared:  {fit.rsquared_adj:.4g}"
            )
            lines.append(
                f"F-statistic: {fit.fvalue:.4g} on {fit._numerator_df} and {fit.df_resid} DF,  p-value: {p}"
            )
        return lines

    @cached_property
    def _text(self) -> str:
        fit, aliased = self._fit, self._aliased()
        weighted = "Weighted residuals" if fit._weighted else "Residuals"
        blocks = ["\n".join(["Linear model fit by least squares", *self._formula_lines()])]
        blocks.append(f"{weighted}:\n" + render.quantile_text(fit._rows.quantiles * fit.sigma))
        singular = f" ({len(aliased)} not defined because of singularities)" if aliased else ""
        table = render.coefficient_text(fit._names, self.columns, self._values)
        blocks.append(f"Coefficients:{singular}\n{table}")
        blocks.append("\n".join(self._fit_lines()))
        blocks.append(f"Rows: {fit._facts.rows}")
        return "\n\n".join(blocks)

    def __str__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        columns, marked = render.coefficient_cells(self._values)
        head = [*self.columns, ""] if marked else self.columns
        parts = [
            render.html_lines(["Linear model fit by least squares", *self._formula_lines()]),
            render.html_table("Coefficients", head, columns, self._fit._names),
            render.html_lines([*self._fit_lines(), f"Rows: {self._fit._facts.rows}"]),
        ]
        return f"<div>{''.join(parts)}</div>"
