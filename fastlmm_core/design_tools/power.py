"""Power of a test by simulation: draw responses of the planned model, fit each, count rejections."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from ..crossprod.threads import resolve_threads
from ..errors import DataError, FormulaError
from ..formula.parse import parse_formula
from ..inference.bootstrap import Replicator, run_chunks, seed_sequence
from ..results.coefficients import whole_number
from ..results.fit import LMMResults
from ..results.plots import new_axes
from .design import resize
from .planned import Parameters, at_parameters, plan_fit

MOST_TOGETHER = 25
"""Replicates a thread works on at once."""


def power(
    model,
    data=None,
    *,
    test,
    beta=None,
    sd=None,
    cor=None,
    sigma: float | None = None,
    along: str | None = None,
    sizes: Sequence[int] | None = None,
    alpha: float = 0.05,
    nsim: int = 1000,
    seed=None,
    n_jobs: int | None = None,
    reml: bool = True,
    weights: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> "Power":
    """Power of a test in a planned study, by simulation.

    Parameters
    ----------
    model : LMMResults or str
        A pilot fit, whose estimates are the true values where nothing else is said; or a formula, with
        ``data``, ``sd`` and ``sigma``.
    data : DataFrame, or callable size -> DataFrame
        Rows of the design (the response may be absent), see `simulate_design`.  By default the pilot's.
    test : str, list of str, or callable
        A coefficient's name, or a contrast like ``"b - a = 0"`` (t test, Satterthwaite); a list: joint F
        test; a callable gets a fit without rows and returns a p value.
    beta : dict, optional
        Coefficient -> true value; of a formula those not named are 0.
    sd, cor : dict, optional
        Group -> standard deviations of its random effects in the order of the formula, and their
        correlation (a number or a matrix; 0 by default).  A second term of a group is ``id.1``.
    sigma : float, optional
        Residual standard deviation.
    along, sizes : str, sequence of int, optional
        A power curve: the design with that many levels of the group ``along``, its own levels in order and
        then copies of them; with a callable ``data``, its argument.
    alpha : level of the test.
    nsim : responses per size.
    seed : int, SeedSequence or Generator, optional
        Results do not depend on ``n_jobs``.
    n_jobs : threads; by default the processors available.
    reml, weights : as for `lmer`, with a formula.
    progress : callable, optional
        Gets the fraction done.

    Returns
    -------
    Power

    Raises
    ------
    FormulaError, DataError, ModelError, ValueError : what is missing or unknown, by name.

    Notes
    -----
    As R's simr (Green & MacLeod 2016, doi:10.1111/2041-210X.12504).  With nested factors the sufficient
    statistics of a response are drawn, not its rows.  A replicate whose fit fails counts as no rejection.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, found {alpha!r}")
    nsim = whole_number(nsim, "nsim")
    if isinstance(model, LMMResults):
        truth = Parameters.of(model).changed(beta, sd, cor, sigma)
        formula, reml, weights = model.formula, model.method == "REML", model._facts.weights_name
    elif isinstance(model, str):
        if sd is None or sigma is None or data is None:
            raise ValueError("power of a formula needs data, sd={group: ...} and sigma; beta is 0 by default")
        truth, formula = Parameters(beta or {}, sd, cor, sigma), model
    else:
        raise TypeError(f"power takes a fit made by lmer, or a formula; found {type(model).__name__}")
    pilot = model if data is None and sizes is None else None
    frames = [None] if pilot else _frames(formula, data if data is not None else model._frame, along, sizes)
    rows, p_values, estimates = [], [], []
    children = seed_sequence(seed).spawn(len(frames))
    for k, frame in enumerate(frames):
        fit = pilot or plan_fit(formula, frame, weights, reml)
        report = None if progress is None else lambda f, k=k: progress((k + f) / len(frames))
        found = _run(fit, truth, test, int(nsim), children[k], resolve_threads(n_jobs), report)
        size = sizes[k] if sizes is not None else fit.ngroups.get(along, fit.nobs)
        rows.append(_row(size, fit, found, truth, test, alpha))
        p_values.append(found[:, 0])
        estimates.append(found[:, 1])
    index = [row["size"] for row in rows]
    what = along or ("size" if sizes is not None else "rows")
    return Power(
        pd.DataFrame(rows), pd.DataFrame(np.array(p_values).T, columns=index),
        pd.DataFrame(np.array(estimates).T, columns=index), what, alpha, test,
    )  # fmt: skip


def _frames(formula, data, along, sizes):
    if callable(data):
        if sizes is None:
            raise ValueError("data is a function of the size: say which sizes")
        return [data(int(n)) for n in sizes]
    frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    if sizes is None:
        return [frame]
    if along is None or along not in frame.columns:
        raise DataError(f"sizes are levels of a grouping column: along={along!r} is no column of the data")
    groups = [name for bar in parse_formula(formula).bars for name in bar.group]
    if along not in groups:
        raise FormulaError(f"along={along!r} is no grouping factor of {formula}")
    if any(isinstance(n, bool) or not hasattr(n, "__index__") or n < 2 for n in sizes):
        raise ValueError(f"sizes are whole numbers of at least 2, found {list(sizes)!r}")
    return [resize(frame, along, int(n), groups) for n in sizes]


