"""Engines for one grouping factor and for a chain of nested factors.

Both stay block diagonal however many levels there are: a level of the innermost
factor touches only its own ancestors, so eliminating it changes k x k blocks and
fills in nothing.  Cost per evaluation is linear in the number of levels.

One factor: every level is reduced once to ``A_i = La La'``, ``E_i = La^+ B_i`` and
then ``S = (C - sum E'E) + sum E'(I + La'T La)^-1 E``, sums of squares only, which
loses nothing however large or small T is (`flm_tree.h`).

Nested factors: block elimination innermost first, ``H_i = Lambda (I +
Lambda'A_i Lambda)^-1 Lambda'`` taking the place of an inverse so that a singular
Lambda is no special case; the posterior covariance from the outermost factor
inwards gives the traces (Takahashi's recursion on blocks).
"""

import numpy as np

from fastlmm_core._kernels._tree import MAX_DEPTH, Chain, Levels, posterior
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.engine import Direction, SecondMoments


class TreeEngine:
    """`fastlmm_core.mme.engine.Engine` for ``cp.structure == "tree"``.

    Parameters
    ----------
    cp : CrossProducts
    keep : (p,) int, positions in ``cp.x`` of the columns of X to use
    n_threads : results do not depend on it

    Constructing it returns a `OneFactorEngine` or a `NestedEngine`.  Every method
    raises `NumericalError` where a pivot or a sum is not finite and positive.
    """

    name = "tree"

    def __new__(cls, cp: CrossProducts, keep, n_threads: int = 1):
        if cls is TreeEngine:
            cls = OneFactorEngine if len(cp.order) == 1 else NestedEngine
        return object.__new__(cls)

    def __init__(self, cp: CrossProducts, keep, n_threads: int = 1):
        if cp.structure != "tree" or not cp.order:
            raise ModelError(f"the tree engine needs nested grouping factors, not structure {cp.structure!r}")
        xy, C = kept_columns(cp, keep)
        self.C = C
        self.xy = xy
        self.p = len(xy) - 1
        self.k = tuple(len(z) for z in cp.z)
        self.levels = tuple(cp.levels)
        self.n_threads = int(n_threads)


def kept_columns(cp: CrossProducts, keep) -> tuple[np.ndarray, np.ndarray]:
    """Positions (u,) int64 of the kept columns [X y] in U, and their block of C (u, u)."""
    xy = np.append(np.asarray(cp.x)[np.asarray(keep, np.int64)], cp.y).astype(np.int64)
    C = np.ascontiguousarray(cp.C[xy[:, None], xy], np.float64)
    if not np.isfinite(C).all():
        raise NumericalError("the cross-products of the fixed effects and the response are not finite")
    return xy, C


