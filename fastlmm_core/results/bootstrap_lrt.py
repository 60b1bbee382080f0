"""`bootstrap_lrt`: likelihood-ratio test of two fits, its distribution by simulation."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import special

from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.errors import ModelError
from fastlmm_core.inference.bootstrap import run_chunks
from fastlmm_core.inference.distributions import f_upper
from fastlmm_core.inference.estimated import check_likelihood
from fastlmm_core.inference.lrt import boundary_p, naive_p, parameters, reml_of_least_squares
from fastlmm_core.inference.nested import NestedReplicator, RandomPart, SmallerModel, check_nested
from fastlmm_core.inference.refit import by_maximum_likelihood
from fastlmm_core.results.coefficients import whole_number
from fastlmm_core.results.comparison import check_same_data
from fastlmm_core.results.fit import LMMResults
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.ols import LMResults
from fastlmm_core.results.resampling import reporter, solved_model
from fastlmm_core.results.restriction import combinations

NOISE = 1e-6
"""Searches end this close to an optimum: statistics below are 0."""


def bootstrap_lrt(fit, other, nsim: int = 1000, seed=None, n_jobs: int | None = None, progress=None):
    """Parametric-bootstrap likelihood-ratio test of two nested models.

    Responses are drawn from the smaller model, both models are fitted to each, and the statistic of the data
    is compared with theirs: a test that does not rest on a chi-square, which is too liberal for fixed
    effects of few groups and wrong for variances.

    Parameters
    ----------
    fit, other : LMMResults, one of them may be LMResults
        Of the same response and rows, in either order.  Fixed columns of the smaller one lie in the span of
        the larger one's; its random effects are some of the larger one's, by name.
    nsim : number of responses.
    seed : int, SeedSequence or Generator, optional
        Results do not depend on ``n_jobs``.
    n_jobs : threads; by default the processors available.
    progress : bool or callable, optional
        True draws a bar on stderr; a callable gets the fraction done.

    Returns
    -------
    BootstrapTest
        ``statistic, p, p_error, df``, ``table`` with the chi-square test and Bartlett's correction beside the
        bootstrap, and ``draws``.

    Raises
    ------
    ModelError : models that are not nested; likelihoods that are estimates (the iterative engine).
    DataError : other rows or another response; a fit that has lost its statistics.

    Notes
    -----
    As ``PBmodcomp`` of R's pbkrtest (Halekoh & Hojsgaard 2014, doi:10.18637/jss.v059.i09).  Likelihoods are
    restricted where the fixed effects are the same and the fits are by REML, else REML fits are refitted by
    ML, as in `anova`; draws are from the smaller model's estimates by that criterion.  Responses are
    drawn as sufficient statistics (see `LMMResults.bootstrap`), of which those of the smaller model are
    a linear map, so that the cost of a draw does not depend on the number of rows.

    Examples
    --------
    >>> import fastlmm_core as flm
    >>> from fastlmm_core.results.bootstrap_lrt import bootstrap_lrt
    >>> oats = flm.load_dataset("Oats")
    >>> large = flm.lmer("yield ~ nitro + Variety + (1 | Block / Variety)", oats)
    >>> small = flm.lmer("yield ~ nitro + (1 | Block / Variety)", oats)
    >>> test = bootstrap_lrt(large, small, nsim=200, seed=1)
    >>> round(test.statistic, 3), test.df
    (3.121, 2)
    """
    for one in (fit, other):
        if not isinstance(one, LMMResults | LMResults):
            raise TypeError(f"bootstrap_lrt takes fits made by lmer or lm, found {type(one).__name__}")
    nsim = whole_number(nsim, "nsim")
    larger, smaller = sorted((fit, other), key=lambda one: -one.df_modelwc)
    check_same_data((larger, smaller))
    if not isinstance(larger, LMMResults):
        raise ModelError("the larger model has no random effects: compare linear models by their F tests")
    df = larger.df_modelwc - smaller.df_modelwc
    if df == 0:
        raise ModelError(f"both models have {larger.df_modelwc} parameters: neither is nested in the other")
    restricted = _restricted(larger, smaller)
    minus2, upper = _criterion(larger, restricted)
    below, _ = _criterion(smaller, restricted)
    statistic, size = below - minus2, abs(minus2)
    model = _nested(larger, smaller, upper, restricted, statistic, size)
    jobs, report = resolve_threads(n_jobs), reporter(progress)
    draws = np.array(run_chunks(model.statistics, int(nsim), model.chunk, seed, jobs, report), float)
    statistic, draws = (np.where(values < NOISE, 0.0, values) for values in (statistic, draws))
    return BootstrapTest(statistic, df, draws, larger, smaller, restricted)


def _restricted(larger, smaller) -> bool:
    """Whether restricted likelihoods compare: the same fixed effects, REML, as `anova` has it."""
    if larger.method != "REML" or getattr(smaller, "method", "REML") != "REML":
        return False
    return set(_kept_names(larger)) == set(_kept_names(smaller))


def _kept_names(fit) -> list[str]:
    return [fit._names[j] for j in fit._kept]


def _criterion(fit, restricted: bool):
    """-2 log-likelihood in the data's units, and the solved model it is of, None of a linear one."""
    if isinstance(fit, LMResults):
        return reml_of_least_squares(fit._estimates) if restricted else -2.0 * fit.llf, None
    solved = solved_model(fit, "bootstrap_lrt")
    check_likelihood(solved.objective, "bootstrap_lrt")
    solved = solved if restricted else by_maximum_likelihood(solved)
    return solved.estimates.objective, solved


