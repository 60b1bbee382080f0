"""Exceptions and warnings.

Every exception derives from `FastLMMError` and from the builtin that fits, and
its message says what was found, where, and what to do about it.
"""

import sys
import warnings


class FastLMMError(Exception):
    """Base of all errors raised by fastlmm_core."""


class FormulaError(FastLMMError, ValueError):
    """A formula that does not parse or names what the data lack; the place is marked."""


class ModelError(FastLMMError, ValueError):
    """A model that the data cannot identify, or that does not fit in memory."""


class DataError(FastLMMError, ValueError):
    """Values that no model can be fitted to: infinite, non-numeric, no rows left."""


class NumericalError(FastLMMError, ArithmeticError):
    """A kernel could not complete, e.g. a pivot that is not positive."""


class MissingDependencyError(FastLMMError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class RankWarning(UserWarning):
    """Aliased columns of the fixed effects were dropped."""


class MonteCarloWarning(UserWarning):
    """A number was asked for that random probes estimate with an error that may matter."""


class ConvergenceWarning(UserWarning):
    """A fit ended without a certificate of optimality."""


class DataWarning(UserWarning):
    """Data were fitted as they are and look unlike what was meant, e.g. numbers kept as text."""


class ModelWarning(UserWarning):
    """A model was fitted as written and has parts that say the same thing twice."""


def advise(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that led here."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)
