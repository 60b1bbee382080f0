"""Columns of one matrix that stay nearly collinear although each is centred and scaled.

Beside an intercept ``x:u`` without x and u cannot be centred atom by atom, nor can x and u
in ``0 + x + u``; far from 0 they all look like a constant, and their cross-products lose the
digits that tell them apart.  Others are nearly the same variable, as a year and its square.
Such a column v_j is replaced by what it adds to the columns n_i before it,

    n_j = v_j - sum_i b_i n_i,

with b from least squares on a sample.  Any b leaves the column space as it is, so a rough one
does; but the difference must not be formed from numbers that cancel.  It is expanded in
products of centred atoms, with exact coefficients: ``u - (c_u / c_x) x = (u - c_u) - (c_u / c_x) (x - c_x)``.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import log2

import numpy as np
from scipy.linalg.lapack import dpotrf

from fastlmm_core.crossprod.rows import ScaledColumn

FAR = 10.0
"""Centre of an atom, in its standard deviations, that makes columns alike."""
ALIKE = 0.01
"""Norm of what a column adds to those before it, relative to its own, below which it is replaced."""
ALIASED = 1e-7
"""The same relative to the products it is a sum of: the column is left as it is, to be dropped (`rank`)."""
NEGLIGIBLE = 1e-3
"""Of what is left of a column: parts of other columns in it that need not be taken out."""
ROUNDING = 1e-12
MOST_COLUMNS = 200

Polynomial = dict[tuple[tuple[int, float], ...], Fraction]
"""Coefficients of products of ``x_a - c``, by their pairs (a, c)."""


def rotate(columns: Sequence[ScaledColumn], B: np.ndarray, sizes, values):
    """Replace columns that are alike.

    Parameters
    ----------
    columns : of one matrix, centred and scaled where that was possible.
    B : (p, p) with ``matrix @ B`` these columns.
    sizes : ``is_numeric(a)``, ``center(a)`` and ``scale(a, True)`` of atom a.
    values : a -> values of atom a in a sample of rows.

    Returns
    -------
    columns, B, and the indices of the columns that are new
    """
    numbers = [column for column in columns if any(map(sizes.is_numeric, column.atoms))]
    far = any(_is_far(column, sizes) for column in numbers)
    if not 1 < len(columns) <= MOST_COLUMNS or not (far or len(numbers) > 1):
        return tuple(columns), B, []
    sample = {a: np.asarray(values(a), float) for a in {a for column in columns for a in column.atoms}}
    with np.errstate(all="ignore"):
        if not far and not _are_alike(numbers, sample):
            return tuple(columns), B, []
        return _rotated(columns, B, sizes, sample)


def _are_alike(columns, sample) -> bool:
    """Whether one adds little to the others, by pivots of their Gram matrix."""
    V = np.ones((len(columns), len(sample[columns[0].atoms[0]])))
    for v, column in zip(V, columns, strict=True):
        for a, center in zip(column.atoms, column.centers, strict=True):
            v *= sample[a] - center
        v *= column.multiplier
    gram = V @ V.T
    root = np.sqrt(gram.diagonal())
    factor, info = dpotrf(gram / root / root[:, None], lower=1)
    return info != 0 or not factor.diagonal().min() > ALIKE


def _rotated(columns, B, sizes, sample):
    rows = len(next(iter(sample.values())))
    found, exact = list(columns), np.array([[Fraction(entry) for entry in row] for row in B.tolist()])
    V, basis = np.zeros((rows, len(columns))), np.zeros((rows, 0))
    polynomials: list[Polynomial] = []
    new = []
    for j, column in enumerate(columns):
        polynomials.append(_expand(column, sizes))
        V[:, j] = _evaluate(polynomials[j], sample, rows)
        size, rest = np.linalg.norm(V[:, j]), _rest(V[:, j], basis)
        if not np.isfinite(size):
            return tuple(columns), B, []
        if np.linalg.norm(rest) < ALIKE * size:
            b, polynomial, v = _difference(j, V, polynomials, sample)
            size, rest = np.linalg.norm(v), _rest(v, basis)
            if not _least(polynomial, sample, rows, sizes) < size < np.inf:
                continue  # it adds nothing: how columns are dropped is seen to later
            unit = 2.0 ** round(log2(size / np.sqrt(rows)))
            polynomials[j] = {key: c / Fraction(unit) for key, c in polynomial.items()}
            V[:, j] = v / unit
            for i in np.flatnonzero(b):
                exact[:, j] -= Fraction(float(b[i])) * exact[:, i]
            exact[:, j] /= Fraction(unit)
            found[j] = _column(polynomials[j])
            new.append(j)
        basis = np.column_stack([basis, rest / max(np.linalg.norm(rest), 1e-300)])
    return tuple(found), exact.astype(float), new


def _least(polynomial: Polynomial, sample, rows, sizes) -> float:
    """Norm below which a sum of products is rounding, of its own or of the numbers in it."""
    own = numbers = 0.0
    for key, c in polynomial.items():
        norm = float(np.linalg.norm(_evaluate({key: c}, sample, rows)))
        own += norm
        numbers += norm * any(sizes.is_numeric(a) for a, _ in key)
    return max(ROUNDING * own, ALIASED * numbers)


def _is_far(column: ScaledColumn, sizes) -> bool:
    """Whether an atom that is far from 0 enters as it is."""
    return any(
        center == 0.0 and sizes.is_numeric(a) and abs(sizes.center(a)) > FAR * sizes.scale(a, True)
        for a, center in zip(column.atoms, column.centers, strict=True)
    )


def _rest(v, basis):
    """Residual of v on orthonormal columns; twice is enough."""
    for _ in range(2):
        v = v - basis @ (basis.T @ v)
    return v


def _difference(j, V, polynomials, sample):
    """b (j,), and ``v_j - sum_i b_i n_i`` as a polynomial and on the sample."""
    b, v, polynomial = np.zeros(j), V[:, j], polynomials[j]
    norms = np.maximum(np.linalg.norm(V[:, :j], axis=0), 1e-300)
    for _ in range(2):  # the first residual is rounded where nearly everything cancels
        more = np.linalg.lstsq(V[:, :j] / norms, v, rcond=1e-10)[0]
        rest = np.linalg.norm(v - V[:, :j] @ (more / norms))
        b = b + np.where(np.abs(more) > NEGLIGIBLE * rest, more / norms, 0.0)
        polynomial = dict(polynomials[j])
        for i in np.flatnonzero(b):
            for key, c in polynomials[i].items():
                polynomial[key] = polynomial.get(key, Fraction(0)) - Fraction(float(b[i])) * c
        polynomial = {key: c for key, c in polynomial.items() if c}
        v = _evaluate(polynomial, sample, len(v))
    return b, polynomial, v


def _expand(column: ScaledColumn, sizes) -> Polynomial:
    """The column in atoms centred wherever they are far from 0."""
    total: Polynomial = {(): Fraction(column.multiplier)}
    for a, center in zip(column.atoms, column.centers, strict=True):
        about = center
        if center == 0.0 and sizes.is_numeric(a) and abs(sizes.center(a)) > FAR * sizes.scale(a, True):
            about = sizes.center(a)
        longer: Polynomial = {}
        for key, c in total.items():
            with_atom = tuple(sorted((*key, (a, about))))
            longer[with_atom] = longer.get(with_atom, Fraction(0)) + c
            if about != center:  # x - center = (x - about) + (about - center)
                longer[key] = longer.get(key, Fraction(0)) + c * (Fraction(about) - Fraction(center))
        total = longer
    return total


def _evaluate(polynomial: Polynomial, sample, rows) -> np.ndarray:
    total = np.zeros(rows)
    for key, c in polynomial.items():
        product = np.full(rows, float(c))
        for a, center in key:
            product *= sample[a] - center
        total += product
    return total


def _column(polynomial: Polynomial) -> ScaledColumn:
    """The polynomial for the kernels, its products in a fixed order."""
    first, *more = (
        ScaledColumn(tuple(a for a, _ in key), tuple(center for _, center in key), float(c))
        for key, c in sorted(polynomial.items(), key=lambda entry: (-len(entry[0]), entry[0]))
    )
    return ScaledColumn(first.atoms, first.centers, first.multiplier, tuple(more))
