"""Correlation of residuals with those of earlier rows of their group."""

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.errors import DataError
from fastlmm_core.results.coefficients import whole_number
from fastlmm_core.results.robust import cluster_codes


def autocorrelation(fit, by, order, max_lag, kind: str, level: float) -> pd.DataFrame:
    """See `LMMResults.acf`."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, found {level!r}")
    if max_lag is not None:
        max_lag = whole_number(max_lag, "max_lag")
    residual = fit.residuals(kind).to_numpy()
    codes = cluster_codes(fit, _innermost(fit) if by is None else by)
    at = np.lexsort((_positions(fit, order), codes))
    codes, r = codes[at], residual[at]
    longest = int(np.bincount(codes).max()) - 1
    if max_lag is None:
        max_lag = min(longest, max(1, int(10 * np.log10(len(r)))))
    variance = float(r @ r) / len(r)
    rows = [(0, 1.0, len(r), np.nan)]
    for lag in range(1, min(int(max_lag), longest) + 1):
        same = codes[lag:] == codes[:-lag]
        count = int(same.sum())
        value = float(r[lag:][same] @ r[:-lag][same]) / count / variance
        rows.append((lag, value, count, ndtri(0.5 + level / 2.0) / count**0.5))
    return pd.DataFrame(rows, columns=["lag", "acf", "n", "limit"]).set_index("lag")


def _innermost(fit) -> str:
    """The factor with the most levels."""
    return max(fit.ngroups, key=fit.ngroups.get)


def _positions(fit, order) -> np.ndarray:
    """Places of the rows in time: a column of the data, values by row, or their order."""
    if order is None:
        return np.arange(fit.nobs)
    if isinstance(order, str):
        frame = fit._frame
        if order not in frame:
            raise DataError(f"no column {order!r} to order rows by")
        order = frame[order]
    values = np.asarray(order)
    if values.shape != (fit.nobs,):
        raise DataError(f"order has shape {values.shape}; the fit used {fit.nobs} rows")
    if pd.isna(values).any():
        raise DataError("order misses values on rows of the fit")
    return pd.factorize(values, sort=True)[0]