def lower(Lambda: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(Lambda, np.float64)


class OneFactorEngine(TreeEngine):
    """One grouping factor: O(levels k u (k + u)) per evaluation, value and moments in one sweep."""

    def __init__(self, cp: CrossProducts, keep, n_threads: int = 1):
        super().__init__(cp, keep, n_threads)
        (factor,) = cp.order
        k = self.k[factor]
        self._R = np.ascontiguousarray(cp.R[factor], np.float64)
        self._z = np.asarray(cp.z[factor], np.int64)
        self._packed = Levels(self._R, self._z, self.xy, self.n_threads)
        self._within = self.C - self._packed.within
        a, b = np.indices((k, k))
        high, low = np.maximum(a, b), np.minimum(a, b)
        self._vech = high * (high + 1) // 2 + low

    def factorize(self, Lambda: list[np.ndarray]) -> tuple[float, np.ndarray]:
        self._Lambda = lower(Lambda[0])
        logdet, S, self._F, self._GG = self._packed.sweep(self._Lambda, self.n_threads)
        S += self._within
        if not np.isfinite(S.sum() + logdet):
            raise NumericalError("log|V0| or S is not finite")
        return logdet, S

    def moments(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [self._F], [self._GG]

    def second_moments(self, Q: np.ndarray, v: np.ndarray) -> SecondMoments:
        Q, v = np.ascontiguousarray(Q), np.ascontiguousarray(v)
        sums = self._packed.second(self._Lambda, Q, v, self.n_threads)
        return SecondMoments(*sums[:, self._vech[:, :, None, None], self._vech])

    def average_information(self, Q: np.ndarray, v: np.ndarray, directions: list[Direction]) -> np.ndarray:
        """From the second moments: ``w_j'V0^-1 w_k = sum (X_j g_i)'F_i (X_k g_i)``."""
        X = np.array([direction for _, direction in directions])
        Fg = self.second_moments(Q, v).Fg
        cross = np.einsum("abuw,jab,w->ju", self._GG, X, v)[:, : self.p]
        return np.einsum("jac,kbd,abcd->jk", X, X, Fg, optimize=True) - cross @ Q @ cross.T

    def random_effects(self, v: np.ndarray) -> list[np.ndarray]:
        g = self._packed.effects(self._Lambda, np.ascontiguousarray(v), self.n_threads)
        return [g @ (self._Lambda @ self._Lambda.T)]

    def conditional_covariance(self, factor: int = 0) -> np.ndarray:
        return posterior(self._R, self._z, self._Lambda, self.n_threads)


class NestedEngine(TreeEngine):
    """A chain of nested factors; node order below is by subtree, not by level."""

    def __init__(self, cp: CrossProducts, keep, n_threads: int = 1):
        super().__init__(cp, keep, n_threads)
        if len(cp.order) > MAX_DEPTH:
            raise ModelError(f"{len(cp.order)} nested grouping factors; at most {MAX_DEPTH} are supported")
        self._order = cp.order
        self._depth = {factor: depth for depth, factor in enumerate(cp.order)}
        self._nodes, parents, firsts = order_by_subtree(cp)
        records = []
        for depth, factor in enumerate(cp.order):
            columns = np.concatenate([*(cp.z[g] for g in cp.order[depth:]), self.xy]).astype(np.int64)
            records.append(np.ascontiguousarray(cp.R[factor][self._nodes[depth]][:, :, columns], np.float64))
            if not np.isfinite(records[-1].sum()):
                raise NumericalError(f"cross-products of grouping factor {factor} are not finite")
        self._chain = Chain(records, parents, firsts, len(self.xy), self._nodes, cp.order)

    def factorize(self, Lambda: list[np.ndarray]) -> tuple[float, np.ndarray]:
        self._Lambda = [lower(block) for block in Lambda]
        logdet, S = self._chain.factorize([self._Lambda[f] for f in self._order], self.C, self.n_threads)
        if not np.isfinite(S.sum() + logdet):
            raise NumericalError("log|V0| or S is not finite")
        return logdet, S

    def _by_factor(self, by_depth: list) -> list:
        return [by_depth[self._depth[f]] for f in range(len(self.k))]

    def _by_level(self, by_depth: list[np.ndarray]) -> list[np.ndarray]:
        """From node order to the levels' own order."""
        out = []
        for nodes, values in zip(self._nodes, by_depth, strict=True):
            out.append(np.empty_like(values))
            out[-1][nodes] = values
        return self._by_factor(out)

    def moments(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        F, GG = self._chain.moments(self.n_threads)
        return self._by_factor(F), self._by_factor(GG)

    def second_moments(self, Q: np.ndarray, v: np.ndarray) -> None:
        """Blocks between levels of one outer level are full here: no closed sums."""

    def average_information(self, Q: np.ndarray, v: np.ndarray, directions: list[Direction]) -> np.ndarray:
        g = self._chain.effects(np.ascontiguousarray(v), self.n_threads)
        widest = max(self.k)
        X = np.zeros((len(directions), widest, widest))
        depth = np.array([self._depth[f] for f, _ in directions], np.int32)
        for j, (f, direction) in enumerate(directions):
            X[j].ravel()[: self.k[f] ** 2] = direction.ravel()
        inner, cross = self._chain.inner(g, depth, X, self.n_threads)
        return inner - cross[:-1].T @ Q @ cross[:-1]

    def random_effects(self, v: np.ndarray) -> list[np.ndarray]:
        g = self._by_level(self._chain.effects(np.ascontiguousarray(v), self.n_threads))
        return [g_f @ (L @ L.T) for g_f, L in zip(g, self._Lambda, strict=True)]

    def conditional_covariance(self, factor: int) -> np.ndarray:
        return self._by_level(self._chain.posterior(self.n_threads))[factor]


def order_by_subtree(cp: CrossProducts) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Order nodes so that the children of every node are contiguous.

    Returns, innermost factor first: ``nodes[d]``, the levels of ``order[d]`` in the
    new order; ``parents[d]`` int32, positions in the order of factor d + 1; and
    ``firsts[d]`` int64 (nodes[d + 1] + 1,), where the children in d begin.
    """
    counts = [cp.levels[f] for f in cp.order]
    nodes = [np.arange(counts[-1])]
    parents: list[np.ndarray] = []
    firsts: list[np.ndarray] = []
    position = np.arange(counts[-1])
    for d in range(len(counts) - 2, -1, -1):
        parent = np.asarray(cp.parent[d])
        if parent.shape != (counts[d],) or parent.min() < 0 or parent.max() >= counts[d + 1]:
            inner, outer = cp.order[d : d + 2]
            raise ModelError(f"the parents of grouping factor {inner} are not levels of {outer}")
        above = position[parent]
        order = np.argsort(above, kind="stable")
        nodes.insert(0, order)
        parents.insert(0, above[order].astype(np.int32))
        size = np.bincount(above, minlength=counts[d + 1])
        firsts.insert(0, np.concatenate([[0], np.cumsum(size)]).astype(np.int64))
        position = np.empty(counts[d], np.int64)
        position[order] = np.arange(counts[d])
    return nodes, parents, firsts
