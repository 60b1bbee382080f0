"""Mixed-model equations of crossed factors too large to factor.

As in `crossed` the leaf, ``order[0]``, is eliminated exactly; with
``T_f = D_f D_f'`` and ``J_i = T (I + A_i T)^-1`` of the leaf,

    K = A_cc - sum N_i'J_i N_i,  S = I + D_c'K D_c,  B~ = B_c - sum N_i'J_i B_i
    U = D_c S^-1 D_c'B~
    log|V0| = sum log|I + A_i T| + log|S|,  [X y]'V0^-1[X y] = C - sum B_i'J_i B_i - B~'U
    G_c = B~ - K U,  G_i = (I + A_i T)^-1 (B_i - N_i U)

S is never formed: systems are solved by conjugate gradients preconditioned by
P, its diagonal blocks.  Everything that does not need S^-1 as a whole is exact
(to `SOLVE_TOL`).  Traces of S^-1, and its log-determinant, are estimated from
probes: with ``P = R R'``, ``w = R^-T z``, ``x = S^-1 R z``, ``E[x w'] = S^-1``
and ``e = x - w`` alone is random to first order.
"""

import numpy as np

from fastlmm_core._kernels._iterative import Operator
from fastlmm_core._typing import Float, Int64
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.engine import Direction
from fastlmm_core.mme.iterative_arrays import LANES, iterative_arrays
from fastlmm_core.mme.iterative_leaf import Scale, leaf_state
from fastlmm_core.mme.iterative_state import Probe, State, Traces, outer_sum, same_covariances, symmetric
from fastlmm_core.mme.probes import Estimate, ProbeSet, controlled, lanczos_log, probe_sets

SOLVE_TOL = 1e-10
"""Relative tolerance for the columns [X y]."""

ROUGH_TOL = 1e-6
"""The same far from the optimum."""

PROBE_TOL = 1e-5
MAX_ITERATIONS = 2000
LEAST_PARALLEL_PAIRS = 2e5
"""Below this one product takes less than a millisecond, and threads wait longer than they work."""

DEFAULT_PROBES = 50


