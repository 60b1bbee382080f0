"""Rows of a fit or of new data as the blocks that prediction variances are computed on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.data.factors import labels
from fastlmm_core.data.table import FACTOR, Table
from fastlmm_core.errors import DataError
from fastlmm_core.formula.pieces import Frame
from fastlmm_core.inference.prediction import RowBlock
from fastlmm_core.mme.blas_threads import blas_threads

NUMBERS = 4_000_000
"""Numbers a block of rows may hold."""


def equations(fit):
    """The fit's `SolvedModel`; DataError where only results are left."""
    if not hasattr(fit._solved, "products"):
        raise DataError(
            "this fit was copied or loaded without its mixed-model equations, which this needs: fit it again "
            "with lmer; standard errors of predict(newdata, re='none') are at hand"
        )
    return fit._solved


@dataclass(frozen=True, eq=False)
class RowSource:
    """Rows by columns: those of a fit's `Design`, or `NewRows`.

    ``codes`` has one (n,) array per factor, below 0 for levels without data, None for factors left
    out; ``missing`` marks rows without a prediction, or is None; ``weights`` None for all 1.
    """

    n: int
    atoms: tuple
    fixed: tuple
    terms: tuple
    codes: list
    offset: np.ndarray | None
    weights: np.ndarray | None
    missing: np.ndarray | None
    index: pd.Index

    def slices(self):
        """Consecutive slices of rows that fit in memory."""
        width = len(self.fixed) + sum(len(term.columns) for term in self.terms) + 8
        step = max(1, NUMBERS // width)
        return [slice(a, min(a + step, self.n)) for a in range(0, self.n, step)]

    def X(self, kept, rows=slice(None)) -> np.ndarray:
        """Kept columns of X in original units (m, r)."""
        columns = [self.fixed[j] for j in kept]
        return self._clean(dense_columns(self.atoms, columns, self.n, rows), rows)

    def Z(self, term, rows=slice(None)) -> np.ndarray:
        """Columns of one random term in original units (m, q)."""
        return self._clean(dense_columns(self.atoms, term.columns, self.n, rows), rows)

    def _clean(self, values, rows):
        if self.missing is not None:
            values[self.missing[rows]] = 0.0
        return values

    def block(self, solved, factors, rows=slice(None)) -> RowBlock:
        """x, z and codes in the coordinates of the engine; factors not in ``factors`` are left out.

        The products are tall and thin: waking BLAS threads for them takes longer than they do.
        """
        with blas_threads(1):
            return self._block(solved, factors, rows)

    def _block(self, solved, factors, rows) -> RowBlock:
        X = self.X(solved.fixed.kept, rows) @ solved.fixed.A
        codes, z = [], []
        for f, k in enumerate(solved.theta_map.k):
            known = f in factors and self.codes[f] is not None
            here = np.array(self.codes[f][rows]) if known else np.full(len(X), -1)
            terms = [term for term in self.terms if term.factor == f] if f in factors else []
            parts = [self.Z(term, rows) for term in terms]
            values = np.concatenate(parts, 1) @ solved._map(f) if parts else np.zeros((len(X), k))
            codes.append(here)
            z.append(values)
        return RowBlock(X, codes, z)


def fit_source(design, index) -> RowSource:
    """The rows of a fit."""
    return RowSource(
        design.n, design.atoms, design.fixed, design.terms, [f.codes for f in design.factors],
        design.offset, design.weights, None, index,
    )  # fmt: skip


def new_source(spec, rows, weights=None) -> RowSource:
    """Rows evaluated by a `DesignSpec`; rows that miss a value are marked."""
    missing = None
    for mask in (rows.missing, rows.missing_groups):
        if mask is not None:
            missing = mask if missing is None else missing | mask
    return RowSource(
        rows.n,
        rows.atoms,
        rows.fixed,
        rows.terms,
        list(rows.codes),
        rows.offset,
        weights,
        missing,
        rows.index,
    )


def new_weights(spec, table: Table) -> np.ndarray | None:
    """Prior weights of new rows where the fit named their column and the data have it, else None."""
    if spec.weights is None or spec.weights not in table:
        return None
    values = np.asarray(table.column(spec.weights).values, float)
    if not (values > 0).all():
        raise DataError(f"weights {spec.weights!r} of new rows must be positive")
    return values


def name_new_levels(spec, sources: list[RowSource], tables: list[Table], factors) -> None:
    """Give levels without data codes from -2 down, the same in all tables, by their labels.

    The lists ``codes`` of the sources are changed.
    """
    for f in factors:
        places = [np.flatnonzero(source.codes[f] < 0) for source in sources]
        keys = [level_keys(spec, spec.groups[f], table, at) for table, at in zip(tables, places)]
        ids = pd.factorize(np.concatenate(keys))[0] if any(len(k) for k in keys) else np.empty(0, int)
        start = 0
        for source, at in zip(sources, places):
            codes = np.array(source.codes[f])
            codes[at] = -2 - ids[start : start + len(at)]
            source.codes[f] = codes
            start += len(at)


def level_keys(spec, group, table: Table, rows) -> np.ndarray:
    """Text of a group's levels, (m,) object."""
    frame, texts = Frame(table, spec.text), []
    for part in group.parts:
        column = frame.factor(part)
        values = column.values[rows]
        if column.kind == FACTOR:
            texts.append(np.append(labels(column.levels), None)[values])
        else:
            texts.append(labels(pd.Index(values)))
    keys = np.empty(len(rows), object)
    keys[:] = list(zip(*texts))
    return keys
