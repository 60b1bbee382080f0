"""What needs the rows: design columns evaluated block by block, never stored whole.

`ScaledColumn` is the form every kernel reads: ``multiplier * prod(x_a - center_a)``, or a
sum of such products.
The functions that take `Column` objects work in original units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from fastlmm_core._kernels._rows import ColumnProgram, residual_summary
from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.formula.terms import Atom, Column

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class ScaledColumn:
    """``multiplier * prod(atom - center)``, plus ``more``; equal records are equal columns.

    ``centers`` has one entry per atom and is 0 where nothing is subtracted.
    """

    atoms: tuple[int, ...] = ()
    centers: tuple[float, ...] = ()
    multiplier: float = 1.0
    more: tuple["ScaledColumn", ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether this is the constant 1."""
        return not self.atoms and self.multiplier == 1.0 and not self.more


def column_program(atoms: Sequence[Atom], columns: Sequence[ScaledColumn], n: int) -> ColumnProgram:
    """Compile columns for the kernels; only the atoms that occur are touched."""
    products = [product for column in columns for product in (column, *column.more)]
    used = sorted({a for product in products for a in product.atoms})
    place = {a: i for i, a in enumerate(used)}
    tables = [
        None if atoms[a].table is None else np.ascontiguousarray(atoms[a].table, np.float64) for a in used
    ]
    return ColumnProgram(
        n,
        [atoms[a].values for a in used],
        tables,
        [*accumulate((len(product.atoms) for product in products), initial=0)],
        [place[a] for product in products for a in product.atoms],
        [c for product in products for c in product.centers],
        [product.multiplier for product in products],
        [*accumulate((1 + len(column.more) for column in columns), initial=0)]
        if len(products) > len(columns)
        else None,
    )


def raw_columns(columns: Sequence[Column]) -> list[ScaledColumn]:
    """Columns in original units."""
    return [ScaledColumn(column.atoms, (0.0,) * len(column.atoms)) for column in columns]


def dense_columns(
    atoms: Sequence[Atom], columns: Sequence[Column], n: int, rows: np.ndarray | slice | None = None
) -> np.ndarray:
    """Columns as a (m, p) float64 array, Fortran order.

    Parameters
    ----------
    rows : slice with step 1, (m,) integer array, or None for all rows
    """
    program = column_program(atoms, raw_columns(columns), n)
    if rows is None:
        return program.dense(0, n)
    if isinstance(rows, slice):
        lo, hi, step = rows.indices(n)
        if step == 1:
            return program.dense(lo, max(lo, hi))
        rows = np.arange(lo, hi, step)
    return program.dense_rows(np.ascontiguousarray(rows, np.int64))


def linear_predictor(
    atoms: Sequence[Atom],
    columns: Sequence[Column],
    beta: np.ndarray,
    n: int,
    lo: int = 0,
    hi: int | None = None,
    out: np.ndarray | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """``X beta`` over rows ``lo .. hi`` in original units, without forming X.

    ``out`` (hi - lo,) float64 is overwritten when given.  Columns whose
    coefficient is exactly 0 are skipped; NaN coefficients must be replaced by the caller.
    """
    beta = np.asarray(beta, np.float64)
    if beta.shape != (len(columns),):
        raise ValueError(f"{beta.shape} coefficients for {len(columns)} columns")
    hi = n if hi is None else hi
    used = np.flatnonzero(beta)
    if out is None:
        out = np.zeros(hi - lo)
    else:
        out[:] = 0.0
    program = column_program(atoms, raw_columns([columns[j] for j in used]), n)
    program.add_fixed(beta[used], lo, hi, out, resolve_threads(n_threads))
    return out


def add_random_effects(
    out: np.ndarray,
    codes: np.ndarray,
    atoms: Sequence[Atom],
    columns: Sequence[Column],
    b: np.ndarray,
    n_threads: int | None = None,
) -> np.ndarray:
    """``out[r] += z_r' b[codes[r]]`` in original units, in place; returns ``out``.

    Parameters
    ----------
    out : (n,) float64
    codes : (n,) int32
        A negative code contributes nothing.
    b : (levels, q) float64
    """
    program = column_program(atoms, raw_columns(columns), len(out))
    codes = np.ascontiguousarray(codes, np.int32)
    program.add_random(codes, np.ascontiguousarray(b, np.float64), out, resolve_threads(n_threads))
    return out


@dataclass(frozen=True, eq=False)
class PredictorPart:
    """One summand of a linear predictor, in original units.

    ``coefficients`` are (levels, q) with ``codes`` (n,) int32, below 0 for nothing to add; or (1, q) for all
    rows, and ``codes`` None.
    """

    atoms: Sequence[Atom]
    columns: Sequence[Column]
    codes: np.ndarray | None
    coefficients: np.ndarray

    def compiled(self, n: int) -> tuple:
        """For the kernel."""
        program = column_program(self.atoms, raw_columns(self.columns), n)
        return program, self.codes, np.ascontiguousarray(self.coefficients, np.float64)


def quantiles_and_moments(
    y: np.ndarray,
    eta: np.ndarray | Sequence[PredictorPart],
    sigma: float,
    weights: np.ndarray | None = None,
    probs: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    n_threads: int | None = None,
) -> tuple[np.ndarray, float, float]:
    """Exact type-7 quantiles (R's default), sum and sum of squares of ``sqrt(w) (y - eta) / sigma``.

    ``eta`` is the linear predictor (n,), or the parts it is the sum of.  The residuals are not stored:
    three passes over the rows and a few megabytes.  Raises ValueError when a residual is not finite.
    """
    y = np.ascontiguousarray(y, np.float64)
    stored = np.ascontiguousarray(eta, np.float64) if isinstance(eta, np.ndarray) else None
    parts = [] if stored is not None else [part.compiled(len(y)) for part in eta if part.columns]
    if weights is not None:
        weights = np.ascontiguousarray(weights, np.float64)
    at = np.asarray(probs, np.float64) * (len(y) - 1)
    below = np.floor(at + 4 * EPS).astype(np.int64)
    above = np.minimum(below + 1, len(y) - 1)
    ranks = np.concatenate([below, above])
    order, total, square = residual_summary(
        y, stored, parts, weights, float(sigma), ranks, resolve_threads(n_threads)
    )
    fraction = np.maximum(at - below, 0.0)
    low, high = order[: len(at)], order[len(at) :]
    return low + fraction * (high - low), total, square