class IterativeEngine:
    """Engine for ``structure == "crossed"`` by conjugate gradients and random probes.

    Parameters
    ----------
    cp : CrossProducts
        Statistics with at least two factors; ``cp.order[0]`` is eliminated.
    keep : (p,) int
        Positions in ``cp.x`` of the columns of X that are kept.
    n_threads : int
        Threads of the kernels; results do not depend on it.
    probes : int
        Probes per column of Z of the stacked factors.
    seed : int
        The probes are the same at every evaluation, so that log|V0| and F are
        deterministic functions of Lambda.
    tol : float
        Relative tolerance of the systems solved for probes and for average information.

    Raises
    ------
    NumericalError
        From `factorize`: Lambda is not finite, or conjugate gradients fail.

    Notes
    -----
    One evaluation costs about 7 (probes + p + 1) products with the pairs.
    `moments` returns F with Monte Carlo error (`score_noise`), GG without.
    """

    name = "iterative"
    stochastic = True

    def __init__(
        self,
        cp: CrossProducts,
        keep: Int64,
        n_threads: int = 1,
        *,
        probes: int | None = None,
        seed: int = 0,
        tol: float = PROBE_TOL,
    ):
        if len(cp.order) < 2 or sorted(cp.order) != list(range(len(cp.z))):
            raise ValueError("the iterative engine needs two or more factors, all in order")
        columns = np.append(cp.x[np.asarray(keep, np.intp)], cp.y).astype(np.int64)
        arrays = iterative_arrays(cp, columns)
        self.k = tuple(len(z) for z in cp.z)
        self.levels = tuple(cp.levels)
        self.p = len(columns) - 1
        self.n_threads = n_threads
        self.m = int(arrays.offset[-1])
        self.tol, self.seed = tol, seed
        self._leaf_factor, self._stacked = cp.order[0], tuple(cp.order[1:])
        self._rows = {
            f: slice(*ends) for f, ends in zip(self._stacked, zip(arrays.offset[:-1], arrays.offset[1:]))
        }
        self._C = np.ascontiguousarray(cp.C[np.ix_(columns, columns)])
        self._arrays = arrays
        pairs = len(arrays.kernel["index"]) * self.k[cp.order[0]]
        self._operator = Operator(arrays.kernel, n_threads if pairs >= LEAST_PARALLEL_PAIRS else 1)
        self.work = max(1e9, 28.0 * (DEFAULT_PROBES + len(columns)) * (pairs + self.m))
        self._state: State | None = None
        self.set_probes(probes or DEFAULT_PROBES)

    def set_probes(self, count: int, seed: int | None = None, rough: bool = False) -> None:
        """Use ``count`` probes per stacked column of Z from the next `factorize` on.

        Probes of one seed have numbers, the first ones stay the same; ``rough``
        solves for [X y] to `ROUGH_TOL` only.
        """
        self.probes, self._solve_tol = int(count), ROUGH_TOL if rough else SOLVE_TOL
        self.seed = self.seed if seed is None else int(seed)
        stacked = self._stacked
        self._sets = probe_sets(
            [self.levels[f] for f in stacked], [self.k[f] for f in stacked], self.probes, self.seed
        )
        if self._state is not None:
            self._state.traces = None

    @property
    def exact(self) -> bool:
        """No factor has more levels than there are probes: unit vectors leave no Monte Carlo error."""
        return all(probe_set.exact for probe_set in self._sets)

    def factorize(self, Lambda: list[Float]) -> tuple[float, Float]:
        """Return an estimate of ``log|V0|``, and ``S`` (u x u), at the relative factors ``Lambda``."""
        state = self._state
        if state is None or state.tol > self._solve_tol or not same_covariances(Lambda, state.Lambda):
            self._state = None
            state = self._prepare(Lambda)
        if state.traces is None:
            state.traces = self._traces(state)
        self._state = state
        return state.traces.logdet, state.S.copy()

    def moments(self) -> tuple[list[Float], list[Float]]:
        """Return per factor F = sum_i Z_i'V0^-1 Z_i (k, k), estimated, and sums of outer products of G_i."""
        state = self._ready()
        return [F.copy() for F in state.traces.F], [outer_sum(G) for G in state.G]

    @property
    def logdet_sd(self) -> float:
        """Monte Carlo standard deviation of ``log|V0|``."""
        return self._ready().traces.logdet_sd

    def score_noise(self, directions: list[Direction]) -> Float:
        """Monte Carlo covariance (r, r) of ``tr(F X)`` over the directions X."""
        total = np.zeros((len(directions), len(directions)))
        for errors in self._ready().traces.errors:
            values = np.zeros((len(next(iter(errors.values()))), len(directions)))
            for j, (f, X) in enumerate(directions):
                if f in errors:
                    values[:, j] = errors[f] @ X.ravel()
            total += values.T @ values
        return total

    def second_moments(self, Q: Float, v: Float) -> None:
        """None: with several factors `average_information` serves."""
        return None

    def average_information(self, Q: Float, v: Float, directions: list[Direction]) -> Float:
        """Return ``w_j'P w_k`` (r x r), ``w_j = Z_f X_j Z_f'P y``; see `CrossedEngine.average_information`.

        It is bilinear in the directions: systems are solved once per Lambda, for
        the entries of T.
        """
        state = self._ready()
        basis = [(f, a, b) for f, k in enumerate(self.k) for a in range(k) for b in range(a + 1)]
        if state.information is None or not np.array_equal(state.information[0], v):
            state.information = v.copy(), self._information_of_entries(state, Q, v, basis)
        entries = [[X[a, b] if f == g else 0.0 for f, a, b in basis] for g, X in directions]
        X = np.array(entries).reshape(len(directions), len(basis))
        return X @ state.information[1] @ X.T

    def _information_of_entries(self, state, Q, v, basis) -> Float:
        """Average information along e_a e_b' + e_b e_a' (e_a e_a' on the diagonal) of each T."""
        r = len(basis)
        h = np.zeros((*self._arrays.A.shape[:2], r))
        hc, XVw = np.zeros((self.m, r)), np.zeros((self.p, r))
        for q, (f, a, b) in enumerate(basis):
            g = state.G[f] @ v
            column = np.zeros_like(g)  # h_j = Z_f'P y X_j, (levels, k)
            column[:, b] = g[:, a]
            column[:, a] = g[:, b]
            XVw[:, q] = np.tensordot(column, state.G[f][:, :, :-1], ([0, 1], [0, 1]))
            if f == self._leaf_factor:
                h[:, :, q] = column
            else:
                hc[self._rows[f], q] = column.ravel()
        Ba, Bc = self._blocks_of_8(self._multiply_all, h, hc)
        _, _, g, gc = self._project(state, Ba, Bc, self.tol)
        wVw = np.tensordot(h, g, ([0, 1], [0, 1])) + hc.T @ gc
        return 0.5 * (wVw + wVw.T) - XVw.T @ Q @ XVw

    def random_effects(self, v: Float) -> list[Float]:
        """Return per factor ``b = T_f Z_f'V0^-1 [X y] v`` (levels, k)."""
        state = self._ready()
        return [(G @ v) @ (L @ L.T) for G, L in zip(state.G, state.Lambda)]

    def conditional_covariance(self, factor: int) -> Float:
        """Estimate ``Var(b_i | y, beta) / sigma^2`` (levels, k, k) from the probes.

        The exact part, ``D_f P_j^-1 D_f'`` or ``J_i`` plus one step of it, bounds
        each level from below; what is estimated is the rest, of second order in
        the coupling of the factors, with a relative error of about
        ``1 / sqrt(probes)``.  `exact_covariance` solves for single levels.
        """
        state = self._ready()
        T = state.Lambda[factor] @ state.Lambda[factor].T
        if not T.any():
            return np.zeros((self.levels[factor], *T.shape))
        if factor == self._leaf_factor:
            base = state.leaf.J + self._operator.level_blocks(state.leaf.J, state.Q)
            rest, lower = np.zeros_like(base), state.leaf.J
            for probes in self._sets:
                for probe in self._probe_blocks(state, probes):
                    De, Dw = state.scale.times(probe.e), state.scale.times(probe.w)
                    self._operator.samples(state.leaf.J, De, Dw, probe.weight, rest)
            rest = base - lower + 0.5 * (rest + rest.transpose(0, 2, 1))
        else:
            number, k = self._stacked.index(factor), self.k[factor]
            rows = self._rows[factor]
            lower = state.Q[rows, :k].reshape(-1, k, k)
            rest, D = np.zeros_like(lower), state.scale.D[number]
            for probes in self._sets:
                for probe in self._probe_blocks(state, probes) if probes.number == number else ():
                    e = (probe.e - probe.first)[rows].reshape(-1, k, LANES) * probe.weight
                    product = e @ probe.w[rows].reshape(-1, k, LANES).transpose(0, 2, 1)
                    rest += D @ (0.5 * (product + product.transpose(0, 2, 1))) @ D.T
        values, vectors = np.linalg.eigh(rest)
        positive = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1)
        return lower + positive if len(T) > 1 else np.minimum(lower + positive, T)

    def exact_covariance(self, factor: int, levels: np.ndarray) -> Float:
        """``Var(b_i | y, beta) / sigma^2`` (len(levels), k, k) of the levels asked for, one solution each."""
        state, k = self._ready(), self.k[factor]
        result = np.empty((len(levels), k, k))
        T = state.Lambda[factor] @ state.Lambda[factor].T
        for at, level in enumerate(levels):
            Ba, Bc = np.zeros((*self._arrays.A.shape[:2], k)), np.zeros((self.m, k))
            if factor == self._leaf_factor:  # Z_i'V0^-1 Z_i from the right-hand side Z'Z_i
                Ba[level] = self._arrays.A[level]
                unit = np.zeros((*self._arrays.A.shape[:2], 8))
                unit[level, :, :k] = np.eye(k)
                if k > 8:
                    raise ValueError("exact covariances are offered for at most 8 columns per term")
                Bc[:] = self._operator.reduce(unit)[:, :k]
                F = self._project(state, Ba, Bc, SOLVE_TOL)[2][level]
            else:
                unit = np.zeros((self.m, k))
                rows = slice(self._rows[factor].start + level * k, self._rows[factor].start + (level + 1) * k)
                unit[rows] = np.eye(k)
                zero = np.zeros((*self._arrays.A.shape[:2], k))
                Ba, Bc = self._blocks_of_8(self._multiply_all, zero, unit)
                F = self._project(state, Ba, Bc, SOLVE_TOL)[3][rows]
            result[at] = T - T @ (0.5 * (F + F.T)) @ T
        return result

    def _ready(self) -> State:
        if self._state is None or self._state.traces is None:
            raise NumericalError("the equations are not factorized; call factorize with a valid Lambda first")
        return self._state

    def _prepare(self, Lambda: list[Float]) -> State:
        """Everything at Lambda that needs no probes."""
        if len(Lambda) != len(self.k):
            raise ValueError("one relative covariance factor per grouping factor is needed")
        for L, k in zip(Lambda, self.k):
            if L.shape != (k, k):
                raise ValueError(f"a relative covariance factor has shape {L.shape}, not {(k, k)}")
            if not np.isfinite(L).all():
                raise NumericalError("a relative covariance factor is not finite")
        arrays = self._arrays
        leaf = leaf_state(arrays.A, Lambda[self._leaf_factor])
        scale = Scale([Lambda[f] for f in self._stacked], arrays.offset, arrays.own.shape[1])
        self._operator.place(leaf.J, scale.flat)
        diagonal = arrays.own - self._operator.diagonal()
        P = scale.preconditioner(diagonal)
        state = State(
            [np.array(L, float) for L in Lambda],
            self._solve_tol,
            leaf,
            scale,
            diagonal,
            P,
            scale.sandwich(P.inverse),
        )
        U, Bt, G, Gc = self._project(state, arrays.B, arrays.Bc, state.tol)
        JB = state.leaf.J @ arrays.B
        state.S = self._C - np.tensordot(arrays.B, JB, ([0, 1], [0, 1])) - Bt.T @ U
        state.S = 0.5 * (state.S + state.S.T)
        state.G = [
            G if f == self._leaf_factor else Gc[self._rows[f]].reshape(self.levels[f], self.k[f], -1)
            for f in range(len(self.k))
        ]
        return state

    def _project(self, state, Ba, Bc, tol):
        """(U, B~, leaf and stacked rows of Z'V0^-1 w) for the right-hand sides Z'W w, eight at a time."""
        return self._blocks_of_8(lambda Ba, Bc: self._project_8(state, Ba, Bc, tol), Ba, Bc)

    def _project_8(self, state, Ba, Bc, tol):
        operator, scale, leaf = self._operator, state.scale, state.leaf
        Bt = Bc - operator.reduce(leaf.J @ Ba)
        U = scale.times(self._solve(state, scale.transposed(Bt), tol)[0])
        return U, Bt, leaf.K @ (Ba - operator.multiply(U)), Bt - operator.apply(U)

    def _multiply_all(self, h, hc):
        """Z'W Z times (h, hc)."""
        operator = self._operator
        return self._arrays.A @ h + operator.multiply(hc), operator.reduce(h) + operator.own(hc)

    def _blocks_of_8(self, function, Ba, Bc):
        r = Bc.shape[1]
        parts = []
        for first in range(0, r, 8):
            block = np.zeros((*Ba.shape[:2], 8)), np.zeros((self.m, 8))
            width = min(8, r - first)
            block[0][:, :, :width] = Ba[:, :, first : first + 8]
            block[1][:, :width] = Bc[:, first : first + 8]
            parts.append([part[..., :width] for part in function(*block)])
        return [
            np.ascontiguousarray(part[0] if len(part) == 1 else np.concatenate(part, -1))
            for part in zip(*parts)
        ]

    def _solve(self, state, rhs, tol):
        try:
            result = self._operator.solve(rhs, state.P.inverse, tol, MAX_ITERATIONS)
        except ArithmeticError as error:
            raise NumericalError(str(error)) from error
        if result[3].min() < 0:
            raise NumericalError(f"conjugate gradients did not reach {tol} in {MAX_ITERATIONS} iterations")
        return result

    def _probe_blocks(self, state, probes: ProbeSet):
        """Solutions for one set of probes, `LANES` at a time."""
        for first in range(0, probes.count, LANES):
            yield self._probe_block(state, probes, *probes.block(first, LANES))

    def _probe_block(self, state, probes: ProbeSet, z: Float, width: int) -> Probe:
        scale, k, number = state.scale, probes.k, probes.number
        rows = self._rows[self._stacked[number]]
        w = np.zeros((self.m, LANES))
        w[rows] = (state.P.root[number] @ z.reshape(-1, k, LANES)).reshape(-1, LANES)
        Dw = scale.times(w)
        # R z - S w without cancellation: the diagonal blocks of I + D'K D are P itself
        image = -self._operator.apply(Dw)
        image[rows] += (state.diagonal[rows, :k].reshape(-1, k, k) @ Dw[rows].reshape(-1, k, LANES)).reshape(
            -1, LANES
        )
        rhs = scale.transposed(image)
        e, step, ratio, used, norm2 = self._solve(state, rhs, self.tol)
        weight = np.zeros(LANES)
        weight[:width] = probes.weight
        first = np.zeros_like(w)
        first[rows] = (state.P.blocks(number) @ rhs[rows].reshape(-1, k, LANES)).reshape(-1, LANES)
        control = (w[rows] * rhs[rows]).sum(0)[:width]
        log = -lanczos_log(step, ratio, used, norm2)[:width]
        return Probe(w, e, first, weight, width, control, log)

    def _traces(self, state) -> Traces:
        """F and log|S| from all sets of probes."""
        leaf, operator = self._leaf_factor, self._operator
        k = self.k[leaf]
        F = [np.zeros((kf, kf)) for kf in self.k]
        F[leaf] += (state.leaf.K @ self._arrays.A - operator.level_blocks(state.leaf.K, state.Q)).sum(0)
        for f, information in zip(self._stacked, state.P.information):
            F[f] += information
        logdet, variance, errors = state.leaf.logdet + state.P.logdet, 0.0, []
        for probes in self._sets:
            f = self._stacked[probes.number]
            own, leaf_part, log = self._estimates(state, probes)
            F[f] -= own.mean.reshape(self.k[f], self.k[f])
            F[leaf] -= leaf_part.mean.reshape(k, k)
            logdet += float(log.mean[0])
            variance += float((log.errors**2).sum())
            errors.append({f: own.errors, leaf: leaf_part.errors})
        return Traces([0.5 * (f + f.T) for f in F], logdet, variance**0.5, errors)

    def _estimates(self, state, probes: ProbeSet) -> tuple[Estimate, Estimate, Estimate]:
        """From one set: its own factor's part of F, the leaf's, and its part of log|S|."""
        rows, k = self._rows[self._stacked[probes.number]], probes.k
        inverse = state.scale.inverse[probes.number]
        own, own_control, leaf, control, log = [], [], [], [], []
        for probe in self._probe_blocks(state, probes):
            w = probe.w[rows].reshape(-1, k, LANES)
            for samples, vector in ((own, probe.e), (own_control, probe.first)):
                product = np.einsum("jal,jbl->lab", vector[rows].reshape(-1, k, LANES), w)[: probe.width]
                samples.append(symmetric(inverse.T @ product @ inverse))
            pairs = self._operator.samples(
                state.leaf.K, state.scale.times(probe.e), state.scale.times(probe.w)
            )
            leaf.append(symmetric(pairs.transpose(2, 0, 1)[: probe.width]))
            control.append(probe.control)
            log.append(probe.log)
        exact, scalar = probes.exact, np.concatenate(control)[:, None]
        return (
            controlled(np.concatenate(own), np.concatenate(own_control), exact),
            controlled(np.concatenate(leaf), scalar, exact),
            controlled(np.concatenate(log)[:, None], scalar, exact),
        )
