"""A solved model: statistics, engine and optimum together, answering what needs no rows.

Everything here is computed on request and once.  The same attributes are
offered by `StoredModel`, which was read from a file and has no engine.
"""

from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import DataError, ModelError
from fastlmm_core.inference.estimates import (
    Estimates,
    FixedCoordinates,
    VarianceCalculus,
    variance_calculus,
)
from fastlmm_core.inference.kenward_roger import KenwardRoger, kenward_roger
from fastlmm_core.mme.blas_threads import blas_threads
from fastlmm_core.mme.covariance import ThetaMap


class SolvedModel:
    """Lazy inference on one optimum.

    Parameters
    ----------
    objective, point : the criterion and its value at the optimum.
    theta_map : terms, and the maps of Z to standardized coordinates.
    estimates : in original units.
    fixed : how beta maps to standardized coordinates.
    products : the statistics the engine was made from.
    """

    def __init__(
        self,
        objective: ProfiledObjective,
        point: Point,
        theta_map: ThetaMap,
        estimates: Estimates,
        fixed: FixedCoordinates,
        products: CrossProducts,
    ):
        self.objective, self.point, self.theta_map = objective, point, theta_map
        self.estimates, self.fixed, self.products = estimates, fixed, products
        self._lock = RLock()  # the engine remembers its last Lambda
        self._covariances: dict[int, np.ndarray] = {}

    def __reduce__(self):
        """Copies and pickles hold the results, and small statistics from which the engine is made again."""
        from fastlmm_core.inference.stored import SMALL_BYTES, pack, restore, statistics_bytes

        covariances = tuple(self.conditional_covariance(f) for f in range(len(self.theta_map.k)))
        adjustment = vars(self).get("kenward_roger")
        results = (self.estimates, self.calculus, self.random_effects, covariances, adjustment)
        if self.objective.engine.name == "iterative" or statistics_bytes(self.products) > SMALL_BYTES:
            return StoredModel, results
        return restore, (pack(self), results)

    def with_results(self, stored: "StoredModel") -> "SolvedModel":
        """Itself, with what had been computed before it was stored."""
        found = {"calculus": stored.calculus, "random_effects": stored.random_effects}
        if stored.adjustment is not None:
            found["kenward_roger"] = stored.adjustment
        self.__dict__.update(found)
        self._covariances.update(enumerate(stored.covariances))
        return self

    @cached_property
    def calculus(self) -> VarianceCalculus:
        """Information and Jacobian of the variance parameters."""
        with self._lock, blas_threads(1):
            return variance_calculus(self.objective, self.point, self.theta_map, self.estimates, self.fixed)

    @cached_property
    def kenward_roger(self) -> KenwardRoger:
        """Adjusted covariance and degrees of freedom; ModelError for ML fits and too many effects."""
        if not self.estimates.reml:
            raise ModelError(
                "Kenward-Roger's method is for REML fits: fit with reml=True, or use Satterthwaite's"
            )
        with self._lock:
            return kenward_roger(self.objective, self.point, self.theta_map, self.fixed, self.products)

    @cached_property
    def random_effects(self) -> tuple[np.ndarray, ...]:
        """Conditional modes per factor (levels, k), ``b = B b~ s_y``."""
        with self._lock:
            self.objective.at(self.point)
            standardized = self.objective.engine.random_effects(self.point.v)
        return tuple(self.fixed.scale * (b @ self._map(f).T) for f, b in enumerate(standardized))

    def conditional_covariance(self, factor: int) -> np.ndarray:
        """``Var(b_i | y, beta) = sigma^2 B V~_i B'``, (levels, k, k)."""
        with self._lock:
            if factor not in self._covariances:
                self.objective.at(self.point)
                V = self.objective.engine.conditional_covariance(factor)
                B = self._map(factor)
                self._covariances[factor] = self.estimates.sigma2 * (B @ V @ B.T)
            return self._covariances[factor]

    def _map(self, factor: int) -> np.ndarray:
        """B of all terms of a factor, block diagonal (k, k)."""
        full = np.zeros((self.theta_map.k[factor],) * 2)
        for block, B in zip(self.theta_map.blocks, self.theta_map.maps, strict=True):
            if block.factor == factor:
                full[block.rows, block.rows] = B
        return full


@dataclass(frozen=True, eq=False)
class StoredModel:
    """What `SolvedModel` had computed, read back from a file."""

    estimates: Estimates
    calculus: VarianceCalculus
    random_effects: tuple[np.ndarray, ...]
    covariances: tuple[np.ndarray, ...]
    adjustment: KenwardRoger | None = None

    @property
    def kenward_roger(self) -> KenwardRoger:
        """As computed before the fit was saved."""
        if self.adjustment is None:
            raise DataError(
                "this file holds no Kenward-Roger covariance: call cov_params('kenward-roger') before save, "
                "or save with statistics=True"
            )
        return self.adjustment

    def conditional_covariance(self, factor: int) -> np.ndarray:
        """``Var(b_i | y, beta)``, (levels, k, k)."""
        return self.covariances[factor]
