"""Parametric bootstrap: fit the model to responses drawn from itself.

With nested factors only the sufficient statistics of a response are drawn
(`sampler`); for one factor many responses are fitted at once (`batch`).  With
crossed factors of many levels the response is drawn by rows and summed.

Replicate i uses the i-th child of the seed and nothing else, and replicates are
worked on in chunks of fixed size, so the draws are the same for any number of
threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import local

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.crossprod.layout import build_layout
from fastlmm_core.crossprod.rows import linear_predictor
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import DataError, FastLMMError
from fastlmm_core.formula.terms import Design
from fastlmm_core.inference.batch import fit_batch
from fastlmm_core.inference.estimates import build_estimates
from fastlmm_core.inference.refit import fresh_objective, with_response
from fastlmm_core.inference.sampler import DenseSampler, StatisticsSampler
from fastlmm_core.inference.simulate import RowStatistics, add_effects, draw_effects, draw_errors
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.mme.blas_threads import blas_threads
from fastlmm_core.mme.replicates import ReplicateEngine, replicate_bytes
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.driver import Optimum, minimize

CHUNK = 125
"""Most replicates worked on together."""
CHUNK_BYTES = 1 << 26
FEW_EFFECTS, MOST_EFFECTS = 300, 3000
"""Crossed random effects up to which a dense root is formed, with rows at hand and without."""
SEARCH = Control(n_starts=1, tol=1e-7)
"""Replicates begin near their optimum; what is left to gain is 1e-3 of a standard error."""

Statistics = tuple[np.ndarray, float, list[np.ndarray]]
"""``U'W y`` (u,), ``y'W y`` and per factor ``Z_f'W y`` (levels, k)."""


@dataclass(frozen=True, eq=False)
class Replicate:
    """What a fit to one simulated response found, in original units."""

    beta: np.ndarray
    theta: np.ndarray
    sigma: float


@dataclass(frozen=True, eq=False)
class Solved:
    """A replicate as a model; ``levels`` per factor: which of the fit's levels it has copies of, or None."""

    model: SolvedModel
    optimum: Optimum
    levels: tuple[np.ndarray, ...] | None


