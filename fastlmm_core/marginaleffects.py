"""Fits as models of the marginaleffects package: predictions, comparisons, slopes and hypothesis tests.

Needs marginaleffects 0.6 or newer (``pip install marginaleffects``), and the polars that it works with: 0.6.0
stops with an error of its own at polars 2.
"""

import numpy as np

import fastlmm_core as flm
from fastlmm_core.crossprod.rows import linear_predictor
from fastlmm_core.stream.columns import text_columns

try:
    import polars as pl
    from marginaleffects.classes import ModelAbstract, ModelVault
except ImportError as error:
    raise flm.errors.MissingDependencyError(
        "fastlmm_core.marginaleffects needs marginaleffects 0.6 or newer: pip install marginaleffects"
    ) from error

__all__ = ["FittedModel"]


class FittedModel(ModelAbstract):
    """A fit as marginaleffects takes it: ``avg_slopes(FittedModel(fit), variables="x")``.

    Parameters
    ----------
    fit : LMMResults or LMResults
        With its rows: not loaded from a file, and not made of statistics or of data read in batches.
    df : float, optional
        Degrees of freedom of all tests and intervals.  By default those of the residuals of a linear model,
        and infinity (normal tests) of a mixed model: marginaleffects has one number for all estimates,
        while Satterthwaite's differ; `LMMResults.contrast` and `LMMResults.emmeans` give each its own.

    Notes
    -----
    Predictions are those of the population: fixed effects and offsets, random effects 0.  ``vcov`` of the
    functions of marginaleffects is True, False, a matrix, or a kind of ``fit.cov_params``:
    ``"kenward-roger"``, ``"CR0"`` to ``"CR3"``.  Coefficients are those that were not dropped.
    Standard errors of slopes are of differences of differences and keep three digits; as predictions are
    linear in the coefficients, ``eps_vcov=1.0`` makes them exact.

    Raises
    ------
    DataError : the fit has no rows.
    """

    def __init__(self, fit, df: float | None = None):
        mixed = isinstance(fit, flm.LMMResults)
        self.df_resid = float(df if df is not None else np.inf if mixed else fit.df_resid)
        self._kept = np.asarray(fit._kept)
        frame = fit._rows.frame
        spec = fit._spec
        names = [name for p in spec.pieces if _in_fixed(spec, p)
                 for name in text_columns(p.piece.text, p.piece.is_column, list(frame.columns))]  # fmt: skip
        names += [name for text in spec.offsets for name in text_columns(text, False, list(frame.columns))]
        predictors = list(dict.fromkeys(names))
        vault = ModelVault(
            coef=fit.params.to_numpy()[self._kept],
            coefnames=np.array([fit.params.index[j] for j in self._kept]),
            formula=lambda rows: (None, rows),  # columns are built in get_predict
            modeldata=_polars(frame),
            package="fastlmm_core",
            vcov=fit.cov_params().to_numpy()[np.ix_(self._kept, self._kept)],
            variable_names=[fit.response_name, *predictors],
        )
        super().__init__(fit, vault)

    def get_vcov(self, vcov=True):
        """The covariance of the coefficients of this kind, None for False."""
        if vcov is False or vcov is None:
            return None
        kind = "model" if vcov is True else vcov
        return self.model.cov_params(kind).to_numpy()[np.ix_(self._kept, self._kept)]

    def get_exog(self, newdata):
        """Rows as they are: columns are built in `get_predict`."""
        return newdata

    def get_predict(self, params, newdata):
        """``offset + X params`` of the rows: a frame of ``rowid`` and ``estimate``."""
        rows = self.model._spec.evaluate(newdata, random=False)
        beta = np.zeros(len(rows.fixed))
        beta[self._kept] = np.asarray(params, float).ravel()
        values = linear_predictor(rows.atoms, rows.fixed, beta, rows.n)
        if rows.offset is not None:
            values = values + rows.offset
        if rows.missing is not None:
            values[rows.missing] = np.nan
        return pl.DataFrame({"rowid": np.arange(rows.n, dtype=np.int32), "estimate": values})


def _in_fixed(spec, piece) -> bool:
    used = {spec.atoms[atom].piece for column in spec.fixed for atom in column.atoms}
    return any(spec.pieces[place] is piece for place in used)


def _polars(frame):
    """The rows as polars; text as Enum, in the order of its categories."""
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if hasattr(column, "cat"):
            levels = [str(level) for level in column.cat.categories]
            columns[str(name)] = pl.Series(column.astype(str).to_numpy(object)).cast(pl.Enum(levels))
        elif column.dtype.kind in "OUT" or str(column.dtype).startswith("str"):
            texts = [None if value is None or value != value else str(value) for value in column.tolist()]
            columns[str(name)] = pl.Series(texts, dtype=pl.Enum(sorted({t for t in texts if t is not None})))
        else:
            columns[str(name)] = pl.Series(column.to_numpy())
    return pl.DataFrame(columns)
