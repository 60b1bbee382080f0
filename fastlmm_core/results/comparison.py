"""`anova`: likelihood-ratio table of fits to the same response."""

import warnings
from dataclasses import dataclass
from math import log

import numpy as np
import pandas as pd

from fastlmm_core.errors import DataError, ModelError, MonteCarloWarning
from fastlmm_core.inference.lrt import boundary_p, mixture_upper, naive_p, parameters, reml_of_least_squares
from fastlmm_core.inference.ranova import smaller_criterion
from fastlmm_core.inference.refit import by_maximum_likelihood, fresh_objective, solve_again
from fastlmm_core.inference.rlrt import simulate_rlrt, spectrum
from fastlmm_core.optimize.certificate import MonteCarlo
from fastlmm_core.results.fit import LMMResults
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.ols import LMResults
from fastlmm_core.results.resampling import solved_model

REFITTED = "refitted by ML before comparison: REML likelihoods of different fixed effects do not compare"


class ComparisonTable(pd.DataFrame):
    """A DataFrame that prints ``notes`` (a list of str) above itself; slices are plain DataFrames."""

    _metadata = ["notes"]

    def __init__(self, *args, notes=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.notes = list(notes)

    @property
    def _constructor(self):
        return pd.DataFrame

    def __repr__(self) -> str:
        return "\n".join([*self.notes, self.to_string()])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from html import escape

        return "".join(f"<p>{escape(note)}</p>" for note in self.notes) + super()._repr_html_()


@dataclass
class _Entry:
    """One model: its label, number of parameters, -2 log-likelihood, and names of its parameters."""

    label: str
    npar: int
    minus2: float
    fixed: frozenset
    random: tuple[set, set]


def anova(*fits, names=None) -> pd.DataFrame:
    """Compare two or more fits by likelihood-ratio tests.

    Parameters
    ----------
    fits : LMMResults and LMResults
        Of the same response and rows.
    names : list of str, optional
        Labels of the fits, in their order; by default the formulas.

    Returns
    -------
    DataFrame
        A row per model by increasing number of parameters, index the formulas or ``names``,
        columns ``npar, aic, bic, llf, deviance, chisq, df, p, p_mixture``.
        ``deviance`` is ``-2 llf``; each row is tested against the one above it.
        ``p`` is lme4's, from a chi-square on ``df``.  ``p_mixture`` knows that a
        variance cannot be negative: where one variance is tested (with its
        covariances) it is the 50:50 mixture of chi-squares on ``df - 1`` and
        ``df``; where none is, it is ``p``; where several are, or the models are
        not nested, it is NaN.
        What was done to make the fits comparable is printed above the table and
        kept in ``.notes`` (list of str).

    Raises
    ------
    ModelError : fewer than two fits.
    ValueError : not one name per fit.
    DataError : different numbers of rows or different responses, or a REML fit read from a file
        that would have to be fitted again.

    Notes
    -----
    Fits by REML with the same fixed effects are compared by their restricted
    likelihoods (a linear model then enters with its own).  In all other cases
    REML fits are refitted by ML first, from their statistics, without the rows.

    Bates, Maechler, Bolker & Walker (2015), section 5.2.2; Stram & Lee (1994),
    doi:10.2307/2533455, for the mixture.
    """
    if len(fits) < 2:
        raise ModelError("anova compares two or more fits; for one fit's terms use fit.anova()")
    for fit in fits:
        if not isinstance(fit, LMMResults | LMResults):
            raise TypeError(f"anova takes fits made by lmer or lm, found {type(fit).__name__}")
    labels = [fit.formula for fit in fits] if names is None else [str(name) for name in names]
    if len(labels) != len(fits):
        raise ValueError(f"{len(labels)} names for {len(fits)} fits")
    check_same_data(fits)
    _warn_of_estimates(fits)
    is_reml = [isinstance(fit, LMMResults) and fit.method == "REML" for fit in fits]
    is_mixed = [isinstance(fit, LMMResults) for fit in fits]
    fixed = [frozenset(name for name, value in fit.params.items() if value == value) for fit in fits]
    restricted = any(is_reml) and is_reml == is_mixed and len(set(fixed)) == 1
    notes = []
    if restricted:
        notes.append("restricted likelihoods (REML), the fixed effects being the same")
    elif any(is_reml):
        notes += [f"{label}: {REFITTED}" for label, reml in zip(labels, is_reml, strict=True) if reml]
    with warnings.catch_warnings():  # said above, once
        warnings.simplefilter("ignore", MonteCarloWarning)
        entries = [_entry(*one, restricted) for one in zip(fits, labels, fixed, strict=True)]
    entries.sort(key=lambda entry: entry.npar)
    return _table(entries, fits[0].nobs, notes)


def exact_rlrt(fit, nsim: int = 10000, seed=None) -> pd.Series:
    """Exact restricted likelihood-ratio test that the variance of the only random effect is zero.

    Parameters
    ----------
    fit : LMMResults
        With one random term of one column, e.g. ``(1 | g)``.
    nsim : int
        Draws from the null distribution.
    seed : int, SeedSequence or Generator, optional

    Returns
    -------
    Series
        ``statistic`` (2 log restricted likelihood ratio, of REML estimates whatever the fit's method),
        ``p`` = (b + 1) / (nsim + 1) with b draws not below it, which is never 0 and makes a valid test
        (Davison & Hinkley 1997, section 4.2), ``p_error`` (its Monte Carlo standard error,
        ``sqrt(p (1 - p) / nsim)``), ``p_mixture`` (50:50 of chi-squares on 0 and 1 df), ``nsim``.

    Raises
    ------
    ModelError : other random effects, or unequal weights or sizes that leave over 4000 distinct
        eigenvalues.
    DataError : the fit was read from a file.

    Notes
    -----
    Crainiceanu & Ruppert (2004), doi:10.1111/j.1467-9868.2004.00438.x, as ``exactRLRT`` of R's RLRsim: the
    null distribution from the eigenvalues of ``Z'P0 Z``, no model is fitted in the simulation.
    """
    if not isinstance(fit, LMMResults):
        raise TypeError(f"exact_rlrt takes a fit made by lmer, found {type(fit).__name__}")
    if [len(term.names) for term in fit._facts.terms] != [1]:
        raise ModelError("the exact test is for a single random term with one column, like (1 | group)")
    if nsim < 1:
        raise ValueError(f"nsim is a positive number, found {nsim!r}")
    solved = solved_model(fit, "the exact test")
    if not solved.estimates.reml:
        solved = solve_again(solved, fresh_objective(solved, reml=True))[0]
    x = max(0.0, smaller_criterion(solved, 0, []) - solved.estimates.objective)
    mu, multiplicity = spectrum(solved)
    df = fit.nobs - len(solved.fixed.kept)
    draws = simulate_rlrt(mu, multiplicity, df, int(nsim), np.random.default_rng(seed))
    p = (int((draws >= x).sum()) + 1) / (int(nsim) + 1)
    error = (p * (1.0 - p) / nsim) ** 0.5
    values = {"statistic": x, "p": p, "p_error": error, "p_mixture": mixture_upper(x, 1), "nsim": nsim}
    return pd.Series(values, name="exact_rlrt")


def _entry(fit, label: str, fixed: frozenset, restricted: bool) -> _Entry:
    if isinstance(fit, LMResults):
        minus2 = reml_of_least_squares(fit._estimates) if restricted else -2.0 * fit.llf
        return _Entry(label, fit.df_modelwc, minus2, fixed, (set(), set()))
    facts = fit._facts
    random = parameters((facts.factors[term.factor], term.names) for term in facts.terms)
    minus2 = -2.0 * fit.llf
    if fit.method == "REML" and not restricted:
        minus2 = by_maximum_likelihood(solved_model(fit, "a refit by ML")).estimates.objective
    return _Entry(label, fit.df_modelwc, minus2, fixed, random)


def _table(entries: list[_Entry], nobs: int, notes) -> pd.DataFrame:
    rows = []
    previous: _Entry | None = None
    for entry in entries:
        chisq = df = p = mixture = np.nan
        if previous is not None:
            df = entry.npar - previous.npar
            chisq = max(0.0, previous.minus2 - entry.minus2)
            p = naive_p(chisq, df)
            if previous.fixed <= entry.fixed:
                mixture = boundary_p(chisq, df, previous.random, entry.random)
        aic, bic = entry.minus2 + 2 * entry.npar, entry.minus2 + log(nobs) * entry.npar
        rows.append((entry.npar, aic, bic, -0.5 * entry.minus2, entry.minus2, chisq, df, p, mixture))
        previous = entry
    columns = ["npar", "aic", "bic", "llf", "deviance", "chisq", "df", "p", "p_mixture"]
    return ComparisonTable(
        rows, index=pd.Index(_distinct(entries), name="model"), columns=columns, notes=notes
    )


def _distinct(entries) -> list[str]:
    seen: dict[str, int] = {}
    labels = []
    for entry in entries:
        seen[entry.label] = seen.get(entry.label, 0) + 1
        labels.append(entry.label if seen[entry.label] == 1 else f"{entry.label} ({seen[entry.label]})")
    return labels


def _warn_of_estimates(fits) -> None:
    """Likelihoods from random probes are compared with their errors."""
    errors = [fit.convergence.monte_carlo for fit in fits if isinstance(fit, LMMResults)]
    sds = [error.loglik_sd for error in errors if error is not None]
    if max(sds, default=0.0) > MonteCarlo.NOTABLE_SD:
        sd = 2.0 * sum(value**2 for value in sds) ** 0.5
        warnings.warn(
            f"log-likelihoods here are estimates: chisq has a standard deviation of about {sd:.2g} from them",
            MonteCarloWarning,
            stacklevel=3,
        )


def check_same_data(fits) -> None:
    first = fits[0]
    for fit in fits[1:]:
        if fit.nobs != first.nobs:
            raise DataError(
                f"the fits differ in rows: {first.nobs} in {first.formula}, {fit.nobs} in {fit.formula}; "
                "drop rows with missing values first"
            )
        mine, other = _response(first), _response(fit)
        if mine is None or other is None:
            same = first.response_name == fit.response_name
        else:
            same = np.array_equal(mine, other)
        if not same:
            raise DataError(
                f"the fits have different responses: {first.response_name!r} in {first.formula}, "
                f"{fit.response_name!r} in {fit.formula}"
            )


def _response(fit) -> np.ndarray | None:
    """The response with its offset, None without rows."""
    if not isinstance(fit._rows, FitRows):
        return None
    design = fit._rows.design
    return design.response if design.offset is None else design.response + design.offset
