"""The sections of the page, each from a fit's public names."""

import numpy as np

from ..errors import FastLMMError
from .figures import MOST_PANELS, Figures
from .markup import escape, number, p_value, paragraph, section, table

MOST_ROWS = 60
"""Coefficients shown; of more, the first."""

MOST_INFLUENTIAL = 8
MOST_GROUPS = 4

MOST_WORK = 5_000_000
"""Rows times random effects above which several factors are not tried for influential groups."""


def facts(fit) -> str:
    """The line of facts under the title."""
    mixed = hasattr(fit, "convergence")
    items = [f"{fit.nobs:,} rows"]
    if mixed:
        items += [f"{group}: {count:,} levels" for group, count in fit.ngroups.items()]
    items.append(fit.method if mixed else "least squares")
    found = "".join(f"<li>{escape(item)}</li>" for item in items)
    if mixed:
        singular = fit.is_singular and bool(fit.convergence.boundary)  # else only units make theta small
        good = fit.converged and not singular
        verdict = "converged" if fit.converged else "not converged"
        verdict += ", singular" if singular else ""
        found += f'<li class="{"good" if good else "bad"}">{verdict}</li>'
    return f'<ul class="facts">{found}</ul>'


def model(fit) -> str:
    return section(
        "The model",
        paragraph(fit.describe("model")),
        f'<div class="scroll">{fit.equation(form="mathml")}</div>',
        paragraph("With the estimates:", "soft"),
        f'<div class="scroll">{fit.equation(values=True, form="mathml")}</div>',
    )


def data(fit) -> str:
    rows = paragraph(fit.describe("rows"))
    if not hasattr(fit, "ngroups"):
        return section("Data", rows)
    levels = [[group, number(count), number(fit.nobs / count, 3)] for group, count in fit.ngroups.items()]
    return section("Data", rows, table(["Grouping factor", "Levels", "Rows per level"], levels))


def certificate(fit) -> str:
    if not hasattr(fit, "convergence"):
        return ""
    kind = "good" if fit.converged else "bad"
    verdict = "Certified minimum." if fit.converged else "No certified minimum."
    parts = [paragraph(verdict, kind), paragraph(fit.describe("certificate"))]
    if fit.engine_reason:
        parts.append(paragraph(f"Equations by the engine {fit.engine!r}: {fit.engine_reason}.", "soft"))
    return section("How the search ended", *parts)


def coefficients(fit) -> str:
    frame = fit.tidy("fixed", conf_level=0.95) if hasattr(fit, "convergence") else fit.tidy(conf_level=0.95)
    if frame.empty:
        return ""
    rows = [
        [
            row["term"],
            number(row["estimate"]),
            number(row["std.error"]),
            f"{number(row['conf.low'])} to {number(row['conf.high'])}"
            if row["estimate"] == row["estimate"]
            else "–",
            number(df, 3),
            number(row["statistic"], 3),
            p_value(row["p.value"]),
        ]
        for (_, row), df in zip(frame.head(MOST_ROWS).iterrows(), fit.df.to_numpy())
    ]
    more = len(frame) - len(rows)
    note = f"{more} more coefficients are not shown." if more else ""
    if frame["estimate"].isna().any():
        note += " A dash stands for a coefficient that was dropped, being linear in the others."
    how = "Satterthwaite's" if hasattr(fit, "convergence") else "residual"
    return section(
        "Coefficients",
        table(["", "Estimate", "Std. error", "95 % interval", "df", "t", "p"], rows),
        paragraph(f"t tests and intervals with {how} degrees of freedom. {note}".strip(), "soft"),
    )


def variances(fit) -> str:
    if not hasattr(fit, "varcorr"):
        shares = [["R squared", number(fit.rsquared, 3)], ["Adjusted", number(fit.rsquared_adj, 3)]]
        return section("Explained variance", table(["", ""], shares))
    frame = fit.varcorr()
    rows = []
    for group, first, second, vcov, sdcor in frame.itertuples(index=False):
        if isinstance(second, str):
            rows.append([f"{group}: {first} with {second}", number(vcov), "", number(sdcor, 3)])
        else:
            name = f"{group}: {first}" if isinstance(first, str) else group
            rows.append([name, number(vcov), number(sdcor), ""])
    icc, r2 = fit.icc(), fit.r2()
    shares = [
        ["ICC, adjusted for the fixed effects", _share(icc["adjusted"])],
        ["ICC, unadjusted", _share(icc["unadjusted"])],
        ["R squared, marginal (fixed effects)", _share(r2["marginal"])],
        ["R squared, conditional (fixed and random)", _share(r2["conditional"])],
    ]
    return section(
        "Variance components",
        table(["", "Variance or covariance", "Std. dev.", "Correlation"], rows),
        "<h3>Shares of variance</h3>",
        table(["", "Share"], shares),
    )


