"""The front door: formula and data in, fitted model out.

`lmer` is the whole computation, one line per room:
table -> design -> cross-products -> engine -> optimum -> estimates -> fit.
"""

import warnings

import numpy as np

from fastlmm_core.crossprod.gram import build_cross_products
from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.data.table import Table
from fastlmm_core.errors import ConvergenceWarning, FormulaError
from fastlmm_core.fitting import (
    Clock,
    check_control,
    fixed_coordinates,
    independent_columns,
    mixed_facts,
    solve,
    theta_names,
)
from fastlmm_core.formula.design import build_design
from fastlmm_core.formula.parse import parse_formula
from fastlmm_core.inference.ols import least_squares
from fastlmm_core.results.facts import LinearFacts, RowCount
from fastlmm_core.results.fit import LMMResults
from fastlmm_core.results.fitrows import FitRows, RowFrame
from fastlmm_core.results.ols import LMResults
from fastlmm_core.results.storage import load, save
from fastlmm_core.results.summary import ending
from fastlmm_core.stream.sources import is_stream
from fastlmm_core.streaming import fit_stream

__all__ = ["lm", "lmer", "load", "save"]


def lmer(
    formula,
    data,
    *,
    reml=True,
    weights=None,
    contrasts=None,
    na_action="drop",
    start=None,
    control=None,
    n_threads=None,
    progress=None,
    checkpoint=None,
    client=None,
) -> LMMResults:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        lme4's language: ``"y ~ x + (1 + x | g)"``.
    data : table
        pandas, polars or pyarrow, or a dict of columns.  Read in batches, in bounded memory: a path,
        glob or folder of Parquet, Arrow IPC or CSV files, a polars lazy frame, a
        ``pyarrow.dataset.Dataset`` or RecordBatchReader, a DuckDB relation, a Dask DataFrame, or an
        iterator of frames (a callable that returns one can be read twice).
    reml : bool
        REML criterion (default) or maximum likelihood.
    weights : str or (n,) array, optional
        Prior weights: the residual variance of a row is ``sigma^2 / weight``.  Rows of weight 0 are left out.
    contrasts : dict, optional
        Column -> coding of a factor.
    na_action : ``"drop"`` or ``"raise"``
        What to do with rows that miss a value the model needs.
    start : (m,) array, optional
        theta to start the search from, lme4's order and units.
    control : Control, optional
        Engine, tolerances, number of starts.
    n_threads : int, optional
        Threads of the kernels; by default the processors available, at most OMP_NUM_THREADS.
        Results do not depend on it, and BLAS takes no more.
    progress : bool or callable, optional
        True writes stages to stderr; a callable gets ``(stage, fraction done)``.  Data in batches
        show rows read, rows per second and the time left.
    checkpoint : path, optional
        Of files: the statistics are saved there after each complete file, and the next run goes on
        after the last one.  Not with Dask, which does again what a lost worker had done.
    client : dask.distributed.Client, optional
        Batches are read and added up by its workers.

    Returns
    -------
    LMMResults

    Raises
    ------
    FormulaError : the formula does not parse, names absent columns, or has no random term.
    ModelError : the data cannot identify the model.
    DataError : values that no model can be fitted to.

    Warns
    -----
    RankWarning : aliased fixed effects were dropped.
    ConvergenceWarning : the search ended without a certificate.

    Notes
    -----
    Bates, Maechler, Bolker & Walker (2015), doi:10.18637/jss.v067.i01, for model and
    formula; Newton's method on exact derivatives in place of their derivative-free search.
    """
    if not isinstance(reml, (bool, np.bool_)):
        raise TypeError(f"reml is True or False, found {reml!r}")
    check_control(control)
    parse_formula(formula)  # what is wrong with it is said before any data are read
    if checkpoint is not None or client is not None or is_stream(data):
        return fit_stream(
            formula, data, reml=reml, weights=weights, contrasts=contrasts, na_action=na_action, start=start,
            control=control, n_threads=n_threads, progress=progress, checkpoint=checkpoint, client=client,
        )  # fmt: skip
    clock = Clock(progress)
    with clock("frame"):
        parsed = parse_formula(formula)
        if not parsed.bars:
            raise FormulaError(f"{formula}\nhas no random term like (1 | group): fit it with lm, or add one")
        table = Table(data)
        threads = resolve_threads(n_threads)
    with clock("design"):
        design, spec, report = build_design(
            parsed, table, weights=weights, contrasts=contrasts, na_action=na_action,
            n_threads=threads,
        )  # fmt: skip
    with clock("cross-products"):
        products, standardization, layout = build_cross_products(design, n_threads=threads)
        kept = independent_columns(products, standardization, layout, design)
    solved, certificate = solve(
        products, standardization, layout, kept, theta_names(design.terms, design.factors),
        reml=reml, start=start, control=control, threads=threads, clock=clock,
    )  # fmt: skip
    linear = _linear_facts(parsed, data, design, report, weights)
    facts = mixed_facts(linear, design.factors, design.terms, reml, solved.objective.engine)
    rows = _mixed_rows(solved, design, RowFrame(data, report.mask, report.index), threads)
    if not certificate.converged:
        warnings.warn(ending(certificate), ConvergenceWarning, stacklevel=2)
    return LMMResults(facts, solved, certificate, rows, spec, clock.seconds)


def lm(formula, data, *, weights=None, contrasts=None, na_action="drop") -> LMResults:
    """Fit a linear model by (weighted) least squares: the baseline without random effects.

    Parameters
    ----------
    formula : str
        As for `lmer`, without random terms.
    data, weights, contrasts, na_action
        As for `lmer`.

    Returns
    -------
    LMResults

    Raises
    ------
    FormulaError, ModelError, DataError : as for `lmer`; a formula with a random term belongs there.

    Warns
    -----
    RankWarning : aliased columns were dropped.
    """
    clock = Clock(None)
    with clock("frame"):
        parsed = parse_formula(formula)
        if parsed.bars:
            raise FormulaError(
                f"{formula}\nhas random terms ({', '.join(map(str, parsed.bars))}): fit it with lmer"
            )
        table = Table(data)
        threads = resolve_threads(None)
    with clock("design"):
        design, spec, report = build_design(
            parsed, table, weights=weights, contrasts=contrasts, na_action=na_action, n_threads=threads
        )
    with clock("cross-products"):
        products, standardization, layout = build_cross_products(design, n_threads=threads)
        kept = independent_columns(products, standardization, layout, design)
    with clock("inference"):
        at = np.append(products.x[kept], products.y)
        estimates = least_squares(
            products.C[np.ix_(at, at)],
            products.n,
            products.sum_log_weights,
            fixed_coordinates(standardization, kept),
        )
        facts = LinearFacts(**_linear_facts(parsed, data, design, report, weights))
        source = RowFrame(data, report.mask, report.index)
        rows = FitRows(design, source, estimates.beta, None, estimates.sigma2**0.5, n_threads=threads)
    return LMResults(facts, estimates, rows, spec, clock.seconds)


def _linear_facts(parsed, data, design, report, weights) -> dict:
    return {
        "formula": parsed.text,
        "data_name": getattr(data, "attrs", {}).get("name"),
        "response": design.response_name,
        "coefficients": tuple(column.name for column in design.fixed),
        "has_constant": any(not column.atoms for column in design.fixed),
        "weights_name": weights if isinstance(weights, str) else None if weights is None else "weights",
        "rows": RowCount(report.n_used, report.n_total, _dropped(report)),
    }


def _mixed_rows(solved, design, source: RowFrame, threads: int) -> FitRows:
    estimates = solved.estimates
    covariances = [estimates.sigma2 * T for T in estimates.terms]
    return FitRows(design, source, estimates.beta, solved, estimates.sigma, covariances, threads)


def _dropped(report) -> dict[str, int]:
    """Why rows were left out; a row that misses several values is counted under each."""
    reasons = {f"missing {name}": count for name, count in report.missing_by_column.items() if count}
    return reasons | ({"weight 0": report.n_zero_weight} if report.n_zero_weight else {})
