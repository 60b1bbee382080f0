"""What `LMMResults.profile` returns."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import RLock

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.errors import ConvergenceWarning
from fastlmm_core.inference.deviance import Target
from fastlmm_core.inference.estimated import check_likelihood
from fastlmm_core.inference.profile import Path
from fastlmm_core.inference.refit import by_maximum_likelihood, fresh_objective
from fastlmm_core.mme.blas_threads import blas_threads
from fastlmm_core.results.bootstrapped import natural_names

WORTH_A_THREAD = 1e6
"""Flops of one evaluation from which parameters are followed in threads; below, Python is most of it."""
REACH = 2.5758293035489004
"""The curves extend to this zeta, the limits of a 99 % interval."""


class Profile:
    """Profile likelihoods of a model's parameters, from its ML deviance.

    Attributes
    ----------
    names : list of str
        ``sd_x|g`` and ``cor_x.Intercept|g`` of the random effects, ``sigma``, then the fixed effects.
    estimate : Series
        ML estimates, where zeta is 0.
    """

    def __init__(self, solved, targets: dict[str, Target], n_jobs: int | None = None):
        ml = by_maximum_likelihood(solved)
        check_likelihood(ml.objective, "profile")
        if n_jobs is None and ml.objective.work < WORTH_A_THREAD:
            n_jobs = 1
        jobs = min(resolve_threads(n_jobs), max(len(targets), 1))
        threads = None if jobs == 1 else 1
        self._objectives = [fresh_objective(ml, reml=False, n_threads=threads) for _ in range(jobs)]
        sd = [np.sqrt(np.diag(T)) for T in ml.estimates.terms]
        self.names = list(targets)
        self._lock = RLock()  # the paths share the engines
        self._curves: dict[str, pd.DataFrame] = {}

        def begin(name, objective):
            target = targets[name]
            if target.kind == "cor" and not all(sd[target.at[0]][i] > 0 for i in target.at[1:]):
                return None  # the correlation with an effect of variance 0 is not defined
            return Path(ml, objective, target)

        self._paths = dict(zip(self.names, self._map(begin, self.names)))

    def _map(self, work, names) -> list:
        """``work(name, objective)`` for each parameter, in as many threads as there are engines."""
        free: SimpleQueue = SimpleQueue()
        for objective in self._objectives:
            free.put(objective)

        def run(name):
            objective = free.get()
            try:
                return work(name, objective)
            finally:
                free.put(objective)

        if len(self._objectives) == 1:
            return [run(name) for name in names]
        with blas_threads(1), ThreadPoolExecutor(len(self._objectives)) as pool:
            try:
                return list(pool.map(run, names))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _on_paths(self, work, names) -> list:
        """``work(path)`` for each parameter, None where it is not defined."""

        def run(name, objective):
            path = self._paths[name]
            return None if path is None else work(path.use(objective))

        with self._lock:
            return self._map(run, names)

    @property
    def estimate(self) -> pd.Series:
        values = [np.nan if p is None else p.to_natural(p.estimate) for p in self._paths.values()]
        return pd.Series(values, index=self.names, name="estimate")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence limits, columns ``lower, upper``: where ``|zeta|`` reaches the normal quantile.

        Each limit is found by root search on the deviance, all other parameters
        re-optimised, not by interpolation.  Where the deviance does not rise far enough the
        limit is the bound: 0 for a standard deviation, -1 or 1 for a correlation.  NaN for a
        correlation that is not defined.

        Warns
        -----
        ConvergenceWarning : a deviance below that of the fit was found on the way.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, found {alpha!r}")
        z = float(ndtri(1.0 - alpha / 2.0))
        found = self._on_paths(lambda path: (path.end(-z), path.end(z)), self.names)
        self._warn()
        limits = [(np.nan, np.nan) if one is None else one for one in found]
        return pd.DataFrame(limits, index=self.names, columns=["lower", "upper"])

    @property
    def zeta(self) -> pd.DataFrame:
        """The curves to ``|zeta|`` 2.58 or a bound: columns ``parameter, value, zeta, slope``."""
        self._follow(self.names)
        return pd.concat([self._curve(name).assign(parameter=name) for name in self.names])[
            ["parameter", "value", "zeta", "slope"]
        ].reset_index(drop=True)

    def _curve(self, name: str) -> pd.DataFrame:
        self._follow([name])
        return self._curves[name]

    def _follow(self, names) -> None:
        """Compute the curves that are not known."""
        with self._lock:
            new = [name for name in names if name not in self._curves]
            found = self._on_paths(lambda path: path.curve(REACH), new)
            columns = ["value", "zeta", "slope"]
            for name, points in zip(new, found, strict=True):
                self._curves[name] = pd.DataFrame(points or [], columns=columns, dtype=float)
            if new:
                self._warn()

    def _warn(self) -> None:
        lower = {n: p.improvement for n, p in self._paths.items() if p is not None and p.improvement > 1e-5}
        if lower:
            warnings.warn(
                f"profiling found a deviance lower than the fit's by {max(lower.values()):.3g} "
                f"({', '.join(lower)}): the fit is not the global optimum; try Control(n_starts=10)",
                ConvergenceWarning,
                stacklevel=3,
            )

    def plot(self, kind: str = "zeta", ax=None):
        """Draw the curves with matplotlib.

        Parameters
        ----------
        kind : ``"zeta"``: straight lines mean that Wald intervals do.  ``"density"``: the density whose
            normal quantiles are zeta, ``phi(zeta) dzeta/dvalue``.
        ax : Axes, or (n,) of them, to draw into; by default a new figure.

        Returns
        -------
        ndarray of Axes, one per parameter
        """
        if kind not in ("zeta", "density"):
            raise ValueError(f"kind is 'zeta' or 'density', found {kind!r}")
        names = [name for name in self.names if self._paths[name] is not None]
        if ax is None:
            import matplotlib.pyplot as plt

            columns = min(3, len(names))
            rows = -(-len(names) // columns)
            size = (3.2 * columns, 2.6 * rows)
            figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
            for unused in grid.ravel()[len(names) :]:
                figure.delaxes(unused)
            ax = grid.ravel()[: len(names)]
        axes = np.atleast_1d(np.asarray(ax, object))
        if len(axes) != len(names):
            raise ValueError(f"{len(names)} parameters need as many Axes, found {len(axes)}")
        self._follow(names)
        for name, panel in zip(names, axes, strict=True):
            _draw(panel, self._curve(name), kind)
            panel.set_xlabel(name)
            panel.set_ylabel("zeta" if kind == "zeta" else "density")
        return axes

    def __repr__(self) -> str:
        return f"<Profile of {', '.join(self.names)}>"


def _draw(ax, curve: pd.DataFrame, kind: str) -> None:
    value, zeta, slope = (curve[name].to_numpy() for name in ("value", "zeta", "slope"))
    if len(value) < 2:
        return
    from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

    smooth = CubicHermiteSpline if np.isfinite(slope).all() else PchipInterpolator
    line = smooth(value, zeta, slope) if smooth is CubicHermiteSpline else smooth(value, zeta)
    x = np.linspace(value[0], value[-1], 201)
    if kind == "zeta":
        ax.plot(x, line(x))
        ax.plot(value, zeta, ".", color="0.4", markersize=3)
        for level in (-1.959964, 0.0, 1.959964):
            ax.axhline(level, color="0.8", linewidth=0.8, zorder=0)
    else:
        ax.plot(x, np.exp(-0.5 * line(x) ** 2) / np.sqrt(2 * np.pi) * line(x, 1))


def profile_targets(facts, kept) -> dict[str, Target]:
    """What can be profiled: name -> `Target`, in lme4's order."""
    places = []
    for t, term in enumerate(facts.terms):
        for b in range(len(term.names)):
            places.append(Target("sd", (t, b)))
            places += [Target("cor", (t, a, b)) for a in range(b + 1, len(term.names))]
    targets = dict(zip(natural_names(facts.keys, facts.terms), places, strict=True))
    targets["sigma"] = Target("sigma")
    for place, column in enumerate(kept):
        targets[facts.coefficients[column]] = Target("beta", (place,))
    return targets


def chosen(targets: dict[str, Target], which) -> dict[str, Target]:
    """The targets named by ``which``: None, a name, a list of names, ``"theta_"`` or ``"beta_"``."""
    if which is None:
        return targets
    wanted = [which] if isinstance(which, str) else list(which)
    result = {}
    for name in wanted:
        if name in ("theta_", "beta_"):
            result |= {n: t for n, t in targets.items() if (t.kind == "beta") == (name == "beta_")}
        elif name in targets:
            result[name] = targets[name]
        else:
            raise ValueError(
                f"no parameter {name!r} to profile; available: 'theta_', 'beta_', "
                + ", ".join(map(repr, targets))
            )
    return result
