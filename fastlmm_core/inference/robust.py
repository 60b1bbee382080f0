"""Cluster-robust covariance of the fixed effects, and its degrees of freedom.

With weights ``W_i = V0_i^-1`` of the fitted model, ``Q = (sum X_i'W_i X_i)^-1`` and residuals
``e_i = y_i - X_i beta``,

    V = Q (sum_i S_i e_i e_i'S_i') Q,   S_i = X_i'W_i A_i.

CR0 has A_i = I (Liang & Zeger 1986), CR1 the factor sqrt(J / (J - 1)), and CR2 the bias-reducing
``A_i = D'B^-1/2 D``, ``B = D (V0_i - X_i Q X_i') D'``, ``D'D = V0_i``, exact if the model
holds (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, doi:10.1080/07350015.2016.1247004,
whose R package clubSandwich defines the same for lmer).  CR3 is the jackknife over clusters, with
``A_i = (I - X_i Q X_i'W_i)^-1``, so that ``S_i = (I - X_i'W_i X_i Q)^-1 X_i'W_i``.

Degrees of freedom are Satterthwaite's of Bell & McCaffrey: for ``c'beta``, with
``m = Q c``, ``u_i = X_i'S_i'm``, ``t_i = m'S_i V0_i S_i'm``, the quadratic form has the matrix
``Omega_ij = t_i 1[i = j] - u_i'Q u_j`` and ``df = tr(Omega)^2 / tr(Omega^2)``, which needs no
J x J matrix.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core.errors import ModelError

KINDS = ("CR0", "CR1", "CR2", "CR3")

LARGEST = 4000
"""Rows of a cluster whose n_i x n_i matrix is formed (CR2)."""

RANK = 1e-12
"""Eigenvalues below this share of the largest are those of combinations the fit reproduces exactly."""


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Per cluster ``score = S e`` (J, r), ``cross = S X`` (J, r, r), ``spread = S V0 S'`` (J, r, r)."""

    score: np.ndarray
    cross: np.ndarray
    spread: np.ndarray

    def covariance(self, Q: np.ndarray) -> np.ndarray:
        """The sandwich (r, r)."""
        half = self.score @ Q
        return half.T @ half

    def df(self, C: np.ndarray, Q: np.ndarray) -> np.ndarray:
        """Degrees of freedom (c,) of the contrasts in the rows of ``C`` (c, r)."""
        out = np.empty(len(C))
        for place, m in enumerate(C @ Q):
            t = np.einsum("u,juv,v->j", m, self.spread, m, optimize=True)
            u = np.einsum("u,juv->jv", m, self.cross)
            uQ = u @ Q
            own = np.einsum("jv,jv->j", uQ, u)
            square = uQ.T @ u
            trace, trace2 = (t - own).sum(), (t * t - 2.0 * t * own).sum() + (square * square.T).sum()
            out[place] = trace**2 / trace2 if trace2 > 0 else np.nan
        return out


def adjusted_sums(X: np.ndarray, e: np.ndarray, V0: np.ndarray, Q: np.ndarray) -> ClusterSums:
    """CR2's sums of clusters of one size: X (b, n, r), e (b, n), V0 (b, n, n).

    With V0 = L L' and ``G = L'(V0 - X Q X')L``, ``S' = L G^-1/2 L^-1 X``.
    """
    L = np.linalg.cholesky(V0)
    Lt = L.transpose(0, 2, 1)
    LX = Lt @ X
    G = Lt @ L
    G = G @ G - LX @ Q @ LX.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(G)
    top = values[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(values > RANK * top, 1.0 / np.sqrt(values), 0.0)
    Y = vectors.transpose(0, 2, 1) @ np.linalg.solve(L, X)
    Y = vectors @ (power[:, :, None] * Y)
    St = L @ Y
    score = np.einsum("bnr,bn->br", St, e)
    LSt = Lt @ St
    return ClusterSums(score, St.transpose(0, 2, 1) @ X, LSt.transpose(0, 2, 1) @ LSt)


def jackknifed(sums: ClusterSums, Q: np.ndarray) -> ClusterSums:
    """CR3's sums from those of CR0; NaN where the coefficients cannot be estimated without a cluster."""
    I_H = np.eye(len(Q)) - sums.cross @ Q
    bad = np.abs(np.linalg.eigvals(I_H)).min(1, initial=np.inf) < 1e-9
    C = np.linalg.inv(np.where(bad[:, None, None], np.eye(len(Q)), I_H))
    C[bad] = np.nan
    score = np.einsum("jab,jb->ja", C, sums.score)
    return ClusterSums(score, C @ sums.cross, C @ sums.spread @ C.transpose(0, 2, 1))


def projected(X, Z, e, T, Q) -> ClusterSums:
    """`adjusted_sums` of unweighted clusters that are one level: everything in the span of [Z X].

    Outside that span V0 is the identity and X is 0, so A is the identity; within it all
    matrices are (k + r) square.
    """
    basis = np.linalg.qr(np.concatenate([Z, X], 2))[0].transpose(0, 2, 1)
    Z = basis @ Z
    V0 = Z @ T @ Z.transpose(0, 2, 1)
    V0[:, np.arange(V0.shape[1]), np.arange(V0.shape[1])] += 1.0
    return adjusted_sums(basis @ X, np.einsum("bsn,bn->bs", basis, e), V0, Q)


def check_clusters(clusters: np.ndarray, codes, groups) -> None:
    """ModelError where a level of some grouping factor lies in several clusters, or there is one cluster."""
    if not len(clusters) or clusters.max() < 1:
        raise ModelError("cluster-robust covariances need two clusters or more")
    for group, code in zip(groups, codes, strict=True):
        first = np.full(int(code.max()) + 1, -1)
        first[code[::-1]] = clusters[::-1]
        if (first[code] != clusters).any():
            raise ModelError(
                f"levels of {group!r} lie in several clusters: the random effects are crossed with the "
                "clusters, which are then not independent; cluster by an outer factor"
            )


def check_size(largest: int) -> None:
    if largest > LARGEST:
        raise ModelError(
            f"CR2 needs a matrix of {largest} x {largest} for the largest cluster; the limit is {LARGEST} "
            "rows; 'CR0' and 'CR1' need none"
        )
