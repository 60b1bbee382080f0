"""Random probes: traces and log-determinants of matrices that are only applied.

With ``z`` of independent signs, ``E[z'M z] = tr M`` (Hutchinson 1990,
doi:10.1080/03610919008812866).  A *set* of probes lives on one column of Z of
one stacked factor, so that a large variance puts no noise on the estimates of
a small one; where that factor has no more levels than there are probes, the
unit vectors take their place and there is no error.

Every estimate comes with a control of known mean zero, the first-order term of
the Neumann series; its coefficient is estimated by regression.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal

from fastlmm_core._typing import Float


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """``count`` probes on ``column`` (of ``k``) of stacked factor ``number``; unit vectors if ``exact``."""

    number: int
    column: int
    levels: int
    k: int
    count: int
    seed: tuple[int, ...]

    @property
    def exact(self) -> bool:
        return self.count == self.levels

    @property
    def weight(self) -> float:
        """Of one probe in the estimate."""
        return 1.0 if self.exact else 1.0 / self.count

    def block(self, first: int, lanes: int) -> tuple[Float, int]:
        """Probes from ``first`` on as (levels k, lanes), zero beyond the last; and how many there are.

        Each depends on the seed and its number alone.
        """
        width = min(lanes, self.count - first)
        out = np.zeros((self.levels, self.k, lanes))
        for lane in range(width):
            if self.exact:
                out[first + lane, self.column, lane] = 1.0
                continue
            bits = np.random.Generator(np.random.PCG64([*self.seed, first + lane])).bytes(
                (self.levels + 7) // 8
            )
            signs = np.unpackbits(np.frombuffer(bits, np.uint8), count=self.levels)
            out[:, self.column, lane] = 2.0 * signs - 1.0
        return out.reshape(-1, lanes), width


def probe_sets(levels: list[int], k: list[int], count: int, seed: int) -> list[ProbeSet]:
    """One set per column of each stacked factor with ``levels[f]`` levels of ``k[f]`` columns."""
    return [
        ProbeSet(number, column, G, kf, min(G, count), (seed, number, column))
        for number, (G, kf) in enumerate(zip(levels, k))
        for column in range(kf)
    ]


@dataclass(frozen=True, eq=False)
class Estimate:
    """``mean`` (c,) of one set, and ``errors`` (t, c) whose cross-product is its covariance."""

    mean: Float
    errors: Float


def controlled(samples: Float, controls: Float, exact: bool) -> Estimate:
    """The mean of ``samples`` (t, c) with ``controls`` (t, c) or (t, 1) of mean zero; the sum if ``exact``.

    One control per column (Lavenberg & Welch 1981).  The coefficient of a probe
    comes from the regression on the others, so that the estimate has no bias;
    with fewer than 12 probes the control is left out.  Errors are stated with the two degrees of freedom
    that mean and slope take.
    """
    t = len(samples)
    if exact:
        return Estimate(samples.sum(0), np.zeros_like(samples))
    values, free = samples, max(t - 1, 1)
    if t >= 12:
        # sums over the other probes
        c, s, cc, cs = (x.sum(0) - x for x in (controls, samples, controls * controls, controls * samples))
        square = cc - c * c / (t - 1)
        slope = np.divide(cs - c * s / (t - 1), square, out=np.zeros_like(samples), where=square > 0)
        values, free = samples - slope * controls, t - 2
    mean = values.mean(0)
    return Estimate(mean, (values - mean) / np.sqrt(t * free))


def lanczos_log(step: Float, ratio: Float, used: np.ndarray, norm2: Float) -> Float:
    """Per lane ``b'q(E) b`` for ``q(x) = (x - log(1 + x)) / x^2``, ``b'b = norm2``.

    Gauss quadrature on the Lanczos matrix of I + E that conjugate gradients
    leave behind (Ubaru, Chen & Saad 2017, doi:10.1137/16M1104974); with
    ``b = E z`` it is what ``z'log(I + E) z`` lacks of ``z'E z``.
    """
    result = np.zeros(len(norm2))
    for lane, n in enumerate(used):
        if n <= 0:
            continue
        alpha, beta = step[:n, lane], ratio[:n, lane]
        diagonal = 1.0 / alpha
        diagonal[1:] += beta[: n - 1] / alpha[: n - 1]
        off = np.sqrt(beta[: n - 1]) / alpha[: n - 1]
        values, vectors = eigh_tridiagonal(diagonal, off) if n > 1 else (diagonal, np.ones((1, 1)))
        result[lane] = norm2[lane] * float(vectors[0] ** 2 @ second_order_log(values - 1.0))
    return result


def second_order_log(x: Float) -> Float:
    """``(x - log(1 + x)) / x^2``, by its series near 0."""
    small = np.abs(x) < 1e-3
    safe = np.where(small, 1.0, np.maximum(x, -1 + 1e-15))
    series = 0.5 - x / 3.0 + x * x / 4.0 - x**3 / 5.0
    return np.where(small, series, (safe - np.log1p(safe)) / (safe * safe))
