"""What an experienced statistician would point at in a fitted mixed model, with figures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from fastlmm_core.errors import ModelError
from fastlmm_core.inference.reliability import error_variances
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.influence import GroupedRows, Influence
from fastlmm_core.results.robust import outermost
from fastlmm_core.results.rowblocks import equations, fit_source
from fastlmm_core.results.streamrows import StatisticsRows
from fastlmm_core.results.variance import column_sizes

ALPHA = 0.01
"""Level below which a test is pointed at."""

FEW_LEVELS = 8
"""Fewer levels say nothing of a distribution."""

SKEW, KURTOSIS = 0.5, 1.0
"""Departures from the normal distribution smaller than these change no conclusion."""

CORRELATION, SMALL_SHARE = 0.99, 1e-3
"""A correlation beyond the first, or a share of the variance below the second, is near singular."""

SD_RATIO, GROUP_RATIO = 1.2, 1.5
"""Ratios of residual sizes, along the mean and between groups, that are worth modelling."""

LEAST_DF = 2.0
"""Residual degrees of freedom of a level from which its variance is compared."""

SHIFT = 1.0
"""Standard errors of a coefficient that one group may move it by."""

NEEDS_ROWS = "needs rows"
"""Statistic of a check that was not made."""

COLUMNS = ["check", "where", "statistic", "value", "p", "flag", "message"]


@dataclass(frozen=True, eq=False)
class Check:
    """Findings of `LMMResults.check`; ``frame`` has one row per check, ``flagged`` those to look at."""

    formula: str
    frame: pd.DataFrame

    @property
    def flagged(self) -> pd.DataFrame:
        return self.frame[self.frame["flag"]]

    @property
    def skipped(self) -> pd.DataFrame:
        """Checks that need the data rows, which this fit does not have."""
        return self.frame[self.frame["statistic"] == NEEDS_ROWS]

    def __str__(self) -> str:
        flagged, skipped = len(self.flagged), len(self.skipped)
        head = f"{self.formula}: {flagged or 'nothing'} to look at, of {len(self.frame) - skipped} checks"
        head += f"; {skipped} more need the data rows" if skipped else ""
        ordered = self.frame.sort_values("flag", ascending=False, kind="stable")
        lines = [f"{'!' if row.flag else ' '} {row.message}" for row in ordered.itertuples()]
        return "\n".join([head, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.frame.drop(columns="message")._repr_html_()


def check_fit(fit) -> Check:
    """Run every check; see `LMMResults.check`."""
    equations(fit)
    rows = [*_search(fit), *_terms(fit)]
    if isinstance(fit._rows, FitRows):
        rows += [*_row_checks(fit), *_random_effects(fit), *_influence(fit)]
    else:
        rows += [*_random_effects(fit), *_without_rows(fit)]
    return Check(fit.formula, pd.DataFrame(rows, columns=COLUMNS))


def _row_checks(fit):
    """Residuals: outliers, shape, variances."""
    try:
        leverage = GroupedRows(fit, None).rows[1]
    except ModelError:  # too many crossed levels
        leverage = np.zeros(fit.nobs)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = fit._rows.scaled_residuals / np.sqrt(np.where(leverage < 1.0, 1.0 - leverage, np.nan))
    yield _outlying_rows(fit, residual)
    yield _shape("residuals", "", residual[np.isfinite(residual)])
    yield from _variances(fit, residual)
    yield from _group_variances(fit, leverage)


def _without_rows(fit):
    """The checks that sums by level cannot make, by name."""
    facts = fit._facts
    group = facts.factors[int(np.argmin([len(levels) for levels in facts.levels]))]
    for check, where, what in (
        ("outlying row", "", "residuals"),
        ("normal residuals", "", "residuals"),
        ("variance and mean", "", "residuals and fitted values"),
        ("variance between groups", group, "squares of the response by level"),
        ("influential group", group, "products of fixed columns by level"),
    ):
        text = f"{check}{' of ' + where if where else ''}: not checked, it takes the {what}, so the data rows"
        yield _row(check, where, NEEDS_ROWS, np.nan, np.nan, False, text)


def _row(check, where, statistic, value, p, flag, message):
    return (check, where, statistic, float(value), float(p), bool(flag), message)


def _search(fit):
    ok = fit.converged
    text = "the search ended at a certified optimum" if ok else "the search ended without a certificate"
    text += f" ({fit.engine}: {fit.engine_reason})" if fit.engine_reason else ""
    yield _row("convergence", "", "converged", ok, np.nan, not ok, text)


def _terms(fit):
    """Variances near 0 and correlations near 1 of each random term."""
    total = fit.scale + sum(fit._rows.variances[1:])
    for (key, names, cov), size in zip(fit._blocks, _mean_squares(fit), strict=True):
        sd = np.sqrt(np.diag(cov))
        for j, name in enumerate(names):
            share = 0.0 if sd[j] == 0 else cov[j, j] * size[j] / total
            size_of = "0" if sd[j] == 0 else f"{sd[j]:.4g}, {share:.3g} of the variance"
            if np.isnan(share):
                text = f"{key}: sd of {name} is {sd[j]:.4g}; its share of the variance takes the data rows"
                yield _row("variance", key, NEEDS_ROWS, np.nan, np.nan, False, text)
                continue
            text = f"{key}: sd of {name} is {size_of}"
            yield _row("variance", key, name, share, np.nan, share < SMALL_SHARE, text)
        for a in range(len(names)):
            for b in range(a):
                if sd[a] > 0 and sd[b] > 0:
                    r = cov[a, b] / (sd[a] * sd[b])
                    text = f"{key}: correlation of {names[b]} and {names[a]} {r:.3f}"
                    flag = abs(r) > CORRELATION
                    text += ", near its bound" if flag else ""
                    yield _row("correlation", key, f"{names[b]}, {names[a]}", r, np.nan, flag, text)


def _mean_squares(fit) -> list[np.ndarray]:
    """Of the columns of Z of each term (q,): times its variance, a column's share of the variance of y."""
    rows = fit._rows
    if isinstance(rows, FitRows):
        source = fit_source(rows.design, rows.labels)
        return [
            sum((source.Z(term, part) ** 2).sum(0) for part in source.slices()) / source.n
            for term in source.terms
        ]
    found = column_sizes(fit._solved, rows.moments if isinstance(rows, StatisticsRows) else None)
    # weighted sums alone do not tell
    return [np.full(len(term.names), np.nan) for term in fit._facts.terms] if found is None else found


