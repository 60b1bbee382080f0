"""Fits of data that do not fit in memory: statistics in, model out.

`fit` needs statistics alone; `fit_stream` is the whole computation for `lmer`:
source -> plan -> one pass -> statistics -> fit.
"""

import warnings
from dataclasses import replace

import numpy as np

from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.errors import ConvergenceWarning, FastLMMError, FormulaError
from fastlmm_core.fitting import Clock, independent_columns, mixed_facts, solve, theta_names
from fastlmm_core.formula.parse import parse_formula
from fastlmm_core.mme.forecast import forecast
from fastlmm_core.results.facts import RowCount
from fastlmm_core.results.fit import LMMResults
from fastlmm_core.results.streamrows import SourceRows, StatisticsRows
from fastlmm_core.results.summary import ending
from fastlmm_core.stream.assemble import assemble
from fastlmm_core.stream.cluster import accumulate_anywhere, looker
from fastlmm_core.stream.learn import UnknownLevels
from fastlmm_core.stream.plan import Plan, build_plan, plan_of
from fastlmm_core.stream.sources import Source, is_stream, open_source
from fastlmm_core.stream.statistics import CrossProducts

FIRST_PASS, PASS = ("design", 0.2, 0.4), ("cross-products", 0.4, 0.6)
"""The stage and the part of a fit that the passes over the rows count for."""

__all__ = ["CrossProducts", "Plan", "fit", "fit_stream", "plan"]


def plan(
    formula,
    data,
    *,
    reml=True,
    weights=None,
    contrasts=None,
    na_action="drop",
    levels=None,
    control=None,
    n_threads=None,
) -> Plan:
    """What a fit would do, without fitting.

    Parameters
    ----------
    formula : str
    data : any table or source that `lmer` takes, or a frame like those that will be accumulated
        Read for its column types, its first rows (centres and scales) and, where the formula has factors
        or transforms like ``poly``, for their levels and states.  Of a table in memory all rows are
        summed, to count the levels that occur together; or give the CrossProducts that were accumulated.
    reml, weights, contrasts, na_action
        As for `lmer`; weights by name.
    levels : dict, optional
        Column -> levels of a factor in the fixed part, where ``data`` does not show all of them.
    control, n_threads
        As for `lmer`: an engine that is asked for, threads that predicted times are for.

    Returns
    -------
    Plan
        ``str(plan)`` describes it, ``plan.engines`` states nonzeros, flops, bytes and predicted seconds of
        every engine that applies, the one taken and why; ``accumulate`` turns rows into statistics;
        ``to_json`` shares it.

    Raises
    ------
    FormulaError, DataError
    ModelError
        A transform that cannot be learned from data read once, or from so many rows.
    """
    if isinstance(data, CrossProducts):
        if parse_formula(formula).text != data.plan.parsed.text:
            raise FormulaError(f"these statistics are of {data.plan.formula!r}, not of {formula!r}")
        return replace(data.plan, engines=_forecast(assemble(data).products, control, n_threads))
    planned = build_plan(
        formula, data, reml=reml, weights=weights, contrasts=contrasts, na_action=na_action, levels=levels
    )
    if is_stream(data):
        return planned
    try:
        products = assemble(planned.accumulate(data, n_threads=n_threads)).products
    except FastLMMError:  # a frame that only shows types and levels is no data to fit
        return planned
    return replace(planned, engines=_forecast(products, control, n_threads))


def _forecast(products, control, n_threads):
    wanted = "auto" if control is None else control.engine
    return forecast(products, n_threads=resolve_threads(n_threads), engine=wanted)


def fit(
    stats: CrossProducts, reml=None, control=None, *, start=None, n_threads=None, progress=None
) -> LMMResults:
    """Fit a linear mixed model to statistics; the result is that of the rows they are sums of.

    Parameters
    ----------
    stats : CrossProducts
        Of all rows: from ``plan.accumulate``, merged.
    reml : bool, optional
        By default what the plan says.
    control, start, n_threads, progress
        As for `lmer`; ``start=old.theta`` begins at an earlier fit.

    Returns
    -------
    LMMResults
        Attributes by rows raise a DataError; ``predict(data)`` works.

    Raises
    ------
    ModelError, DataError : as for `lmer`.

    Warns
    -----
    RankWarning, ConvergenceWarning : as for `lmer`.
    """
    return _fit(stats, reml, control, start, n_threads, Clock(progress), None)


