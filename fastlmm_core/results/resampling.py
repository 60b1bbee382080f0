"""What a fit can tell by fitting again: tests of random terms, refits, simulation, bootstrap, profiles."""

import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.errors import ConvergenceWarning, DataError
from fastlmm_core.formula.terms import Column
from fastlmm_core.inference.bootstrap import Refitter, Replicate, Replicator, Solved, run_chunks
from fastlmm_core.inference.lrt import mixture_upper, naive_p
from fastlmm_core.inference.ranova import (
    INTERCEPT,
    Deletion,
    criterion_by_rows,
    criterion_of,
    deletions,
    formula_terms,
    reducible,
    smaller_criterion,
    sum_to_one,
    with_constant,
)
from fastlmm_core.inference.refit import refit_response
from fastlmm_core.inference.resample import ClusterResampler
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.results.bootstrapped import Bootstrap, as_series, natural_names, natural_values
from fastlmm_core.results.coefficients import whole_number
from fastlmm_core.results.dropping import drop_table
from fastlmm_core.results.fitrows import AbsentRows, FitRows
from fastlmm_core.results.predict import chosen_factors
from fastlmm_core.results.profiles import Profile, chosen, profile_targets
from fastlmm_core.results.robust import cluster_codes
from fastlmm_core.results.summary import ending
from fastlmm_core.results.variance import variances_of_sums


def solved_model(fit, what: str) -> SolvedModel:
    """The statistics and engine of a fit, which one read from a file lacks."""
    if not isinstance(fit._solved, SolvedModel):
        raise DataError(
            f"{what} needs the statistics of the model, which a fit read from a file does not have: "
            f"fit {fit.formula!r} anew"
        )
    return fit._solved


BAR = 40
"""Characters of a progress bar."""


