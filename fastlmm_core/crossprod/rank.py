"""Aliased columns of X: later ones are dropped, as in R.

The pivots of the Cholesky factor of the correlation-scaled X~'WX~ are squared
relative residual norms of each column on the kept ones before it.  They carry
an error near 1e-16, so they resolve a residual norm down to about 1e-7 but not
below: pivots near that are confirmed on the rows.
"""

import numpy as np
from scipy.linalg.lapack import dtrtrs

from fastlmm_core.crossprod.layout import Layout, row_atoms
from fastlmm_core.crossprod.rows import column_program
from fastlmm_core.crossprod.standardize import Standardization
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.formula.terms import Design

CERTAIN = 1e-14  # below: aliased
DOUBTFUL = 1e-9  # below: confirm on the rows
TOLERANCE = 1e-7  # on the relative residual norm, R's lm and lme4
NEGLIGIBLE = 1e-10  # root mean square of a column scaled to size 1: a constant up to round-off
CHUNK_ROWS = 1 << 15


def check_rank(
    products: CrossProducts,
    standardization: Standardization,
    layout: Layout,
    design: Design | None,
) -> tuple[np.ndarray, list[str]]:
    """Columns of X to keep (ascending int64 indices) and the names of those dropped.

    ``standardization`` is not changed; pass ``kept`` to its methods.  Without rows
    (``design`` None) doubtful pivots count as they are.
    """
    p = len(layout.x)
    gram = products.C[layout.x[:, None], layout.x]
    size = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    total_weight = products.n if design is None or design.weights is None else float(np.sum(design.weights))
    empty = size <= NEGLIGIBLE * np.sqrt(total_weight)
    divisor = np.where(empty, 1.0, size)
    correlation = gram / divisor[:, None] / divisor
    L = np.zeros((p, p))
    kept: list[int] = []
    for j in range(p):
        if empty[j]:
            continue
        m = len(kept)
        row = dtrtrs(L[:m, :m], correlation[kept, j], lower=1)[0] if m else np.zeros(0)
        pivot = 1.0 - row @ row
        if pivot < CERTAIN:
            continue
        if pivot < DOUBTFUL:
            norm = np.sqrt(pivot)
            if design is not None:
                norm = _residual_norm(gram, layout, design, kept, j) / size[j]
            if norm < TOLERANCE:
                continue
            pivot = norm**2
        L[m, :m] = row
        L[m, m] = np.sqrt(pivot)
        kept.append(j)
    dropped = sorted(set(range(p)).difference(kept))
    return np.array(kept, np.int64), [layout.fixed_names[j] for j in dropped]


def _residual_norm(gram, layout, design, kept, j):
    """Weighted norm of column j less its projection on the kept columns, from the rows.

    The projection from the normal equations is refined twice by the gradient of the residual.
    """
    program = column_program(row_atoms(design), [layout.columns[i] for i in (*kept, j)], design.n)
    inner = gram[np.ix_(kept, kept)]
    coefficients = np.linalg.solve(inner, gram[kept, j])
    square = 0.0
    for _ in range(3):
        square, gradient = 0.0, np.zeros(len(kept))
        for lo in range(0, design.n, CHUNK_ROWS):
            hi = min(lo + CHUNK_ROWS, design.n)
            block = program.dense(lo, hi)
            residual = block[:, -1] - block[:, :-1] @ coefficients
            weighted = residual if design.weights is None else residual * design.weights[lo:hi]
            square += float(residual @ weighted)
            gradient += block[:, :-1].T @ weighted
        coefficients += np.linalg.solve(inner, gradient)
    return np.sqrt(square)
