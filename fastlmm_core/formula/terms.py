"""What a design is made of: small frozen records, no linear algebra.

A design column is a product of *atoms*.  An atom is one evaluated piece of the
formula over the rows: a numeric array, or integer codes with a table of
contrast values.  One-hot and interaction columns are never formed in memory;
the row kernels multiply the atoms when they read a row.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Atom:
    """One evaluated factor of a design column.

    ``values`` is ``(n,)``: C-contiguous float64, float32, int64, int32, int16,
    int8, uint8 or bool when ``table`` is None; int8, int16 or int32 codes
    in ``[0, len(table))`` otherwise, and the atom's value is ``table[codes]``.
    """

    name: str
    values: np.ndarray
    table: np.ndarray | None = None


@dataclass(frozen=True)
class Column:
    """A product of atoms; no atoms is the constant 1.  Indices refer to `Design.atoms`."""

    name: str
    atoms: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class GroupingFactor:
    """Integer codes ``(n,)`` int32 in ``[0, len(levels))``; every level occurs."""

    name: str
    codes: np.ndarray
    levels: pd.Index


@dataclass(frozen=True)
class RandomTerm:
    """``(columns | factor)`` with a full q x q covariance.

    ``factor`` indexes `Design.factors`.  ``||`` has been expanded to several
    terms before this point, so every term's covariance is full.
    """

    factor: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, eq=False)
class Design:
    """A model's data, ready for the one pass over the rows.

    All row arrays have length ``n`` = rows used.  ``terms`` are in lme4's
    order (decreasing number of levels).  ``ones`` holds coefficients ``a`` with
    ``X a = 1`` when the constant is in the span of the fixed columns, else None.
    ``response`` already has the offset subtracted.
    """

    n: int
    atoms: tuple[Atom, ...]
    fixed: tuple[Column, ...]
    ones: np.ndarray | None
    terms: tuple[RandomTerm, ...]
    factors: tuple[GroupingFactor, ...]
    response: np.ndarray
    response_name: str
    offset: np.ndarray | None
    weights: np.ndarray | None
