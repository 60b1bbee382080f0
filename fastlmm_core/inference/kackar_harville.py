"""What the estimation of the variance parameters adds to the error of a prediction.

A prediction ``t = x'beta^ + z'b^`` at estimated theta differs from that at the true one by about
``sum_j (dt/dtheta_j)(theta^_j - theta_j)``, which is uncorrelated with the error of the latter and has
variance ``g3 = sum_jk A_jk Cov(theta^_j, theta^_k)``, ``A_jk = Cov(dt/dtheta_j, dt/dtheta_k)`` (Kackar &
Harville 1984, doi:10.1080/01621459.1984.10477102, section 4).  With ``V0 = I + Z T Z'`` (weights left out),
``F = Z'V0^-1 Z``, ``G = Z'V0^-1 X`` and P of the mixed model,

    dt/dtheta_j = w'(dT_j) Z'P0 y,    w = (I - F T) z - G Q d,    d = x - (T G)'z,
    A_jk = sigma^2 w'(dT_j)(F - G Q G')(dT_k) w,

which holds for a singular T as well.  The usual variance is too small by g3 itself in expectation, as a
function of theta^ that bends downwards, so that an unbiased one adds 2 g3 (Prasad & Rao 1990,
doi:10.1080/01621459.1990.10475320; Datta & Lahiri 2000, for REML).  Relative to sigma^2 and in the
coordinates of the engine throughout.
"""

import numpy as np
from scipy import sparse

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.inference.estimates import inner_coordinates
from fastlmm_core.inference.prediction import PredictionErrors, RowBlock
from fastlmm_core.inference.prediction_levels import CHUNK, Rows
from fastlmm_core.inference.solved import SolvedModel

MOST_WORK = 1e10
"""Numbers that rows of nested or crossed factors may take, some microseconds a thousand."""


def kackar_harville(solved: SolvedModel, errors: PredictionErrors):
    """What has ``variance(rows)``, g3 over sigma^2 of a `RowBlock` (n,)."""
    kind = OneFactor if len(solved.theta_map.k) == 1 else SeveralFactors
    return kind(solved, errors)


class _Shared:
    def __init__(self, solved: SolvedModel, errors: PredictionErrors):
        products, point = solved.products, solved.point
        theta_map, theta, _ = inner_coordinates(solved.theta_map, solved.estimates.theta, point)
        self.errors, self.Q = errors, errors.Q
        self.directions = theta_map.directions(theta)
        self.covariance = solved.calculus.covariance[:-1, :-1]
        self.columns = np.asarray(products.x)[solved.fixed.kept]


