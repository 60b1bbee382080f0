"""A summary as Markdown, LaTeX, HTML or plain values; the text itself is made in `summary`."""

import math

import numpy as np
import pandas as pd

from fastlmm_core.results import render
from fastlmm_core.results.greattables import great_table

SCHEMA = 1
"""Version of `SummaryExports.to_dict`; raised when a key changes its meaning or goes away."""

ESCAPED = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
    ">": "\\textgreater{}", "|": "\\textbar{}", "'": "'", **{c: f"\\{c}" for c in "#$%&_{}"},
}  # fmt: skip


class SummaryExports:
    """Other forms of a summary."""

    def to_html(self) -> str:
        """The tables of the summary as one HTML element, every label escaped."""
        return self._repr_html_()

    def to_markdown(self) -> str:
        """The summary as GitHub's Markdown."""
        parts = []
        for section in self.sections():
            if isinstance(section, list):
                parts.append("  \n".join(map(_markdown, section)))
                continue
            caption, header, rows = section
            align = [":--", *["--:"] * (len(header) - 1)]
            table = [[_markdown(cell) for cell in line] for line in (header, align, *rows)]
            table[1] = align
            parts.append(
                f"**{_markdown(caption)}**\n\n" + "\n".join("| " + " | ".join(r) + " |" for r in table)
            )
        return "\n\n".join(parts) + "\n"

    def to_latex(self) -> str:
        """The summary as LaTeX: paragraphs and ``tabular`` environments (no packages needed)."""
        parts = []
        for section in self.sections():
            if isinstance(section, list):
                parts.append(" \\\\\n".join(map(_latex, section)))
                continue
            caption, header, rows = section
            lines = [" & ".join(map(_latex, line)) + " \\\\" for line in (header, *rows)]
            body = "\n".join(["\\hline", lines[0], "\\hline", *lines[1:], "\\hline"])
            columns = "l" + "r" * (len(header) - 1)
            parts.append(
                f"\\textbf{{{_latex(caption)}}}\n\n\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}"
            )
        return "\n\n".join(parts) + "\n"

    def to_great_tables(self, conf_level: float | None = None):
        """The summary as a table of the great_tables package.

        Parameters
        ----------
        conf_level : float, optional
            Adds the limits of intervals of the fixed effects.

        Returns
        -------
        great_tables.GT
            Fixed effects, then standard deviations and correlations; every label escaped.  Style it with its
            own methods.

        Raises
        ------
        MissingDependencyError : great_tables is not installed.
        """
        return great_table(self, conf_level)

    def _coefficient_values(self) -> np.ndarray:
        """Estimates, standard errors, df, t, p as (p, 5)."""
        return self._fit._coefficient_values()

    def _limits(self, level: float) -> np.ndarray:
        """Limits of the coefficients (p, 2)."""
        return self._fit.conf_int(1.0 - level).to_numpy()

    def sections(self) -> list:
        """The summary in pieces, as lists of lines and as tables ``(caption, header, rows of text)``."""
        fit = self._fit
        mixed = hasattr(fit, "convergence")
        sections: list = [
            [
                self._title() if mixed else "Linear model fit by least squares",
                *map(str.strip, self._formula_lines()),
            ]
        ]
        if mixed:
            if fit.method == "REML":
                sections.append([self._criterion_text()])
            else:
                names, values = self._criteria()
                sections.append(("Fit", names, [values]))
            header, columns = render.random_effect_cells(fit._blocks, fit.sigma)
            sections += [("Random effects", header, _rows(columns)), [self._counts()]]
        kept = fit._kept if mixed else slice(None)
        names = self._kept_names if mixed else list(fit._names)
        if len(names):
            columns, marked = render.coefficient_cells(self._values[kept])
            header = ["", *self.columns, *([""] if marked else [])]
            sections.append(("Fixed effects" if mixed else "Coefficients", header, _rows([names, *columns])))
        lines = self._notes() if mixed else [*self._fit_lines(), f"Rows: {fit._facts.rows}"]
        sections.append([line.replace("\t", " ") for line in lines])
        return sections

    def to_dict(self) -> dict:
        """The summary as numbers, text, lists and dicts that JSON can hold; what is missing is None.

        Returns
        -------
        dict
            ``schema`` (1), ``kind`` (``"mixed"`` or ``"linear"``), ``formula``, ``response``, ``method``
            (``"REML"``, ``"ML"``, ``"least squares"``), ``weights``;
            ``rows``: ``used, given, dropped, reasons``; ``groups``: levels per factor;
            ``fixed_effects``: list of ``term, estimate, std_error, df, statistic, p_value, conf_low,
            conf_high`` (95 %); ``random_effects``: list of ``group, var1, var2, vcov, sdcor``; ``sigma``;
            ``theta``; ``criteria``: ``log_likelihood, aic, bic, deviance, reml_criterion, n_parameters,
            df_resid``; ``residuals``: ``Min, 1Q, Median, 3Q, Max`` (scaled in mixed models);
            ``icc``, ``r2``; ``convergence``: ``converged, singular, reason, iterations, newton_decrement,
            max_scaled_gradient, min_hessian_eigenvalue, boundary``; ``seconds``: per stage of the fit.
            Plain linear models have no ``groups, random_effects, theta, icc, convergence``, and
            ``r2`` holds ``r2, adjusted``.
        """
        fit = self._fit
        facts, mixed = fit._facts, hasattr(fit, "convergence")
        values, limits = self._coefficient_values(), self._limits(0.95)
        columns = ["estimate", "std_error", "df", "statistic", "p_value"]
        effects = [
            {"term": name, **dict(zip(columns, row)), "conf_low": low, "conf_high": high}
            for name, row, (low, high) in zip(fit._names, values, limits)
        ]
        rows = {"used": facts.rows.used, "given": facts.rows.given, "dropped": facts.rows.dropped}
        found = {
            "schema": SCHEMA,
            "kind": "mixed" if mixed else "linear",
            "formula": facts.formula,
            "response": facts.response,
            "method": fit.method if mixed else "least squares",
            "weights": facts.weights_name,
            "rows": rows | {"reasons": dict(facts.rows.reasons)},
            "fixed_effects": effects,
            "sigma": fit.sigma,
            "criteria": {"log_likelihood": fit.llf, "aic": fit.aic, "bic": fit.bic},
            "residuals": self.residuals.to_dict(),
            "seconds": fit.timings,
        }
        return _plain(found | (_mixed_parts(fit) if mixed else _linear_parts(fit)))