def _outlying_rows(fit, residual):
    """The largest studentized residual against its distribution as the largest of n (Bonferroni)."""
    size = np.where(np.isfinite(residual), np.abs(residual), 0.0)
    worst = int(np.argmax(size))
    label = str(fit._rows.labels[worst])
    p = min(1.0, len(size) * 2.0 * float(special.ndtr(-size[worst])))
    count, expected = int((size > 3).sum()), len(size) * 2.0 * float(special.ndtr(-3.0))
    text = (
        f"largest studentized residual {residual[worst]:.2f} (row {label}), p {p:.2g} as the largest of "
        f"{len(size)}; {count} beyond 3, {expected:.1f} expected"
    )
    return _row("outlying row", label, "residual", residual[worst], p, p < ALPHA, text)


def _shape(check, where, values):
    """Skewness and excess kurtosis, their joint test of Jarque & Bera (1987)."""
    n = len(values)
    of = f"{check} of {where}" if where else check
    if n < FEW_LEVELS:
        text = f"{of}: {n} are too few to judge a shape"
        return _row(f"normal {check}", where, "skewness", np.nan, np.nan, False, text)
    z = (values - values.mean()) / max(values.std(), np.finfo(float).tiny)
    skew, kurtosis = float((z**3).mean()), float((z**4).mean() - 3.0)
    p = float(np.exp(-0.5 * n * (skew**2 / 6.0 + kurtosis**2 / 24.0)))
    flag = p < ALPHA and (abs(skew) > SKEW or abs(kurtosis) > KURTOSIS)
    text = f"{of}: skewness {skew:.2f}, excess kurtosis {kurtosis:.2f} (p {p:.2g})"
    return _row(f"normal {check}", where, "skewness", skew, p, flag, text)


