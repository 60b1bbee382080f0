"""A smaller model on the statistics of a larger one.

Where the fixed columns of a model lie in the span of another's, ``X0 = X1 M``, and its random effects are
some of the other's, its cross-products with any response are those of the larger model, mapped: with
``U0 = U1 N`` they are ``N'C N``, ``J_f'R_f N`` and ``J_f'(Z_f'W Z_g) J_g``.  A response drawn as the
larger model's statistics is thus a response of both, and rows are not needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.errors import FastLMMError, ModelError
from fastlmm_core.inference.batch import fit_batch
from fastlmm_core.inference.bootstrap import SEARCH, Replicator, Statistics
from fastlmm_core.inference.estimates import FixedCoordinates
from fastlmm_core.inference.ranova import reduced_products
from fastlmm_core.inference.refit import engine_threads, fresh_objective, solve_again, with_response
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.covariance import TermBlock, ThetaMap, lower_factor
from fastlmm_core.mme.replicates import ReplicateEngine
from fastlmm_core.optimize.driver import minimize


@dataclass(frozen=True, eq=False)
class RandomPart:
    """Random effects by name: per factor its columns; ``theta_map`` None where there are none."""

    factors: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    theta_map: ThetaMap | None = None


class SmallerModel:
    """A model in the coordinates of a larger one.

    Parameters
    ----------
    larger : the larger model
    basis : (r, r0), the columns ``X~1 basis`` span the smaller X; made orthonormal unless it is square
    names : random effects of the larger model
    own : random effects of the smaller one; each is among ``names``
    """

    def __init__(self, larger: SolvedModel, basis: np.ndarray, names: RandomPart, own: RandomPart):
        self.larger, products, kept = larger, larger.products, larger.fixed.kept
        x = np.asarray(products.x)[kept]
        self.K = basis if basis.shape[0] == basis.shape[1] else _orthonormal(basis, products.C[np.ix_(x, x)])
        self.left = [f for f, group in enumerate(names.factors) if group in own.factors]
        self.J = {f: self._columns(f, names, own) for f in self.left}
        self.theta_map = self._theta_map(names, own)
        self.N = np.zeros((len(products.C), sum(J.shape[1] for J in self.J.values()) + self.K.shape[1] + 1))
        self._places, at = [], 0
        for f, J in self.J.items():
            places = np.arange(at, at + J.shape[1])
            self.N[np.ix_(products.z[f], places)] += J
            self._places.append(places)
            at += J.shape[1]
        self.x = np.arange(at, at + self.K.shape[1])
        self.N[np.ix_(x, self.x)] += self.K
        self.N[products.y, -1] = 1.0
        self.products = self._mapped()

    def _columns(self, f: int, names: RandomPart, own: RandomPart) -> np.ndarray:
        """J (k, k0) with ``Z~0 = Z~1 J``: columns by name in the data's units, then the smaller's map."""
        wanted, known = own.columns[own.factors.index(names.factors[f])], names.columns[f]
        P = np.zeros((len(known), len(wanted)))
        P[[known.index(name) for name in wanted], range(len(wanted))] = 1.0
        return np.linalg.solve(self.larger._map(f), P @ _full_map(own.theta_map, own, names.factors[f]))

    def _theta_map(self, names: RandomPart, own: RandomPart) -> ThetaMap | None:
        old = own.theta_map
        if old is None:
            return None
        place = {own.factors.index(names.factors[f]): i for i, f in enumerate(self.left)}
        blocks = [TermBlock(place[b.factor], b.start, b.q) for b in old.blocks]
        return ThetaMap(blocks, [self.J[f].shape[1] for f in self.left], old.maps)

    def _mapped(self) -> CrossProducts:
        old = self.larger.products
        # factors that go are left out of structure and nesting; columns are mapped after that
        stays = [range(len(z)) if f in self.J else () for f, z in enumerate(old.z)]
        shell = reduced_products(old, stays)
        J = [self.J[f] for f in self.left]
        pairs = {
            (f, g): PairBlocks(pair.indptr, pair.indices, np.ascontiguousarray(J[f].T @ pair.blocks @ J[g]))
            for (f, g), pair in shell.pairs.items()
        }
        return replace(
            shell,
            C=self.N.T @ old.C @ self.N,
            x=self.x,
            y=self.N.shape[1] - 1,
            z=tuple(self._places),
            R=tuple(np.ascontiguousarray(Jf.T @ R @ self.N) for Jf, R in zip(J, shell.R, strict=True)),
            pairs=pairs,
        )

    def response(self, drawn: Statistics) -> CrossProducts:
        """The statistics of a response that was drawn as those of the larger model."""
        Uy, yy, Zy = drawn
        return with_response(self.products, Uy @ self.N, yy, [Zy[f] @ self.J[f] for f in self.left])

    def solve(self, reml: bool, start: np.ndarray | None) -> SolvedModel | None:
        """Fitted to the larger model's own response; None without random effects."""
        if self.theta_map is None:
            return None
        r = len(self.x)
        fixed = FixedCoordinates(r, np.arange(r), np.eye(r), np.zeros(r), 1.0)
        engine = choose_engine(self.products, fixed.kept, n_threads=engine_threads(self.larger))
        objective = ProfiledObjective(engine, self.products.n, reml, self.products.sum_log_weights)
        return solve_again(
            self.larger, objective, products=self.products, fixed=fixed, theta_map=self.theta_map, start=start
        )[0]

    def least_squares(self, products: CrossProducts, reml: bool) -> tuple[float, np.ndarray, float]:
        """Of a model without random effects -2 log-likelihood, coefficients and sigma^2."""
        at = np.append(products.x, products.y)
        S, r = products.C[np.ix_(at, at)], len(products.x)
        beta = np.linalg.solve(S[:r, :r], S[:r, r])
        N, r2 = products.n - (r if reml else 0), float(S[r, r] - S[r, :r] @ beta)
        value = N * (1.0 + np.log(2.0 * np.pi * r2 / N)) - products.sum_log_weights
        if reml:
            value += float(np.linalg.slogdet(S[:r, :r])[1])
        return value, beta, r2 / N


