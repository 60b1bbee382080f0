"""Tables onto matplotlib Axes; no model in sight, and no import of matplotlib.

Only methods of the Axes that are passed in are used, so importing this file
costs nothing.  Every function returns the Axes it drew on.
"""

import numpy as np

from .plotdata import INTERCEPT, mean_by, thin

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
GREY, DARK = "#8C8C8C", "#333333"


def plain(ax):
    """Only the left and bottom frame lines."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def note(ax, text):
    """A small remark above the right end of the panel."""
    ax.text(1.0, 1.01, text, transform=ax.transAxes, ha="right", va="bottom", fontsize="small", color=GREY)


def fade(count):
    """Opacity of each of ``count`` marks, so that many of them still show their density."""
    return float(np.clip(30.0 / np.sqrt(max(count, 1)), 0.12, 0.8))


def darker(colour, share=0.6):
    """A hexadecimal colour with its light scaled by ``share``."""
    return "#" + "".join(f"{int(int(colour[k:k + 2], 16) * share):02x}" for k in (1, 3, 5))


def residuals(ax, fitted, scaled, smooth, max_points):
    """Scatter of scaled residuals against fitted values, and ``smooth`` (columns x, smooth)."""
    rows = thin(len(fitted), max_points)
    ax.axhline(0.0, color=GREY, lw=0.8, zorder=1)
    size = 14 if len(rows) < 2_000 else 5
    ax.scatter(fitted[rows], scaled[rows], s=size, color=BLUE, alpha=fade(len(rows)), lw=0, label="rows")
    ax.plot(smooth["x"], smooth["smooth"], color=VERMILLION, lw=1.6, label="local linear smooth", zorder=3)
    ax.set(xlabel="Fitted value", ylabel="Scaled residual")
    if len(rows) < len(fitted):
        note(ax, f"{len(rows):,} of {len(fitted):,} rows; smooth of all")
    return plain(ax)


def quantiles(ax, points, line, label, max_points):
    """Quantile-quantile points and the line ``(intercept, slope)``; both tails are kept when thinning."""
    n = len(points)
    if n > max_points:
        tail = min(max_points // 5, n // 2)
        middle = np.unique(np.linspace(tail, n - tail - 1, max_points - 2 * tail).round().astype(np.int64))
        points = points.iloc[np.r_[:tail, middle, n - tail:n]]
    ends = np.array([points["theoretical"].iloc[0], points["theoretical"].iloc[-1]])
    ax.plot(ends, line[0] + line[1] * ends, color=GREY, lw=1.2, label="through the quartiles", zorder=1)
    ax.scatter(points["theoretical"], points["sample"], s=12, color=BLUE, alpha=0.7, lw=0, label="rows")
    ax.set(xlabel="Standard normal quantile", ylabel=label)
    return plain(ax)


FEW_LEVELS = 40
"""Levels up to which each has its name on the axis."""


def influence(ax, distance, levels, group, label):
    """Cook's distances (levels,) as stems, the ``label`` largest with their names."""
    position = np.arange(len(distance))
    ax.vlines(position, 0.0, distance, color=BLUE, lw=1.2 if len(distance) <= 200 else 0.6)
    shown = np.where(np.isfinite(distance), distance, -1.0)
    for place in np.argsort(-shown, kind="stable")[:label]:
        if shown[place] > 0:
            ax.annotate(
                levels[place], (place, distance[place]), (0, 2), textcoords="offset points", ha="center",
                va="bottom", fontsize="small", color=DARK,
            )  # fmt: skip
    if len(levels) <= FEW_LEVELS:
        steep = max(map(len, levels), default=0) * len(levels) > 60
        ax.set_xticks(position, levels, fontsize="small", rotation=90 if steep else 0)
    else:  # places in order mean nothing to a reader
        ax.set_xticks([])
    ax.set(xlabel=f"{group}, {len(distance):,} levels in order", ylabel="Cook's distance")
    ax.set_ylim(bottom=0.0)
    ax.margins(y=0.12)
    lost = int((~np.isfinite(distance)).sum())
    if lost:
        note(ax, f"{lost:,} levels without which a coefficient cannot be estimated are left out")
    return plain(ax)


