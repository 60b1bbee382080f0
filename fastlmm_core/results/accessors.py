"""What every fit answers in the same way: counts, names, information criteria and its rows."""

from math import log

import numpy as np
import pandas as pd


class Accessors:
    """Accessors over ``_facts``, ``_estimates`` and ``_rows``; a fit adds ``llf`` and ``df_modelwc``."""

    llf: float
    df_modelwc: int

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self._estimates.sigma2

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self._estimates.n

    @property
    def n_dropped(self) -> int:
        """Rows left out: missing values, weights of 0."""
        return self._facts.rows.dropped

    @property
    def formula(self) -> str:
        """As it was written."""
        return self._facts.formula

    @property
    def response_name(self) -> str:
        """Left-hand side of the formula."""
        return self._facts.response

    @property
    def aic(self) -> float:
        """``-2 llf + 2 df_modelwc``."""
        return -2.0 * self.llf + 2.0 * self.df_modelwc

    @property
    def bic(self) -> float:
        """``-2 llf + log(nobs) df_modelwc``."""
        return -2.0 * self.llf + log(self.nobs) * self.df_modelwc

    @property
    def weights(self) -> pd.Series:
        """Prior weights by the rows used, 1 where the fit has none."""
        rows = self._rows
        given = rows.design.weights
        return rows.series(np.ones(self.nobs) if given is None else np.array(given, float), "weights")

    def design(self, part: str = "fixed", newdata=None):
        """The matrix of the fixed or of the random effects.

        Parameters
        ----------
        part : ``"fixed"``: X; ``"random"`` (mixed models): Z.
        newdata : table, optional
            Other rows, with the levels, codings and transforms of the fit; by default the rows used.

        Returns
        -------
        DataFrame rows x coefficients, aliased ones too; Z as a ``scipy.sparse.csr_array`` with a column per
        random effect: group by group, within it level by level, within a level the columns of `ranef`, so
        that ``Z @ np.concatenate([b.to_numpy().ravel() for b in fit.ranef().values()])`` is ``Z b``.
        Rows of ``newdata`` that miss a value are NaN in X and empty in Z.

        Raises
        ------
        DataError : the fit has no rows and none are given, or (Z) levels that the fit did not see.
        """
        from fastlmm_core.results.matrices import design_matrix

        return design_matrix(self, part, newdata)

    @property
    def fittedvalues(self) -> pd.Series:
        """``X beta`` (plus ``Z b`` and offset) by the rows used, in units of the response."""
        return self._rows.series(self._rows.fitted, "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response minus `fittedvalues`."""
        return self._rows.series(self._rows.residuals, "resid")

    @property
    def resid_scaled(self) -> pd.Series:
        """``sqrt(weight) * resid / sigma``."""
        return self._rows.series(self._rows.scaled_residuals, "resid_scaled")
