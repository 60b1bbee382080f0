"""What the iterative engine knows at one Lambda, and small sums over it."""

from dataclasses import dataclass

import numpy as np

from fastlmm_core._typing import Float
from fastlmm_core.mme.iterative_leaf import LeafState, Preconditioner, Scale


@dataclass(frozen=True, eq=False)
class Probe:
    """One block of probes (m, lanes): ``w = R^-T z``, ``e = S^-1 R z - w``, ``first = P^-1 (R z - S w)``.

    ``weight`` (lanes,) in the estimates, 0 beyond the first ``width`` lanes;
    per probe ``control`` z'E z and ``log`` z'log(I + E) z less its first order.
    """

    w: Float
    e: Float
    first: Float
    weight: Float
    width: int
    control: Float
    log: Float


@dataclass(frozen=True, eq=False)
class Traces:
    """Estimates from all probes; ``errors`` holds per set the deviations (t, k k) of each factor's F."""

    F: list[Float]
    logdet: float
    logdet_sd: float
    errors: list[dict[int, Float]]


@dataclass(eq=False)
class State:
    """Everything at one Lambda: ``G`` per factor (levels, k, u), ``S`` (u, u), and what comes later.

    ``diagonal`` holds the diagonal blocks of K and ``Q`` those of D P^-1 D', (m, widest) by rows;
    ``tol`` is the tolerance of G and S.
    """

    Lambda: list[Float]
    tol: float
    leaf: LeafState
    scale: Scale
    diagonal: Float
    P: Preconditioner
    Q: Float
    S: Float | None = None
    G: list[Float] | None = None
    traces: Traces | None = None
    information: tuple[Float, Float] | None = None


def same_covariances(Lambda: list[Float], known: list[Float]) -> bool:
    """Up to rounding: theta goes to original units and back."""
    if len(Lambda) != len(known) or any(L.shape != K.shape for L, K in zip(Lambda, known)):
        return False
    pairs = [(L @ L.T, K @ K.T) for L, K in zip(Lambda, known)]
    return all(np.abs(T - U).max() <= 1e-12 * np.abs(U).max() for T, U in pairs)


def symmetric(M: Float) -> Float:
    """(t, k, k) -> symmetric parts as rows (t, k k)."""
    return (0.5 * (M + M.transpose(0, 2, 1))).reshape(len(M), -1)


def outer_sum(G: Float) -> Float:
    """[a, b] = sum_i G_i[a] G_i[b]' for G (levels, k, u)."""
    levels, k, u = G.shape
    rows = G.reshape(levels, k * u)
    return (rows.T @ rows).reshape(k, u, k, u).transpose(0, 2, 1, 3)