def _nested(larger, smaller, upper, restricted, statistic, size) -> NestedReplicator:
    """The smaller model in the larger one's coordinates: by names of columns, else by their values."""
    names, own, start = _random_part(larger), RandomPart((), ()), None
    if isinstance(smaller, LMMResults):
        own, start = _random_part(smaller), smaller.theta
    _check_random(names, own, larger, smaller)
    design = larger._rows.design if isinstance(larger._rows, FitRows) else None
    for basis in _bases(larger, smaller, upper, restricted):
        found = NestedReplicator(SmallerModel(upper, basis, names, own), restricted, start, design)
        try:
            check_nested(found.observed, statistic, size)
        except ModelError as error:
            problem = error
            continue
        return found
    raise problem


def _random_part(fit) -> RandomPart:
    facts = fit._facts
    columns = tuple(facts.factor_columns(f) for f in range(len(facts.factors)))
    return RandomPart(facts.factors, columns, fit._solved.theta_map)


def _check_random(names: RandomPart, own: RandomPart, larger, smaller) -> None:
    """ModelError for variances or covariances that the larger model does not have."""
    have = [_parameters(fit) for fit in (smaller, larger)]
    if not (have[0][0] <= have[1][0] and have[0][1] <= have[1][1]):
        extra = sorted(map(str, have[0][0] - have[1][0])) or sorted(map(str, have[0][1] - have[1][1]))
        raise ModelError(
            f"the random effects of {smaller.formula} are not among those of {larger.formula}: {extra[0]}"
        )
    for part, fit in ((names, larger), (own, smaller)):
        for group, columns in zip(part.factors, part.columns, strict=True):
            if len(set(columns)) < len(columns):
                raise ModelError(
                    f"{fit.formula} has an effect of {group!r} in two terms: they cannot be told apart"
                )


def _parameters(fit):
    if isinstance(fit, LMResults):
        return set(), set()
    facts = fit._facts
    return parameters((facts.factors[term.factor], term.names) for term in facts.terms)


def _bases(larger, smaller, upper, restricted) -> Iterator[np.ndarray]:
    """Coefficients (r, r0) of the smaller model's columns in the larger one's coordinates."""
    A, names, wanted = upper.fixed.A, _kept_names(larger), _kept_names(smaller)
    if restricted:
        yield np.eye(len(names))
        return
    if set(wanted) <= set(names):
        P = np.zeros((len(names), len(wanted)))
        P[[names.index(name) for name in wanted], range(len(wanted))] = 1.0
        yield np.linalg.solve(A, P)
    elif not (isinstance(larger._rows, FitRows) and isinstance(smaller._rows, FitRows)):
        missing = sorted(set(wanted) - set(names))
        raise ModelError(
            f"the larger model has no column {missing[0]!r}, and there are no rows to look further"
        )
    if isinstance(larger._rows, FitRows) and isinstance(smaller._rows, FitRows):
        yield np.linalg.solve(A, combinations(larger, smaller))