def _orthonormal(basis: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Other coefficients for the same span, with ``K'C K = I``."""
    if not basis.shape[1]:
        return basis
    L = np.linalg.cholesky(C)
    return np.linalg.solve(L.T, np.linalg.qr(L.T @ basis)[0])


def _full_map(theta_map: ThetaMap, own: RandomPart, group: str) -> np.ndarray:
    """B of all terms of a factor, block diagonal."""
    f = own.factors.index(group)
    full = np.zeros((theta_map.k[f],) * 2)
    for block, B in zip(theta_map.blocks, theta_map.maps, strict=True):
        if block.factor == f:
            full[block.rows, block.rows] = B
    return full


class SmallerEngine:
    """A `ReplicateEngine` that holds responses of the larger model, as the smaller one sees them.

    With ``Lambda~ = J Lambda0`` log|V0| is the same, and what is left are the parts that J and K select.
    """

    def __init__(self, engine: ReplicateEngine, smaller: SmallerModel):
        self.engine, self.J, self.K = engine, smaller.J[smaller.left[0]], smaller.K
        self.k, self.p = self.J.shape[1], self.K.shape[1]
        self.M = np.zeros((engine.p + 1, self.p + 1))
        self.M[:-1, :-1], self.M[-1, -1] = self.K, 1.0

    def _root(self, Lambda: np.ndarray) -> np.ndarray:
        """Lower triangular (s, k, k) with the square of ``J Lambda0``."""
        k = self.engine.k
        R = np.linalg.qr((self.J @ Lambda).transpose(0, 2, 1), mode="r")
        root = np.zeros((len(Lambda), k, k))
        root[:, :, : R.shape[1]] = R.transpose(0, 2, 1)
        return root

    def sweep(self, which, Lambda):
        """As `ReplicateEngine.sweep`."""
        logdet, S, F, GG, failed = self.engine.sweep(which, self._root(Lambda))
        J, M = self.J, self.M
        GG = np.einsum("ai,bj,sabuw,uv,wx->sijvx", J, J, GG, M, M, optimize=True)
        return logdet, M.T @ S @ M, J.T @ F @ J, GG, failed

    def second_moments(self, which, Lambda, Q, v):
        """As `ReplicateEngine.second_moments`."""
        full = self.K @ Q @ self.K.T, v @ self.M.T
        *sums, failed = self.engine.second_moments(which, self._root(Lambda), *full)
        J = self.J
        sums = [np.einsum("ai,bj,ck,dl,sabcd->sijkl", J, J, J, J, part, optimize=True) for part in sums]
        return *sums, failed


class NestedReplicator:
    """Likelihood-ratio statistics of two models on responses drawn from the smaller one.

    Parameters
    ----------
    smaller : SmallerModel, its ``larger`` fitted by the criterion that ``reml`` tells
    start : theta of the smaller model to search from
    design : rows of the larger model; needed with many crossed random effects only

    Attributes
    ----------
    observed : float, the statistic of the response of the data, in one pair of coordinates
    """

    def __init__(self, smaller: SmallerModel, reml: bool, start: np.ndarray | None, design=None):
        self.smaller, self.reml, larger = smaller, reml, smaller.larger
        self.solved = smaller.solve(reml, start)
        if self.solved is None:
            value, beta, s2 = smaller.least_squares(smaller.products, reml)
            Lambda = [np.zeros((k, k)) for k in larger.theta_map.k]
        else:
            point = self.solved.point
            value, beta, s2 = point.value, point.beta, point.s2
            Lambda = [np.zeros((k, k)) for k in larger.theta_map.k]
            for f, L in zip(smaller.left, point.Lambda, strict=True):
                Lambda[f] = lower_factor(smaller.J[f] @ L)
        self.observed = value - larger.point.value
        self.replicator = Replicator(_at(larger, smaller.K @ beta, Lambda, s2), design)
        self.chunk = self.replicator.chunk if self.replicator.one_factor else min(self.replicator.chunk, 25)

    def statistics(self, generators: Sequence[np.random.Generator]) -> list[float]:
        """One per generator; NaN where a model could not be fitted."""
        if self.replicator.one_factor:
            return self._together(generators)
        return [self._below(drawn) - self._above(drawn) for drawn in self.replicator.draw(generators)]

    def _below(self, drawn: Statistics) -> float:
        """The smaller model's criterion."""
        products = self.smaller.response(drawn)
        if self.solved is None:
            return self.smaller.least_squares(products, self.reml)[0]
        return _minimum(self.solved, products)

    def _above(self, drawn: Statistics) -> float:
        """The larger model's."""
        larger = self.smaller.larger
        return _minimum(larger, with_response(larger.products, *drawn))

    def _together(self, generators) -> list[float]:
        """One grouping factor: all responses are searched at once, single searches do what is left."""
        larger, r = self.smaller.larger, len(generators)
        engine = self.replicator.drawn(generators)
        logs, N = larger.products.sum_log_weights, larger.objective.N
        above = fit_batch(engine, larger.theta_map, larger.point.Lambda[0], N, self.reml, r)
        below = None
        if self.solved is not None:
            own, solved = SmallerEngine(engine, self.smaller), self.solved
            below = fit_batch(own, solved.theta_map, solved.point.Lambda[0], N, self.reml, r)
        out = []
        for i in range(r):
            found = below is not None and below.found[i]
            drawn = None if found and above.found[i] else engine.statistics(i)
            value = below.value[i] - logs if found else self._below(drawn)
            out.append(value - (above.value[i] - logs if above.found[i] else self._above(drawn)))
        return out


def _minimum(solved: SolvedModel, products: CrossProducts) -> float:
    """The criterion at the optimum for other statistics; NaN where the search found none."""
    try:
        objective = fresh_objective(solved, products, n_threads=1)
        optimum = minimize(objective, solved.theta_map, start=solved.estimates.theta, control=SEARCH)
    except FastLMMError:
        return float("nan")
    return optimum.point.value if optimum.certificate.converged else float("nan")


def _at(larger: SolvedModel, beta: np.ndarray, Lambda, s2: float) -> SolvedModel:
    """The larger model at parameters given in the coordinates of its engine, to draw from."""
    fixed, old = larger.fixed, larger.estimates
    theta = larger.theta_map.theta_from_Lambda(Lambda)
    full = np.full(fixed.p, np.nan)
    full[fixed.kept] = fixed.shift + fixed.scale * (fixed.A @ beta)
    point = replace(larger.point, beta=beta, Lambda=list(Lambda), s2=s2, r2=s2 * larger.point.N)
    estimates = replace(
        old, beta=full, theta=theta, r2=fixed.scale**2 * s2 * old.N,
        terms=tuple(larger.theta_map.term_T(theta)),
    )  # fmt: skip
    return SolvedModel(larger.objective, point, larger.theta_map, estimates, fixed, larger.products)


def check_nested(observed: float, stated: float, size: float) -> None:
    """ModelError where the mapped model is not the one that was fitted: names agree, columns do not."""
    if abs(observed - stated) > 1e-6 * max(1.0, size):
        raise ModelError(
            "the smaller model is not nested in the larger one: columns of the same name differ, or its "
            "fixed part is not in the span of the larger one's"
        )