def autocorrelation(ax, table, group):
    """Autocorrelations by lag as stems, and the limits of independence."""
    lags = table.index.to_numpy()
    ax.axhline(0.0, color=GREY, lw=0.8, zorder=1)
    ax.vlines(lags, 0.0, table["acf"], color=BLUE, lw=1.6, zorder=2)
    for sign in (-1.0, 1.0):
        ax.plot(lags, sign * table["limit"], color=VERMILLION, lw=1.0, ls="--", zorder=1)
    ax.set(xlabel=f"Lag within {group}", ylabel="Autocorrelation of residuals")
    return plain(ax)


def caterpillar(ax, table, column, group, level, max_levels):
    """Intervals in order of the estimates; those that leave out zero in colour."""
    total = len(table)
    if total > max_levels:
        table = table.iloc[np.linspace(0, total - 1, max_levels).round().astype(np.int64)]
        note(ax, f"{max_levels:,} of {total:,} levels, by rank")
    position = np.arange(len(table))
    away = ((table["lower"] > 0) | (table["upper"] < 0)).to_numpy()
    many = len(table) > 60
    width, size = (0.6, 3) if many else (1.3, 18)
    ax.axvline(0.0, color=GREY, lw=0.8, zorder=1)
    for mask, colour, label in ((away, BLUE, "leaves out zero"), (~away, GREY, "covers zero")):
        part = table[mask]
        ax.hlines(position[mask], part["lower"], part["upper"], color=colour, lw=width, label=label, zorder=2)
    ax.scatter(table["estimate"], position, s=size, color=DARK, lw=0, zorder=3, label="BLUP")
    if many:
        ax.set_yticks([])
    else:
        ax.set_yticks(position, [str(name) for name in table.index], fontsize="small")
    ax.set(xlabel=f"{column}: BLUP and {100 * level:g}% interval", ylabel=group)
    ax.set_ylim(-1, len(table))
    return plain(ax)


