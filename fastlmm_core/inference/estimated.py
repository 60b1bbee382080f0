"""Refusals where a log-likelihood is an estimate from random probes."""

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import ModelError
from fastlmm_core.optimize.certificate import MonteCarlo


def check_likelihood(objective: ProfiledObjective, use: str) -> None:
    """Raise ModelError if ``use``, which compares likelihoods, would compare noise.

    The engine must be at some Lambda; its standard deviation there is the evidence.
    """
    engine = objective.engine
    if not getattr(engine, "stochastic", False):
        return
    sd = 0.5 * float(engine.logdet_sd)
    if sd > MonteCarlo.NOTABLE_SD:
        raise ModelError(
            f"{use} compares log-likelihoods, and this fit estimates its own with sd {sd:.2g} from "
            f"{engine.probes} probes; ask for more with Control(probes=), or for engine='dense' or 'sparse'"
        )
