"""What every engine for the mixed-model equations offers.

An engine holds the statistics of one model and, for given relative covariance
factors ``Lambda_f`` (k_f x k_f lower triangular, T_f = Lambda_f Lambda_f'),
works with ``V0 = I + sum_f Z_f (I kron T_f) Z_f'``.  It knows nothing of REML,
of theta, or of the optimizer.  ``u`` below is ``p + 1``: the columns ``[X y]``
that were kept, response last.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Direction = tuple[int, np.ndarray]
"""A symmetric direction in T: (factor, k_f x k_f matrix)."""


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Sums over levels i of one factor that give the exact Hessian in T.

    ``FF[a,b,c,d] = sum F_i[a,b] F_i[c,d]``, ``FP`` and ``Fg`` the same with
    ``P_i = G_i,X Q G_i,X'`` and ``g_i g_i'`` (g_i = G_i v) in the second place.
    """

    FF: np.ndarray
    FP: np.ndarray
    Fg: np.ndarray


class Engine(Protocol):
    """Calls after `factorize` refer to its last Lambda.

    An engine with a true attribute ``stochastic`` estimates ``log|V0|`` and F, the
    same way at every call; it offers ``logdet_sd``, ``score_noise(directions)``
    (r, r) and ``set_probes(count, seed, rough)`` besides.
    """

    name: str
    k: tuple[int, ...]
    levels: tuple[int, ...]
    p: int

    def factorize(self, Lambda: list[np.ndarray]) -> tuple[float, np.ndarray]:
        """Return ``log|V0|`` and ``S = [X y]' V0^-1 [X y]`` (u x u)."""

    def moments(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return per factor ``F = sum_i Z_i'V0^-1 Z_i`` (k, k) and
        ``GG[a,b] = sum_i G_i[a]' G_i[b]`` (k, k, u, u), G_i = Z_i'V0^-1 [X y] (k x u)."""

    def second_moments(self, Q: np.ndarray, v: np.ndarray) -> SecondMoments | None:
        """Exact second-order sums (one grouping factor), or None."""

    def average_information(self, Q: np.ndarray, v: np.ndarray, directions: list[Direction]) -> np.ndarray:
        """Return ``w_j'P w_k`` (r x r), ``w_j = Z_f X_j Z_f'P y``,
        ``P = V0^-1 - V0^-1 X Q X'V0^-1``, ``P y = V0^-1 [X y] v``, v = (-beta, 1)."""

    def random_effects(self, v: np.ndarray) -> list[np.ndarray]:
        """Return per factor ``b = T_f Z_f'V0^-1 [X y] v`` (levels, k)."""

    def conditional_covariance(self, factor: int) -> np.ndarray:
        """Return ``Var(b_i | y, beta) / sigma^2`` (levels, k, k)."""
