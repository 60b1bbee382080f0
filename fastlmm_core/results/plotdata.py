"""The tables behind the plots: arrays and frames in, frames out, no drawing.

Every figure of `plots` shows one of these tables, so what is drawn can be
checked, saved or drawn with another library.
"""

import numpy as np
import pandas as pd
from scipy import special

from ..errors import ModelError

INTERCEPT = "Intercept"


def thin(n, limit, seed=0):
    """Positions of at most ``limit`` of ``n`` items, in order.

    A seeded sample without replacement, so that a figure drawn twice is the
    same figure.

    Parameters
    ----------
    n, limit : int
    seed : int

    Returns
    -------
    (min(n, limit),) int64, increasing
    """
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=limit, replace=False))


def local_smooth(x, y, span=0.5, bins=150):
    """Local linear smooth of y on x with tricube weights (Cleveland 1979, eq. 1-3, no robust steps).

    Rows are first averaged in ``bins`` bins of equal count, so the cost is
    O(n log n + bins^2) and a million rows smooth as fast as they sort.

    Parameters
    ----------
    x, y : (n,) float64
    span : float
        Share of the rows that carry weight at each point, in (0, 1].
    bins : int

    Returns
    -------
    DataFrame with columns ``x`` (increasing) and ``smooth``
    """
    order = np.argsort(x, kind="stable")
    edges = np.unique(np.linspace(0, len(x), min(bins, len(x)) + 1).astype(np.int64))
    count = np.diff(edges).astype(np.float64)
    xm = np.add.reduceat(x[order], edges[:-1]) / count
    ym = np.add.reduceat(y[order], edges[:-1]) / count
    centre, inverse = np.unique(xm, return_inverse=True)
    weight = np.bincount(inverse, count)
    ym = np.bincount(inverse, count * ym) / weight
    smooth = np.empty_like(centre)
    for k, x0 in enumerate(centre):
        distance = np.abs(centre - x0)
        near = np.argsort(distance, kind="stable")
        last = np.searchsorted(np.cumsum(weight[near]), span * len(x))
        reach = distance[near[min(last, len(near) - 1)]]
        u = np.minimum(distance / (reach * 1.000001), 1.0) if reach > 0 else (distance > 0) * 1.0
        w = weight * (1.0 - u**3) ** 3
        w /= w.sum()
        dx = centre - x0
        mx, my = w @ dx, w @ ym
        sxx = w @ (dx - mx) ** 2
        slope = (w @ ((dx - mx) * ym)) / sxx if sxx > 1e-12 * max(reach, 1e-300) ** 2 else 0.0
        smooth[k] = my - slope * mx
    return pd.DataFrame({"x": centre, "smooth": smooth})


def normal_quantiles(values):
    """Points and line of a normal quantile-quantile plot.

    Plotting positions (i - 1/2) / n; the line goes through the first and third
    quartiles, as R's ``qqline``.

    Parameters
    ----------
    values : (n,) float64

    Returns
    -------
    points : DataFrame with columns ``theoretical`` and ``sample``, both increasing
    line : (intercept, slope)
    """
    sample = np.sort(np.asarray(values, dtype=np.float64))
    n = len(sample)
    theoretical = special.ndtri((np.arange(n) + 0.5) / n)
    low, high = np.quantile(sample, [0.25, 0.75])
    z = special.ndtri(0.75)
    slope = (high - low) / (2 * z)
    return pd.DataFrame({"theoretical": theoretical, "sample": sample}), (low + slope * z, slope)


def caterpillar(blups, cond_cov, level=0.95):
    """BLUPs with intervals from the conditional variances, one table per column.

    Parameters
    ----------
    blups : DataFrame (levels x q)
    cond_cov : (levels, q, q) float64
        Conditional covariances of the random effects, in squared units of y.
    level : float
        Coverage of the normal intervals.

    Returns
    -------
    dict: column -> DataFrame indexed by level, sorted by ``estimate``, with ``lower`` and ``upper``
    """
    z = special.ndtri(0.5 + level / 2)
    tables = {}
    for j, column in enumerate(blups.columns):
        estimate = blups[column].to_numpy(dtype=np.float64)
        half = z * np.sqrt(np.maximum(cond_cov[:, j, j], 0.0))
        table = pd.DataFrame(
            {"estimate": estimate, "lower": estimate - half, "upper": estimate + half}, index=blups.index
        )
        tables[column] = table.sort_values("estimate", kind="stable")
    return tables