def _run(fit, truth, test, nsim, seed, jobs, report) -> np.ndarray:
    """P values and estimates (nsim, 2) of the test over simulated responses; NaN where a fit failed."""
    tester = _tester(fit, test)
    planned = at_parameters(fit, truth)
    crossed = planned.products.structure != "tree"
    replicator = Replicator(planned, fit._rows.design if crossed else None)

    def work(generators):
        return [
            (np.nan, np.nan) if one is None else tester(fit._without_rows(one))
            for one in replicator.solve_chunk(generators)
        ]

    chunk = min(replicator.chunk, MOST_TOGETHER)
    return np.array(run_chunks(work, nsim, chunk, seed, jobs, report), float).reshape(nsim, 2)


def _tester(fit, test):
    """A function of a fit that gives the p value, and the estimate where there is one."""
    if callable(test):
        return lambda one: (float(test(one)), np.nan)
    if isinstance(test, str) and test in fit._names:
        place = fit._names.index(test)
        if place not in fit._kept:
            raise DataError(f"the design cannot tell {test!r} from the other coefficients")
        return lambda one: (one.pvalues.iloc[place], one.params.iloc[place])
    joint = not isinstance(test, str)
    if not joint and not any(mark in test for mark in "=+-* ") or not len(test):
        raise ValueError(f"no coefficient {test!r}; the model has {', '.join(fit._names)}")
    wanted = list(test) if joint else [test]

    def contrast(one):
        table = one.contrast(wanted, joint=joint)
        return float(table["p"].iloc[0]), np.nan if joint else float(table["estimate"].iloc[0])

    contrast(fit)  # names are checked before anything is drawn
    return contrast


def _row(size, fit, found, truth, test, alpha) -> dict:
    p, estimate = found.T
    n, hits = len(p), int((p < alpha).sum())
    row = {"size": size, "rows": fit.nobs, "power": hits / n}
    row["lower"], row["upper"] = binomial_limits(hits, n)
    row |= {"nsim": n, "failed": int(np.isnan(p).sum())}
    true = truth.beta.get(test, 0.0) if isinstance(test, str) and test in fit._names else np.nan
    if true == true and true != 0.0 and hits:
        found = estimate[p < alpha]
        row["wrong_sign"] = float((np.sign(found) != np.sign(true)).mean())
        row["exaggeration"] = float(np.abs(found).mean() / abs(true))
    return row


def binomial_limits(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Limits of a proportion (Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404)."""
    tail = (1.0 - level) / 2.0
    lower = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    upper = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1.0 - tail))
    return lower, upper


class Power:
    """What `power` found.

    Attributes
    ----------
    table : DataFrame
        A row per size: ``size, rows, power, lower, upper`` (95 % limits of the simulation), ``nsim``,
        ``failed``; of a coefficient with a true value other than 0 also ``wrong_sign`` and ``exaggeration``:
        among significant results the share of wrong signs, and the mean size of the estimate
        relative to the truth (Gelman & Carlin 2014, doi:10.1177/1745691614551642).
    pvalues, estimates : DataFrame
        nsim x sizes; NaN where a fit failed, or the test has no single estimate.
    along : str
        What sizes count.
    alpha, test : as asked for.
    """

    def __init__(self, table, pvalues, estimates, along, alpha, test):
        self.table, self.pvalues, self.estimates = table, pvalues, estimates
        self.along, self.alpha, self.test = along, alpha, test

    def smallest(self, target: float = 0.8):
        """The smallest simulated size whose estimated power reaches ``target``; None if none does."""
        reached = self.table.loc[self.table["power"] >= target, "size"]
        return None if reached.empty else reached.min()

    def plot(self, ax=None, *, target: float | None = 0.8):
        """Power against size, with 95 % limits and the target as a line.

        Returns
        -------
        matplotlib Axes
        """
        (ax,) = new_axes(1, ax, width=5.5)
        table = self.table.sort_values("size")
        reach = [table["power"] - table["lower"], table["upper"] - table["power"]]
        ax.errorbar(
            table["size"],
            table["power"],
            yerr=np.array(reach),
            marker="o",
            ms=4,
            lw=1.4,
            capsize=3,
            color="#0072B2",
        )
        if target is not None:
            ax.axhline(target, color="#999999", lw=1.0, ls="--")
        ax.set(xlabel=self.along, ylabel=f"Power at level {self.alpha:g}", ylim=(-0.02, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def __repr__(self) -> str:
        shown = (
            self.test if isinstance(self.test, (str, list, tuple)) else getattr(self.test, "__name__", "test")
        )
        return f"<Power of {shown!r} at level {self.alpha:g}>\n{self.table.to_string(index=False)}"
