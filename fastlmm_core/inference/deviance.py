"""The deviance as a function of standard deviations, correlations, sigma and single fixed effects.

Nothing is profiled out but beta:

    d(Sigma, s2) = log|V0| + n log(2 pi s2) + r2 / s2 - sum log w,   V0 = I + Z (Sigma / s2) Z'

Each term has ``Sigma = M M'`` with M lower triangular in a permuted order of rows,
chosen so that what is to be held fixed is one coordinate: the first entry of M
for a standard deviation, an angle for a correlation,

    M[0] = (e^a, 0, ...),  M[1] = e^b (sin psi, cos psi, 0, ...),  cor = sin psi,

and ``eta = log s2`` for sigma.  The other entries of M are free of bounds: d is
even in the columns of M.  A fixed effect is held by a linear constraint on beta.

With ``D = F - sum g_i g_i' / s2`` and ``X = dT``: ``dd/dx = tr(D X)``, and for
eta, T = Sigma / s2 held with Sigma, ``n - r2 / s2 - tr(D T)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastlmm_core.criterion.profiled import Point, ProfiledObjective
from fastlmm_core.mme.covariance import ThetaMap, lower_factor


@dataclass(frozen=True)
class Target:
    """What is held: ``kind`` is "sd" (term, i), "cor" (term, i, j), "sigma" or "beta" (column,)."""

    kind: str
    at: tuple[int, ...] = ()


class Expansion:
    """The deviance at one place; gradient ``g`` and Hessian ``H`` in all coordinates, made when asked for."""

    def __init__(self, value: float, derivatives: Callable[[], tuple[np.ndarray, np.ndarray]]):
        self.value = value
        self._derivatives = derivatives

    @cached_property
    def _both(self):
        return self._derivatives()

    @property
    def g(self) -> np.ndarray:
        return self._both[0]

    @property
    def H(self) -> np.ndarray:
        return self._both[1]


class Coordinates:
    """All variance coordinates, x (m + 1,): entries of M term by term, then eta = log s2.

    ``held`` is the place of the target in x (None for a fixed effect).  Everything is
    in units of Z and of y~.
    """

    def __init__(self, theta_map: ThetaMap, target: Target):
        self.map, self.target = theta_map, target
        self.orders = [list(range(block.q)) for block in theta_map.blocks]
        if target.kind in ("sd", "cor"):
            t, *first = target.at
            self.orders[t] = [*first, *(i for i in self.orders[t] if i not in first)]
        self.entries = list(theta_map.entries)
        self.m = len(self.entries)
        self._first = {}
        for j, (t, _, _) in enumerate(self.entries):
            self._first.setdefault(t, j)
        self.held = self._held()

    def _held(self) -> int | None:
        if self.target.kind == "sigma":
            return self.m
        if self.target.kind == "sd":
            return self._first[self.target.at[0]]
        if self.target.kind == "cor":
            # entries of a term are column-major: (0, 0), (1, 0), ..., and (1, 0) is the place of psi
            return self._first[self.target.at[0]] + 1
        return None

    def _polar(self, t: int) -> bool:
        return self.target.kind == "cor" and self.target.at[0] == t

    def x_of(self, T: list[np.ndarray], s2: float) -> np.ndarray:
        """Coordinates of relative covariances T (per term, original units) and s2."""
        x = np.empty(self.m + 1)
        x[-1] = np.log(s2)
        for t, order in enumerate(self.orders):
            values, vectors = np.linalg.eigh(s2 * T[t][np.ix_(order, order)])
            L = lower_factor(vectors * np.sqrt(np.maximum(values, 0.0)))
            entries = [L[a, b] for s, a, b in self.entries if s == t]
            if self._polar(t):
                q = len(L)
                entries[0] = np.log(max(L[0, 0], 1e-150))
                entries[1] = np.arctan2(L[1, 0], L[1, 1])
                entries[q] = np.log(max(np.hypot(L[1, 0], L[1, 1]), 1e-150))
            x[self._first[t] : self._first[t] + len(entries)] = entries
        return x

    def factors(self, x: np.ndarray):
        """Per term: M (q, q), its derivatives (m_t, q, q), and second derivatives {(j, k): (q, q)}."""
        result = []
        for t, order in enumerate(self.orders):
            q, base = len(order), self._first[t]
            M, dM, d2M = np.zeros((q, q)), np.zeros((q * (q + 1) // 2, q, q)), {}
            for j, (s, a, b) in enumerate(self.entries):
                if s == t:
                    M[order[a], b] = x[j]
                    dM[j - base, order[a], b] = 1.0
            if self._polar(t):
                self._bend(x[base : base + q + 1], q, order, M, dM, d2M)
            result.append((M, dM, d2M))
        return result

    @staticmethod
    def _bend(x, q, order, M, dM, d2M):
        """The first two rows of M in polar coordinates."""
        first, second = order[:2]
        a, psi, b = np.exp(x[0]), x[1], np.exp(x[q])
        sine, cosine = np.sin(psi), np.cos(psi)
        M[first, 0], M[second, 0], M[second, 1] = a, b * sine, b * cosine
        for j in (0, 1, q):
            dM[j] = 0.0
        dM[0, first, 0] = a
        dM[q, second, :2] = b * sine, b * cosine
        dM[1, second, :2] = b * cosine, -b * sine
        d2M[0, 0], d2M[q, q], d2M[1, q] = dM[0], dM[q], dM[1]
        turned = np.zeros((len(M), len(M)))
        turned[second, :2] = -b * sine, -b * cosine
        d2M[1, 1] = turned


class Deviance:
    """-2 log-likelihood and its derivatives in `Coordinates`.

    Parameters
    ----------
    objective : the ML criterion; its engine is used.
    coordinates : which quantity is held.
    constraint : (c (p,),) ``c'beta~`` is held for a fixed effect, else None.
    """

    def __init__(
        self, objective: ProfiledObjective, coordinates: Coordinates, constraint: np.ndarray | None = None
    ):
        self.objective, self.coordinates, self.constraint = objective, coordinates, constraint

    def evaluate(self, x: np.ndarray, level: float = 0.0) -> Expansion:
        """The deviance at x, derivatives in x (with a constraint: and in its level, last)."""
        co, objective = self.coordinates, self.objective
        s2 = float(np.exp(x[-1]))
        factors = co.factors(x)
        inverse = co.map.inverse_maps
        Lambda = [np.zeros((k, k)) for k in co.map.k]
        for block, B, (M, _, _) in zip(co.map.blocks, inverse, factors, strict=True):
            Lambda[block.factor][block.rows, block.rows] = lower_factor(B @ M / np.sqrt(s2))
        point = objective.evaluate(Lambda)
        gap, spread, slope = 0.0, 1.0, None
        v, Q, r2 = point.v, point.Q, point.r2
        if self.constraint is not None:
            Qc = point.Q @ self.constraint
            spread = float(self.constraint @ Qc)
            gap = level - float(self.constraint @ point.beta)
            slope = Qc / spread
            beta = point.beta + slope * gap
            v = np.append(-beta, 1.0)
            Q = point.Q - np.outer(Qc, Qc) / spread
            r2 = point.r2 + gap**2 / spread
        n = objective.n
        value = point.logdet_V0 + n * (np.log(2.0 * np.pi) + x[-1]) + r2 / s2 + objective.constant
        state = _State(point, v, Q, r2, s2, n)
        pull = gap / spread if slope is not None else None
        return Expansion(value, lambda: self._assemble(factors, state, pull, spread, slope))

    def _assemble(self, factors, state, pull, spread, slope):
        co, m = self.coordinates, self.coordinates.m
        s2, point = state.s2, state.point
        self.objective.gradient(point)
        basis, places = [], []
        for t, (M, dM, _) in enumerate(factors):
            B, block = co.map.inverse_maps[t], co.map.blocks[t]
            half = B @ dM @ M.T @ B.T / s2
            for X in half + half.transpose(0, 2, 1):
                basis.append((block.factor, self._embed(block, X)))
                places.append(len(places))
        for f, L in enumerate(point.Lambda):
            basis.append((f, -(L @ L.T)))
        K = np.zeros((m + 1, len(basis)))
        K[range(m), range(m)] = 1.0
        K[m, m:] = 1.0
        D = self._gradient_T(state)
        slopes = np.array([float((D[f] * X).sum()) for f, X in basis])
        HT, a, h = self._hessian_T(state, basis)
        g = K @ slopes
        H = K @ HT @ K.T
        a = K @ a
        H[m, :] += a / s2
        H[:, m] += a / s2
        H[m, m] += state.r2 / s2
        H[:m, m] -= g[:m]
        H[m, :m] -= g[:m]
        H[m, m] -= g[m]  # tr(D T), T = -X_eta
        g[m] += state.n - state.r2 / s2
        self._add_curvature(H, factors, D, s2)
        if pull is None:
            return g, H
        # r2 = r2_hat + gap^2 / spread, and beta moves along `slope` with the level
        level = 2.0 * pull / s2
        cross = (2.0 / s2) * (K @ (h @ slope))
        cross[m] -= level
        full = np.empty((m + 2, m + 2))
        full[: m + 1, : m + 1] = H
        full[m + 1, : m + 1] = full[: m + 1, m + 1] = cross
        full[m + 1, m + 1] = 2.0 / (spread * s2)
        return np.append(g, level), full

    def _embed(self, block, X):
        full = np.zeros((self.coordinates.map.k[block.factor],) * 2)
        full[block.rows, block.rows] = X
        return full

    @staticmethod
    def _gradient_T(state):
        return [
            F - ((GG @ state.v) @ state.v) / state.s2
            for F, GG in zip(state.point.F, state.point.GG, strict=True)
        ]

    def _hessian_T(self, state, basis):
        """Hessian along the basis (exact for one factor, else average information), a_X, and h_X (., p)."""
        objective, point = self.objective, state.point
        v, Q, s2, p = state.v, state.Q, state.s2, objective.p
        objective.at(point)
        Gv = [GG @ v for GG in point.GG]
        sums = objective.engine.second_moments(Q, v) if len(point.F) == 1 else None
        if sums is None:
            h_full = np.array([np.einsum("ab,abu->u", X, Gv[f]) for f, X in basis])
            a, h = h_full @ v, h_full[:, :p]
            return objective.engine.average_information(Q, v, basis) / s2, a, h
        k = len(point.F[0])
        flat = np.array([X for _, X in basis]).reshape(len(basis), k * k)
        h_full = flat @ Gv[0].reshape(k * k, -1)
        a, h = h_full @ v, h_full[:, :p]
        moments = (2.0 / s2) * sums.Fg - sums.FF
        H = flat @ moments.transpose(3, 0, 1, 2).reshape(k * k, k * k) @ flat.T
        H = H - (2.0 / s2) * (h @ Q @ h.T)
        return 0.5 * (H + H.T), a, h

    def _add_curvature(self, H, factors, D, s2):
        """``tr(D d2T)`` from the second derivatives of M M'."""
        co = self.coordinates
        for t, (M, dM, d2M) in enumerate(factors):
            block, B, base = co.map.blocks[t], co.map.inverse_maps[t], co._first[t]
            E = B.T @ D[block.factor][block.rows, block.rows] @ B / s2
            part = 2.0 * (dM.reshape(len(dM), -1) @ (E @ dM).reshape(len(dM), -1).T)
            for (j, k), second in d2M.items():
                extra = 2.0 * float((E @ M * second).sum())
                part[j, k] += extra
                if j != k:
                    part[k, j] += extra
            at = slice(base, base + len(dM))
            H[at, at] += part


@dataclass(eq=False)
class _State:
    point: Point
    v: np.ndarray
    Q: np.ndarray
    r2: float
    s2: float
    n: int