def _variances(fit, residual):
    """Does the residual variance follow the mean (Koenker 1981)?"""
    good = np.isfinite(residual)
    size, mean = residual[good] ** 2, fit._rows.fitted[good]
    if np.ptp(mean) > 1e-9 * np.abs(mean).max() and np.std(size) > 0:
        r = float(np.corrcoef(size, mean)[0, 1])
        p = float(special.gammaincc(0.5, 0.5 * len(size) * r * r))
        halves = mean > np.median(mean)
        ratio = float(np.sqrt(size[halves].mean() / size[~halves].mean())) if halves.any() else np.nan
        text = f"residual sd of the upper half of the fitted values over the lower: {ratio:.2f} (p {p:.2g})"
        flag = p < ALPHA and max(ratio, 1.0 / ratio) > SD_RATIO
        yield _row("variance and mean", "", "sd ratio", ratio, p, flag, text)


def _group_variances(fit, leverage):
    """Does the residual variance differ between levels of the outermost factor?

    With SS the squared residuals of a level and ``nu = n - its leverages``, ``log(SS / nu)`` has
    variance about ``psi'(nu / 2)`` (Raudenbush & Bryk 2002, section 9.4, who fit each level by
    itself), times ``1 + kappa / 2`` for residuals of excess kurtosis kappa (Box 1953); the
    statistic is the sum of squares about their weighted mean over these variances.  Its p is combined
    with that of the level farthest out.
    """
    f = outermost(fit._rows.design)
    group, codes = fit._facts.factors[f], fit._rows.design.factors[f].codes
    z2 = fit._rows.scaled_residuals**2
    nu, squares = np.bincount(codes, 1.0 - leverage), np.bincount(codes, z2)
    used = (nu >= LEAST_DF) & (squares > 0)
    if used.sum() < 2:
        return
    s2 = np.where(used, squares / np.where(used, nu, 1.0), 1.0)
    rows = used[codes] & (leverage < 1.0)
    # of normal studentized residuals over their own level's sd the fourth moment is 3 nu / (nu + 2)
    fourth = ((z2[rows] / (1.0 - leverage[rows]) / s2[codes[rows]]) ** 2).sum()
    kurtosis = 3.0 * float(fourth / (3.0 * nu / (nu + 2.0))[codes[rows]].sum() - 1.0)
    inflation = max(1.0 + 0.5 * kurtosis, 0.5)
    variance = special.polygamma(1, nu[used] / 2.0) * inflation
    logs = np.log(s2[used]) - special.digamma(nu[used] / 2.0) + np.log(nu[used] / 2.0)
    centre = float((logs / variance).sum() / (1.0 / variance).sum())
    H = float(((logs - centre) ** 2 / variance).sum())
    # logarithms of small chi-squares have heavy tails: H is scaled to its own mean and variance
    tails = special.polygamma(3, nu[used] / 2.0) / special.polygamma(1, nu[used] / 2.0) ** 2
    scale = 1.0 + 0.5 * float(tails.mean())
    p = float(special.gammaincc(0.5 * (len(logs) - 1) / scale, 0.5 * H / scale))
    # the level farthest out against all others, by F, as the farthest of all (Bonferroni)
    rest, total = nu[used].sum() - nu[used], squares[used].sum() - squares[used]
    F = s2[used] / (total / rest)
    upper = special.fdtrc(nu[used] / inflation, rest / inflation, F)
    lower = special.fdtr(nu[used] / inflation, rest / inflation, F)
    sides = 2.0 * np.minimum(upper, lower)
    worst = np.flatnonzero(used)[int(np.argmin(sides))]
    p = min(1.0, 2.0 * min(p, len(logs) * float(sides.min())))
    ratio = float(np.sqrt(s2[worst] / np.exp(centre)))
    text = (
        f"residual variance between levels of {group}: chi-square {H:.1f} on {len(logs) - 1} "
        f"and the farthest, {fit._facts.levels[f][worst]}, with {ratio:.2f} times the usual sd (p {p:.2g})"
    )
    flag = p < ALPHA and max(ratio, 1.0 / ratio) > GROUP_RATIO
    yield _row("variance between groups", group, "chi-square", H, p, flag, text)


