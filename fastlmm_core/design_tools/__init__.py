"""Planning a study: data frames of designs, and power by simulation."""

from .design import simulate_design
from .power import Power, power

__all__ = ["Power", "power", "simulate_design"]
