"""Deletion diagnostics and cross-validation of a fit, by rows or by groups, without refitting."""

from functools import cached_property

import numpy as np
import pandas as pd

from fastlmm_core.errors import ModelError
from fastlmm_core.inference.deletion import (
    Deletions,
    delete_block,
    delete_clusters,
    delete_low_rank,
    delete_rows,
)
from fastlmm_core.inference.prediction_levels import NestedCovariance
from fastlmm_core.inference.robust import check_clusters
from fastlmm_core.results.robust import cluster_codes
from fastlmm_core.results.rowblocks import equations, fit_source

MOST_WORK = 2e10
"""Multiplications beyond which groups that depend on each other are refused."""


class GroupedRows:
    """Rows of a fit and the groups they are deleted by.

    ``codes`` (n,) and ``labels`` of the groups; ``codes`` is None for single rows.  ``independent`` tells
    whether groups share no random effect.
    """

    def __init__(self, fit, by):
        self.fit = fit
        equations(fit)
        self.source = fit_source(fit._rows.design, fit._rows.labels)
        self.errors = fit._prediction_errors
        n = self.source.n
        self.w = np.ones(n) if self.source.weights is None else np.asarray(self.source.weights, float)
        self.codes, self.independent = None, False
        self.labels = self.source.index
        if by is not None:
            self.codes, self.labels = _groups(fit, by)
            self.independent = _independent(self.source, self.codes)

    @cached_property
    def rows(self):
        """GLS rows d (n, r), and leverages (n,) ``w (z'K z + d'Q d)``; fixed part ``w x'Q d``."""
        n, r = self.source.n, len(self.fit._kept)
        d, leverage, fixed = np.empty((n, r)), np.empty(n), np.empty(n)
        for part in self.source.slices():
            block = self._block(part)
            d[part] = self.errors.residual_x(block)
            leverage[part] = self.w[part] * self.errors.variance(block)
            fixed[part] = self.w[part] * np.einsum("nu,nu->n", block.x @ self.errors.Q, d[part])
        return d, leverage, fixed

    def _block(self, rows):
        return self.source.block(self.fit._solved, range(len(self.source.codes)), rows)

    def by_group(self, values) -> np.ndarray:
        """Sums by group; single rows as they are."""
        return values if self.codes is None else np.bincount(self.codes, values, len(self.labels))

    @cached_property
    def deletions(self) -> Deletions:
        if self.codes is None:
            d, leverage, _ = self.rows
            return delete_rows(self.errors.Q, d, self.w, leverage, self.fit._rows.residuals)[0]
        return self._clusters() if self.independent else self._blocks[0]

    def _clusters(self) -> Deletions:
        """``S_D = sum w x d'`` and ``X_D'V0_D^-1 e = sum w x residual`` over the rows of a cluster."""
        J, r = len(self.labels), len(self.fit._kept)
        S, score, residual = np.zeros((r, r, J)), np.zeros((r, J)), self.fit._rows.residuals
        for part in self.source.slices():
            block, at = self._block(part), self.codes[part]
            d = np.ascontiguousarray(self.errors.residual_x(block).T)
            x = np.ascontiguousarray((self.w[part][:, None] * block.x).T)
            for a in range(r):
                score[a] += np.bincount(at, x[a] * residual[part], J)
                for b in range(a + 1):
                    S[a, b] += np.bincount(at, x[a] * d[b], J)
        S = S + np.tril(S.transpose(2, 0, 1), -1).transpose(2, 1, 0)
        return delete_clusters(self.errors.Q, np.ascontiguousarray(S.transpose(2, 0, 1)), score.T)

    @cached_property
    def _blocks(self):
        """Groups that depend on other rows: deletions, gamma (n,), ``log|P_DD|`` (J,)."""
        found = self._shared_levels()
        if found is not None:
            return found
        sizes = np.bincount(self.codes)
        effects = sum(G * k for G, k in zip(self.errors.levels.levels, self.errors.levels.k))
        work = float((sizes.astype(float) ** 3).sum()) + float(self.source.n) * effects
        if work > MOST_WORK:
            raise ModelError(
                f"deleting {len(sizes)} groups that share random effects with other rows takes about "
                f"{work:.0e} operations (largest group: {sizes.max()} rows); the limit is {MOST_WORK:.0e}; "
                "groups of an outermost factor, groups within levels and single rows (by=None) do without"
            )
        order = np.argsort(self.codes, kind="stable")
        residual, r = self.fit._rows.residuals, len(self.fit._kept)
        R = np.linalg.cholesky(self.errors.Q)
        zeta, E = np.empty((len(sizes), r)), np.empty((len(sizes), r, r))
        gamma, logdet = np.empty(self.source.n), np.empty(len(sizes))
        for j, at in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
            block = self._block(at)
            zeta[j], E[j], gamma[at], logdet[j] = delete_block(
                R,
                self.errors.residual_x(block),
                self.w[at],
                self.errors.covariance(block, block),
                residual[at],
            )
        return Deletions(R, zeta, E), gamma, logdet

    def _shared_levels(self):
        """As `_blocks`, for groups within levels of the innermost of nested factors; None for others."""
        levels, J = self.errors.levels, len(self.labels)
        if not isinstance(levels, NestedCovariance):
            return None
        inner = np.asarray(self.source.codes[levels.order[0]])
        level = np.empty(J, np.int64)
        level[self.codes] = inner
        if (level[self.codes] != inner).any():
            return None
        r, residual, Q = len(self.fit._kept), self.fit._rows.residuals, self.errors.Q
        s = int(levels.offset[-1]) + r
        A, Ue = np.zeros((s, s, J)), np.zeros((s, J))
        for part in self.source.slices():
            U, at, w = self._columns(part).T.copy(), self.codes[part], self.w[part]
            for a in range(s):
                Ue[a] += np.bincount(at, U[a] * w * residual[part], J)
                for b in range(a + 1):
                    A[a, b] += np.bincount(at, U[a] * w * U[b], J)
        A = np.ascontiguousarray(A.transpose(2, 0, 1))
        A += np.tril(A, -1).transpose(0, 2, 1)
        N = np.zeros((J, s, s))
        N[:, : s - r, : s - r], N[:, s - r :, s - r :] = levels.joint[0][level], Q
        found = delete_low_rank(np.linalg.cholesky(Q), N, A, np.ascontiguousarray(Ue.T))
        if found is None:
            return None
        deletions, t, logdet = found
        gamma = residual.copy()
        for part in self.source.slices():
            gamma[part] += np.einsum("ns,ns->n", self._columns(part), t[self.codes[part]])
        return deletions, gamma, logdet + self.by_group(np.log(self.w))

    def _columns(self, rows) -> np.ndarray:
        """``[z of all factors, innermost first, d]`` (m, s)."""
        block = self._block(rows)
        z = [block.z[f] for f in self.errors.levels.order]
        return np.concatenate([*z, self.errors.residual_x(block)], 1)

    @cached_property
    def gamma(self) -> np.ndarray:
        """Response minus its prediction from the rows outside its group (n,)."""
        if self.codes is None:
            return self.fit._rows.residuals / (1.0 - self.rows[1])
        if not self.independent:
            return self._blocks[1]
        marginal = self.fit._rows.design.response - self.fit._rows.linear()
        shift = self.deletions.zeta @ self.deletions.R.T
        for part in self.source.slices():
            marginal[part] += np.einsum("nr,nr->n", self._block(part).x, shift[self.codes[part]])
        return marginal

    @cached_property
    def logdet(self) -> np.ndarray:
        """``log|P_DD|`` by group."""
        if self.codes is None:
            return np.log(self.w * (1.0 - self.rows[1]))
        if not self.independent:
            return self._blocks[2]
        logdet_V0 = cluster_logdets(self.errors.levels, self.source.codes, self.codes, len(self.labels))
        logdet_V0 -= self.by_group(np.log(self.w))
        return -logdet_V0 - np.linalg.slogdet(self.deletions.E)[1]


