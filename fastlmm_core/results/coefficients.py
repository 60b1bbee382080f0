"""The fixed-effects table, shared by mixed and plain linear models."""

import numpy as np
import pandas as pd

from fastlmm_core.inference.distributions import t_quantile, t_two_sided


class FixedEffects:
    """Accessors over ``_names``, ``_beta`` (p,), ``_kept`` (r,), ``_vcov`` (r, r) and ``_df`` (r,).

    Aliased columns are NaN in every table.  Tables are made anew at each call,
    so changing one does not change the fit.
    """

    _names: tuple[str, ...]
    _beta: np.ndarray
    _kept: np.ndarray
    _vcov: np.ndarray
    _df: np.ndarray

    def __setattr__(self, name, value):
        raise AttributeError(f"a fit is immutable: cannot set {name!r}")

    def _full(self, kept_values: np.ndarray) -> np.ndarray:
        values = np.full(len(self._names), np.nan)
        values[self._kept] = kept_values
        return values

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        return pd.Series(values, index=list(self._names), name=name)

    @property
    def _se(self) -> np.ndarray:
        return self._full(np.sqrt(np.diag(self._vcov)))

    @property
    def _t(self) -> np.ndarray:
        return self._beta / self._se

    @property
    def params(self) -> pd.Series:
        """Fixed effects (p,) in units of the response per unit of the column; NaN if aliased."""
        return self._series(self._beta.copy(), "params")

    @property
    def bse(self) -> pd.Series:
        """Standard errors of `params`."""
        return self._series(self._se, "bse")

    @property
    def tvalues(self) -> pd.Series:
        """``params / bse``."""
        return self._series(self._t, "tvalues")

    @property
    def df(self) -> pd.Series:
        """Denominator degrees of freedom of each coefficient's t test."""
        return self._series(self._full(self._df), "df")

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p values of t with `df` degrees of freedom."""
        return self._series(t_two_sided(self._t, self._full(self._df)), "pvalues")

    def _cov_frame(self, vcov: np.ndarray) -> pd.DataFrame:
        names = list(self._names)
        full = np.full((len(names), len(names)), np.nan)
        full[np.ix_(self._kept, self._kept)] = vcov
        return pd.DataFrame(full, index=names, columns=names)

    def _interval_frame(self, alpha: float, se: np.ndarray, df: np.ndarray) -> pd.DataFrame:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, found {alpha!r}")
        reach = t_quantile(1.0 - alpha / 2.0, df) * se
        return pd.DataFrame(
            {"lower": self._beta - reach, "upper": self._beta + reach}, index=list(self._names)
        )

    def _coefficient_values(self) -> np.ndarray:
        """Estimates, standard errors, df, t, p as (p, 5)."""
        se, df = self._se, self._full(self._df)
        t = self._beta / se
        return np.column_stack([self._beta, se, df, t, t_two_sided(t, df)])


def whole_number(value, name: str) -> int:
    """A number of draws, lags, ...: ValueError unless it is 1 or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name} is a positive whole number, found {value!r}")
    return int(value)


def choose(value: str, available: dict, what: str):
    """Look up an option by name, or say what there is."""
    try:
        return available[value]
    except (KeyError, TypeError):
        raise ValueError(f"no {what} {value!r}; available: {', '.join(map(repr, available))}") from None
