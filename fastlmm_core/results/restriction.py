"""The restrictions ``L beta = 0`` that turn the fixed part of one fit into that of another."""

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.errors import DataError, ModelError
from fastlmm_core.inference.anova import weighted_triangle
from fastlmm_core.results.fitrows import BLOCK, FitRows

SPAN = 1e-6
"""A column of the smaller model is in the larger one's span if what is left of it is below this share."""


def restrictions(larger, smaller) -> pd.DataFrame:
    """L (c, p) with coefficients as columns: zero for those ``beta`` whose ``X beta`` the smaller model has.

    Raises
    ------
    ModelError : the fixed part of ``smaller`` is not within that of ``larger``, or the same.
    DataError : other rows.
    """
    if larger.nobs != smaller.nobs or larger.response_name != smaller.response_name:
        raise DataError(
            f"the fits are of other data: {larger.nobs} rows of {larger.response_name} and {smaller.nobs} of "
            f"{smaller.response_name}"
        )
    names, wanted = [[fit._names[j] for j in fit._kept] for fit in (larger, smaller)]
    if isinstance(larger._rows, FitRows) and isinstance(smaller._rows, FitRows):
        M = combinations(larger, smaller)
    elif set(wanted) <= set(names):
        M = np.eye(len(names))[:, [names.index(name) for name in wanted]]
    else:
        raise ModelError("fits without rows are compared by the names of their columns, which differ")
    if len(wanted) >= len(names):
        raise ModelError("the fixed part of the smaller model is no smaller: there is nothing to test")
    gone = [j for j, name in enumerate(names) if name not in wanted]
    if len(gone) == len(names) - len(wanted) and np.abs(M[gone]).max(initial=0.0) < SPAN:
        L, labels = np.eye(len(names))[gone], [names[j] for j in gone]
    else:
        scale = np.sqrt(np.diag(larger._vcov))
        Q = np.linalg.qr(M / scale[:, None], mode="complete")[0]
        L = Q[:, len(wanted) :].T / scale
        labels = [f"restriction {i + 1}" for i in range(len(L))]
    full = np.zeros((len(L), len(larger._names)))
    full[:, larger._kept] = L
    return pd.DataFrame(full, index=labels, columns=list(larger._names))


def combinations(larger, smaller) -> np.ndarray:
    """M (r, r0) with ``X0 = X1 M``, by the rows; ModelError where there is none."""
    one, two = larger._rows.design, smaller._rows.design
    ours, theirs = [one.fixed[j] for j in larger._kept], [two.fixed[j] for j in smaller._kept]
    blocks = [slice(lo, min(lo + BLOCK, one.n)) for lo in range(0, one.n, BLOCK)]
    R, H = weighted_triangle(one, larger._kept), np.zeros((len(ours), len(theirs)))
    for rows in blocks:
        X1 = dense_columns(one.atoms, ours, one.n, rows)
        H += np.linalg.solve(R.T, X1.T @ dense_columns(two.atoms, theirs, two.n, rows))
    M = np.linalg.solve(R, H)
    left, size = np.zeros(len(theirs)), np.zeros(len(theirs))
    for rows in blocks:
        X0 = dense_columns(two.atoms, theirs, two.n, rows)
        left += ((X0 - dense_columns(one.atoms, ours, one.n, rows) @ M) ** 2).sum(0)
        size += (X0**2).sum(0)
    outside = np.flatnonzero(left > SPAN**2 * size)
    if len(outside):
        raise ModelError(
            f"{theirs[outside[0]].name!r} of the smaller model is no combination of columns of the larger "
            "one: it is not in their span"
        )
    return M
