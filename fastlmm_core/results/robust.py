"""Cluster-robust covariances of a fit: rows by cluster, gathered by size."""

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError
from fastlmm_core.inference.distributions import t_quantile, t_two_sided
from fastlmm_core.inference.prediction import RowBlock
from fastlmm_core.inference.robust import (
    KINDS,
    ClusterSums,
    adjusted_sums,
    check_clusters,
    check_size,
    jackknifed,
    projected,
)
from fastlmm_core.results.coefficients import choose
from fastlmm_core.results.rowblocks import RowSource, equations, fit_source

NUMBERS = 4_000_000
"""Numbers in the matrices of one batch of clusters."""


def cluster_codes(fit, cluster) -> np.ndarray:
    """Clusters (n,) 0 .. J - 1 of the rows used: outermost factor, named factor, column, or labels by row."""
    design, factors = fit._rows.design, getattr(fit._facts, "factors", ())
    if cluster is None:
        if not factors:  # a linear model
            return np.arange(design.n)
        return np.asarray(design.factors[outermost(design)].codes)
    if isinstance(cluster, str):
        if cluster in factors:
            return np.asarray(design.factors[factors.index(cluster)].codes)
        frame = fit._rows.frame
        if cluster not in frame:
            raise DataError(f"no grouping factor or column {cluster!r} to cluster by")
        cluster = frame[cluster]
    values = np.asarray(cluster)
    if values.shape != (design.n,):
        raise DataError(f"cluster has shape {values.shape}; the fit used {design.n} rows")
    codes = pd.factorize(values, sort=True)[0]
    if (codes < 0).any():
        raise DataError(f"cluster is missing on {int((codes < 0).sum())} rows of the fit")
    return codes


def outermost(design) -> int:
    """The factor with the fewest levels."""
    return int(np.argmin([len(factor.levels) for factor in design.factors]))


def cluster_sums(fit, kind: str, cluster) -> ClusterSums:
    """In the coordinates of the engine; residuals in units of the response."""
    equations(fit)
    source = fit_source(fit._rows.design, fit._rows.labels)
    clusters = cluster_codes(fit, cluster)
    check_clusters(clusters, source.codes, [factor.name for factor in fit._rows.design.factors])
    residual = fit._rows.design.response - fit._rows.linear()
    if kind == "CR2":
        return _adjusted(fit, source, clusters, residual)
    sums = _plain(fit, source, clusters, residual)
    if kind == "CR3":
        return jackknifed(sums, fit._solved.point.Q)
    J = len(sums.score)
    return ClusterSums(sums.score * (J / (J - 1)) ** 0.5, sums.cross, sums.spread) if kind == "CR1" else sums


def _plain(fit, source, clusters, residual) -> ClusterSums:
    """A = I: ``X_i'V0_i^-1 = (W d)'`` by rows, so that no cluster's matrix is needed."""
    errors, J, r = fit._prediction_errors, int(clusters.max()) + 1, len(fit._kept)
    score, cross = np.zeros((r, J)), np.zeros((r, r, J))
    for rows in source.slices():
        block = source.block(fit._solved, range(len(source.codes)), rows)
        d = errors.residual_x(block)
        if source.weights is not None:
            d *= source.weights[rows][:, None]
        at = clusters[rows]
        for a in range(r):
            score[a] += np.bincount(at, d[:, a] * residual[rows], J)
            for b in range(r):
                cross[a, b] += np.bincount(at, d[:, a] * block.x[:, b], J)
    cross = cross.transpose(2, 0, 1)
    cross = 0.5 * (cross + cross.transpose(0, 2, 1))
    return ClusterSums(np.ascontiguousarray(score.T), cross, cross)


def _adjusted(fit, source, clusters, residual) -> ClusterSums:
    order = np.argsort(clusters, kind="stable")
    sizes = np.bincount(clusters)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    r, Q, T = len(fit._kept), fit._solved.point.Q, fit._prediction_errors.levels.T
    out = ClusterSums(*(np.empty((len(sizes), *shape)) for shape in ((r,), (r, r), (r, r))))
    single = source.weights is None and len(source.codes) == 1 and _is_factor(source, clusters)
    width = r + sum(map(len, T))
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        narrow = single and size > width
        if not narrow:
            check_size(int(size))
        step = max(1, NUMBERS // (int(size) * int(min(size, width) if narrow else size)))
        for place in range(0, len(alike), step):
            batch = alike[place : place + step]
            rows = order[starts[batch][:, None] + np.arange(size)]
            block = source.block(fit._solved, range(len(source.codes)), rows.ravel())
            X, e = block.x.reshape(*rows.shape, r), residual[rows]
            if narrow:
                part = projected(X, block.z[0].reshape(*rows.shape, -1), e, T[0], Q)
            else:
                part = adjusted_sums(X, e, marginal(block, source, rows, T), Q)
            out.score[batch], out.cross[batch], out.spread[batch] = part.score, part.cross, part.spread
    return out


def _is_factor(source: RowSource, clusters) -> bool:
    """Whether clusters are the levels of the only factor."""
    return int(clusters.max()) == int(source.codes[0].max())


def marginal(block: RowBlock, source: RowSource, rows: np.ndarray, T) -> np.ndarray:
    """``V0_i = W_i^-1 + sum_f Z T Z'`` of clusters of one size, (b, n, n)."""
    b, n = rows.shape
    V0 = np.zeros((b, n, n))
    for codes, z, Tf in zip(block.codes, block.z, T):
        z, codes = z.reshape(b, n, -1), codes.reshape(b, n)
        part = z @ Tf @ z.transpose(0, 2, 1)
        V0 += np.where(codes[:, :, None] == codes[:, None, :], part, 0.0)
    V0[:, np.arange(n), np.arange(n)] += 1.0 if source.weights is None else 1.0 / source.weights[rows]
    return V0


def robust_covariance(fit, kind: str, cluster=None) -> np.ndarray:
    """Covariance (r, r) of the kept coefficients, units of the data."""
    sums, A = (
        cluster_sums(fit, choose(kind, dict.fromkeys(KINDS, kind), "kind"), cluster),
        fit._solved.fixed.A,
    )
    return A @ sums.covariance(fit._solved.point.Q) @ A.T


def robust_parts(fit, kind: str, cluster=None) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors and degrees of freedom (p,); NaN for aliased columns."""
    sums, A = (
        cluster_sums(fit, choose(kind, dict.fromkeys(KINDS, kind), "kind"), cluster),
        fit._solved.fixed.A,
    )
    Q = fit._solved.point.Q
    se = np.sqrt(np.diag(A @ sums.covariance(Q) @ A.T))
    return fit._full(se), fit._full(sums.df(A, Q))


def robust_table(fit, kind: str, cluster, alpha: float) -> pd.DataFrame:
    """See `LMMResults.robust`."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, found {alpha!r}")
    se, df = robust_parts(fit, kind, cluster)
    estimate = fit._beta
    t = estimate / se
    reach = t_quantile(1.0 - alpha / 2.0, df) * se
    columns = {
        "estimate": estimate.copy(), "std_error": se, "df": df, "t": t, "p": t_two_sided(t, df),
        "lower": estimate - reach, "upper": estimate + reach,
    }  # fmt: skip
    return pd.DataFrame(columns, index=list(fit._names))
