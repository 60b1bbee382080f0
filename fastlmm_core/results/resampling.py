"""What a fit can tell by fitting again: tests of random terms, refits, simulation, bootstrap, profiles."""

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError
from fastlmm_core.inference.lrt import mixture_upper, naive_p
from fastlmm_core.inference.ranova import INTERCEPT, deletions, formula_terms, reducible, smaller_criterion
from fastlmm_core.inference.solved import SolvedModel


def solved_model(fit, what: str) -> SolvedModel:
    """The statistics and engine of a fit, which one read from a file lacks."""
    if not isinstance(fit._solved, SolvedModel):
        raise DataError(
            f"{what} needs the statistics of the model, which a fit read from a file does not have: "
            f"fit {fit.formula!r} anew"
        )
    return fit._solved


class Resampling:
    """Methods of `LMMResults` that fit the model again."""

    def ranova(self) -> pd.DataFrame:
        """Test each random term by leaving it out, or a slope out of it.

        Returns
        -------
        DataFrame
            Row ``<none>`` for the model itself, then one per deletion: ``x in (x | g)``
            reduces the term to ``(1 | g)``, ``(1 | g)`` leaves it out.  A term without
            an intercept goes as a whole, and so does a piece of formula with all its
            columns; one that is part of an interaction stays.  Columns ``npar, llf, aic,
            LRT, df, p, p_mixture``.

        Raises
        ------
        DataError : the fit was read from a file.

        Notes
        -----
        As ``ranova`` of R's lmerTest (Kuznetsova, Brockhoff & Christensen 2017,
        doi:10.18637/jss.v082.i13) with ``reduce.terms = TRUE``: likelihoods are restricted if
        the fit is by REML, and ``p`` is from a chi-square on ``df``.  ``p_mixture`` is from the
        50:50 mixture of chi-squares on ``df - 1`` and ``df`` where one variance goes (Stram & Lee
        1994, doi:10.2307/2533455), NaN where several do.  The smaller models are fitted from
        the same statistics; without random effects the likelihood is that of least squares.
        """
        solved, facts = solved_model(self, "ranova"), self._facts
        full = solved.estimates.objective
        rows = {"<none>": (self.df_modelwc, self.llf, self.aic, np.nan, np.nan, np.nan, np.nan)}
        for t, term in enumerate(facts.terms):
            text = _term_text(term.names, facts.factors[term.factor])
            for piece, keep in deletions(term.names):
                if not reducible(solved.theta_map.maps[t], keep):
                    continue
                criterion = smaller_criterion(solved, t, keep)
                q, r = len(term.names), len(keep)
                df = (q * (q + 1) - r * (r + 1)) // 2
                npar, x = self.df_modelwc - df, max(0.0, criterion - full)
                mixture = mixture_upper(x, df) if q - r == 1 else np.nan
                label = f"({text})" if piece is None else f"{piece} in ({text})"
                while label in rows:
                    label += " "
                aic = criterion + 2.0 * npar
                rows[label] = (npar, -0.5 * criterion, aic, x, df, naive_p(x, df), mixture)
        columns = ["npar", "llf", "aic", "LRT", "df", "p", "p_mixture"]
        return pd.DataFrame(list(rows.values()), index=list(rows), columns=columns)


def _term_text(names, group: str) -> str:
    """``Days | Subject`` from the columns of a term."""
    pieces = [piece for piece in formula_terms(names) if piece != INTERCEPT]
    left = " + ".join(pieces) if pieces else "1"
    return f"{left} | {group}" if INTERCEPT in names else f"0 + {left} | {group}"
