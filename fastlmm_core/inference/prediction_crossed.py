"""The covariance of crossed random effects given the data, and the choice of structure.

The leaf, ``order[0]``, is eliminated: ``D_i = Lambda (I + Lambda'A_i Lambda)^-1 Lambda'`` with A_i its own
blocks, N its coupling to the other factors c, and

    K_cc = Lambda_c S^-1 Lambda_c',   S = I + Lambda_c'(A_cc - N'D N) Lambda_c.

For a row with z_i and z_c, ``z'K z = z_i'D z_i + a'K_cc a`` with ``a = z_c - N'D z_i``.  K_cc is one
dense matrix, or, where that is too large, products with it are solved for by conjugate gradients,
for as many rows as are affordable.
"""

import numpy as np
from scipy import sparse

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.inference.prediction_levels import (
    CHUNK,
    Codes,
    LevelCovariance,
    NestedCovariance,
    Rows,
    block_quadratic,
    shrunk,
)

DENSE_LIMIT = 8_000
"""Largest dense K_cc, in random effects."""

MOST_WORK = 2e11
"""Multiplications of conjugate gradients, at 50 steps each, beyond which rows are refused."""

TOLERANCE = 1e-12
MOST_STEPS = 2000


def level_covariance(products: CrossProducts, Lambda, columns) -> LevelCovariance:
    """K of one model at ``Lambda`` (per factor k x k); ``columns`` (r,) are X's positions in U."""
    if products.structure == "tree":
        return NestedCovariance(products, Lambda, columns)
    m = sum(products.levels[f] * len(products.z[f]) for f in products.order[1:])
    return (CrossedCovariance if m <= DENSE_LIMIT else SolvedCovariance)(products, Lambda, columns)


