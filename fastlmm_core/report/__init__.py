"""A page about one fit.

This room reads a fit through its public names only, so that it stands above `results`,
where `report()` hands the fit over.
"""

from .page import write_report

__all__ = ["write_report"]
