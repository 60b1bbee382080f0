"""Responses drawn from a fitted model, for its own rows and for others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import linear_predictor
from fastlmm_core.data.table import Table
from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.terms import RandomTerm
from fastlmm_core.inference.simulate import add_effects, draw_errors
from fastlmm_core.results.coefficients import whole_number
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.predict import chosen_factors, refuse_unknown
from fastlmm_core.results.rowblocks import RowSource, name_new_levels, new_source, new_weights

NEW_LEVELS = ("error", "population", "draw")


@dataclass(frozen=True, eq=False)
class Truth:
    """What is drawn from: beta (p,), per term L (q, q) in units of the response, and sigma."""

    beta: np.ndarray
    roots: tuple[np.ndarray, ...]
    sigma: float

    @classmethod
    def of(cls, fit, beta=None, theta=None, sigma=None) -> "Truth":
        """The estimates of a fit, with those given in their place."""
        sigma = _sigma(fit, sigma)
        given = fit.theta if theta is None else np.asarray(theta, float)
        if given.shape != fit.theta.shape or not np.isfinite(given).all():
            raise ValueError(f"theta has {len(fit.theta)} finite values, found {np.shape(theta)}")
        roots, at = [], 0
        for term in fit._facts.terms:
            q = len(term.names)
            L = np.zeros((q, q))
            L.T[np.triu_indices(q)] = given[at : (at := at + q * (q + 1) // 2)]
            roots.append(sigma * L)
        return cls(_coefficients(fit, beta), tuple(roots), sigma)


def _sigma(fit, sigma) -> float:
    sigma = fit.sigma if sigma is None else float(sigma)
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma is a number of at least 0, found {sigma!r}")
    return sigma


def _coefficients(fit, beta) -> np.ndarray:
    """(p,); 0 for aliased columns."""
    values = np.nan_to_num(fit._beta)
    if beta is None:
        return values
    if not hasattr(beta, "keys"):
        given = np.asarray(beta, float)
        if given.shape != values.shape or not np.isfinite(given).all():
            raise ValueError(f"beta is a dict by coefficient or {len(values)} finite values, found {beta!r}")
        return given
    for name in beta.keys():
        if name not in fit._names:
            raise ValueError(f"no coefficient {name!r}; the model has {', '.join(fit._names)}")
        values[fit._names.index(name)] = float(beta[name])
    return values


def simulate_fit(fit, nsim: int, seed, kept: Sequence[int], truth: Truth) -> pd.DataFrame:
    """For the rows of the fit; ``kept`` factors have the effects that the fit predicts."""
    rows, rng = fit._rows, np.random.default_rng(seed)
    if not isinstance(rows, FitRows):
        return rows.mean(())  # says why there are none
    design = rows.design
    mean = linear_predictor(design.atoms, design.fixed, truth.beta, design.n, n_threads=rows.n_threads)
    if design.offset is not None:
        mean += design.offset
    levels = [len(found.levels) for found in design.factors]
    k = [len(fit._facts.factor_columns(f)) for f in range(len(levels))]
    if kept:
        effects = [np.zeros(shape) for shape in zip(levels, k)]
        for f in kept:
            effects[f][:] = fit._solved.random_effects[f]
        add_effects(mean, design, effects, rows.n_threads)
    out = np.empty((design.n, nsim), order="F")
    for column in out.T:
        column[:] = mean
        effects = [np.zeros((g, w)) for g, w in zip(levels, k)]
        _draw(effects, design.terms, truth, kept, rng)
        if len(kept) < len(k):
            add_effects(column, design, effects, rows.n_threads)
        column += draw_errors(design, truth.sigma, rng)
    return pd.DataFrame(out, index=rows.labels, columns=_names(nsim))


def _draw(effects, terms: Sequence[RandomTerm], truth: Truth, kept, rng) -> None:
    """Normal effects into ``effects`` per factor (levels, k), term after term; those of ``kept`` stay."""
    at = dict.fromkeys(range(len(effects)), 0)
    for term, L in zip(terms, truth.roots, strict=True):
        f, q = term.factor, len(L)
        if f not in kept:
            z = rng.standard_normal((len(effects[f]), q))
            effects[f][:, at[f] : at[f] + q] = z @ L.T
        at[f] += q


def simulate_new(fit, newdata, nsim: int, seed, kept, new_levels: str, truth: Truth) -> pd.DataFrame:
    """For other rows; NaN where one misses a value."""
    spec, table, rng = fit._spec, Table(newdata), np.random.default_rng(seed)
    try:
        rows = spec.evaluate(table)
    except FormulaError as error:
        text = str(error).replace("; without groups only re='none' can be predicted", "")
        raise FormulaError(text) from None
    names = [spec.group_names[f] for f in kept]
    unknown = {group: found for group, found in rows.unknown.items() if group in names}
    if unknown and new_levels == "error":
        refuse_unknown(unknown, "new_levels='population' gives them effect 0, new_levels='draw' draws theirs")
    source = new_source(spec, rows, new_weights(spec, table))
    name_new_levels(spec, [source], [table], range(len(spec.groups)))
    mean = linear_predictor(rows.atoms, rows.fixed, truth.beta, rows.n)
    if rows.offset is not None:
        mean += rows.offset
    out = _responses(fit, source, mean, nsim, kept, new_levels, truth, rng)
    if source.missing is not None:
        out[source.missing] = np.nan
    return pd.DataFrame(out, index=rows.index, columns=_names(nsim))


def _responses(fit, source: RowSource, mean, nsim, kept, new_levels, truth: Truth, rng) -> np.ndarray:
    """Draws (n, nsim): one effect per level that occurs, known levels in the fit's order, then new ones."""
    facts = fit._facts
    codes, start = [], []
    for f, found in enumerate(source.codes):
        values, at = np.unique(np.where(found < 0, len(facts.levels[f]) - found, found), return_inverse=True)
        b = np.zeros((len(values), len(facts.factor_columns(f))))
        seen = values < len(facts.levels[f])
        if f in kept:
            b[seen] = fit._solved.random_effects[f][values[seen]]
        codes.append(at)
        start.append((b, seen))
    Z = [source.Z(term) for term in source.terms]
    e = truth.sigma if source.weights is None else truth.sigma / np.sqrt(source.weights)
    out = np.empty((source.n, nsim), order="F")
    for column in out.T:
        effects = [b.copy() for b, _ in start]
        _draw(effects, source.terms, truth, kept, rng)
        if new_levels == "draw" and kept:
            anew = [np.zeros((int((~seen).sum()), b.shape[1])) for b, seen in start]
            _draw(anew, source.terms, truth, [f for f in range(len(start)) if f not in kept], rng)
            for f in kept:
                effects[f][~start[f][1]] = anew[f]
        column[:] = mean
        at = [0] * len(effects)
        for term, values in zip(source.terms, Z, strict=True):
            f, q = term.factor, values.shape[1]
            column += np.einsum("nq,nq->n", values, effects[f][codes[f], at[f] : at[f] + q])
            at[f] += q
        column += e * rng.standard_normal(source.n)
    return out


