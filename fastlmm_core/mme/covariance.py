"""theta <-> relative covariance of the random effects.

A model has *terms* ``(columns | factor)``, each with a full q x q relative
covariance ``T = L L'``; ``theta`` lists the column-major lower triangles of
the ``L``, term after term, in the units of the data.  The engines see one
block-diagonal ``T~_f`` per grouping factor in standardized coordinates, where
``Z~ = Z B`` for each term and so ``T = B T~ B'``.

Two rules keep singular covariances exact.  Factors are rotated (Gram-Schmidt on
rows), never squared and factored again, so a direction of rank that is lost is
lost to rounding, not to its square root.  And the triangular factor of a
singular T is made unique: a row that depends on those above it gets a zero
diagonal and a zero column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from fastlmm_core.mme.engine import Direction

FEW_NUMBERS = 16
"""Entries of a matrix up to which plain numbers are faster than arrays."""


@dataclass(frozen=True)
class TermBlock:
    """Where one term lives: rows ``start:start + q`` of the k x k matrices of its factor."""

    factor: int
    start: int
    q: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.q)


def lower_factor(M: np.ndarray, tol: float = 1e-11) -> np.ndarray:
    """Lower triangular ``L`` (q, q) with ``L L' = M M'`` and diagonal >= 0, for ``M`` (q, r).

    Gram-Schmidt on the rows of M, each orthogonalised twice.  A row whose new
    part is below ``tol`` times its length has a diagonal of exactly 0 and leaves
    its column 0.
    """
    q = len(M)
    if 0 < M.size <= FEW_NUMBERS:
        return np.array(_small_lower_factor(M.tolist(), tol))
    L = np.zeros((q, q))
    basis, rank = np.zeros((q, M.shape[1])), []
    for i in range(q):
        row = M[i].copy()
        length = np.sqrt(row @ row)
        for _ in range(2 if rank else 0):
            for j in rank:
                part = basis[j] @ row
                row -= part * basis[j]
                L[i, j] += part
        rest = np.sqrt(row @ row)
        if rest > tol * length:
            L[i, i] = rest
            basis[i] = row / rest
            rank.append(i)
    return L


def _small_lower_factor(rows: list[list[float]], tol: float) -> list[list[float]]:
    """`lower_factor` by numbers: on a few of them each call of NumPy takes longer than the arithmetic."""
    L = [[0.0] * len(rows) for _ in rows]
    basis: dict[int, list[float]] = {}
    for i, row in enumerate(rows):
        length = sqrt(sum(x * x for x in row))
        for _ in range(2 if basis else 0):
            for j, unit in basis.items():
                part = sum(x * u for x, u in zip(row, unit))
                row = [x - part * u for x, u in zip(row, unit)]
                L[i][j] += part
        rest = sqrt(sum(x * x for x in row))
        if rest > tol * length:
            L[i][i] = rest
            basis[i] = [x / rest for x in row]
    return L


class ThetaMap:
    """The map between ``theta`` and the engines' matrices.

    Parameters
    ----------
    blocks : terms in the order of ``theta`` (lme4: decreasing number of levels).
    k : columns of Z per grouping factor; the terms of a factor tile ``0:k[f]``.
    maps : per term the q x q matrix B, ``T = B T~ B'``; None for all identities.
    """

    def __init__(
        self, blocks: Sequence[TermBlock], k: Sequence[int], maps: Sequence[np.ndarray] | None = None
    ):
        self.blocks = tuple(blocks)
        self.k = tuple(k)
        self.maps = tuple(
            np.eye(b.q) if maps is None else np.asarray(maps[t], float) for t, b in enumerate(self.blocks)
        )
        self.inverse_maps = tuple(np.linalg.inv(B) for B in self.maps)
        # parameter -> (term, row, column) of L
        self.entries = tuple(
            (t, a, b)
            for t, block in enumerate(self.blocks)
            for b in range(block.q)
            for a in range(b, block.q)
        )

    @property
    def n_theta(self) -> int:
        return len(self.entries)

    @cached_property
    def lower(self) -> np.ndarray:
        """Lower bounds (n_theta,): 0 for diagonal entries of L, -inf for the others."""
        return np.array([0.0 if a == b else -np.inf for _, a, b in self.entries])

    def term_L(self, theta: np.ndarray) -> list[np.ndarray]:
        """Per term the lower triangular L (q, q) in original units."""
        theta = np.asarray(theta, float)
        if theta.shape != (self.n_theta,):
            raise ValueError(f"theta has shape {theta.shape}, this model has {self.n_theta} parameters")
        factors = [np.zeros((block.q, block.q)) for block in self.blocks]
        for value, (t, a, b) in zip(theta, self.entries, strict=True):
            factors[t][a, b] = value
        return factors

    def term_T(self, theta: np.ndarray) -> list[np.ndarray]:
        """Per term T = L L' (q, q), relative to sigma^2, in original units."""
        return [L @ L.T for L in self.term_L(theta)]

    def to_Lambda(self, theta: np.ndarray) -> list[np.ndarray]:
        """Per factor the lower triangular Lambda~ (k, k), T~ = Lambda~ Lambda~'."""
        Lambda = [np.zeros((k, k)) for k in self.k]
        for block, Binv, L in zip(self.blocks, self.inverse_maps, self.term_L(theta), strict=True):
            Lambda[block.factor][block.rows, block.rows] = lower_factor(Binv @ L)
        return Lambda

    def to_T(self, theta: np.ndarray) -> list[np.ndarray]:
        """Per factor T~ (k, k), block diagonal over its terms, standardized."""
        return [L @ L.T for L in self.to_Lambda(theta)]

    def theta_from_Lambda(self, Lambda: Sequence[np.ndarray]) -> np.ndarray:
        """theta (n_theta,) from any square roots Lambda~ (k, k) per factor, ``T~ = Lambda~ Lambda~'``.

        The rows of different terms of a factor must be orthogonal, as they are
        when Lambda~ is block diagonal.
        """
        factors = [
            lower_factor(B @ Lambda[block.factor][block.rows])
            for block, B in zip(self.blocks, self.maps, strict=True)
        ]
        return np.array([factors[t][a, b] for t, a, b in self.entries])

    def directions(self, theta: np.ndarray) -> list[Direction]:
        """``dT~ / dtheta_j``, one (factor, k x k) per parameter."""
        factors = [Binv @ L for Binv, L in zip(self.inverse_maps, self.term_L(theta), strict=True)]
        result = []
        for t, a, b in self.entries:
            # T~ = B^-1 L L' B^-T, so dT~ = (B^-1 e_a)(B^-1 L e_b)' + transpose
            half = self.inverse_maps[t][:, a, None] * factors[t][:, b]
            result.append(self._embed(t, half + half.T))
        return result

    def curvature(self, D: Sequence[np.ndarray]) -> np.ndarray:
        """``tr(D_f d2T~ / dtheta_j dtheta_k)``, (n_theta, n_theta), for symmetric D_f (k, k) per factor."""
        result = np.zeros((self.n_theta, self.n_theta))
        inner = [
            (2.0 * Binv.T @ D[block.factor][block.rows, block.rows] @ Binv).tolist()
            for block, Binv in zip(self.blocks, self.inverse_maps, strict=True)
        ]
        for j, (t, a, b) in enumerate(self.entries):
            for m, (s, c, d) in enumerate(self.entries):
                if s == t and b == d:  # E_j E_k' = e_a e_b'e_d e_c'
                    result[j, m] = inner[t][a][c]
        return result

    @cached_property
    def t_basis(self) -> list[Direction]:
        """Directions of the free entries of T~, term after term, column-major lower triangle."""
        result = []
        for t, a, b in self.entries:
            unit = np.zeros((self.blocks[t].q, self.blocks[t].q))
            unit[a, b] = unit[b, a] = 1.0
            result.append(self._embed(t, unit))
        return result

    def _embed(self, t: int, matrix: np.ndarray) -> Direction:
        block = self.blocks[t]
        if block.q == self.k[block.factor]:
            return block.factor, matrix
        full = np.zeros((self.k[block.factor], self.k[block.factor]))
        full[block.rows, block.rows] = matrix
        return block.factor, full
