"""Planning a study: data frames of designs, and power by simulation."""

from .design import simulate_design
from .power import Power, power
from .responses import simulate

__all__ = ["Power", "power", "simulate", "simulate_design"]
