"""What is known about the end of a search."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple


class Step(NamedTuple):
    """One iteration: the value it started from, its Newton decrement, the step length taken."""

    value: float
    decrement: float
    step: float


@dataclass(frozen=True)
class MonteCarlo:
    """Errors that the probes leave.

    ``theta`` (n_theta,) in standard errors of theta, NaN where there is none;
    ``loglik_sd`` of the log-likelihood; ``probes`` per factor.
    """

    NOTABLE_SD: ClassVar[float] = 0.05
    """Of the log-likelihood; above it, whoever reads the value is warned."""

    theta: tuple[float, ...]
    loglik_sd: float
    probes: int

    @property
    def worst(self) -> float:
        """Largest error of a theta."""
        return max((error for error in self.theta if error == error), default=0.0)


@dataclass(eq=False)
class Certificate:
    """Evidence that a search ended at a minimum, or the reason why not.

    Attributes
    ----------
    converged : bool
    reason : str
        How the search ended.
    iterations, n_values, n_gradients, n_starts : int
        Newton steps of the best start; evaluations and starting values in all.
    newton_decrement : float
        ``g'H^-1 g / 2``, the criterion a Newton step would still gain.
    max_scaled_gradient : float
        Largest ``|g_j| / sqrt(H_jj)`` over the free coordinates.
    min_hessian_eigenvalue : float
        Of the Hessian in the free coordinates scaled to a unit diagonal; positive at a strict
        minimum, NaN when nothing is free.
    boundary : tuple of str
        Names of the diagonal parameters that are exactly 0.
    kkt_min_eigenvalue : float
        Smallest eigenvalue of the gradient in T over the directions of lost rank, >= 0 (to
        tolerance) at a minimum; NaN without.
    trace : list of Step
        What each iteration started from: ``value, decrement, step``.
    monte_carlo : MonteCarlo or None
        Errors left by random probes; None where no probes were used.
    """

    converged: bool
    reason: str
    iterations: int
    n_values: int
    n_gradients: int
    newton_decrement: float
    max_scaled_gradient: float
    min_hessian_eigenvalue: float
    boundary: tuple[str, ...]
    kkt_min_eigenvalue: float
    n_starts: int
    trace: list[Step] = field(default_factory=list, repr=False)
    monte_carlo: MonteCarlo | None = None

    def __post_init__(self):
        if isinstance(self.monte_carlo, dict):  # read from a file
            kept = self.monte_carlo
            self.monte_carlo = MonteCarlo(tuple(kept["theta"]), kept["loglik_sd"], kept["probes"])