def fit_stream(
    formula,
    data,
    *,
    reml,
    weights,
    contrasts,
    na_action,
    start,
    control,
    n_threads,
    progress,
    checkpoint,
    client,
) -> LMMResults:  # fmt: skip
    """What `lmer` does with data that are read in batches."""
    clock = Clock(progress if callable(progress) else None)
    with clock("frame"):
        source = open_source(data)
    model = (formula, source, reml, weights, contrasts, na_action)
    look_at = looker(data, source, client, _by_rows(progress, FIRST_PASS), n_threads)
    options = {"n_threads": n_threads, "progress": _by_rows(progress, PASS), "checkpoint": checkpoint}

    def summed(planned):
        with clock("cross-products"):
            return accumulate_anywhere(planned, data, source, client, **options)

    with clock("design"):
        planned, learned = plan_of(*model, look_at=look_at, trust=checkpoint is None)
    try:
        stats = summed(planned)
    except UnknownLevels:
        if not learned.assumed:
            raise
        with clock("design"):  # the categories of the first rows were not all
            planned, learned = plan_of(*model, look_at=look_at)
        stats = summed(planned)
    if source.again and _unused(stats) and checkpoint is None:
        # a level that only rows left out have is no level of the model
        with clock("design"):
            planned, _ = plan_of(*model, learned=learned.occurring(stats.used))
        stats = summed(planned)
    return _fit(stats, reml, control, start, n_threads, clock, source if source.again else None)


def _by_rows(progress, part):
    """``(stage, fraction done)`` while rows are read, for a callable."""
    if not callable(progress):
        return progress

    stage, start, end = part

    def report(rows, total):
        if total:
            progress(stage, start + (end - start) * min(1.0, rows / total))

    return report


def _unused(stats) -> bool:
    return any(found is not None and (found == 0).any() for found in stats.used)


def _fit(stats, reml, control, start, n_threads, clock, source: Source | None) -> LMMResults:
    if not isinstance(stats, CrossProducts):
        raise TypeError(f"fit takes CrossProducts, found {type(stats).__name__}: lmer fits data")
    reml = stats.plan.reml if reml is None else reml
    if not isinstance(reml, (bool, np.bool_)):
        raise TypeError(f"reml is True or False, found {reml!r}")
    with clock("cross-products"):
        model = assemble(stats)
        kept = independent_columns(model.products, model.standardization, model.layout, None)
    names = theta_names(model.spec.terms, model.spec.groups)
    solved, certificate = solve(
        model.products, model.standardization, model.layout, kept, names,
        reml=reml, start=start, control=control, threads=resolve_threads(n_threads), clock=clock,
    )  # fmt: skip
    facts = mixed_facts(
        _facts(stats, model), model.spec.groups, model.spec.terms, reml, solved.objective.engine
    )
    rows = _rows(stats, model, solved, kept, source)
    if not certificate.converged:
        warnings.warn(ending(certificate), ConvergenceWarning, stacklevel=3)
    return LMMResults(facts, solved, certificate, rows, model.spec, clock.seconds)


def _facts(stats, model) -> dict:
    reasons = {f"missing {name}": count for name, count in model.missing.items()}
    if stats.n_zero_weight:
        reasons["weight 0"] = stats.n_zero_weight
    return {
        "formula": stats.plan.formula,
        "data_name": stats.plan.data_name,
        "response": model.spec.response.strip("`"),
        "coefficients": tuple(column.name for column in model.spec.fixed),
        "has_constant": any(not column.atoms for column in model.spec.fixed),
        "weights_name": model.spec.weights,
        "rows": RowCount(stats.n, stats.n_total, reasons),
    }


def _rows(stats, model, solved, kept, source):
    standardization, estimates = model.standardization, solved.estimates
    beta = -solved.point.v[:-1]
    standardized = [
        np.linalg.solve(B, np.linalg.solve(B, T).T).T
        for B, T in zip(standardization.z_maps, estimates.terms, strict=True)
    ]
    y_scale = standardization.y_scale
    known = (
        model.moments, model.layout, beta, kept, standardized, stats.n, (estimates.sigma, y_scale),
        solved.fixed.A,
    )  # fmt: skip
    if source is None:
        return StatisticsRows(*known)
    return SourceRows(
        *known, source=source, plan=stats.plan, spec=model.spec, effects=lambda: solved.random_effects,
        beta_original=estimates.beta,
    )  # fmt: skip