class Refitter:
    """Fits a solved model to other statistics, from its own optimum, on one thread each."""

    engine: str | None = None
    """Name of the engine for the statistics; None: that of the fit."""

    def __init__(self, solved: SolvedModel):
        self.solved = solved

    def samples(self, generators: Sequence[np.random.Generator]) -> list:
        """Per generator what has ``products`` and ``levels``, or None where nothing can be fitted."""
        raise TypeError("a Refitter draws nothing")

    def fit_one(self, products: CrossProducts) -> tuple[ProfiledObjective, Optimum]:
        """One search from the fit's theta, on one thread."""
        objective = fresh_objective(self.solved, products, n_threads=1, engine=self.engine)
        start = self.solved.estimates.theta
        return objective, minimize(objective, self.solved.theta_map, start=start, control=SEARCH)

    def fit_chunk(self, generators) -> list[Replicate | None]:
        """One replicate per generator, None where no optimum was found."""
        return [None if one is None else self._fit_alone(one.products) for one in self.samples(generators)]

    def solve_chunk(self, generators) -> list[Solved | None]:
        """Solved models instead of numbers, for statistics of the user."""
        return [None if one is None else self._solve_alone(one) for one in self.samples(generators)]

    def _fit_alone(self, products: CrossProducts) -> Replicate | None:
        try:
            _, optimum = self.fit_one(products)
        except FastLMMError:
            return None
        if not optimum.certificate.converged:
            return None
        return self._replicate(optimum.point.beta, optimum.theta, optimum.point.s2)

    def _replicate(self, beta, theta, s2) -> Replicate:
        fixed = self.solved.fixed
        full = np.full(fixed.p, np.nan)
        full[fixed.kept] = fixed.shift + fixed.scale * (fixed.A @ beta)
        return Replicate(full, theta, fixed.scale * float(s2) ** 0.5)

    def _solve_alone(self, one) -> Solved | None:
        old, products = self.solved, one.products
        try:
            objective, optimum = self.fit_one(products)
        except FastLMMError:
            return None
        if not optimum.certificate.converged:
            return None
        estimates = build_estimates(
            optimum.point, optimum.theta, old.theta_map, objective.reml, objective.n,
            products.sum_log_weights, old.fixed,
        )  # fmt: skip
        again = SolvedModel(objective, optimum.point, old.theta_map, estimates, old.fixed, products)
        return Solved(again, optimum, one.levels)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Cross-products of one simulated response; the levels are those of the fit."""

    products: CrossProducts
    levels: None = None


class Replicator(Refitter):
    """Fits a solved model to responses drawn from it.

    Parameters
    ----------
    solved : the fit.
    design : its rows; needed with many crossed random effects, or with effects that stay.
    stay : factors whose random effects stay as predicted; those responses are drawn by rows.
    """

    def __init__(self, solved: SolvedModel, design: Design | None = None, stay: Sequence[int] = ()):
        super().__init__(solved)
        self.design, self.stay = design, tuple(stay)
        products, kept = solved.products, solved.fixed.kept
        self.nested = products.structure == "tree" and not stay
        self.one_factor = self.nested and len(products.order) == 1
        self.by_statistics = self.nested
        self.chunk = CHUNK
        if self.one_factor:
            self.chunk = int(np.clip(CHUNK_BYTES // replicate_bytes(products, kept), 1, CHUNK))
            self._engines = local()
        elif self.nested:
            self._sampler = StatisticsSampler(products, kept, solved.point)
            per_draw = 24 * sum(R.shape[0] * R.shape[1] for R in products.R)
            self.chunk = int(np.clip(CHUNK_BYTES // per_draw, 1, CHUNK))
        else:
            effects = sum(R.shape[0] * R.shape[1] for R in products.R)
            self.by_statistics = not stay and effects <= (FEW_EFFECTS if design is not None else MOST_EFFECTS)
            if self.by_statistics:
                self._sampler = DenseSampler(products, kept, solved.point)
            elif design is not None:
                self._prepare_rows()
            else:
                raise DataError(
                    f"the bootstrap of crossed factors with {effects} random effects, above {MOST_EFFECTS}, "
                    "draws rows, which this fit does not hold"
                )

    def _prepare_rows(self) -> None:
        standardization = standardize(self.design)
        self._statistics = RowStatistics(
            self.design, build_layout(self.design, standardization), keep_columns=True
        )
        self._center, self._scale = standardization.y_center, standardization.y_scale
        beta = np.nan_to_num(self.solved.estimates.beta)
        self._mean = linear_predictor(self.design.atoms, self.design.fixed, beta, self.design.n)

    def draw(self, generators: Sequence[np.random.Generator]) -> list[Statistics]:
        """Statistics of one response per generator."""
        if self.one_factor:
            engine = self.drawn(generators)
            return [engine.statistics(i) for i in range(len(generators))]
        if self.by_statistics:
            Uy, yy, Zy = self._sampler.draw(list(generators))
            return [(Uy[i], yy[i], [part[i] for part in Zy]) for i in range(len(generators))]
        return [self._draw_rows(rng) for rng in generators]

    def drawn(self, generators) -> ReplicateEngine:
        """This thread's engine, holding one response per generator."""
        solved, point = self.solved, self.solved.point
        engine = getattr(self._engines, "engine", None)
        if engine is None:
            engine = ReplicateEngine(solved.products, solved.fixed.kept, self.chunk)
            self._engines.engine = engine
        engine.draw(point.beta, point.Lambda[0], float(point.s2) ** 0.5, generators)
        return engine

    def _draw_rows(self, rng) -> Statistics:
        solved, estimates = self.solved, self.solved.estimates
        y = self._mean.copy()
        b = draw_effects(solved.theta_map, estimates.theta, estimates.sigma, solved.products.levels, rng)
        for f in self.stay:
            b[f] = np.array(solved.random_effects[f])
        add_effects(y, self.design, b, 1)
        y += draw_errors(self.design, estimates.sigma, rng)
        return self._statistics((y - self._center) / self._scale)

    def products_of(self, drawn: Statistics) -> CrossProducts:
        """The cross-products with a drawn response."""
        return with_response(self.solved.products, *drawn)

    def samples(self, generators) -> list[Drawn]:
        return [Drawn(self.products_of(one)) for one in self.draw(generators)]

    def fit_chunk(self, generators) -> list[Replicate | None]:
        """One replicate per generator, None where no optimum was found."""
        if self.one_factor:
            return self._fit_together(generators)
        return super().fit_chunk(generators)

    def _fit_together(self, generators) -> list[Replicate | None]:
        solved, r = self.solved, len(generators)
        engine = self.drawn(generators)
        start, N = solved.point.Lambda[0], solved.objective.N
        best = fit_batch(engine, solved.theta_map, start, N, solved.estimates.reml, r)
        result = []
        for i in range(r):
            if best.found[i]:
                theta = solved.theta_map.theta_from_Lambda([best.Lambda[i]])
                result.append(self._replicate(best.beta[i], theta, best.s2[i]))
            else:
                result.append(self._fit_alone(self.products_of(engine.statistics(i))))
        return result


def seed_sequence(seed) -> np.random.SeedSequence:
    """From None, an int, a SeedSequence or a Generator."""
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    if isinstance(seed, np.random.Generator):
        return np.random.SeedSequence(seed.integers(0, 2**32, 4).tolist())
    return np.random.SeedSequence(seed)


def run_chunks(
    work: Callable[[list], list],
    nsim: int,
    chunk: int,
    seed,
    n_jobs: int,
    report: Callable[[float], None] | None = None,
) -> list:
    """``work(generators)`` over chunks of replicates in ``n_jobs`` threads; results in order.

    An exception or interruption cancels what has not begun and is raised.  BLAS keeps to one thread:
    the replicates are what is shared out.
    """
    with blas_threads(1):
        return _run_chunks(work, nsim, chunk, seed, n_jobs, report)


def _run_chunks(work, nsim, chunk, seed, n_jobs, report) -> list:
    children = seed_sequence(seed).spawn(nsim)
    pieces = [children[at : at + chunk] for at in range(0, nsim, chunk)]

    def run(piece):
        return work([np.random.default_rng(child) for child in piece])

    results: list[list | None] = [None] * len(pieces)
    if n_jobs == 1 or len(pieces) == 1:
        for i, piece in enumerate(pieces):
            results[i] = run(piece)
            if report:
                report((i + 1) / len(pieces))
        return [one for part in results for one in part]
    pool = ThreadPoolExecutor(n_jobs)
    try:
        pending = {pool.submit(run, piece): i for i, piece in enumerate(pieces)}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                results[pending.pop(future)] = future.result()
            if report:
                report(1.0 - len(pending) / len(pieces))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [one for part in results for one in part]
