"""Hypotheses of types I, II and III about the terms of the fixed part.

As lmerTest 3.1 (Kuznetsova, Brockhoff & Christensen 2017, doi:10.18637/jss.v082.i13) and SAS:

* type I: term by term in the order of the formula.  With ``X'X = L D L'`` (Doolittle), the rows of
  L' that belong to a term.
* type II: a term after all terms that do not contain it: the same with those first.
* type III: the estimable functions of a term that are orthogonal to those of the terms
  containing it (Goodnight 1980), whatever the coding of the factors.

A term is contained in another that has all its variables and more, and the same numeric ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from fastlmm_core.data.table import FACTOR
from fastlmm_core.formula.spec import DesignSpec
from fastlmm_core.formula.terms import Atom, Column
from fastlmm_core.inference.cells import RANK_TOLERANCE, Rows, triangle

TYPES = {"1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}


def type_number(type) -> int:
    """1, 2 or 3 from a number or a numeral."""
    found = TYPES.get(str(type).upper())
    if found is None:
        hint = "; fits are compared by flm.anova(fit1, fit2)" if hasattr(type, "params") else ""
        raise ValueError(f"type is 1, 2 or 3 (or 'I', 'II', 'III'), found {type!r}{hint}")
    return found


@dataclass(frozen=True, eq=False)
class TermTable:
    """Terms of the fixed part but the intercept: names, pieces, and columns among those kept."""

    names: tuple[str, ...]
    pieces: tuple[tuple[int, ...], ...]
    columns: tuple[np.ndarray, ...]
    containing: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, spec: DesignSpec, kept: np.ndarray) -> "TermTable":
        place = {int(j): i for i, j in enumerate(kept)}
        terms = [term for term in spec.fixed_terms if term.pieces]
        columns = [np.array([place[j] for j in t.columns if j in place], np.int64) for t in terms]
        pieces = tuple(tuple(t.pieces) for t in terms)
        return cls(tuple(t.name for t in terms), pieces, tuple(columns), _containing(spec, pieces))


def _containing(spec: DesignSpec, terms) -> tuple[tuple[int, ...], ...]:
    """Per term the terms that contain it.

    As in lmerTest, a variable whose margin is not in the model (``b`` of ``a:b`` without ``a``) does
    not count, and a piece of several columns (``poly``) is no numeric variable.
    """
    known = {frozenset(term) for term in terms}
    parts = [len({a.part for a in spec.atoms if a.piece == j}) for j in range(len(spec.pieces))]
    numeric = {j for j, piece in enumerate(spec.pieces) if piece.kind != FACTOR and parts[j] == 1}
    counted = [{j for j in term if len(term) == 1 or frozenset(term) - {j} in known} for term in terms]
    return tuple(
        tuple(b for b, theirs in enumerate(counted) if mine < theirs and mine & numeric == theirs & numeric)
        for mine in counted
    )


def term_hypotheses(
    type: int,
    spec: DesignSpec,
    kept: np.ndarray,
    triangle: Callable[[], np.ndarray],
    rows: Callable[[], Rows],
) -> list[tuple[str, np.ndarray]]:
    """List of (term, L): L (c, r) over the columns that are kept.

    Parameters
    ----------
    triangle : calling it gives R with ``R'R = X'WX`` of the kept columns, for types I and II
    rows : calling it gives representative rows, for type III
    """
    terms = TermTable.of(spec, kept)
    if type == 3 and len(terms.names) > 1:
        return list(zip(terms.names, _type_three(spec, terms, rows())))
    if type == 2 and len(terms.names) > 1 and not any(terms.containing):
        return list(zip(terms.names, [np.eye(len(kept))[c] for c in terms.columns]))
    R = triangle()
    if type == 2 and len(terms.names) > 1:
        return list(zip(terms.names, [_type_two(R, terms, t) for t in range(len(terms.names))]))
    U = doolittle(R)
    return [(name, U[columns]) for name, columns in zip(terms.names, terms.columns)]


def weighted_triangle(design, kept: np.ndarray, weights=None) -> np.ndarray:
    """R with ``R'R = X'WX`` of the kept columns, from the rows."""
    columns, atoms = [design.fixed[j] for j in kept], design.atoms
    if weights is not None:
        atoms = (*atoms, Atom("weights", np.sqrt(weights)))
        columns = [Column(c.name, (*c.atoms, len(atoms) - 1)) for c in columns]
    return triangle(atoms, columns, design.n)


def gram_triangle(gram: np.ndarray, A: np.ndarray) -> np.ndarray:
    """R with ``R'R = X'X`` from the cross-products of ``X A``."""
    return np.linalg.qr(np.linalg.cholesky(gram).T @ np.linalg.inv(A), mode="r")


def doolittle(R: np.ndarray) -> np.ndarray:
    """L' of ``X'X = L D L'`` from R: rows scaled to a unit diagonal."""
    return R / np.diag(R)[:, None]


