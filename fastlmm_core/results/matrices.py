"""The matrices of a model, X and Z, for its own rows or others."""

import numpy as np
import pandas as pd
from scipy import sparse

from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.data.table import Table
from fastlmm_core.results.coefficients import choose
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.predict import refuse_unknown
from fastlmm_core.results.rowblocks import RowSource, fit_source, new_source


def design_matrix(fit, part: str, newdata):
    """X as a DataFrame (n, p), or Z as a sparse array (n, q); see `LMMResults.design`."""
    mixed = hasattr(fit._facts, "factors")
    parts = {"fixed": False, "random": True} if mixed else {"fixed": False}
    random = choose(part, parts, "part of the design")
    source = _source(fit, newdata, random)
    if random:
        return _random(fit, source)
    X = dense_columns(source.atoms, source.fixed, source.n)
    if source.missing is not None:
        X[source.missing] = np.nan
    return pd.DataFrame(X, index=source.index, columns=list(fit._names))


def _source(fit, newdata, random: bool) -> RowSource:
    if newdata is None:
        rows = fit._rows
        if not isinstance(rows, FitRows):
            return rows.design  # says why there are none
        return fit_source(rows.design, rows.labels)
    rows = fit._spec.evaluate(Table(newdata), random=random, offset=False)
    if rows.unknown:
        refuse_unknown(rows.unknown, "the matrix has columns for known levels only")
    return new_source(fit._spec, rows)


def _random(fit, source: RowSource) -> sparse.csr_array:
    """Z by group, within it by level, within that by column; rows that miss a value are empty."""
    blocks = []
    for f, levels in enumerate(fit._facts.levels):
        values = [source.Z(term) for term in source.terms if term.factor == f]
        Z, codes = np.concatenate(values, 1), np.asarray(source.codes[f])
        k, rows = Z.shape[1], np.flatnonzero(codes >= 0)
        indptr = np.concatenate([[0], np.cumsum((codes >= 0) * k)])
        columns = (codes[rows].astype(np.int64)[:, None] * k + np.arange(k)).ravel()
        blocks.append(sparse.csr_array((Z[rows].ravel(), columns, indptr), (len(Z), len(levels) * k)))
    return sparse.csr_array(sparse.hstack(blocks))
