"""Crossed factors by Henderson's equations, sparse rows and one dense system: for 10^3 effects."""

import numpy as np
import scipy.sparse as sp

from oracle.sparse import indicators


def sparse_design(n, sizes, widths, p=3, seed=0):
    """U = [X y], and per factor (codes, Z), with some levels much more frequent than others."""
    rng = np.random.default_rng(seed)
    Xy = np.column_stack([np.ones(n), rng.normal(size=(n, p))])
    factors = []
    for G, k in zip(sizes, widths):
        popular = (G * rng.uniform(size=n) ** 2).astype(np.int64)
        codes = np.unique(rng.permutation(popular), return_inverse=True)[1].astype(np.int32)
        factors.append((codes, np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))])))
    return Xy, factors


class Henderson:
    """V0^-1 = I - Z Lambda (I + Lambda'Z'Z Lambda)^-1 Lambda'Z' with a dense (q, q) system."""

    def __init__(self, Xy, factors, Lambda):
        self.ks = [L.shape[0] for L in Lambda]
        Zs = [indicators(*factor) for factor in factors]
        self.sizes = [Z.shape[1] for Z in Zs]
        self.Z, self.Xy = sp.hstack(Zs).tocsr(), Xy
        self.Lambda = sp.block_diag([sp.kron(sp.eye(G // L.shape[0]), L) for G, L in zip(self.sizes, Lambda)])
        self.ZL = (self.Z @ self.Lambda).tocsr()
        M = np.eye(sum(self.sizes)) + (self.ZL.T @ self.ZL).toarray()
        self.Minv = np.linalg.inv(M)
        self.logdet = np.linalg.slogdet(M)[1]

    def solve(self, rhs):
        return rhs - self.ZL @ (self.Minv @ (self.ZL.T @ rhs))

    def split(self, rows):
        parts = np.split(rows, np.cumsum(self.sizes)[:-1])
        return [part.reshape(-1, k, part.shape[1]) for part, k in zip(parts, self.ks)]

    def F(self):
        """Sums of the diagonal blocks of Z'V0^-1 Z."""
        A = (self.Z.T @ self.Z).toarray()
        B = (self.Z.T @ self.ZL).toarray()
        full = A - B @ self.Minv @ B.T
        sums, start = [], 0
        for size, k in zip(self.sizes, self.ks):
            own = full[start : start + size, start : start + size].reshape(size // k, k, size // k, k)
            sums.append(np.einsum("iaib->ab", own))
            start += size
        return sums


def everything(engine, Lambda):
    """All that an engine answers at one Lambda, as a list of arrays."""
    logdet, S = engine.factorize(Lambda)
    Q, v = np.linalg.inv(S[:-1, :-1]), np.append(np.zeros(len(S) - 1), 1.0)
    F, GG = engine.moments()
    AI = engine.average_information(Q, v, [(f, np.eye(k)) for f, k in enumerate(engine.k)])
    covariances = [engine.conditional_covariance(f) for f in range(len(engine.k))]
    return [np.array(logdet), S, *F, *GG, AI, *engine.random_effects(v), *covariances]