def _type_two(R: np.ndarray, terms: TermTable, t: int) -> np.ndarray:
    own, last = terms.columns[t], [terms.columns[c] for c in terms.containing[t]]
    if not last:
        return np.eye(len(R))[own]
    tail = np.concatenate([own, *last])
    order = np.concatenate([np.setdiff1d(np.arange(len(R)), tail), tail])
    U = doolittle(np.linalg.qr(R[:, order], mode="r"))
    first = len(R) - len(tail)
    L = np.zeros((len(own), len(R)))
    L[:, order] = U[first : first + len(own)]
    return L


@dataclass(frozen=True, eq=False)
class FullColumns:
    """The overparametrised design: a column per level, or per combination of levels, of every term.

    ``term`` (q,) is -1 for the intercept; ``references`` (q,) counts first levels in a column.
    """

    X: np.ndarray
    term: np.ndarray
    references: np.ndarray


def full_columns(spec: DesignSpec, terms: TermTable, rows: Rows) -> FullColumns:
    """Evaluated on representative rows, beside the columns of X that are kept (first)."""
    atoms, place = list(rows.atoms), {}

    def atom(key, make):
        if key not in place:
            place[key] = len(atoms)
            atoms.append(make())
        return place[key]

    def options(t, piece):
        if spec.pieces[piece].kind == FACTOR:
            levels = len(spec.pieces[piece].levels)
            return [
                (
                    atom((piece, level), lambda level=level: _indicator(rows.codes[piece], levels, level)),
                    level == 0,
                )
                for level in range(levels)
            ]
        parts = sorted({part for place_, part in rows.numbers if place_ == piece})
        return [
            (atom((piece, part), lambda part=part: Atom("", rows.numbers[piece, part])), False)
            for part in parts
        ]

    columns = [rows.fixed[j] for j in rows.kept]
    term, references = [], []
    if any(not column.atoms for column in rows.fixed):
        columns.append(Column("Intercept"))
        term.append(-1)
        references.append(0)
    for t, pieces in enumerate(terms.pieces):
        for chosen in product(*(options(t, piece) for piece in reversed(pieces))):
            columns.append(Column("", tuple(a for a, _ in chosen)))
            term.append(t)
            references.append(sum(first for _, first in chosen))
    return FullColumns(rows.matrix(atoms, columns), np.array(term), np.array(references))


def _indicator(codes, levels: int, level: int) -> Atom:
    table = np.zeros(levels)
    table[level] = 1.0
    return Atom("", codes, table)


def _type_three(spec: DesignSpec, terms: TermTable, rows: Rows) -> list[np.ndarray]:
    full, r = full_columns(spec, terms, rows), len(rows.kept)
    X, D = full.X[:, :r], full.X[:, r:]
    chosen = _treatment_columns(D, full)
    basis = D[:, chosen]
    scale = np.linalg.norm(basis, axis=0)
    solved = np.linalg.lstsq(basis / scale, np.column_stack([D, X]), rcond=None)[0] / scale[:, None]
    L = _zap(solved[:, : D.shape[1]].T)
    to_X = _zap(solved[:, D.shape[1] :])
    term = full.term[chosen]
    order = sorted(range(len(terms.names)), key=lambda t: -len(terms.pieces[t]))
    for t in order:
        over = np.isin(term, terms.containing[t])
        if over.any():
            own = term == t
            fitted = np.linalg.lstsq(L[:, over], L[:, own], rcond=1e-7)[0]
            L[:, own] = _zap(L[:, own] - L[:, over] @ fitted)
    L = L[chosen]
    result = []
    for t in range(len(terms.names)):
        rows_t = L[:, term == t].T
        result.append(rows_t[np.abs(rows_t).sum(axis=1) > 1e-8] @ to_X)
    return result


def _treatment_columns(D: np.ndarray, full: FullColumns) -> np.ndarray:
    """Columns of treatment coding: in each term those without first levels, then what is missing."""
    order = np.lexsort((np.arange(len(full.term)), full.references, full.term))
    chosen, Q = [], np.zeros((len(D), 0))
    for j in order:
        column = D[:, j]
        size = np.linalg.norm(column)
        if size == 0:
            continue
        rest = column / size
        for _ in range(2):
            rest = rest - Q @ (Q.T @ rest)
        left = np.linalg.norm(rest)
        if left > RANK_TOLERANCE**0.75:
            chosen.append(j)
            Q = np.column_stack([Q, rest / left])
    return np.sort(np.array(chosen))


def _zap(values: np.ndarray) -> np.ndarray:
    """Rounding errors to zero."""
    return np.where(np.abs(values) < 1e-9 * np.abs(values).max(initial=0.0), 0.0, values)