class BootstrapTest:
    """A likelihood-ratio statistic and its distribution under the smaller model.

    Attributes
    ----------
    statistic : float
        Twice the log of the likelihood ratio.
    df : int
        Difference in numbers of parameters.
    p : float
        ``(b + 1) / (m + 1)`` with b of m draws not below the statistic (Davison & Hinkley 1997, section 4.2).
    p_error : float
        Its Monte Carlo standard error, ``sqrt(p (1 - p) / m)``.
    draws : (nsim,) float64
        Statistics of the drawn responses; NaN where a fit failed.
    n_failed : int
        Draws that count in nothing.
    table : DataFrame
        Columns ``statistic, df, den_df, p``.  Rows ``chi-square``: the usual test; ``bootstrap``: `p`; where
        one variance is tested ``mixture``: of two chi-squares, as in `anova`.  Where only fixed effects
        are tested also approximations that need few draws: ``bartlett``: chi-square of the statistic times
        df over the mean of the draws; ``gamma``: a gamma distribution with the draws' mean and variance;
        ``F``: an F distribution with the draws' mean (of the statistic over df).
    larger, smaller : str
        Formulas.
    restricted : bool
        Whether likelihoods are restricted.
    """

    def __init__(self, statistic, df, draws, larger, smaller, restricted):
        self.statistic, self.df, self.draws, self.restricted = float(statistic), int(df), draws, restricted
        self.larger, self.smaller = larger.formula, smaller.formula
        good = draws[np.isfinite(draws)]
        self.n_failed, m = int(len(draws) - len(good)), len(good)
        self.p = (int((good >= statistic).sum()) + 1) / (m + 1)
        self.p_error = (self.p * (1.0 - self.p) / m) ** 0.5 if m else float("nan")
        random = _parameters(smaller), _parameters(larger)
        rows = {"chi-square": (statistic, df, np.nan, naive_p(statistic, df))}
        if len(random[1][0]) - len(random[0][0]) == 1:
            rows["mixture"] = (statistic, df, np.nan, boundary_p(statistic, df, *random))
        rows["bootstrap"] = (statistic, np.nan, np.nan, self.p)
        if random[0] == random[1]:
            rows |= _approximations(statistic, df, good)
        self.table = pd.DataFrame(list(rows.values()), list(rows), ["statistic", "df", "den_df", "p"], float)

    def __repr__(self) -> str:
        kind = "restricted likelihoods" if self.restricted else "likelihoods"
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        return (
            f"<BootstrapTest of {self.larger!r} against {self.smaller!r}, {kind}, {len(self.draws)} "
            f"draws{failed}>\n{self.table.to_string()}"
        )

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def _approximations(statistic: float, df: int, draws: np.ndarray) -> dict:
    """Tests from the first moments of the draws, as pbkrtest's ``PBmodcomp``."""
    if len(draws) < 2:
        return {}
    mean, variance = float(draws.mean()), float(draws.var(ddof=1))
    scaled = df * statistic / mean
    rows = {"bartlett": (scaled, df, np.nan, naive_p(scaled, df))}
    gamma = float(special.gammaincc(mean**2 / variance, statistic * mean / variance))
    rows["gamma"] = (statistic, np.nan, np.nan, gamma)
    # the mean of F on den_df is den_df / (den_df - 2); no F has a mean below 1
    ratio = mean / df
    den_df = 2.0 * ratio / (ratio - 1.0) if ratio > 1.0 else np.inf
    rows["F"] = (statistic / df, df, den_df, f_upper(statistic / df, df, den_df))
    return rows
