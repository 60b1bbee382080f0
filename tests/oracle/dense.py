"""The plainest possible twin of the engine: n x n matrices and nothing clever.

`statistics` builds `CrossProducts` by explicit loops over levels, `DenseEngine`
forms V0 and inverts it.  Both are for models of a few hundred rows.
"""

import numpy as np

from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.mme.engine import SecondMoments


def statistics(X, y, factors, weights=None, structure=None):
    """`CrossProducts` of dense ``X`` (n, p), ``y`` (n,) and ``factors``: a list of (codes, Z (n, k))."""
    n, p = X.shape
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    zs = [Z for _, Z in factors]
    U = np.column_stack([X, y, *zs])
    offsets = np.cumsum([p + 1] + [Z.shape[1] for Z in zs])
    levels = [int(codes.max()) + 1 for codes, _ in factors]
    R, counts = [], []
    for (codes, Z), G in zip(factors, levels):
        block = np.zeros((G, Z.shape[1], U.shape[1]))
        for i in range(G):
            rows = codes == i
            block[i] = (Z[rows] * w[rows, None]).T @ U[rows]
        R.append(block)
        counts.append(np.bincount(codes, minlength=G).astype(np.int64))
    order = sorted(range(len(factors)), key=lambda f: -levels[f] * zs[f].shape[1])
    nested = [_parents(factors[a][0], factors[b][0], levels[a]) for a, b in zip(order, order[1:])]
    if structure is None:
        structure = "tree" if all(m is not None for m in nested) else "crossed"
    pairs, parent = {}, ()
    if structure == "tree":
        parent = tuple(nested)
    else:
        for a in range(len(order)):
            for b in range(a + 1, len(order)):
                f, g = order[a], order[b]
                pairs[f, g] = _pairs(factors[f], factors[g], levels[f], levels[g], w)
    return CrossProducts(
        n=n,
        sum_log_weights=float(np.log(w).sum()),
        C=(U * w[:, None]).T @ U,
        x=np.arange(p),
        y=p,
        z=tuple(np.arange(a, b) for a, b in zip(offsets, offsets[1:])),
        levels=tuple(levels),
        R=tuple(R),
        counts=tuple(counts),
        structure=structure,
        order=tuple(order),
        parent=parent,
        pairs=pairs,
        weighted=weights is not None,
    )


def _parents(inner, outer, G):
    """Level of ``outer`` for each of the G levels of ``inner``, or None if not nested."""
    parent = np.full(G, -1, np.int32)
    for i in range(G):
        found = np.unique(outer[inner == i])
        if len(found) != 1:
            return None
        parent[i] = found[0]
    return parent


def _pairs(first, second, G, H, w):
    (f, Zf), (g, Zg) = first, second
    indptr, indices, blocks = [0], [], []
    for i in range(G):
        for j in np.unique(g[f == i]):
            rows = (f == i) & (g == j)
            indices.append(j)
            blocks.append((Zf[rows] * w[rows, None]).T @ Zg[rows])
        indptr.append(len(indices))
    return PairBlocks(np.array(indptr, np.int64), np.array(indices, np.int32), np.array(blocks))


def indicator(codes, Z):
    """The n x (G k) matrix Z_f with levels outermost."""
    n, k = Z.shape
    full = np.zeros((n, (int(codes.max()) + 1) * k))
    for row in range(n):
        full[row, codes[row] * k : (codes[row] + 1) * k] = Z[row]
    return full


class DenseEngine:
    """`fastlmm_core.mme.engine.Engine` by n x n linear algebra."""

    name = "dense oracle"

    def __init__(self, X, y, factors, weights=None):
        root_w = np.ones(len(y)) if weights is None else np.sqrt(weights)
        self.Xy = np.column_stack([X, y]) * root_w[:, None]
        self.Z = [indicator(codes, Z) * root_w[:, None] for codes, Z in factors]
        self.k = tuple(Z.shape[1] for _, Z in factors)
        self.levels = tuple(int(codes.max()) + 1 for codes, _ in factors)
        self.p = X.shape[1]

    def factorize(self, Lambda):
        self.T = [L @ L.T for L in Lambda]
        V0 = np.eye(len(self.Xy))
        for Z, T, G in zip(self.Z, self.T, self.levels):
            V0 += Z @ np.kron(np.eye(G), T) @ Z.T
        self.V0inv = np.linalg.inv(V0)
        return np.linalg.slogdet(V0)[1], self.Xy.T @ self.V0inv @ self.Xy

    def _G(self, f):
        return (self.Z[f].T @ self.V0inv @ self.Xy).reshape(self.levels[f], self.k[f], -1)

    def _F(self, f):
        """Diagonal blocks of Z_f'V0^-1 Z_f, (levels, k, k)."""
        G, k = self.levels[f], self.k[f]
        full = (self.Z[f].T @ self.V0inv @ self.Z[f]).reshape(G, k, G, k)
        return np.array([full[i, :, i, :] for i in range(G)])

    def moments(self):
        F = [self._F(f).sum(0) for f in range(len(self.k))]
        GG = [np.einsum("iau,ibv->abuv", self._G(f), self._G(f)) for f in range(len(self.k))]
        return F, GG

    def second_moments(self, Q, v):
        if len(self.k) != 1:
            return None
        F, G = self._F(0), self._G(0)
        P = G[:, :, :-1] @ Q @ G[:, :, :-1].transpose(0, 2, 1)
        g = G @ v
        gg = g[:, :, None] * g[:, None, :]
        return SecondMoments(*(np.einsum("iab,icd->abcd", F, second) for second in (F, P, gg)))

    def average_information(self, Q, v, directions):
        V0invX = self.V0inv @ self.Xy[:, :-1]
        P = self.V0inv - V0invX @ Q @ V0invX.T
        Py = self.V0inv @ self.Xy @ v
        columns = []
        for f, direction in directions:
            g = (self.Z[f].T @ Py).reshape(self.levels[f], self.k[f])
            columns.append(self.Z[f] @ (g @ direction).ravel())
        W = np.array(columns).T
        return W.T @ P @ W

    def random_effects(self, v):
        return [(self._G(f) @ v) @ self.T[f] for f in range(len(self.k))]

    def conditional_covariance(self, factor):
        Z, T, G, k = self.Z[factor], self.T[factor], self.levels[factor], self.k[factor]
        ZtVZ = (Z.T @ self.V0inv @ Z).reshape(G, k, G, k)
        return np.array([T - T @ ZtVZ[i, :, i, :] @ T for i in range(G)])
