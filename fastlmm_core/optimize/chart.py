"""Local coordinates on the positive semidefinite matrices of fixed rank.

Each term's ``T = M M'`` with ``M`` (q, r) of full column rank.  M is known only
up to a rotation, which is used up by making M lower trapezoidal after a
permutation of its rows, largest pivot first (Cholesky with pivoting).  The free
entries ``x`` of that trapezoid, q r - r (r - 1) / 2 of them, are coordinates of
the manifold of rank r without redundancy, wherever the pivots are not small;
and a direction of T that vanishes is always the last column.  With a fixed
order of columns a vanishing first variance would leave a flat manifold.

With ``E_j`` the unit matrix of entry j = (a, b) of M,

    dT/dx_j = E_j M' + M E_j',   d2T/dx_j dx_k = E_j E_k' + E_k E_j'.

Terms of one grouping factor stand side by side in one block matrix M_f (k, R).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg.lapack import dgeqp3, dgeqrf

from fastlmm_core.mme.covariance import TermBlock, ThetaMap


@dataclass(frozen=True, eq=False)
class TermLayout:
    """Where a term of rank r lives: columns of its M_f, positions in x."""

    rank: int
    column: int
    pivots: np.ndarray  # positions in x of the r pivots
    last: np.ndarray  # positions in x of the entries of the last column


@dataclass(frozen=True, eq=False)
class Layout:
    """Index arrays shared by all charts of the same ranks and pivot orders."""

    size: int
    terms: tuple[TermLayout, ...]
    triangular: tuple[bool, ...]  # per factor: M_f is lower triangular as it is
    widths: tuple[int, ...]
    parts: tuple[slice, ...]  # per factor: its positions in x
    rows: tuple[np.ndarray, ...]
    cols: tuple[np.ndarray, ...]
    same: tuple[np.ndarray, ...]  # 2 where two entries share a column, else 0
    units: tuple[np.ndarray, ...]  # rows of the identity, (m_f, k)


@lru_cache(maxsize=256)
def layout(k: tuple[int, ...], blocks: tuple[TermBlock, ...], orders: tuple[tuple[int, ...], ...]) -> Layout:
    """``orders[t]`` is the row permutation of term t followed by its rank."""
    terms: list[TermLayout | None] = [None] * len(blocks)
    parts, rows, cols, widths, triangular, position = [], [], [], [], [], 0
    for f in range(len(k)):
        first, width, r_list, c_list, plain = position, 0, [], [], True
        for t, block in enumerate(blocks):
            if block.factor != f:
                continue
            *perm, rank = orders[t]
            plain = plain and rank == block.q and perm == sorted(perm)
            where = {}
            for b in range(rank):
                for i in range(b, block.q):
                    where[i, b] = position
                    r_list.append(block.start + perm[i])
                    c_list.append(width + b)
                    position += 1
            terms[t] = TermLayout(
                rank,
                width,
                np.array([where[b, b] for b in range(rank)], int),
                np.array([where[i, rank - 1] for i in range(rank - 1, block.q)] if rank else [], int),
            )
            width += rank
        row, col = np.array(r_list, int), np.array(c_list, int)
        rows.append(row)
        cols.append(col)
        widths.append(width)
        triangular.append(plain)
        parts.append(slice(first, position))
    return Layout(
        position,
        tuple(terms),
        tuple(triangular),
        tuple(widths),
        tuple(parts),
        tuple(rows),
        tuple(cols),
        tuple(2.0 * (c[:, None] == c[None, :]) for c in cols),
        tuple(np.eye(kf)[r] for kf, r in zip(k, rows)),
    )


class Chart:
    """Coordinates around per-term factors ``M_t`` (q, r); columns of zeros must have been removed."""

    def __init__(self, theta_map: ThetaMap, factors: list[np.ndarray]):
        self.map = theta_map
        orders, turned = [], []
        for M in factors:
            M, perm = pivot(M)
            turned.append(M)
            orders.append((*perm, M.shape[1]))
        self.layout = layout(theta_map.k, theta_map.blocks, tuple(orders))
        self.M = [np.zeros((k, w)) for k, w in zip(theta_map.k, self.layout.widths)]
        for block, term, M in zip(theta_map.blocks, self.layout.terms, turned):
            self.M[block.factor][block.rows, term.column : term.column + term.rank] = M
        self.x = np.concatenate([M[r, c] for M, r, c in zip(self.M, self.layout.rows, self.layout.cols)])

    def moved(self, x: np.ndarray) -> list[np.ndarray]:
        """M_f (k, R) per factor at other coordinates of this chart."""
        result = []
        for M, part, r, c in zip(self.M, self.layout.parts, self.layout.rows, self.layout.cols):
            there = np.zeros_like(M)
            there[r, c] = x[part]
            result.append(there)
        return result

    def terms(self, M: list[np.ndarray], drop=(), extra=None) -> list[np.ndarray]:
        """Split M_f into per-term factors (q, r); last columns of terms in ``drop`` removed,
        columns ``extra[t]`` (q,) appended."""
        result = []
        for t, (block, term) in enumerate(zip(self.map.blocks, self.layout.terms)):
            rank = term.rank - (t in drop)
            part = M[block.factor][block.rows, term.column : term.column + rank]
            if extra and t in extra:
                part = np.column_stack([part, extra[t]])
            result.append(part)
        return result

    def Lambda(self, M: list[np.ndarray]) -> list[np.ndarray]:
        """Lower triangular square roots (k, k) of ``M_f M_f'`` in this chart."""
        return [Mf if plain else triangular(Mf) for Mf, plain in zip(M, self.layout.triangular)]

    def gradient(self, D: list[np.ndarray]) -> np.ndarray:
        """``tr(D dT/dx_j) = 2 (D M)[a, b]``."""
        return np.concatenate(
            [2.0 * (Df @ M)[r, c] for Df, M, r, c in zip(D, self.M, self.layout.rows, self.layout.cols)]
        )

    def directions(self) -> list[np.ndarray]:
        """Per factor dT/dx_j, (m_f, k, k)."""
        result = []
        for M, c, units in zip(self.M, self.layout.cols, self.layout.units):
            half = units[:, :, None] * M.T[c][:, None, :]
            result.append(half + half.transpose(0, 2, 1))
        return result

    def add_curvature(self, H: np.ndarray, D: list[np.ndarray]) -> None:
        """Add ``tr(D d2T/dx_j dx_k)`` to H in place."""
        for Df, part, r, same in zip(D, self.layout.parts, self.layout.rows, self.layout.same):
            H[part, part] += Df[r[:, None], r] * same

    def lost(self, D: list[np.ndarray]) -> list[tuple[int, float, np.ndarray]]:
        """For terms without full rank: (term, smallest eigenvalue of D on null(M'), its vector (q,)).

        On the boundary of the cone a minimum needs that eigenvalue >= 0
        (Karush-Kuhn-Tucker).
        """
        result = []
        for t, (block, term) in enumerate(zip(self.map.blocks, self.layout.terms)):
            if term.rank == block.q:
                continue
            M = self.M[block.factor][block.rows, term.column : term.column + term.rank]
            null = np.linalg.qr(M, mode="complete")[0][:, term.rank :] if term.rank else np.eye(block.q)
            values, vectors = np.linalg.eigh(null.T @ D[block.factor][block.rows, block.rows] @ null)
            result.append((t, float(values[0]), null @ vectors[:, 0]))
        return result


@lru_cache(maxsize=256)
def upper(rows: int, columns: int) -> np.ndarray:
    """Ones on and above the diagonal."""
    return np.triu(np.ones((rows, columns)))


def pivot(M: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Rotate M (q, r) to a lower trapezoid in permuted rows, pivots positive and largest first.

    QR with column pivoting of M': ``M[perm] = R' Q'``.
    """
    q, r = M.shape
    if q == 1 or r == 0:
        return np.abs(M), tuple(range(q))
    packed, order, *_ = dgeqp3(M.T)
    R = packed[:r] * upper(r, q)
    R *= np.copysign(1.0, R.diagonal())[:, None]
    perm = order - 1
    turned = np.empty_like(M)
    turned[perm] = R.T
    return turned, tuple(perm.tolist())


def triangular(M: np.ndarray) -> np.ndarray:
    """A lower triangular L (k, k) with ``L L' = M M'`` for M (k, R), R <= k."""
    k, width = M.shape
    L = np.zeros((k, k))
    if width:
        L[:, :width] = (dgeqrf(M.T)[0][:width] * upper(width, k)).T
    return L
