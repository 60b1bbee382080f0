"""One grouping factor in batched NumPy: fast enough for a few thousand rows, same protocol.

Woodbury per level: ``K_i = (I + A_i T)^-1``, ``F_i = K_i A_i``, ``G_i = K_i B_i``.
"""

import numpy as np

from fastlmm_core.mme.engine import SecondMoments


class GroupedEngine:
    """`fastlmm_core.mme.engine.Engine` for (codes, Z (n, k)) and dense X (n, p)."""

    name = "grouped oracle"

    def __init__(self, X, y, factors, weights=None):
        ((codes, Z),) = factors
        root_w = np.ones(len(y)) if weights is None else np.sqrt(weights)
        U, Z = np.column_stack([X, y]) * root_w[:, None], Z * root_w[:, None]
        G, k, self.p = int(codes.max()) + 1, Z.shape[1], X.shape[1]
        self.k, self.levels = (k,), (G,)
        self.A, self.B, self.C = np.zeros((G, k, k)), np.zeros((G, k, self.p + 1)), U.T @ U
        np.add.at(self.A, codes, Z[:, :, None] * Z[:, None, :])
        np.add.at(self.B, codes, Z[:, :, None] * U[:, None, :])

    def factorize(self, Lambda):
        self.T = Lambda[0] @ Lambda[0].T
        I_AT = np.eye(self.k[0]) + self.A @ self.T
        K = np.linalg.inv(I_AT)
        self.F, self.G = K @ self.A, K @ self.B
        self.F = 0.5 * (self.F + self.F.transpose(0, 2, 1))
        S = self.C - np.einsum("iau,ab,ibv->uv", self.B, self.T, self.G, optimize=True)
        return float(np.linalg.slogdet(I_AT)[1].sum()), 0.5 * (S + S.T)

    def moments(self):
        return [self.F.sum(0)], [np.einsum("iau,ibv->abuv", self.G, self.G, optimize=True)]

    def second_moments(self, Q, v):
        GX, g = self.G[:, :, :-1], self.G @ v
        P = GX @ Q @ GX.transpose(0, 2, 1)
        gg = g[:, :, None] * g[:, None, :]
        return SecondMoments(*(np.einsum("iab,icd->abcd", self.F, M, optimize=True) for M in (self.F, P, gg)))