class CrossedCovariance(LevelCovariance):
    """Crossed factors with a dense K_cc."""

    def __init__(self, products: CrossProducts, Lambda, columns):
        super().__init__(products, Lambda)
        self.leaf, self.stacked = products.order[0], list(products.order[1:])
        self.offset = np.cumsum([0, *(self.levels[f] * self.k[f] for f in self.stacked)])
        own = [R[:, :, z] for R, z in zip(products.R, products.z, strict=True)]
        self._D = shrunk(own[self.leaf], self.Lambda[self.leaf])
        self._N = sparse.csr_array(sparse.hstack([_pair(products, self.leaf, g) for g in self.stacked]))
        self._DN = (_block_diagonal(self._D) @ self._N).tocsr()
        self._A = self._stacked_blocks(products, own)
        own_factors = [np.tile(self.Lambda[f], (self.levels[f], 1, 1)) for f in self.stacked]
        self._L = sparse.csr_array(sparse.block_diag([_block_diagonal(L) for L in own_factors]))
        self._prepare()
        self.TG = self.apply([R[:, :, columns] for R in products.R])

    def _stacked_blocks(self, products, own):
        blocks = [[None] * len(self.stacked) for _ in self.stacked]
        for a, f in enumerate(self.stacked):
            blocks[a][a] = _block_diagonal(own[f])
            for b in range(a + 1, len(self.stacked)):
                blocks[a][b] = _pair(products, f, self.stacked[b])
                blocks[b][a] = blocks[a][b].T
        return sparse.csr_array(sparse.bmat(blocks))

    def _prepare(self) -> None:
        L = self._L
        S = np.ascontiguousarray((L.T @ (self._A - self._N.T @ self._DN) @ L).todense())
        S[np.diag_indices(len(S))] += 1.0
        inverse = np.linalg.inv(S)
        self.Kcc = np.asarray(L @ (L @ (0.5 * (inverse + inverse.T))).T)

    def _times(self, B: np.ndarray) -> np.ndarray:
        """``K_cc B`` (m, c)."""
        return self.Kcc @ B

    def apply(self, rhs: Rows) -> Rows:
        columns = rhs[0].shape[2]
        r = rhs[self.leaf]
        c = np.concatenate([rhs[f].reshape(-1, columns) for f in self.stacked])
        x = self._times(c - self._DN.T @ r.reshape(-1, columns))
        out: Rows = [np.empty(0)] * len(self.k)
        out[self.leaf] = self._D @ r - (self._DN @ x).reshape(r.shape)
        for q, f in enumerate(self.stacked):
            out[f] = x[self.offset[q] : self.offset[q + 1]].reshape(self.levels[f], self.k[f], columns)
        return out

    def _reduced(self, codes: Codes, z: Rows):
        """``a = z_c - N'D z_i`` as sparse rows (n, m)."""
        a = -_design(codes[self.leaf], z[self.leaf], self.levels[self.leaf]) @ self._DN
        parts = [_design(codes[f], z[f], self.levels[f]) for f in self.stacked]
        return sparse.csr_array(a + sparse.csr_array(sparse.hstack(parts)))

    def quadratic(self, codes: Codes, z: Rows) -> np.ndarray:
        a, f = self._reduced(codes, z), self.leaf
        seen = codes[f] >= 0
        out = block_quadratic(self._D, np.where(seen, codes[f], 0), z[f] * seen[:, None])
        step = max(1, CHUNK // a.shape[1])
        for start in range(0, len(out), step):
            part = a[start : start + step]
            rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
            product = self._from_left(part)[rows, part.indices] * part.data
            out[start : start + step] += np.bincount(rows, product, part.shape[0])
        return out

    def _from_left(self, part) -> np.ndarray:
        """``a K_cc`` of sparse rows."""
        return part @ self.Kcc

    def cross(self, codes: Codes, z: Rows, other_codes: Codes, other_z: Rows) -> np.ndarray:
        a = self._reduced(codes, z)
        b = a if other_z is z else self._reduced(other_codes, other_z)
        f = self.leaf
        same = (codes[f][:, None] == other_codes[f][None, :]) & (codes[f] >= 0)[:, None]
        own = np.einsum("nk,nkl->nl", z[f], self._D[np.maximum(codes[f], 0)]) @ other_z[f].T
        return np.where(same, own, 0.0) + self._between(a, b)

    def _between(self, a, b) -> np.ndarray:
        """``a K_cc b'``; few rows meet few levels, and only those rows and columns are read."""
        used = np.unique(np.concatenate([a.indices, b.indices]))
        return a[:, used].toarray() @ (self.Kcc[np.ix_(used, used)] @ b[:, used].toarray().T)


class SolvedCovariance(CrossedCovariance):
    """Crossed factors whose K_cc is not formed.

    Preconditioned conjugate gradients (Hestenes & Stiefel 1952) on S, all columns at once, with its diagonal.
    """

    def _prepare(self) -> None:
        inner = self._A.diagonal() - (self._N.multiply(self._DN)).sum(0)
        squares = self._L.multiply(self._L).T.tocsr()
        self._diagonal = 1.0 + np.maximum(squares @ np.asarray(inner).ravel(), 0.0)

    def _S(self, B):
        LB = self._L @ B
        return B + self._L.T @ (self._A @ LB - self._DN.T @ (self._N @ LB))

    def _times(self, B: np.ndarray) -> np.ndarray:
        self._check_work(B.shape[1])
        step = max(1, CHUNK // len(B))
        return np.concatenate([self._solve(B[:, i : i + step]) for i in range(0, B.shape[1], step)], 1)

    def _check_work(self, columns: int) -> None:
        work = 50.0 * columns * (2.0 * self._N.nnz + self._A.nnz)
        if work > MOST_WORK:
            raise ModelError(
                f"errors of predicted random effects of crossed factors ({self.offset[-1]} effects beside "
                f"the largest factor, {self._N.nnz} pairs) take about {work:.0e} operations for {columns} "
                f"rows; the limit is {MOST_WORK:.0e}: ask for fewer rows, or for re='none'"
            )

    def _solve(self, B: np.ndarray) -> np.ndarray:
        """``Lambda_c S^-1 Lambda_c' B``."""
        residual = self._L.T @ B
        x, target = np.zeros_like(residual), TOLERANCE * np.linalg.norm(residual, axis=0)
        weighted = residual / self._diagonal[:, None]
        direction, size = weighted.copy(), np.einsum("mc,mc->c", residual, weighted)
        for _ in range(MOST_STEPS):
            if (np.linalg.norm(residual, axis=0) <= target).all():
                return self._L @ x
            image = self._S(direction)
            slope = np.einsum("mc,mc->c", direction, image)
            length = np.where(slope > 0, size / np.where(slope > 0, slope, 1.0), 0.0)
            x += length * direction
            residual -= length * image
            weighted = residual / self._diagonal[:, None]
            new = np.einsum("mc,mc->c", residual, weighted)
            direction = weighted + np.where(size > 0, new / np.where(size > 0, size, 1.0), 0.0) * direction
            size = new
        raise NumericalError(f"conjugate gradients did not converge in {MOST_STEPS} steps")

    def quadratic(self, codes: Codes, z: Rows) -> np.ndarray:
        self._check_work(len(codes[0]))
        return super().quadratic(codes, z)

    def _from_left(self, part) -> np.ndarray:
        return self._times(part.toarray().T).T

    def _between(self, a, b) -> np.ndarray:
        return a @ self._times(b.toarray().T)


def _block_diagonal(blocks):
    G, k, _ = blocks.shape
    return sparse.bsr_array((blocks, np.arange(G), np.arange(G + 1)), (G * k, G * k)).tocsr()


def _pair(products: CrossProducts, f: int, g: int):
    """``Z_f'W Z_g`` of two crossed factors, sparse."""
    shape = tuple(products.levels[h] * len(products.z[h]) for h in (f, g))
    if (f, g) in products.pairs:
        pair = products.pairs[f, g]
        return sparse.bsr_array((pair.blocks, pair.indices, pair.indptr), shape).tocsr()
    return _pair(products, g, f).T.tocsr()


def _design(codes, z, levels):
    """Rows of Z of one factor (n, levels k), sparse."""
    k = z.shape[1]
    rows = np.flatnonzero(codes >= 0)
    indptr = np.concatenate([[0], np.cumsum((codes >= 0) * k)])
    indices = (codes[rows].astype(np.int64)[:, None] * k + np.arange(k)).ravel()
    return sparse.csr_array((z[rows].ravel(), indices, indptr), (len(z), levels * k))