class Resampling:
    """Methods of `LMMResults` that fit the model again."""

    def ranova(self, reduce_terms: bool = True) -> pd.DataFrame:
        """Test each random term by leaving it out, or a slope out of it.

        Parameters
        ----------
        reduce_terms : whether slopes go one by one; False: every term goes as a whole.

        Returns
        -------
        DataFrame
            Row ``<none>`` for the model itself, then one per deletion: ``x in (x | g)`` and
            ``x in (0 + x | g)`` reduce the term to ``(1 | g)``, ``(1 | g)`` leaves it out.  A piece of
            formula goes with all its columns; one that is part of an interaction stays.  Columns
            ``npar, llf, aic, LRT, df, p, p_mixture``.  A smaller model that is not nested (``(1 | g)`` in
            ``(0 + x | g)``) has df 0 and no p.  NaN likelihoods: a fit without rows cannot tell, as its sums
            by level do not hold the intercept.

        Raises
        ------
        DataError : the fit has lost its statistics.

        Notes
        -----
        As ``ranova`` of R's lmerTest (Kuznetsova, Brockhoff & Christensen 2017,
        doi:10.18637/jss.v082.i13): likelihoods are restricted if
        the fit is by REML, and ``p`` is from a chi-square on ``df``.  ``p_mixture`` is from the
        50:50 mixture of chi-squares on ``df - 1`` and ``df`` where one variance goes (Stram & Lee
        1994, doi:10.2307/2533455), NaN where several do.  The smaller models are fitted from
        the same statistics; without random effects the likelihood is that of least squares.
        """
        solved, facts = solved_model(self, "ranova"), self._facts
        full = solved.estimates.objective
        rows = {"<none>": (self.df_modelwc, self.llf, self.aic, np.nan, np.nan, np.nan, np.nan)}
        for t, term in enumerate(facts.terms):
            text = _term_text(term.names, facts.factors[term.factor])
            for deletion in deletions(term.names, reduce_terms):
                criterion, r = self._without(t, deletion)
                q = len(term.names)
                df = (q * (q + 1) - r * (r + 1)) // 2
                npar, x = self.df_modelwc - df, float(np.maximum(0.0, criterion - full))
                p = naive_p(x, df) if df > 0 else np.nan
                mixture = mixture_upper(x, df) if q - r == 1 else np.nan
                label = f"({text})" if deletion.piece is None else f"{deletion.piece} in ({text})"
                while label in rows:
                    label += " "
                aic = criterion + 2.0 * npar
                rows[label] = (npar, -0.5 * criterion, aic, x, df, p, mixture)
        columns = ["npar", "llf", "aic", "LRT", "df", "p", "p_mixture"]
        return pd.DataFrame(list(rows.values()), index=list(rows), columns=columns)

    def _without(self, t: int, deletion: Deletion) -> tuple[float, int]:
        """-2 log-likelihood of the model with a smaller term t, and the columns that are left of it."""
        solved, facts, keep = self._solved, self._facts, list(deletion.keep)
        factor = facts.terms[t].factor
        others = [term.names for s, term in enumerate(facts.terms) if s != t and term.factor == factor]
        if deletion.constant and (INTERCEPT,) in others:  # the same term twice is once
            return smaller_criterion(solved, t, keep), len(keep)
        if not deletion.constant and reducible(solved.theta_map.maps[t], keep):
            return smaller_criterion(solved, t, keep), len(keep)
        columns = self._spec.terms[t].columns
        gone = [column for j, column in enumerate(columns) if j not in keep]
        if deletion.constant and sum_to_one(self._spec, gone):
            return criterion_of(solved, *with_constant(solved, t, keep)), len(keep) + 1
        if not isinstance(self._rows, FitRows):
            return np.nan, len(keep) + deletion.constant
        design = self._rows.design
        own = design.terms[t].columns
        left = [own[j] for j in keep] + ([Column(INTERCEPT)] if deletion.constant else [])
        terms = [replace(o, columns=tuple(left)) if s == t else o for s, o in enumerate(design.terms)]
        return criterion_by_rows(solved, replace(design, terms=tuple(terms))), len(left)

    def drop_terms(self) -> pd.DataFrame:
        """Likelihood-ratio test of each term, fixed and random, by leaving it out.

        Returns
        -------
        DataFrame
            Row ``<none>`` for the model itself, then each fixed term that is in no higher one, then the
            random terms as in `ranova`; columns ``part`` (``"fixed"``, ``"random"``), ``npar, llf, aic, LRT,
            df, p, p_mixture``.

        Raises
        ------
        DataError : the fit has lost its statistics.

        Notes
        -----
        As ``drop1`` of R's lme4 with ``test = "Chisq"``, random terms added.  All likelihoods are of ML
        fits, so that they compare; a REML fit is refitted by ML, and its `ranova`, which stays with
        REML, has other numbers.  Nothing is selected here, and a chi-square is liberal for fixed
        effects of few groups: `anova` has F tests, `bootstrap_lrt` a simulated reference.

        Examples
        --------
        >>> import fastlmm_core as flm
        >>> fit = flm.lmer("yield ~ nitro + Variety + (1 | Block / Variety)", flm.load_dataset("Oats"))
        >>> fit.drop_terms()[["part", "npar", "LRT", "df"]].round(2)  # doctest: +NORMALIZE_WHITESPACE
                               part  npar    LRT   df
        without
        <none>                          7    NaN  NaN
        nitro                 fixed     6  63.26  1.0
        Variety               fixed     5   3.12  2.0
        (1 | Block:Variety)  random     6   7.69  1.0
        (1 | Block)          random     6   5.97  1.0
        """
        solved_model(self, "drop_terms")
        return drop_table(self.to_ml())

    def refit(self, y):
        """Fit the same model to another response.

        Parameters
        ----------
        y : (nobs,) array, or Series
            By the rows used in the fit; a Series with other labels than theirs is
            looked up by them, so a column of the full data will do.

        Returns
        -------
        LMMResults
            Everything that does not depend on the response is reused: rows, coding, the
            cross-products of X and Z, and the optimum as a start.

        Raises
        ------
        DataError : wrong length, missing or infinite values, or a fit read from a file.
        ModelError : the response is fitted exactly.

        Warns
        -----
        ConvergenceWarning : the search ended without a certificate.
        """
        solved, rows = solved_model(self, "refit"), self._rows
        y = _response(y, rows.labels)
        if rows.design.offset is not None:
            y = y - rows.design.offset
        design = replace(rows.design, response=y)
        with solved._lock:
            again, optimum = refit_response(solved, design, theta_names(self._facts))
        if not optimum.certificate.converged:
            warnings.warn(ending(optimum.certificate), ConvergenceWarning, stacklevel=2)
        found = again.estimates
        new_rows = FitRows(
            design,
            rows.source,
            found.beta,
            again,
            found.sigma,
            [found.sigma2 * T for T in found.terms],
            rows.n_threads,
        )
        return type(self)(self._facts, again, optimum.certificate, new_rows, self._spec)

    def bootstrap(
        self,
        nsim: int = 1000,
        seed=None,
        statistic=None,
        n_jobs: int | None = None,
        progress=None,
        kind: str = "parametric",
        by=None,
        re="none",
    ) -> Bootstrap:
        """Bootstrap: fit the model to responses drawn from it, or to clusters drawn with replacement.

        Parameters
        ----------
        nsim : number of replicates.
        seed : int, SeedSequence or Generator, optional
            Each replicate has its own child seed, so results do not depend on ``n_jobs``.
        statistic : callable, optional
            Maps a fit to a number, array, dict or Series; the fits it gets have no rows (`icc` and `r2` are
            there, NaN for weighted fits).  By default fixed effects, sigma, standard deviations and
            correlations of the random effects, and theta.
        n_jobs : threads; by default the processors available.
        progress : bool or callable, optional
            True draws a bar on stderr; a callable gets the fraction done.
        kind : ``"parametric"``, or ``"cluster"``: whole clusters, drawn with replacement.
        by : of the cluster bootstrap: a grouping factor, a column of the data, or labels of the rows used; by
            default the outermost grouping factor.
        re : of the parametric bootstrap: ``"none"``: new random effects for every replicate; ``"all"``: those
            that the fit predicts (lme4's ``use.u = TRUE``); a list of groups: theirs as predicted.

        Returns
        -------
        Bootstrap
            ``draws``, ``conf_int(alpha, kind)``, ``summary()``, ``n_failed``.

        Raises
        ------
        DataError : a fit without statistics; the cluster bootstrap of a fit without rows; a parametric one
            without rows of over 3000 crossed random effects.

        Notes
        -----
        As lme4's ``bootMer`` (Bates, Maechler, Bolker & Walker 2015) with ``type = "parametric"`` and the
        fit's own criterion.  With predicted effects that stay, which are shrunk, responses vary less than
        the data did, and rows are drawn.  For nested factors a replicate
        is drawn as its sufficient statistics, which have exactly the distribution that summing
        simulated rows would give, at a cost that does not depend on the number of rows; so it is for
        few crossed random effects, for many rows are drawn.

        Each copy of a drawn cluster is a cluster of its own, with what is nested in it; factors crossed with
        the clusters keep their levels.  Clusters of the outermost of nested factors are weighted sums by
        cluster, the rows being read once; otherwise each replicate sums its rows.  A replicate that lacks a
        column of X failed.  The draws vary with the clusters as they are, so their intervals do not rest on
        normal random effects or equal variances (Davison & Hinkley 1997, section 3.8).
        """
        nsim = whole_number(nsim, "nsim")
        replicator = self._refitter(kind, by, chosen_factors(re, self._facts.factors))
        jobs = resolve_threads(n_jobs)
        report = reporter(progress)
        if statistic is None:
            found = run_chunks(replicator.fit_chunk, int(nsim), replicator.chunk, seed, jobs, report)
            values = [None if one is None else self._natural(one) for one in found]
            own = self._natural(Replicate(self._beta, self._estimates.theta, self.sigma))
            estimate = pd.Series(own, index=self._natural_labels)
        else:

            def work(generators):
                solved_again = replicator.solve_chunk(generators)
                return [
                    None if one is None else as_series(statistic(self._without_rows(one)))
                    for one in solved_again
                ]

            estimate = as_series(statistic(self))
            found = run_chunks(work, int(nsim), min(replicator.chunk, 25), seed, jobs, report)
            values = [None if one is None else one.reindex(estimate.index).to_numpy() for one in found]
        failed = sum(one is None for one in values)
        missing = np.full(len(estimate), np.nan)
        draws = np.array([missing if one is None else one for one in values])
        return Bootstrap(pd.DataFrame(draws, columns=estimate.index), estimate, failed)

    def _refitter(self, kind: str, by, stay) -> Refitter:
        solved, has_rows = solved_model(self, "bootstrap"), isinstance(self._rows, FitRows)
        if kind == "parametric":
            if by is not None:
                raise ValueError("by names the clusters of kind='cluster'; kind is 'parametric'")
            if stay and not has_rows:
                raise DataError("random effects that stay as predicted need rows to draw; this fit has none")
            return Replicator(solved, self._rows.design if has_rows else None, stay)
        if kind != "cluster":
            raise ValueError(f"kind is 'parametric' or 'cluster', found {kind!r}")
        if stay:
            raise ValueError("re is of kind='parametric': clusters come with their own random effects")
        if not has_rows:
            raise DataError(
                "the cluster bootstrap needs the rows: statistics by level do not hold the products of fixed "
                "columns and response of each cluster; kind='parametric' does without"
            )
        return ClusterResampler(solved, self._rows.design, cluster_codes(self, by))

    def profile(self, which=None, n_jobs: int | None = None) -> Profile:
        """Profile likelihood of standard deviations, correlations, sigma and fixed effects.

        Parameters
        ----------
        which : str or list of str, optional
            Names as in the result's ``names`` (``sd_Days|Subject``, ``sigma``, ``Days``, ...), ``"theta_"``
            for all variance parameters, ``"beta_"`` for the fixed effects; by default all.
        n_jobs : threads, a parameter each; by default the processors available where an evaluation is
            worth one.  Results do not depend on it.

        Returns
        -------
        Profile
            ``conf_int(alpha)``, ``zeta`` (the curves), ``plot()``, computed when asked for.

        Raises
        ------
        ValueError : an unknown name.
        DataError : the fit was read from a file.

        Notes
        -----
        Of the ML deviance; a REML fit is refitted by ML, as lme4 does (Bates, Maechler, Bolker & Walker
        2015, doi:10.18637/jss.v067.i01, section 5.1).  The other parameters are re-optimised by Newton's
        method, with the exact Hessian for one grouping factor.
        """
        solved = solved_model(self, "profile")
        return Profile(solved, chosen(profile_targets(self._facts, self._kept), which), n_jobs)

    def _refitted_tables(self, alpha: float, options: dict) -> dict:
        """Methods of `conf_int` that fit again: name -> a function that returns the table."""

        def boot():
            table = self.bootstrap(**options).conf_int(alpha)
            return table[~table.index.str.startswith("theta_")]

        return {"profile": lambda: self.profile(**options).conf_int(alpha), "boot": boot}

    @property
    def _natural_labels(self) -> list[str]:
        facts = self._facts
        kept = [self._names[j] for j in self._kept]
        thetas = [f"theta_{name}" for name in theta_names(facts)]
        return [*natural_names(facts.keys, facts.terms), "sigma", *kept, *thetas]

    def _natural(self, one: Replicate) -> list[float]:
        """Values of the default statistic, as `_natural_labels`."""
        relative = self._solved.theta_map.term_T(one.theta)
        covariances = [one.sigma**2 * T for T in relative]
        return [*natural_values(covariances), one.sigma, *one.beta[self._kept], *one.theta]

    def _without_rows(self, one: Solved):
        """A replicate as a fit, for the user's statistic."""
        facts = self._facts
        if one.levels is not None:
            levels = tuple(known[at] for known, at in zip(facts.levels, one.levels, strict=True))
            facts = replace(facts, levels=levels)
        rows = ReplicateRows({"spec": self._spec, "model": one.model})
        return type(self)(facts, one.model, one.optimum.certificate, rows, self._spec)


