"""A fit for other programs and for people: tidy frames, equation, words, a page."""

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.errors import DataError
from fastlmm_core.report import write_report
from fastlmm_core.results.coefficients import choose
from fastlmm_core.results.equation import model_lines, to_latex, to_mathml
from fastlmm_core.results.fitrows import BLOCK
from fastlmm_core.results.wording import words

EFFECTS = ("fixed", "ran_pars", "ran_vals")
FIXED_COLUMNS = ["estimate", "std.error", "statistic", "df", "p.value"]


class CommonExports:
    """Exports of mixed and of plain linear models."""

    def _repr_html_(self) -> str:
        """In notebooks: the summary."""
        return self.summary().to_html()

    def equation(self, values: bool = False, form: str = "latex") -> str:
        """The model as an equation.

        Parameters
        ----------
        values : estimates in place of symbols.
        form : ``"latex"``: an ``aligned`` block, to stand in display mathematics (needs amsmath);
            ``"mathml"``: one ``<math>`` element for a page.
        """
        return choose(form, {"latex": to_latex, "mathml": to_mathml}, "form")(model_lines(self, values))

    def describe(self, part: str | None = None) -> str:
        """The fit in words.

        Parameters
        ----------
        part : ``"model"``, ``"rows"`` or (mixed models) ``"certificate"``; all, a paragraph each, by default.
        """
        found = words(self)
        return "\n\n".join(found.values()) if part is None else choose(part, found, "part")

    def report(self, path=None, plots: bool = True, title: str | None = None) -> str:
        """One HTML page about the fit, with everything inside: no network, no scripts.

        Parameters
        ----------
        path : str or path-like, optional
            File to write.
        plots : figures as inline SVG; without matplotlib the page says that they are missing.
        title : of the page; by default the formula.

        Returns
        -------
        str : the page.
        """
        return write_report(self, path, plots=plots, title=title)


class Exports(CommonExports):
    """Exports of `LMMResults`, with broom.mixed's columns."""

    def tidy(self, effects=("fixed", "ran_pars"), conf_level: float | None = None) -> pd.DataFrame:
        """Estimates, one row each, as broom.mixed's ``tidy``.

        Parameters
        ----------
        effects : str or sequence
            ``"fixed"``, ``"ran_pars"`` (standard deviations and correlations) and ``"ran_vals"`` (BLUPs).
        conf_level : float, optional
            Adds ``conf.low`` and ``conf.high``: Satterthwaite's t for fixed effects, normal for BLUPs.

        Returns
        -------
        DataFrame
            ``effect, group, [level,] term, estimate, std.error, statistic, df, p.value``; what does not
            apply is missing.  Terms of ``ran_pars`` read ``sd__x``, ``cor__a.b``, ``sd__Observation``.
        """
        wanted = [effects] if isinstance(effects, str) else list(effects)
        makers = {"fixed": self._tidy_fixed, "ran_pars": self._tidy_pars, "ran_vals": self._tidy_values}
        parts = [choose(one, makers, "kind of effect")(conf_level) for one in wanted]
        columns = ["effect", "group", *(["level"] if "ran_vals" in wanted else []), "term", *FIXED_COLUMNS]
        columns += [] if conf_level is None else ["conf.low", "conf.high"]
        rows = [row for part in parts for row in part.reindex(columns=columns).to_dict("records")]
        frame = pd.DataFrame(rows, columns=columns)
        numbers = [c for c in columns if c not in ("effect", "group", "level", "term")]
        return frame.astype(dict.fromkeys(numbers, float))

    def _tidy_fixed(self, conf_level):
        return fixed_frame(self, conf_level).assign(effect="fixed", group=None)

    def _tidy_pars(self, conf_level):
        table = self.varcorr()
        rows = []
        for group, var1, var2, _, sdcor in table.itertuples(index=False):
            if pd.isna(var1):
                term = "sd__Observation"
            else:
                term = f"sd__{var1}" if pd.isna(var2) else f"cor__{var1}.{var2}"
            rows.append({"effect": "ran_pars", "group": group, "term": term, "estimate": sdcor})
        return pd.DataFrame(rows)

    def _tidy_values(self, conf_level):
        effects, covariances = self.ranef(cond_var=True)
        frames = []
        for group, blups in effects.items():
            se = np.sqrt(np.maximum(np.einsum("iaa->ia", covariances[group]), 0.0))
            for a, term in enumerate(blups.columns):
                estimate = blups[term].to_numpy()
                part = pd.DataFrame(
                    {"level": blups.index, "term": term, "estimate": estimate, "std.error": se[:, a]}
                )
                if conf_level is not None:
                    reach = _normal_quantile(conf_level) * se[:, a]
                    part["conf.low"], part["conf.high"] = estimate - reach, estimate + reach
                frames.append(part.assign(effect="ran_vals", group=group))
        return pd.concat(frames, ignore_index=True)

    def glance(self) -> pd.DataFrame:
        """One row about the whole fit.

        Columns ``nobs, sigma, logLik, AIC, BIC``, then ``REMLcrit`` or (ML) ``deviance``, then
        ``df.residual``.
        """
        criterion = (
            ("REMLcrit", self.reml_criterion) if self.method == "REML" else ("deviance", self.deviance)
        )
        return pd.DataFrame(
            {
                "nobs": [self.nobs],
                "sigma": [self.sigma],
                "logLik": [self.llf],
                "AIC": [self.aic],
                "BIC": [self.bic],
                criterion[0]: [criterion[1]],
                "df.residual": [self.df_resid],
            }
        )

    def augment(self, influence: bool = False) -> pd.DataFrame:
        """The data of the rows used, with what the fit says of each.

        Parameters
        ----------
        influence : also leverage and Cook's distance of each row.

        Returns
        -------
        DataFrame
            The data's columns, then ``.fitted`` (with random effects), ``.resid``, ``.fixed`` (without
            random effects), ``.wtres`` (residual times the root of the weight), ``.offset`` and ``.weights``
            where the model has them, and with ``influence`` ``.hat`` and ``.cooksd``.

        Raises
        ------
        DataError : the fit has no rows.
        """
        extra = {
            ".fitted": self._rows.fitted,
            ".resid": self._rows.residuals,
            ".fixed": self.predict(re="none").to_numpy(),
            ".wtres": self._rows.scaled_residuals * self.sigma,
        }
        design = getattr(self._rows, "design", None) if hasattr(self._rows, "source") else None
        extra |= _row_columns(design)
        if influence:
            found = self.influence()
            extra[".hat"] = found.leverage.to_numpy()
            extra[".cooksd"] = found.cooks_distance.to_numpy()
        return _beside(self, extra)