class OneFactor(_Shared):
    """One grouping factor: sums over the levels once, then each row by itself.

    With ``H_i = (I + A_i T)^-1``: ``F_i = H_i A_i``, ``G_i = H_i Z_i'W X``.
    """

    def __init__(self, solved, errors):
        super().__init__(solved, errors)
        products = solved.products
        R, z, T = products.R[0], np.asarray(products.z[0]), errors.levels.T[0]
        A, k = R[:, :, z], len(T)
        self.H = np.linalg.inv(np.eye(k) + A @ T)
        F, G = self.H @ A, self.H @ R[:, :, self.columns]
        self.F, self.G = 0.5 * (F + F.transpose(0, 2, 1)), G
        self.dT = np.array([X for _, X in self.directions])
        m, r = len(self.dT), G.shape[2]
        # sum of G'dT_j F dT_k G and of G'dT_j G over the levels
        self.M, self.N = np.zeros((m, m, r, r)), np.zeros((m, r, r))
        step = max(1, CHUNK // (k * (m * r + 1)))
        for start in range(0, len(G), step):
            part = G[start : start + step]
            dTG = np.einsum("jab,ibr->jiar", self.dT, part)
            FdTG = np.einsum("iab,kibs->kias", self.F[start : start + step], dTG)
            self.M += np.einsum("jiar,kias->jkrs", dTG, FdTG, optimize=True)
            self.N += np.einsum("iar,jias->jrs", part, dTG, optimize=True)

    def variance(self, rows: RowBlock) -> np.ndarray:
        out = np.empty(len(rows))
        step = max(1, CHUNK // (len(self.dT) * (self.G.shape[1] + 1) * (self.G.shape[2] + 1)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            out[part] = self._variance(rows.take(part))
        return out

    def _variance(self, rows: RowBlock) -> np.ndarray:
        g = self.errors.residual_x(rows) @ self.Q
        at, seen = rows.codes[0], rows.codes[0] >= 0
        at = np.where(seen, at, 0)
        F, G = self.F[at], self.G[at]
        own = np.einsum("nab,nb->na", self.H[at], rows.z[0] * seen[:, None])
        dTw = np.einsum("jab,nb->jna", self.dT, own)
        dTg = np.einsum("jab,nbr,nr->jna", self.dT, G, g, optimize=True)
        FdTw = np.einsum("nab,knb->kna", F, dTw)
        A = np.einsum("jna,kna->njk", dTw, FdTw)
        across = np.einsum("jna,kna->njk", dTg, FdTw)
        A -= across + across.transpose(0, 2, 1)
        A += np.einsum("nr,jkrs,ns->njk", g, self.M, g, optimize=True)
        S = np.einsum("jna,nar->njr", dTw, G) - np.einsum("nr,jrs->njs", g, self.N)
        A -= np.einsum("njr,rs,nks->njk", S, self.Q, S, optimize=True)
        return np.einsum("njk,jk->n", A, self.covariance)


class SeveralFactors(_Shared):
    """Nested or crossed factors: w over all random effects of a row, products with K for each theta.

    ``F = A - A K A`` with ``A = Z'WZ``.
    """

    def __init__(self, solved, errors):
        super().__init__(solved, errors)
        self.A = gram(solved.products)
        levels = errors.levels
        self.sizes = [(G, k) for G, k in zip(levels.levels, levels.k)]
        TG = _stack(levels.TG)
        self.G = _stack([R[:, :, self.columns] for R in solved.products.R]) - self.A @ TG

    def variance(self, rows: RowBlock) -> np.ndarray:
        q = self.A.shape[0]
        work = float(len(rows)) * q * (len(self.directions) + 2)
        if work > MOST_WORK:
            raise ModelError(
                f"the correction of {len(rows)} rows for {q} random effects of several factors takes about "
                f"{work:.0e} operations, the limit is {MOST_WORK:.0e}: ask for fewer rows"
            )
        out, step = np.empty(len(rows)), max(1, CHUNK // (q * (len(self.directions) + 1)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            out[part] = self._variance(rows.take(part))
        return out

    def _variance(self, rows: RowBlock) -> np.ndarray:
        levels = self.errors.levels
        z = levels.spread(rows.codes, rows.z)
        Tz = _stack([np.einsum("ab,ibn->ian", T, part) for T, part in zip(levels.T, z)])
        g = self.Q @ self.errors.residual_x(rows).T
        w = self._split(_stack(z) - self._F(Tz) - self.G @ g)
        dTw, FdTw, S = [], [], []
        for f, dT in self.directions:
            parts = [np.zeros_like(part) for part in w]
            parts[f] = np.einsum("ab,ibn->ian", dT, w[f])
            dTw.append(_stack(parts))
            FdTw.append(self._F(dTw[-1]))
            S.append(self.G.T @ dTw[-1])
        A = np.einsum("jqn,kqn->njk", dTw, FdTw, optimize=True)
        A -= np.einsum("jrn,rs,ksn->njk", S, self.Q, S, optimize=True)
        return np.einsum("njk,jk->n", A, self.covariance)

    def _F(self, v: np.ndarray) -> np.ndarray:
        Av = self.A @ v
        return Av - self.A @ _stack(self.errors.levels.apply(self._split(Av)))

    def _split(self, v: np.ndarray) -> Rows:
        out, at = [], 0
        for G, k in self.sizes:
            out.append(v[at : at + G * k].reshape(G, k, -1))
            at += G * k
        return out


def _stack(parts: Rows) -> np.ndarray:
    """(levels, k, m) per factor -> (random effects, m)."""
    return np.concatenate([part.reshape(-1, part.shape[2]) for part in parts])


def gram(products: CrossProducts) -> sparse.csr_array:
    """``Z'WZ`` over all factors, sparse."""
    count = len(products.levels)
    blocks: list[list] = [[None] * count for _ in range(count)]
    for f in range(count):
        G = products.levels[f]
        own = np.ascontiguousarray(products.R[f][:, :, products.z[f]])
        blocks[f][f] = _bsr(own, np.arange(G), np.arange(G + 1), G)
    for (f, g), pair in products.pairs.items():
        blocks[f][g] = _bsr(pair.blocks, pair.indices, pair.indptr, products.levels[g])
        blocks[g][f] = blocks[f][g].T
    for d, f in enumerate(products.order if products.structure == "tree" else ()):
        at = np.arange(products.levels[f])
        for e in range(d + 1, len(products.order)):
            at, g = np.asarray(products.parent[e - 1])[at], products.order[e]
            across = np.ascontiguousarray(products.R[f][:, :, products.z[g]])
            blocks[f][g] = _bsr(across, at, np.arange(len(at) + 1), products.levels[g])
            blocks[g][f] = blocks[f][g].T
    return sparse.csr_array(sparse.bmat(blocks))


def _bsr(blocks, indices, indptr, levels: int):
    _, k, m = blocks.shape
    return sparse.bsr_array((blocks, indices, indptr), ((len(indptr) - 1) * k, levels * m)).tocsr()