class ReplicateRows(AbsentRows):
    """Stands for the rows of a bootstrap replicate, which were never drawn."""

    @property
    def variances(self) -> tuple[float, float]:
        """As `FitRows.variances`; NaN with weights."""
        return variances_of_sums(self.spec, self.model)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise DataError(
            "a bootstrap replicate has no rows: its statistic can use estimates, random effects, tests, icc "
            "and r2, but not fitted values or residuals; simulate() and refit() give fits with rows"
        )


def _bar(fraction: float) -> None:
    """A bar on stderr that is drawn over itself; lines where stderr is no terminal."""
    stream = sys.stderr
    if not getattr(stream, "isatty", lambda: False)():
        stream.write(f"fastlmm_core: {fraction:4.0%} bootstrap\n")
        return
    full = round(BAR * fraction)
    end = "\n" if fraction >= 1.0 else ""
    stream.write(f"\rfastlmm_core: bootstrap [{'#' * full}{'.' * (BAR - full)}] {fraction:4.0%}{end}")
    stream.flush()


def reporter(progress):
    if progress is True:
        return _bar
    if progress is not None and progress is not False and not callable(progress):
        raise TypeError(f"progress is None, a bool or a callable, found {progress!r}")
    return progress or None


def theta_names(facts) -> list[str]:
    """lme4's names of theta: ``g.Intercept``, ``g.x.Intercept``, ``g.x``."""
    names = []
    for term in facts.terms:
        group, q = facts.factors[term.factor], len(term.names)
        for b in range(q):
            names += [
                f"{group}.{term.names[a]}" + (f".{term.names[b]}" if a > b else "") for a in range(b, q)
            ]
    return names


def _response(y, labels: pd.Index) -> np.ndarray:
    """y (n,) float64 in the order of the rows used."""
    if isinstance(y, pd.DataFrame) and y.shape[1] == 1:
        y = y.iloc[:, 0]
    if isinstance(y, pd.Series) and not y.index.equals(labels):
        if y.index.is_unique and labels.is_unique and labels.isin(y.index).all():
            y = y.loc[labels]
    try:
        values = np.array(y, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the new response is not numeric: {error}") from error
    if values.shape != (len(labels),):
        raise DataError(f"the new response has shape {values.shape}; the fit used {len(labels)} rows")
    bad = ~np.isfinite(values)
    if bad.any():
        first = ", ".join(map(str, labels[bad][:5]))
        raise DataError(f"the new response has {bad.sum()} missing or infinite values, first in rows {first}")
    return values


def _term_text(names, group: str) -> str:
    """``Days | Subject`` from the columns of a term."""
    pieces = [piece for piece in formula_terms(names) if piece != INTERCEPT]
    left = " + ".join(pieces) if pieces else "1"
    return f"{left} | {group}" if INTERCEPT in names else f"0 + {left} | {group}"