def _random_effects(fit):
    """Shape of each random effect, and levels that lie far out for all of a factor's effects together.

    ``b^`` has variance ``Sigma - Var(b^ - b)``; effects are divided by its root (Lange & Ryan 1989).
    """
    facts, solved = fit._facts, fit._solved
    groups = fit.cov_re
    for f, (group, pev) in enumerate(zip(facts.factors, error_variances(solved))):
        b, columns = solved.random_effects[f], list(facts.factor_columns(f))
        spread = groups[group].loc[columns, columns].to_numpy()[None] - pev
        for j, name in enumerate(columns):
            variance = spread[:, j, j]
            known = variance > 1e-8 * max(groups[group].iloc[j, j], 1e-300)
            values = b[known, j] / np.sqrt(variance[known])
            yield _shape("random effects", f"{name} | {group}", values)
        if not b.any():
            continue
        distance, df = _distances(b, spread)
        with np.errstate(invalid="ignore"):
            tails = np.where(df > 0, special.gammaincc(np.maximum(df, 1) / 2.0, distance / 2.0), 1.0)
        worst = int(np.argmin(tails))
        p, label, far = min(1.0, len(b) * float(tails[worst])), facts.levels[f][worst], distance[worst] ** 0.5
        text = f"{group}: level {label} is farthest out of {len(b)}, distance {far:.2f} (p {p:.2g})"
        yield _row("outlying group", str(label), group, far, p, p < ALPHA, text)


def _distances(b, spread):
    """``b'V^- b`` and rank of V (levels,), V (levels, k, k)."""
    scale = np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2).max(0), 1e-300))
    values, vectors = np.linalg.eigh(spread / np.outer(scale, scale))
    used = values > 1e-6
    along = np.einsum("ika,ik->ia", vectors, b / scale)
    terms = np.where(used, along**2 / np.where(used, values, 1.0), 0.0)
    return terms.sum(1), used.sum(1)


def _influence(fit):
    """The group of the outermost factor that moves the fixed effects most."""
    group = fit._facts.factors[outermost(fit._rows.design)]
    try:
        found = Influence(fit, group)
        dfbetas = found.dfbetas.iloc[:, list(fit._kept)]
    except ModelError as error:
        yield _row("influence", group, "dfbetas", np.nan, np.nan, False, f"influence not computed: {error}")
        return
    if not dfbetas.shape[1]:
        return
    lost = int(dfbetas.isna().any(axis=1).sum())
    if lost:
        text = f"{lost} levels of {group} each carry a coefficient that cannot be estimated without them"
        yield _row("indispensable groups", group, "levels", lost, np.nan, True, text)
    size = dfbetas.abs().fillna(0.0).to_numpy()
    i, j = np.unravel_index(int(size.argmax()), size.shape)
    value, cook = dfbetas.iloc[i, j], found.cooks_distance.iloc[i]
    text = (
        f"{group}: level {dfbetas.index[i]} moves {dfbetas.columns[j]} by {value:.2f} standard errors "
        f"(Cook's distance {cook:.2f})"
    )
    yield _row("influential group", str(dfbetas.index[i]), "dfbetas", value, np.nan, size[i, j] > SHIFT, text)