def group_keys(frame, group):
    """The rows' labels of a grouping factor; ``a:b`` joins two columns as ``level_a:level_b``.

    Parameters
    ----------
    frame : DataFrame, the rows of the fit
    group : str

    Returns
    -------
    (n,) ndarray of the column's values, or of strings for an interaction
    """
    if group in frame.columns:
        return np.asarray(frame[group])
    parts = group.split(":")
    missing = [part for part in parts if part not in frame.columns]
    if missing:
        raise ModelError(
            f"grouping factor {group!r} cannot be read from the data: no column {missing[0]!r}; "
            "plots need grouping factors that are columns or products of columns"
        )
    keys = frame[parts[0]].astype(str)
    for part in parts[1:]:
        keys = keys + ":" + frame[part].astype(str)
    return keys.to_numpy()


def random_columns(frame, names):
    """Values of a term's columns over the rows, when they are the intercept or columns of the data.

    Returns
    -------
    (n, q) float64
    """
    Z = np.ones((len(frame), len(names)))
    for j, name in enumerate(names):
        if name == INTERCEPT:
            continue
        if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name]):
            raise ModelError(
                f"per-group least squares need numeric columns of the data; the random term has {name!r}: "
                "add it to the data as a column of its own"
            )
        Z[:, j] = frame[name].to_numpy(dtype=np.float64)
    return Z


def group_least_squares(codes, n_groups, Z, residual):
    """Least squares of ``residual`` on ``Z`` within each group.

    With a column of ones the others and the residual are centred within the group
    first, so a column far from zero costs no digits.

    Parameters
    ----------
    codes : (n,) int, group of each row
    n_groups : int
    Z : (n, q) float64
    residual : (n,) float64

    Returns
    -------
    (n_groups, q) float64; NaN for groups whose rows do not identify the q coefficients
    """
    ones = [j for j in range(Z.shape[1]) if (Z[:, j] == 1.0).all()][:1]
    slopes = [j for j in range(Z.shape[1]) if j not in ones]
    count = np.bincount(codes, minlength=n_groups).astype(np.float64)
    columns = np.column_stack([Z[:, slopes], residual])
    means = np.zeros((n_groups, columns.shape[1]))
    if ones:
        sums = [np.bincount(codes, column, n_groups) for column in columns.T]
        means = np.column_stack(sums) / np.maximum(count, 1.0)[:, None]
        columns = columns - means[codes]
    width = columns.shape[1]
    products = np.empty((n_groups, width, width))
    for j in range(width):
        for k in range(j + 1):
            products[:, j, k] = np.bincount(codes, columns[:, j] * columns[:, k], n_groups)
            products[:, k, j] = products[:, j, k]
    solution = np.full((n_groups, Z.shape[1]), np.nan)
    good = count > 0
    if slopes:
        rounding = 1e-24 * count[:, None] * means[:, :-1] ** 2
        spread = np.diagonal(products, axis1=1, axis2=2)[:, :-1]
        good &= (spread > rounding).all(axis=1)
        root = np.sqrt(np.where(spread > rounding, spread, 1.0))
        gram = products[:, :-1, :-1] / (root[:, :, None] * root[:, None, :])  # Z_i'Z_i, unit diagonal
        good &= np.linalg.eigvalsh(gram)[:, 0] > 1e-10
        rhs = products[good, :-1, -1] / root[good]
        b = np.linalg.solve(gram[good], rhs[:, :, None])[:, :, 0] / root[good]
        solution[np.ix_(good, slopes)] = b
    if ones:
        solution[good, ones[0]] = means[good, -1]
        if slopes:
            solution[good, ones[0]] -= (means[good, :-1] * b).sum(axis=1)
    return solution


def mean_by(x, y, limit=100):
    """Mean of y at each distinct x, or in ``limit`` bins of equal count when x has more values.

    Returns
    -------
    DataFrame with columns ``x`` (increasing) and ``y``
    """
    values, inverse = np.unique(x, return_inverse=True)
    if len(values) > limit:
        order = np.argsort(x, kind="stable")
        inverse = np.empty(len(x), dtype=np.int64)
        inverse[order] = np.arange(len(x)) * limit // len(x)
    count = np.bincount(inverse)
    return pd.DataFrame({"x": np.bincount(inverse, x) / count, "y": np.bincount(inverse, y) / count})


def sample_groups(table, split, limit, seed=0):
    """At most ``limit`` of the groups in ``table``, in equal shares from the values of column ``split``.

    Returns
    -------
    ndarray of group labels
    """
    first = table.drop_duplicates("group")
    if len(first) <= limit:
        return first["group"].to_numpy()
    parts = list(first.groupby(split, sort=True, observed=True)["group"])
    share, left = {}, limit
    for position, (value, labels) in enumerate(sorted(parts, key=lambda part: len(part[1]))):
        share[value] = min(len(labels), left // (len(parts) - position))
        left -= share[value]
    chosen = [labels.to_numpy()[thin(len(labels), share[value], seed)] for value, labels in parts]
    return np.concatenate(chosen)