def _mixed_parts(fit) -> dict:
    c = fit.convergence
    criteria = {
        "log_likelihood": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
        "deviance": fit.deviance,
        "reml_criterion": fit.reml_criterion if fit.method == "REML" else None,
        "n_parameters": fit.df_modelwc,
        "df_resid": fit.df_resid,
    }
    names = (
        "reason",
        "iterations",
        "newton_decrement",
        "max_scaled_gradient",
        "min_hessian_eigenvalue",
        "boundary",
    )
    return {
        "groups": fit.ngroups,
        "random_effects": fit.varcorr().to_dict("records"),
        "theta": fit.theta,
        "criteria": criteria,
        "icc": fit.icc().to_dict(),
        "r2": fit.r2().to_dict(),
        "convergence": {"converged": fit.converged, "singular": fit.is_singular}
        | {name: getattr(c, name) for name in names},
    }


def _linear_parts(fit) -> dict:
    return {
        "criteria": {
            "log_likelihood": fit.llf,
            "aic": fit.aic,
            "bic": fit.bic,
            "deviance": fit._estimates.rss,
            "n_parameters": fit.df_modelwc,
            "df_resid": fit.df_resid,
        },
        "r2": {"r2": fit.rsquared, "adjusted": fit.rsquared_adj},
    }


def _plain(value):
    """Nested values as JSON knows them."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _rows(columns) -> list[list[str]]:
    return [[str(cell).strip() for cell in row] for row in zip(*columns)]


def _markdown(text: str) -> str:
    for mark in "\\|*_<>`[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def _latex(text: str) -> str:
    return "".join(ESCAPED.get(c, c) for c in text)