def _names(nsim: int) -> list[str]:
    return [f"sim_{i + 1}" for i in range(nsim)]


class Simulation:
    """The method of `LMMResults` that draws responses."""

    def simulate(
        self, nsim: int = 1, seed=None, re="none", newdata=None, *, new_levels: str = "error", beta=None,
        theta=None, sigma: float | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Draw responses from the fitted model.

        Parameters
        ----------
        nsim : number of responses.
        seed : int, SeedSequence or Generator, optional
            Of `numpy.random.default_rng`.
        re : ``"none"``: new random effects for every response; ``"all"``: those predicted by the fit; a list
            of groups: theirs as predicted, the others new.
        newdata : table of any kind `lmer` takes in memory, optional
            Rows to draw for, by default those of the fit.  Their levels may be new; a fit without rows
            (loaded, or from statistics) can draw for them too.
        new_levels : of groups whose effects are as predicted: ``"error"``, ``"population"`` (effect 0) or
            ``"draw"``.
        beta : dict or (p,) array, optional
            Fixed effects in place of the estimates; a dict changes those that it names.
        theta : (m,) array, optional
            Relative covariance parameters, lme4's order.
        sigma : residual standard deviation, optional.

        Returns
        -------
        DataFrame
            Rows x nsim, columns ``sim_1, sim_2, ...``: ``offset + X beta + Z b + e``, b and e normal
            with the estimated covariances (e divided by the root of the weight).  NaN where a row of
            ``newdata`` misses a value.

        Raises
        ------
        DataError : unseen levels with ``new_levels="error"``; no rows to draw for.
        FormulaError : ``newdata`` lacks a column; the response is not needed.
        ValueError : parameters of another length.

        Notes
        -----
        As lme4's ``simulate(fit, nsim, seed, re.form, newdata, newparams, allow.new.levels)``.

        Examples
        --------
        >>> import fastlmm_core as flm
        >>> fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
        >>> plan = {"Days": [0, 9, 0, 9], "Subject": ["new 1", "new 1", "new 2", "new 2"]}
        >>> fit.simulate(3, seed=1, newdata=plan).shape
        (4, 3)
        """
        nsim = whole_number(nsim, "nsim")
        if new_levels not in NEW_LEVELS:
            raise ValueError(f"new_levels is one of {', '.join(map(repr, NEW_LEVELS))}, found {new_levels!r}")
        kept = chosen_factors(re, self._facts.factors)
        truth = Truth.of(self, beta, theta, sigma)
        if newdata is not None:
            return simulate_new(self, newdata, nsim, seed, kept, new_levels, truth)
        return simulate_fit(self, nsim, seed, kept, truth)


class LinearSimulation:
    """The method of `LMResults` that draws responses."""

    def simulate(
        self, nsim: int = 1, seed=None, newdata=None, *, beta=None, sigma: float | None = None
    ) -> pd.DataFrame:
        """Draw responses from the fitted model.

        Parameters
        ----------
        nsim : number of responses.
        seed : int, SeedSequence or Generator, optional
        newdata : table, optional
            Rows to draw for, by default those of the fit.
        beta, sigma : in place of the estimates; a dict changes the coefficients that it names.

        Returns
        -------
        DataFrame
            Rows x nsim: ``offset + X beta + e``, e normal with variance ``sigma^2 / weight``.
        """
        nsim, truth = whole_number(nsim, "nsim"), Truth(_coefficients(self, beta), (), _sigma(self, sigma))
        if newdata is not None:
            return simulate_new(self, newdata, nsim, seed, (), "error", truth)
        return simulate_fit(self, nsim, seed, (), truth)
