"""The covariance of the random effects given the data, block by block and between levels.

With fixed effects known, ``Var(b | y) = sigma^2 K``, ``K = T - T Z'V0^-1 Z T =
Lambda (I + Lambda'Z'WZ Lambda)^-1 Lambda'``: also for a singular T, where Henderson's
``(Z'WZ + T^-1)^-1`` does not exist.  Engines give its diagonal blocks; predictions
for rows also need the blocks between levels of different factors.  They follow from
the cross-products alone (coordinates of the engine throughout):

* one factor: K is block diagonal,
* nested factors: K between a level and its ancestors, outermost first
  (Takahashi's recursion on blocks),
* crossed factors: K of all factors but the eliminated one, see `prediction_crossed`.

Codes are (n,) int per factor, -1 where a row has no level; ``z`` is (n, k) per factor
and 0 where a factor is left out.
"""

import numpy as np
from scipy import sparse

from fastlmm_core.crossprod.statistics import CrossProducts

Codes = list[np.ndarray]
Rows = list[np.ndarray]

CHUNK = 4_000_000
"""Numbers held at once by work over rows."""


def shrunk(A: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
    """``Lambda (I + Lambda'A_i Lambda)^-1 Lambda'`` for A (levels, k, k)."""
    k = len(Lambda)
    if k == 1:
        t = Lambda[0, 0] ** 2
        return t / (1.0 + t * A)
    inner = Lambda.T @ A @ Lambda
    inner[:, np.arange(k), np.arange(k)] += 1.0
    return Lambda @ np.linalg.solve(inner, np.broadcast_to(Lambda.T, A.shape))


class LevelCovariance:
    """What the structures share.

    ``TG`` per factor (levels, k, r): ``T Z'V0^-1 X = K Z'WX``, the regression of the
    random effects on the fixed ones, so that ``Cov(beta^, b^ - b) = -sigma^2 Q (TG)'``.
    """

    def __init__(self, products: CrossProducts, Lambda):
        self.Lambda = [np.asarray(L, float) for L in Lambda]
        self.T = [L @ L.T for L in self.Lambda]
        self.k = [len(L) for L in Lambda]
        self.levels = list(products.levels)
        self.TG: list[np.ndarray] = []

    def apply(self, rhs: Rows) -> Rows:
        """``K r`` for r per factor (levels, k, m)."""
        raise AttributeError("a structure defines apply")

    def quadratic(self, codes: Codes, z: Rows) -> np.ndarray:
        """``z'K z`` per row (n,)."""
        raise AttributeError("a structure defines quadratic")

    @property
    def nbytes(self) -> int:
        """Memory of its arrays, roughly."""
        arrays = [x for value in vars(self).values() for x in (value if isinstance(value, list) else [value])]
        return sum(int(getattr(x, "nbytes", 0)) for x in arrays)

    def logdets(self) -> dict[int, np.ndarray]:
        """Per factor (levels,), the logarithms that add up to ``log|I + Lambda'Z'WZ Lambda|``."""
        raise AttributeError("only nested factors split into independent clusters")

    def spread(self, codes: Codes, z: Rows) -> Rows:
        """The rows' z as columns over all levels: per factor (levels, k, n)."""
        n = len(codes[0])
        out = []
        for f, (G, k) in enumerate(zip(self.levels, self.k)):
            full = np.zeros((G, k, n))
            rows = np.flatnonzero(codes[f] >= 0)
            full[codes[f][rows], :, rows] = z[f][rows]
            out.append(full)
        return out

    def cross(self, codes: Codes, z: Rows, other_codes: Codes, other_z: Rows) -> np.ndarray:
        """``z_a'K z_b`` (n_a, n_b) for every pair of rows."""
        size = sum(G * k for G, k in zip(self.levels, self.k))
        n, step = len(other_codes[0]), max(1, CHUNK // size)
        out = np.empty((len(codes[0]), n))
        for start in range(0, n, step):
            part = slice(start, start + step)
            Kz = self.apply(self.spread([c[part] for c in other_codes], [v[part] for v in other_z]))
            out[:, part] = sum(_gathered(c, v, x) for c, v, x in zip(codes, z, Kz))
        return out


def _gathered(codes, z, values):
    """``z_r' values[codes_r]`` (n, m); 0 where there is no level."""
    seen = codes >= 0
    return np.einsum("nk,nkm->nm", z * seen[:, None], values[np.where(seen, codes, 0)])


class NestedCovariance(LevelCovariance):
    """One factor, or a chain of nested ones.

    Level i of depth d, its descendants eliminated, has ``A_i``, the coupling ``N_i`` to
    its ancestors a, and ``H_i = Lambda (I + Lambda'A_i Lambda)^-1 Lambda'``.  Given its
    ancestors its covariance is H_i and its regression on them ``-H_i N_i``, so

        K_ia = -H_i N_i K_aa,   K_ii = H_i + H_i N_i K_aa N_i'H_i.

    ``joint[d]`` (nodes, K, K) holds the covariance of a level with all its ancestors.
    """

    def __init__(self, products: CrossProducts, Lambda, columns):
        super().__init__(products, Lambda)
        self.order, self.parent = list(products.order), [np.asarray(p) for p in products.parent]
        depth = len(self.order)
        widths = [self.k[f] for f in self.order]
        self.offset = np.cumsum([0, *widths])
        records = []
        for d, f in enumerate(self.order):
            at = np.concatenate([*(products.z[g] for g in self.order[d:]), columns]).astype(np.intp)
            records.append(np.array(products.R[f][:, :, at]))
        self._H, self._N, rest_x, self._A = [], [], [], []
        for d, f in enumerate(self.order):
            k, above = widths[d], int(self.offset[-1] - self.offset[d + 1])
            H = shrunk(records[d][:, :, :k], self.Lambda[f])
            rest = records[d][:, :, k:]
            self._H.append(H)
            self._A.append(records[d][:, :, :k])
            self._N.append(rest[:, :, :above])
            rest_x.append(rest[:, :, above:])
            at = np.arange(self.levels[f])
            for outer in range(d + 1, depth):
                at = self.parent[outer - 1][at]
                first = int(self.offset[outer] - self.offset[d + 1])
                part = rest[:, :, first : first + widths[outer]]
                _subtract_by(records[outer], at, part.transpose(0, 2, 1) @ (H @ rest[:, :, first:]))
        self._build_joint()
        self.TG = self._downwards(rest_x)

    def logdets(self) -> dict[int, np.ndarray]:
        out = {}
        for f, A in zip(self.order, self._A):
            L = self.Lambda[f]
            out[f] = np.linalg.slogdet(np.eye(len(L)) + L.T @ A @ L)[1]
        return out

    def cross(self, codes: Codes, z: Rows, other_codes: Codes, other_z: Rows) -> np.ndarray:
        """Rows of one level of the innermost factor need its joint block only."""
        inner = self.order[0]
        at = codes[inner][0] if len(codes[inner]) and len(other_codes[inner]) else -1
        if at < 0 or (codes[inner] != at).any() or (other_codes[inner] != at).any():
            return super().cross(codes, z, other_codes, other_z)
        above = at
        for d, f in enumerate(self.order[1:]):
            above = self.parent[d][above]
            if (codes[f] != above).any() or (other_codes[f] != above).any():
                return super().cross(codes, z, other_codes, other_z)
        left, right = (np.concatenate([v[f] for f in self.order], 1) for v in (z, other_z))
        return left @ self.joint[0][at] @ right.T

    def _build_joint(self):
        self.joint = [None] * len(self.order)
        for d in range(len(self.order) - 1, -1, -1):
            H = self._H[d]
            if d == len(self.order) - 1:
                self.joint[d] = H
                continue
            J, k = self.joint[d + 1][self.parent[d]], H.shape[1]
            regression = -H @ self._N[d]
            across = regression @ J
            out = np.empty((len(H), k + J.shape[1], k + J.shape[1]))
            out[:, :k, :k] = H + across @ regression.transpose(0, 2, 1)
            out[:, :k, k:] = across
            out[:, k:, :k] = across.transpose(0, 2, 1)
            out[:, k:, k:] = J
            self.joint[d] = out

    def _downwards(self, eliminated: Rows) -> Rows:
        """b per factor from right-hand sides by depth whose descendants are eliminated."""
        by_factor: Rows = [np.empty(0)] * len(self.order)
        above = None
        for d in range(len(self.order) - 1, -1, -1):
            rhs = eliminated[d]
            if above is not None:
                above = above[self.parent[d]]
                rhs = rhs - self._N[d] @ above
            b = self._H[d] @ rhs
            by_factor[self.order[d]] = b
            above = b if above is None else np.concatenate([b, above], 1)
        return by_factor

    def apply(self, rhs: Rows) -> Rows:
        work = [np.array(rhs[f]) for f in self.order]
        for d, f in enumerate(self.order):
            at = np.arange(self.levels[f])
            Hr = self._H[d] @ work[d]
            for outer in range(d + 1, len(self.order)):
                at = self.parent[outer - 1][at]
                first = int(self.offset[outer] - self.offset[d + 1])
                N = self._N[d][:, :, first : first + self.k[self.order[outer]]]
                _subtract_by(work[outer], at, N.transpose(0, 2, 1) @ Hr)
        return self._downwards(work)

    def quadratic(self, codes: Codes, z: Rows) -> np.ndarray:
        used = [(codes[f] >= 0) & (z[f] != 0).any(1) for f in self.order]
        out = np.zeros(len(codes[0]))
        left = np.ones(len(out), bool)  # rows whose innermost level is still to be found
        strange = np.zeros(len(out), bool)  # levels that are not each other's ancestors
        for d, f in enumerate(self.order):
            rows = np.flatnonzero(left & used[d])
            left[rows] = False
            at, vector, chain = codes[f][rows], [z[f][rows]], np.ones(len(rows), bool)
            for outer in range(d + 1, len(self.order)):
                at, g = self.parent[outer - 1][at], self.order[outer]
                there = used[outer][rows]
                chain &= ~there | (codes[g][rows] == at)
                vector.append(np.where(there[:, None], z[g][rows], 0.0))
            strange[rows] = ~chain
            v = np.concatenate(vector, 1)
            out[rows] = block_quadratic(self.joint[d], codes[f][rows], v)
        rows = np.flatnonzero(strange)
        if len(rows):
            out[rows] = self._quadratic_by_solving([c[rows] for c in codes], [v[rows] for v in z])
        return out

    def _quadratic_by_solving(self, codes, z):
        size = sum(G * k for G, k in zip(self.levels, self.k))
        out, step = np.empty(len(codes[0])), max(1, CHUNK // size)
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            rhs = self.spread([c[part] for c in codes], [v[part] for v in z])
            out[part] = sum(np.einsum("gkn,gkn->n", r, x) for r, x in zip(rhs, self.apply(rhs)))
        return out


def block_quadratic(blocks, codes, v):
    """``v_r' blocks[codes_r] v_r`` in chunks of rows."""
    out, width = np.empty(len(codes)), v.shape[1]
    step = max(1, CHUNK // max(1, width * width))
    for start in range(0, len(out), step):
        part = slice(start, start + step)
        out[part] = np.einsum("na,nab,nb->n", v[part], blocks[codes[part]], v[part], optimize=False)
    return out


def _subtract_by(target: np.ndarray, at: np.ndarray, blocks: np.ndarray) -> None:
    """``target[at_i][:, last columns] -= blocks_i``, added up by level."""
    levels, k, width = target.shape
    size = blocks.shape[2]
    sums = sparse.csr_array((np.ones(len(at)), (at, np.arange(len(at)))), (levels, len(at)))
    target[:, :, width - size :] -= (sums @ blocks.reshape(len(at), -1)).reshape(levels, k, size)