class LinearExports(CommonExports):
    """Exports of `LMResults`, with broom's columns."""

    def tidy(self, conf_level: float | None = None) -> pd.DataFrame:
        """Coefficients, one row each: ``term, estimate, std.error, statistic, p.value``, limits if asked."""
        return fixed_frame(self, conf_level).drop(columns="df")

    def glance(self) -> pd.DataFrame:
        """One row about the whole fit, with the columns of broom's ``glance`` of an ``lm``."""
        return pd.DataFrame(
            {
                "r.squared": [self.rsquared],
                "adj.r.squared": [self.rsquared_adj],
                "sigma": [self.sigma],
                "statistic": [self.fvalue],
                "p.value": [self.f_pvalue],
                "df": [float(self._numerator_df)],
                "logLik": [self.llf],
                "AIC": [self.aic],
                "BIC": [self.bic],
                "deviance": [self._estimates.rss],
                "df.residual": [self.df_resid],
                "nobs": [self.nobs],
            }
        )

    def augment(self) -> pd.DataFrame:
        """The data of the rows used, then ``.fitted, .resid, .hat, .cooksd, .std.resid``.

        Leverage is ``h_i = w_i x_i'(X'WX)^-1 x_i``; Cook's distance ``r_i^2 h_i / (p (1 - h_i))`` with the
        standardized residual ``r_i = sqrt(w_i) e_i / (sigma sqrt(1 - h_i))`` (Cook 1977,
        doi:10.1080/00401706.1977.10489493).

        Raises
        ------
        DataError : the fit has no rows.
        """
        rows, design = self._rows, self._rows.design
        hat = np.empty(design.n)
        columns, Q = [design.fixed[j] for j in self._kept], self._vcov / self.scale
        for start in range(0, design.n, BLOCK):
            at = slice(start, min(start + BLOCK, design.n))
            X = dense_columns(design.atoms, columns, design.n, at)
            hat[at] = np.einsum("ij,jk,ik->i", X, Q, X, optimize=True)
        if design.weights is not None:
            hat *= design.weights
        with np.errstate(divide="ignore", invalid="ignore"):
            standard = rows.scaled_residuals / np.sqrt(1.0 - hat)
            cook = standard**2 * hat / ((1.0 - hat) * len(self._kept))
        extra = {
            ".fitted": rows.fitted,
            ".resid": rows.residuals,
            ".hat": hat,
            ".cooksd": cook,
            ".std.resid": standard,
        }
        return _beside(self, extra | _row_columns(design))


def fixed_frame(fit, conf_level) -> pd.DataFrame:
    """The fixed effects with broom's columns."""
    values = fit._coefficient_values()
    frame = pd.DataFrame(
        {
            "term": list(fit._names),
            "estimate": values[:, 0],
            "std.error": values[:, 1],
            "statistic": values[:, 3],
            "df": values[:, 2],
            "p.value": values[:, 4],
        }
    )
    if conf_level is not None:
        limits = fit.conf_int(1.0 - conf_level)
        frame["conf.low"], frame["conf.high"] = limits["lower"].to_numpy(), limits["upper"].to_numpy()
    return frame


def _row_columns(design) -> dict:
    found = {}
    if design is not None and design.offset is not None:
        found[".offset"] = design.offset
    if design is not None and design.weights is not None:
        found[".weights"] = design.weights
    return found


def _beside(fit, extra: dict) -> pd.DataFrame:
    """The data with columns beside them; of data that are read in batches, the columns alone."""
    try:
        frame = fit._rows.frame
    except DataError:
        return pd.DataFrame(extra, index=fit._rows.labels)
    return frame.assign(**extra)


def _normal_quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"conf_level must lie between 0 and 1, found {level!r}")
    return float(ndtri(0.5 + level / 2.0))