def histogram(ax, values, column, group, model_sd, bins):
    """Density histogram with the normal curves of the values' own and of the model's standard deviation."""
    ax.hist(values, bins=bins, density=True, color=SKY, alpha=0.6, edgecolor="white", lw=0.5)
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    reach = 3.2 * max(sd, model_sd)
    grid = np.linspace(min(values.min(), -reach), max(values.max(), reach), 201)
    for centre, spread, style, colour, label in (
        (mean, sd, "-", BLUE, "normal, sd of the BLUPs"),
        (0.0, model_sd, "--", VERMILLION, "normal, sd of the model"),
    ):
        if spread > 0:
            curve = np.exp(-0.5 * ((grid - centre) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
            ax.plot(grid, curve, ls=style, color=colour, lw=1.5, label=label)
    ax.set(xlabel=f"{column} | {group}: BLUP", ylabel="Density")
    if ax.get_legend_handles_labels()[0]:
        ax.margins(y=0.18)
        ax.legend(frameon=False, fontsize="small")
    return plain(ax)


def group_lines(ax, shown, everyone, values, legend_title):
    """Points and fitted lines of the groups in ``shown``; population means of ``everyone``, by colour.

    Both tables have columns ``group, x, y, fitted, color`` and, if the population line is
    wanted, ``population``.  ``values`` are the colours' values in order.
    """
    n_groups = shown["group"].nunique()
    alpha = float(np.clip(3.5 / np.sqrt(max(n_groups, 1)), 0.15, 0.8))
    for k, value in enumerate(values):
        colour = CYCLE[k % len(CYCLE)]
        part = shown[shown["color"] == value]
        if part.empty:
            continue
        ax.scatter(part["x"], part["y"], s=9, color=colour, alpha=alpha, lw=0, zorder=1)
        for _, rows in part.groupby("group", sort=False, observed=True):
            rows = rows.sort_values("x", kind="stable")
            ax.plot(rows["x"], rows["fitted"], color=colour, alpha=alpha, lw=0.9, zorder=2)
        if "population" in everyone:
            rows = everyone[everyone["color"] == value]
            line = mean_by(rows["x"].to_numpy(), rows["population"].to_numpy())
            ax.plot(line["x"], line["y"], color="white", lw=5.5, zorder=3)
            ax.plot(line["x"], line["y"], color=darker(colour), lw=3.0, zorder=4, label=value or "population")
    labels = ax.get_legend_handles_labels()[1]
    if len(labels) > 1 or labels == ["population"]:
        ax.legend(frameon=False, fontsize="small", title=legend_title)
    return plain(ax)


def frame_the_bulk(ax, ols, blup):
    """Limits that hold every BLUP and 96 % of the least-squares points per axis, when a few would set them.

    Returns the number of least-squares points left outside.
    """
    inside = np.ones(len(ols), dtype=bool)
    for j, limits in ((0, ax.set_xlim), (1, ax.set_ylim)):
        low, high = np.quantile(ols[:, j], [0.02, 0.98])
        low, high = min(low, blup[:, j].min()), max(high, blup[:, j].max())
        low, high = low - 0.15 * (high - low), high + 0.15 * (high - low)
        if np.ptp(ols[:, j]) > 2.0 * (high - low):
            limits(low, high)
            inside &= (ols[:, j] >= low) & (ols[:, j] <= high)
    return int((~inside).sum())


def shrinkage(ax, table, names, size, center, group, max_groups):
    """Least-squares estimates and BLUPs of the groups, in one or two columns.

    Parameters
    ----------
    table : DataFrame, columns (ols | blup) x names
    names : one or two columns
    size : (levels,) rows per level
    center : values of the fixed effects at which the BLUPs shrink
    """
    ols, blup = table["ols"][names].to_numpy(), table["blup"][names].to_numpy()
    good = np.flatnonzero(np.isfinite(ols).all(axis=1))
    rows = good[thin(len(good), max_groups)]
    ols, blup, alpha = ols[rows], blup[rows], float(np.clip(fade(len(rows)), 0.3, 0.9))
    if len(names) == 1:
        area = 12 + 48 * size[rows] / size.max()
        ends = np.array([min(ols.min(), blup.min()), max(ols.max(), blup.max())])
        ax.plot(ends, ends, color=GREY, lw=1.0, label="no shrinkage", zorder=1)
        ax.axhline(center[0], color=VERMILLION, lw=1.0, ls="--", label="fixed effect", zorder=1)
        ax.scatter(ols[:, 0], blup[:, 0], s=area, color=BLUE, alpha=alpha, lw=0, label="groups (area: rows)")
        what = "mean, other effects held fixed" if names[0] == INTERCEPT else "least squares"
        ax.set(xlabel=f"{names[0]} of each {group}: {what}", ylabel=f"{names[0]}: BLUP + fixed effect")
    else:
        move = blup - ols
        ax.quiver(
            ols[:, 0], ols[:, 1], move[:, 0], move[:, 1], angles="xy", scale_units="xy", scale=1,
            width=0.0025, headwidth=5, color=GREY, alpha=alpha, zorder=2,
        )
        for points, style, label in (
            (ols, {"s": 20, "facecolor": "none", "edgecolor": ORANGE}, "least squares within the group"),
            (blup, {"s": 16, "color": BLUE, "lw": 0}, "BLUP + fixed effect"),
        ):
            ax.scatter(points[:, 0], points[:, 1], alpha=alpha, label=label, zorder=3, **style)
        ax.scatter(*center, marker="+", s=120, color=VERMILLION, lw=2, label="fixed effects", zorder=5)
        ax.set(xlabel=names[0], ylabel=names[1])
    outside = frame_the_bulk(ax, ols, blup) if len(names) == 2 else 0
    remarks = [f"{outside:,} outside the frame"] if outside else []
    remarks += [f"{len(rows):,} of {len(table):,} levels of {group}"] if len(rows) < len(good) else []
    if len(good) < len(table):
        remarks.append(f"{len(table) - len(good):,} without a least-squares fit")
    if remarks:
        note(ax, "; ".join(remarks))
    ax.legend(frameon=False, fontsize="small")
    return plain(ax)