def _groups(fit, by) -> tuple[np.ndarray, pd.Index]:
    """Codes (n,) and labels of the groups that occur."""
    for factor in fit._rows.design.factors:
        if isinstance(by, str) and by == factor.name:
            return np.asarray(factor.codes), pd.Index(factor.levels, name=by)
    codes = cluster_codes(fit, by)
    if isinstance(by, str):
        values, name = fit._rows.frame[by].to_numpy(), by
    else:
        values, name = np.asarray(by), "group"
    first = np.unique(codes, return_index=True)[1]
    return codes, pd.Index(values[first], name=name)


def _independent(source, codes) -> bool:
    try:
        check_clusters(codes, source.codes, range(len(source.codes)))
    except ModelError:
        return False
    return True


def cluster_logdets(levels, codes, clusters, J) -> np.ndarray:
    """``log|I + Lambda'Z_D'W Z_D Lambda|`` (J,) of independent clusters: sums over their levels."""
    out = np.zeros(J)
    for f, values in levels.logdets().items():
        at = np.empty(len(values), np.int64)
        at[codes[f]] = clusters
        out += np.bincount(at, values, J)
    return out


class Influence:
    """Deletion diagnostics of a fit; made by `LMMResults.influence`.

    Variance parameters stay at their estimates.  Each attribute is computed when asked for.
    """

    def __init__(self, fit, by):
        self._fit, self._grouped, self.by = fit, GroupedRows(fit, by), by

    def _series(self, values, name) -> pd.Series:
        return pd.Series(values, index=self._grouped.labels, name=name)

    def _frame(self, values) -> pd.DataFrame:
        fit = self._fit
        full = np.full((len(values), len(fit._names)), np.nan)
        full[:, fit._kept] = values
        return pd.DataFrame(full, index=self._grouped.labels, columns=list(fit._names))

    @property
    def leverage(self) -> pd.Series:
        """Sums over the group of ``d fitted / d response``: an effective number of parameters."""
        return self._series(self._grouped.by_group(self._grouped.rows[1]), "leverage")

    @property
    def leverage_fixed(self) -> pd.Series:
        """The part of the fixed effects: the diagonal of ``X Q X'V0^-1``."""
        return self._series(self._grouped.by_group(self._grouped.rows[2]), "leverage_fixed")

    @property
    def cooks_distance(self) -> pd.Series:
        """``(beta - beta_(i))'Var(beta)^-1 (beta - beta_(i)) / r``."""
        return self._series(self._grouped.deletions.cooks_distance(self._fit.scale), "cooks_distance")

    @property
    def mdffits(self) -> pd.Series:
        """As Cook's distance, with the covariance of the deleted fit."""
        return self._series(self._grouped.deletions.mdffits(self._fit.scale), "mdffits")

    @property
    def covratio(self) -> pd.Series:
        """``det Var(beta_(i)) / det Var(beta)``."""
        return self._series(self._grouped.deletions.covratio(), "covratio")

    @property
    def covtrace(self) -> pd.Series:
        """``tr(Var(beta)^-1 Var(beta_(i))) - r``."""
        return self._series(self._grouped.deletions.covtrace(), "covtrace")

    @property
    def dfbeta(self) -> pd.DataFrame:
        """``beta - beta_(i)``, units of the coefficients."""
        return self._frame(self._grouped.deletions.shift(self._fit._solved.fixed.A))

    @property
    def dfbetas(self) -> pd.DataFrame:
        """`dfbeta` over the standard errors of the deleted fit, at the sigma of the full one."""
        deletions, A = self._grouped.deletions, self._fit._solved.fixed.A
        se = np.sqrt(self._fit.scale * deletions.variances(A))
        return self._frame(deletions.shift(A) / se)

    @property
    def params(self) -> pd.DataFrame:
        """Fixed effects without each group."""
        return self._fit.params - self.dfbeta

    def frame(self) -> pd.DataFrame:
        """All scalar diagnostics, one row per deletion."""
        names = ("leverage", "leverage_fixed", "cooks_distance", "mdffits", "covratio", "covtrace")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def __repr__(self) -> str:
        what = "rows" if self.by is None else f"groups of {self._grouped.labels.name!r}"
        return f"<Influence of {len(self._grouped.labels)} {what} on {self._fit.formula!r}>"
