"""Plots of a fit: `PlotAccessor` gathers tables from the fit, `draw_*` put them on axes.

The drawing functions take plain tables and matplotlib Axes and know nothing of
models.  matplotlib is an optional dependency and is imported only when a plot
is asked for.  Colours are those of Okabe & Ito (2008), told apart by
colour-blind readers.
"""

import numpy as np
import pandas as pd

from ..errors import DataError, MissingDependencyError, ModelError
from . import draw, plotdata


def new_axes(count, ax=None, *, width=6.0, height=4.2, sharey=False):
    """``count`` Axes: those given, or a new figure's.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    ValueError
        ``ax`` does not hold ``count`` Axes.
    """
    if ax is not None:
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != count:
            raise ValueError(f"this plot has {count} panels but ax holds {len(axes)}")
        return axes
    try:
        import matplotlib.pyplot as plt
    except ImportError as err:
        raise MissingDependencyError(
            "plots need matplotlib, which is not installed: pip install 'fastlmm_core[plot]'"
        ) from err
    columns = min(count, 3)
    rows = -(-count // columns)
    size = (width * columns, height * rows)
    figure, grid = plt.subplots(
        rows, columns, figsize=size, squeeze=False, sharey=sharey, layout="constrained"
    )
    for spare in grid.ravel()[count:]:
        figure.delaxes(spare)
    return list(grid.ravel()[:count])


def one_or_all(axes):
    """The Axes itself when a plot has one panel, else an array of them."""
    if len(axes) == 1:
        return axes[0]
    panels = np.empty(len(axes), dtype=object)
    panels[:] = axes
    return panels


class LinearPlots:
    """Figures of a linear model, and of the residuals of any: every method returns matplotlib Axes.

    Parameters
    ----------
    fit : LMResults or LMMResults
    """

    def __init__(self, fit):
        self._fit = fit

    def residuals(self, ax=None, *, max_points=20_000):
        """Scaled residuals against fitted values, with a local linear smooth of all rows.

        Parameters
        ----------
        ax : Axes, optional
        max_points : int
            Rows drawn; of more, a seeded sample, which the figure says.
        """
        fitted, scaled = self._rows("fittedvalues"), self._rows("resid_scaled")
        (ax,) = new_axes(1, ax)
        return draw.residuals(ax, fitted, scaled, plotdata.local_smooth(fitted, scaled), max_points)

    def qq(self, ax=None, *, max_points=5_000):
        """Normal quantiles of the scaled residuals, with the line through the quartiles."""
        points, line = plotdata.normal_quantiles(self._rows("resid_scaled"))
        (ax,) = new_axes(1, ax, width=4.8)
        return draw.quantiles(ax, points, line, "Scaled residual", max_points)

    def _rows(self, name):
        return np.asarray(getattr(self._fit, name), dtype=np.float64)


class PlotAccessor(LinearPlots):
    """Figures of one fit; every method returns matplotlib Axes.

    A method with several panels returns an array of Axes and takes as many in
    ``ax=``.  The methods draw, and never call ``show``.

    Parameters
    ----------
    fit : LMMResults
    """

    def ranef(self, group=None, ax=None, *, columns=None, level=0.95, max_levels=1_000):
        """Caterpillar plot: BLUPs in increasing order with intervals from the conditional variances.

        Parameters
        ----------
        group : str, optional
            Grouping factor; the first by default.
        ax : Axes or sequence of Axes, optional
            One per column.
        columns : list of str, optional
            Columns of the random effects; all by default.
        level : float
            Coverage of the intervals (given the estimated variances).
        max_levels : int
            Levels drawn; of more, those at evenly spaced ranks.
        """
        group, blups, cond_cov = self._ranef(group)
        tables = plotdata.caterpillar(blups, cond_cov, level)
        names = self._columns(blups, columns)
        height = float(np.clip(0.18 * min(len(blups), max_levels), 3.2, 8.0))
        axes = new_axes(len(names), ax, width=4.6, height=height)
        for panel, name in zip(axes, names, strict=True):
            draw.caterpillar(panel, tables[name], name, group, level, max_levels)
        return one_or_all(axes)

    def ranef_hist(self, group=None, ax=None, *, columns=None, bins="auto"):
        """Histogram of the BLUPs, with normal curves of their own and of the model's standard deviation.

        BLUPs are shrunk, so their spread is below the model's; the two curves show by how much.
        """
        group = self._group(group)
        blups = self._fit.ranef()[group]
        names = self._columns(blups, columns)
        axes = new_axes(len(names), ax, width=4.6, height=3.6)
        cov = self._fit.cov_re[group]
        for panel, name in zip(axes, names, strict=True):
            model_sd = float(np.sqrt(cov.loc[name, name]))
            draw.histogram(panel, blups[name].to_numpy(dtype=np.float64), name, group, model_sd, bins)
        return one_or_all(axes)

    def fit_lines(
        self, x=None, color=None, panels=None, group=None, groups=None, ax=None, *,
        max_groups=60, population=True,
    ):
        """Data and fitted lines of each group against a numeric column.

        Parameters
        ----------
        x : str, optional
            Numeric column; the first one with a random slope by default, else the first
            numeric column among the fixed effects.
        color, panels : str, optional
            Columns of the data that colour the lines and split them over panels, e.g. a treatment.
        group : str, optional
            Grouping factor; the first by default.
        groups : list, optional
            Levels to draw; by default a seeded sample of ``max_groups`` levels, taken in
            equal shares from the values of ``panels`` or ``color``.
        ax : Axes or sequence of Axes, optional
            One per panel.
        population : bool
            Also draw the mean of the population predictions (random effects zero).
        """
        frame = self._frame()
        group = self._group(group)
        x = self._slope_column(x, group)
        for name in (color, panels):
            if name is not None and name not in frame.columns:
                raise DataError(f"no column {name!r} in the data of the fit")
        fitted = self._rows("fittedvalues")
        table = pd.DataFrame({
            "group": plotdata.group_keys(frame, group), "x": frame[x].to_numpy(dtype=np.float64),
            "y": fitted + self._rows("resid"), "fitted": fitted,
        })
        table["color"] = "" if color is None else frame[color].astype(str).to_numpy()
        table["panel"] = "" if panels is None else frame[panels].astype(str).to_numpy()
        if population:
            table["population"] = np.asarray(self._fit.predict(re="none"), dtype=np.float64)
        total = table["group"].nunique()
        split = "panel" if panels is not None else "color"
        keep = plotdata.sample_groups(table, split, max_groups) if groups is None else np.asarray(groups)
        values = self._levels(frame, panels)
        axes = new_axes(len(values), ax, sharey=True)
        for panel, value in zip(axes, values, strict=True):
            part = table[table["panel"] == value]
            shown = part[part["group"].isin(keep)]
            draw.group_lines(panel, shown, part, self._levels(frame, color), color)
            panel.set(xlabel=x, ylabel=self._response_name(), title=value if panels is not None else "")
        if len(keep) < total:
            draw.note(axes[-1], f"{len(keep):,} of {total:,} levels of {group}")
        return one_or_all(axes)

    def shrinkage(self, group=None, ax=None, *, columns=None, max_groups=300):
        """Least squares within each group against the BLUPs.

        For one column (a random intercept), group estimates against BLUPs with the line of no
        shrinkage; for two, arrows from the least-squares point to the BLUP in their plane.
        The other fixed and random effects are held at their estimates.

        Parameters
        ----------
        group : str, optional
        ax : Axes, optional
        columns : list of one or two str, optional
            Columns of the random effects; the first two by default.
        max_groups : int
            Groups drawn; of more, a seeded sample.
        """
        group = self._group(group)
        table, size = self._shrinkage_table(group)
        names = self._columns(table["blup"], columns)[:2]
        (ax,) = new_axes(1, ax, width=5.4, height=4.6)
        center = [float(self._fit.params.get(name, 0.0)) for name in names]
        return draw.shrinkage(ax, table, names, size, center, group, max_groups)

    def influence(self, by=None, ax=None, *, label=5):
        """Cook's distance of each group, the largest with their names.

        Parameters
        ----------
        by : grouping factor, column of the data, or labels of the rows used
            The grouping factor with the fewest levels by default.
        ax : Axes, optional
        label : int
            How many groups are named.
        """
        group = min(self._fit.ngroups, key=self._fit.ngroups.get) if by is None else by
        found = self._fit.influence(group).cooks_distance
        (ax,) = new_axes(1, ax, width=6.4, height=3.8)
        levels = [str(level) for level in found.index]
        return draw.influence(ax, found.to_numpy(), levels, found.index.name, label)

    def acf(self, by=None, order=None, ax=None, *, max_lag=None, kind="pearson", level=0.95):
        """Autocorrelation of the residuals within groups, with the limits of independent ones.

        Parameters
        ----------
        by, order, max_lag, kind, level : as for ``fit.acf``.
        ax : Axes, optional
        """
        table = self._fit.acf(by, order, max_lag, kind, level)
        (ax,) = new_axes(1, ax, width=5.4, height=3.6)
        if by is None:
            by = max(self._fit.ngroups, key=self._fit.ngroups.get)
        return draw.autocorrelation(ax, table, by if isinstance(by, str) else "group")

    def profile(self, which=None, ax=None):
        """The profile likelihood, as ``fit.profile(which).plot()`` draws it."""
        return self._fit.profile(which=which).plot(ax=ax)

    # -- what the figures are made of ------------------------------------------------------------

    def _shrinkage_table(self, group):
        """(levels x {ols, blup} x columns, rows per level) of one grouping factor."""
        fit, frame = self._fit, self._frame()
        blups = fit.ranef()
        names = list(blups[group].columns)
        Z = plotdata.random_columns(frame, names)
        others = [name for name in blups if name != group]
        base = np.asarray(fit.predict(re=others or "none"), dtype=np.float64)
        keys = pd.Index(plotdata.group_keys(frame, group).astype(str))
        levels = pd.Index(blups[group].index.astype(str))
        codes = levels.get_indexer(keys)
        deviation = self._rows("fittedvalues") + self._rows("resid") - base
        ols = plotdata.group_least_squares(codes, len(levels), Z, deviation)
        beta = np.array([float(fit.params.get(name, 0.0)) for name in names])
        index = blups[group].index
        table = pd.concat({
            "ols": pd.DataFrame(ols + beta, index=index, columns=names),
            "blup": pd.DataFrame(blups[group].to_numpy(dtype=np.float64) + beta, index=index, columns=names),
        }, axis=1)
        return table, np.bincount(codes, minlength=len(levels))

    def _frame(self):
        """The data's columns on the rows of the fit."""
        frame, fitted = self._fit._frame, self._fit.fittedvalues
        return frame if len(frame) == len(fitted) else frame.loc[fitted.index]

    def _response_name(self):
        return str(getattr(self._fit, "response_name", None) or "Response")

    def _group(self, group):
        known = list(self._fit.cov_re)
        if group is None:
            return known[0]
        if group not in known:
            raise ModelError(f"no grouping factor {group!r}; the model has {', '.join(map(repr, known))}")
        return group

    def _ranef(self, group):
        group = self._group(group)
        blups, cond_cov = self._fit.ranef(cond_var=True)
        return group, blups[group], np.asarray(cond_cov[group], dtype=np.float64)

    def _columns(self, blups, columns):
        names = list(blups.columns) if columns is None else list(columns)
        for name in names:
            if name not in blups.columns:
                known = ", ".join(map(repr, blups.columns))
                raise ModelError(f"no random effect {name!r}; there are {known}")
        return names

    def _slope_column(self, x, group):
        frame = self._frame()
        if x is None:
            names = [*self._fit.ranef()[group].columns, *self._fit.params.index]
            numeric = (n for n in names if n in frame.columns and pd.api.types.is_numeric_dtype(frame[n]))
            x = next(numeric, None)
            if x is None:
                raise ModelError("no numeric column among the model's terms to draw against: give x=")
        if x not in frame.columns or not pd.api.types.is_numeric_dtype(frame[x]):
            raise DataError(f"x={x!r} is not a numeric column of the data of the fit")
        return x

    def _levels(self, frame, column):
        """Values of a column as text, in the order of its categories."""
        if column is None:
            return [""]
        values = frame[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            present = set(values.unique())
            return [str(v) for v in values.cat.categories if v in present]
        return [str(v) for v in sorted(values.unique())]

