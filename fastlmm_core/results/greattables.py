"""A summary as a table of the great_tables package, ready to be styled further."""

import pandas as pd

from fastlmm_core.errors import MissingDependencyError
from fastlmm_core.results.numbers import format_pvalues

BLOCKS = {"fixed": "Fixed effects", "ran_pars": "Random effects"}


def great_table(summary, conf_level: float | None):
    """See `SummaryExports.to_great_tables`."""
    fit = summary._fit
    try:
        from great_tables import GT
    except ImportError:
        raise MissingDependencyError("to_great_tables needs great_tables: pip install great_tables") from None
    mixed = hasattr(fit, "convergence")
    frame = _rows(fit, summary, conf_level, mixed)
    numbers = [name for name in frame.columns if name not in ("term", "block", "p")]
    labels = {"estimate": "Estimate", "std_error": "Std. Error", "df": "df", "t": "t value", "p": "p",
              "lower": "lower", "upper": "upper"}  # fmt: skip
    table = (
        GT(frame, rowname_col="term", groupname_col="block" if mixed else None)
        .tab_header(title=fit.formula, subtitle=_method(fit, summary, mixed))
        .cols_label(**{name: labels[name] for name in frame.columns if name in labels})
        .fmt_number(columns=numbers, n_sigfig=4, use_seps=False)
        .sub_missing(missing_text="")
        .cols_align("right", columns=[*numbers, "p"])
    )
    if conf_level is not None:
        table = table.tab_spanner(label=f"{100.0 * conf_level:.4g}% interval", columns=["lower", "upper"])
    for line in _notes(fit, mixed):
        table = table.tab_source_note(line)
    return table


def _rows(fit, summary, conf_level, mixed) -> pd.DataFrame:
    tidy, p = fit.tidy(conf_level=conf_level), len(fit._names)
    columns = ["std.error", "df", "statistic", "p.value"] if mixed else ["std.error", "statistic", "p.value"]
    values = summary._coefficient_values()[:, 1:]
    tidy.loc[tidy.index[:p], columns] = values if mixed else values[:, [0, 2, 3]]
    if conf_level is not None:
        tidy.loc[tidy.index[:p], ["conf.low", "conf.high"]] = summary._limits(conf_level)
    frame = pd.DataFrame({"term": _terms(fit, tidy) if mixed else tidy["term"]})
    if mixed:
        frame["block"] = tidy["effect"].map(BLOCKS)
    frame["estimate"], frame["std_error"] = tidy["estimate"], tidy["std.error"]
    if mixed:
        frame["df"] = tidy["df"]
    frame["t"] = tidy["statistic"]
    known = tidy["p.value"].notna().to_numpy()
    texts = iter(format_pvalues(tidy["p.value"][known].to_numpy(), 3) if known.any() else ())
    frame["p"] = [next(texts).strip() if one else None for one in known]
    if conf_level is not None:
        frame["lower"], frame["upper"] = tidy["conf.low"], tidy["conf.high"]
    return frame


def _terms(fit, tidy) -> list[str]:
    """Names of the rows: coefficients, then ``Subject: sd of Days`` and its like, in the order of `tidy`."""
    names = tidy.loc[tidy["effect"] == "fixed", "term"].tolist()
    for group, first, second in fit.varcorr()[["group", "var1", "var2"]].itertuples(index=False):
        if pd.isna(first):
            names.append(f"{group}: sd")
        else:
            names.append(
                f"{group}: sd of {first}" if pd.isna(second) else f"{group}: correlation of {first}, {second}"
            )
    return names


def _method(fit, summary, mixed) -> str:
    if not mixed:
        return "Linear model fitted by least squares"
    return f"Linear mixed model fitted by {fit.method}; t-tests with {summary._ddf}'s degrees of freedom"


def _notes(fit, mixed) -> list[str]:
    if not mixed:
        return [f"{fit.nobs} rows; R-squared {fit.rsquared:.4g}, residual standard error {fit.sigma:.4g}"]
    groups = "; ".join(f"{group}, {count}" for group, count in fit.ngroups.items())
    lines = [f"{fit.nobs} rows; groups: {groups}"]
    if fit.is_singular and fit.convergence.boundary:
        lines.append(f"Singular fit: at the boundary are {', '.join(fit.convergence.boundary)}")
    if not fit.converged:
        lines.append("The search did not converge")
    return lines