def _share(value: float) -> str:
    """A share of 1, where less than rounding leaves is 0."""
    return number(value if value > 1e-12 else 0.0, 3)


def random_effects(fit, figures: Figures) -> str:
    if not hasattr(fit, "ranef"):
        return ""
    parts = []
    effects = fit.ranef()
    for group, frame in list(effects.items())[:MOST_GROUPS]:
        columns = list(frame.columns)[:MOST_PANELS]
        tall = float(np.clip(0.16 * min(len(frame), 60), 2.8, 7.0 if len(frame) <= 60 else 4.5))
        drawn = "".join(
            figures.draw(
                "ranef", f"{column} by {group}: predicted, with 95 % intervals", (5.2, tall),
                group=group, columns=[column],
            )
            for column in columns
        )  # fmt: skip
        drawn = f'<div class="pair">{drawn}</div>' if drawn else _extremes(frame)
        parts.append(f"<h3>{escape(group)}</h3>" + drawn)
    if len(effects) > MOST_GROUPS:
        parts.append(paragraph(f"{len(effects) - MOST_GROUPS} more grouping factors are not shown.", "soft"))
    return section("Random effects", *parts)


def _extremes(frame) -> str:
    """The levels with the lowest and the highest effect of the first column."""
    order = np.argsort(frame.iloc[:, 0].to_numpy(), kind="stable")
    shown = order if len(order) <= 10 else np.concatenate([order[:5], order[-5:]])
    rows = [
        [label, *map(number, values)] for label, values in zip(frame.index[shown], frame.to_numpy()[shown])
    ]
    note = paragraph("The five lowest and the five highest.", "soft") if len(order) > 10 else ""
    return table(["Level", *frame.columns], rows) + note


def diagnostics(fit, figures: Figures) -> str:
    quantiles = fit.summary().residuals
    shown = "Scaled residuals" if hasattr(fit, "convergence") else "Standardized residuals"
    values = table([shown, *quantiles.index], [["", *(number(float(v), 3) for v in quantiles)]])
    drawn = [
        figures.draw("residuals", "Scaled residuals against fitted values"),
        figures.draw("qq", "Normal quantiles of the scaled residuals"),
    ]
    pair = f'<div class="pair">{"".join(drawn)}</div>' if any(drawn) else ""
    return section("Diagnostics", values, pair)


def influential(fit) -> str:
    """Groups whose deletion moves the fixed effects most, by Cook's distance."""
    if not hasattr(fit, "influence") or not hasattr(fit, "ngroups"):
        return ""
    parts, counts, shown = [], fit.ngroups, False
    if len(counts) > 1 and fit.nobs * sum(counts.values()) > MOST_WORK:
        return section(
            "Influential groups",
            paragraph(
                "Left out: deleting groups that share random effects with other rows would take long here; "
                "fit.influence(by=...) does it.",
                "soft",
            ),
        )
    for group in list(counts)[:MOST_GROUPS]:
        try:
            found = fit.influence(by=group)
            cook, dfbetas = found.cooks_distance, found.dfbetas
        except FastLMMError as error:
            message = paragraph(f"Not computed: {error}", "soft")
            parts += [] if message in parts else [message]
            continue
        shown = True
        top = np.argsort(-cook.to_numpy(), kind="stable")[:MOST_INFLUENTIAL]
        columns = list(dfbetas.columns)[:6]
        rows = [
            [
                cook.index[i],
                number(float(cook.iloc[i]), 3),
                *(number(float(v), 2) for v in dfbetas[columns].iloc[i]),
            ]
            for i in top
        ]
        parts.append(f"<h3>{escape(group)}</h3>" + table(["Level", "Cook's distance", *columns], rows))
    if shown:
        parts.append(
            paragraph(
                "Levels with the largest Cook's distance; then by how many standard errors each "
                "coefficient moves when "
                "the level is left out (DFBETAS). Computed without refitting, at the variances of the fit.",
                "soft",
            )
        )
    return section("Influential groups", *parts)


def lines(fit, figures: Figures) -> str:
    return section("Fitted lines", figures.draw("fit_lines", "Data and fitted lines by group", (7.5, 4.8)))


def timing(fit) -> str:
    seconds = fit.timings
    if not seconds:
        return ""
    total = sum(seconds.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(stage)}</th><td>{number(1000 * value, 3)} ms</td>'
        '<td style="text-align:left">'
        f'<span class="bar" style="width:{8 * value / total:.2f}rem"></span></td></tr>'
        for stage, value in seconds.items()
    )
    body = f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
    return section("Time", body, paragraph(f"In all {number(1000 * total, 3)} ms.", "soft"))
