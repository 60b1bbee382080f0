"""The profiled deviance and REML criterion as functions of Lambda.

With ``S = [X y]'V0^-1[X y]`` from an engine, ``beta = S_XX^-1 s``,
``v = (-beta, 1)``, ``r2 = v'S v``, ``N = n - p`` (REML) or ``n`` (ML):

    objective = log|V0| + N (1 + log(2 pi r2 / N)) - sum log w  [+ log|S_XX|]

which is -2 log-likelihood with beta and sigma^2 profiled out (Bates, Maechler,
Bolker & Walker 2015, equations 34 and 42; doi:10.18637/jss.v067.i01).  Its
derivative in the symmetric ``T_f = Lambda_f Lambda_f'`` is

    D_f = F_f - sum_i G_i Sbar G_i',   Sbar = (N / r2) v v'  [+ diag(Q, 0)]

with ``F_f = sum_i Z_i'V0^-1 Z_i``, ``G_i = Z_i'V0^-1[X y]``, ``Q = S_XX^-1``.
"""

from dataclasses import dataclass
from math import isfinite, log, pi

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dtrtrs

from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.engine import Engine

EPS = float(np.finfo(float).eps)
NO_RESIDUAL = "the residual variance is zero: the fixed and random effects fit the response exactly"


@dataclass(eq=False, slots=True)
class Point:
    """The objective and what it profiles out, at one Lambda.

    ``beta`` (p,), ``Q`` (p, p) and ``v`` (p + 1,) are in the coordinates of the
    engine.  ``D`` (the gradient per factor, k x k symmetric), ``F`` and ``GG``
    (see `Engine.moments`) are None until `ProfiledObjective.gradient`.
    """

    Lambda: list[np.ndarray]
    value: float
    logdet_V0: float
    logdet_XX: float
    beta: np.ndarray
    Q: np.ndarray
    v: np.ndarray
    r2: float
    s2: float
    N: int
    F: list[np.ndarray] | None = None
    GG: list[np.ndarray] | None = None
    D: list[np.ndarray] | None = None


def gradient_work(engine: Engine) -> float:
    """Rough flops of one value with gradient, from sizes alone, so that choices made by it
    are reproducible; an engine's own ``work`` wins where it has one."""
    own = getattr(engine, "work", None)
    if own is not None:
        return float(own)
    u, levels, k = engine.p + 1, engine.levels, engine.k
    blocks = sum(G * q * (q + u) ** 2 for G, q in zip(levels, k))
    columns = sorted(G * q for G, q in zip(levels, k))
    return float(blocks) + 2.0 * float(sum(columns[:-1])) ** 3


class ProfiledObjective:
    """The criterion an optimizer minimises, with counts of what it cost.

    Parameters
    ----------
    engine : the mixed-model equations of one model.
    n : number of rows.
    reml : REML criterion if true, deviance (-2 log-likelihood) otherwise.
    sum_log_weights : sum of the logarithms of the prior weights.
    constant : added to every value, e.g. to undo the scales of X and y.
    total : ``y'Wy``, of which r2 is what is left after cancellation; None where it is not known.

    ``n_values`` and ``n_gradients`` count evaluations; ``work`` is the rough cost
    of one in flops.
    """

    def __init__(
        self,
        engine: Engine,
        n: int,
        reml: bool,
        sum_log_weights: float = 0.0,
        constant: float = 0.0,
        total: float | None = None,
    ):
        self.engine = engine
        self.n, self.p, self.reml = n, engine.p, reml
        self.N = n - engine.p if reml else n
        if self.N < 1:
            raise ModelError(
                f"no residual degrees of freedom: {n} rows and {engine.p} fixed-effect columns; "
                "numbers that were read as text give a column per value"
            )
        self.constant = constant - sum_log_weights
        self.total = total or 0.0
        self.n_values = 0
        self.n_gradients = 0
        self._last: Point | None = None
        self.mean_products: list[np.ndarray] | None = None  # kept by `optimize.start`
        self.unmatched: list[np.ndarray] | None = None
        self.work = gradient_work(engine)

    def rounding(self, value: float) -> float:
        """Size of the rounding noise in ``value``."""
        return 10 * EPS * max(abs(value), self.N)

    def cancellation(self, r2: float) -> float:
        """Size of the error in ``N log r2`` that the rounding of y'Wy leaves."""
        return EPS * self.N * self.total / r2

    def evaluate(self, Lambda: list[np.ndarray]) -> Point:
        """The objective at Lambda (per factor k x k lower triangular).

        Raises
        ------
        NumericalError : V0 or S cannot be factored, or no residual variance is left.
        """
        self._last = None
        logdet_V0, S = self.engine.factorize(Lambda)
        logdet_V0 = float(logdet_V0)
        self.n_values += 1
        p = self.p
        R, info = dpotrf(S, lower=1)
        s_yy = S[p, p]
        if info == p + 1 or (info == 0 and not R[p, p] ** 2 > 4 * EPS * s_yy):
            raise NumericalError(
                f"{NO_RESIDUAL}; was it computed from columns of the formula?"
            )
        if info != 0 or not isfinite(logdet_V0):
            raise NumericalError("X'V^-1 X is not positive definite at this covariance")
        v = np.ones(p + 1)
        if p:
            RX = R[:p, :p]
            # RX' beta = l, with the last row of R equal to (l', sqrt(r2))
            beta = dtrtrs(RX, R[p, :p], lower=1, trans=1)[0]
            Q = dpotri(RX, lower=1)[0]
            Q = Q + Q.T  # dpotri fills the lower triangle, the upper one is zero
            Q.flat[:: p + 1] *= 0.5
            v[:p] = -beta
            logdet_XX = 2.0 * float(np.log(RX.diagonal()).sum())
        else:
            beta, Q, logdet_XX = np.zeros(0), np.zeros((0, 0)), 0.0
        N, r2 = self.N, float(R[p, p]) ** 2
        value = logdet_V0 + N * (1.0 + log(2.0 * pi * r2 / N)) + self.constant
        if self.reml:
            value += logdet_XX
        if not isfinite(value):
            raise NumericalError("the objective is not finite at this covariance")
        point = Point(Lambda, value, logdet_V0, logdet_XX, beta, Q, v, r2, r2 / N, N)
        self._last = point
        return point

    def gradient(self, point: Point) -> list[np.ndarray]:
        """D_f per factor: d objective = sum_f tr(D_f dT_f).  Fills ``point.F``, ``GG`` and ``D``."""
        if point.D is None:
            self.at(point)
            point.F, point.GG = self.engine.moments()
            self.n_gradients += 1
            u = self.p + 1
            Sbar = np.outer(point.v, point.v * (point.N / point.r2))
            if self.reml:
                Sbar[:-1, :-1] += point.Q
            flat, D = Sbar.ravel(), []
            for F, GG in zip(point.F, point.GG, strict=True):
                k = len(F)
                Df = F - (GG.reshape(k * k, u * u) @ flat).reshape(k, k)
                D.append(0.5 * (Df + Df.T))
            point.D = D
        return point.D

    def at(self, point: Point) -> None:
        """Bring the engine back to ``point`` if it has moved on since."""
        if self._last is not point:
            self._last = None
            self.engine.factorize(point.Lambda)
            self.n_values += 1
            self._last = point
