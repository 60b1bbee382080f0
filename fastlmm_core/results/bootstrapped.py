"""What `LMMResults.bootstrap` returns."""

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.results.coefficients import choose


class Bootstrap:
    """Draws of a statistic over fits to simulated responses.

    Attributes
    ----------
    draws : DataFrame
        A row per replicate, a column per entry of the statistic; NaN where the fit failed, and
        correlations of an effect whose standard deviation is 0.
    estimate : Series
        The statistic of the fit itself.
    n_failed : int
        Replicates without a certified optimum; they count in no quantile.
    """

    def __init__(self, draws: pd.DataFrame, estimate: pd.Series, n_failed: int):
        self.draws, self.estimate, self.n_failed = draws, estimate, n_failed

    def conf_int(self, alpha: float = 0.05, kind: str = "percentile") -> pd.DataFrame:
        """Confidence limits, columns ``lower, upper``.

        Parameters
        ----------
        alpha : one minus the coverage.
        kind : ``"percentile"``: quantiles of the draws.  ``"basic"``: the estimate minus those of
            its error.  ``"normal"``: estimate minus bias, plus and minus normal quantiles times
            the standard deviation of the draws.  ``"shortest"``: the narrowest interval that holds
            ``ceil((1 - alpha) n)`` of the n draws, which reaches 0 where a variance often is.

        Notes
        -----
        Davison & Hinkley (1997), Bootstrap Methods and Their Application, sections 5.2 and 5.3.1; the last
        is ``shortestcovint`` of MixedModels.jl.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, found {alpha!r}")
        kinds = {"percentile": self._percentile, "basic": self._basic, "normal": self._normal}
        kinds["shortest"] = self._shortest
        lower, upper = choose(kind, kinds, "kind of interval")(alpha)
        return pd.DataFrame({"lower": lower, "upper": upper}, index=self.draws.columns)

    def _percentile(self, alpha):
        low, high = self.draws.quantile(alpha / 2), self.draws.quantile(1 - alpha / 2)
        return low.to_numpy(), high.to_numpy()

    def _basic(self, alpha):
        low, high = self._percentile(alpha)
        twice = 2.0 * self.estimate.to_numpy()
        return twice - high, twice - low

    def _normal(self, alpha):
        centre = 2.0 * self.estimate - self.draws.mean()
        reach = ndtri(1 - alpha / 2) * self.draws.std()
        return (centre - reach).to_numpy(), (centre + reach).to_numpy()

    def _shortest(self, alpha):
        limits = [shortest_interval(self.draws[name].to_numpy(), 1.0 - alpha) for name in self.draws]
        return np.array(limits).reshape(-1, 2).T

    def summary(self) -> pd.DataFrame:
        """Per entry: ``estimate``; ``mean``, ``bias``, ``std_error`` and number ``n`` of the draws."""
        mean = self.draws.mean()
        return pd.DataFrame(
            {
                "estimate": self.estimate,
                "mean": mean,
                "bias": mean - self.estimate,
                "std_error": self.draws.std(),
                "n": self.draws.notna().sum(),
            }
        )

    def __repr__(self) -> str:
        failed = f", {self.n_failed} failed" if self.n_failed else ", none failed"
        return f"<Bootstrap of {len(self.draws)} replicates{failed}>\n{self.summary().to_string()}"


def shortest_interval(draws: np.ndarray, coverage: float) -> tuple[float, float]:
    """The narrowest interval between two draws with ``ceil(coverage n)`` of them; the lowest of equals."""
    values = np.sort(draws[~np.isnan(draws)])
    held = int(np.ceil(coverage * len(values) - 1e-9))
    if not held:
        return np.nan, np.nan
    first = int(np.argmin(values[held - 1 :] - values[: len(values) - held + 1]))
    return values[first], values[first + held - 1]


def natural_names(keys, terms) -> list[str]:
    """Names of standard deviations and correlations, column-major: ``sd_x|g``, ``cor_x.Intercept|g``."""
    names = []
    for key, term in zip(keys, terms, strict=True):
        q = len(term.names)
        for b in range(q):
            names.append(f"sd_{term.names[b]}|{key}")
            names += [f"cor_{term.names[a]}.{term.names[b]}|{key}" for a in range(b + 1, q)]
    return names


def natural_values(covariances) -> list[float]:
    """Standard deviations and correlations of each term's covariance, in the order of `natural_names`."""
    values = []
    for cov in covariances:
        sd = np.sqrt(np.diag(cov))
        with np.errstate(divide="ignore", invalid="ignore"):
            cor = cov / np.outer(sd, sd)
        for b in range(len(sd)):
            values.append(sd[b])
            values += [cor[a, b] for a in range(b + 1, len(sd))]
    return values


def as_series(value) -> pd.Series:
    """A user's statistic: a number, an array, a dict or a Series."""
    if isinstance(value, pd.Series):
        return value.astype(float)
    if isinstance(value, dict):
        return pd.Series(value, dtype=float)
    flat = np.atleast_1d(np.asarray(value, float)).ravel()
    names = ["statistic"] if len(flat) == 1 else [f"statistic_{i + 1}" for i in range(len(flat))]
    return pd.Series(flat, index=names)
