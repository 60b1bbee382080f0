"""What a result remembers of its model beside the numbers: names, levels, counts, how the fit ended."""

from dataclasses import dataclass, field

import pandas as pd

from fastlmm_core.results.varcorr import unique_keys


@dataclass(frozen=True)
class RowCount:
    """Rows used of rows given, and why the others were dropped: reason -> rows."""

    used: int
    given: int
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        return self.given - self.used

    def __str__(self) -> str:
        if not self.dropped:
            return f"{self.used} used, none dropped"
        why = ", ".join(f"{reason}: {count}" for reason, count in self.reasons.items())
        return f"{self.used} used of {self.given}; {self.dropped} dropped" + (f" ({why})" if why else "")


@dataclass(frozen=True, eq=False)
class LinearFacts:
    """Of a model without random effects."""

    formula: str
    data_name: str | None
    response: str
    coefficients: tuple[str, ...]
    has_constant: bool
    weights_name: str | None
    rows: RowCount


@dataclass(frozen=True)
class Term:
    """One random term: its factor's index and the names of its columns."""

    factor: int
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MixedFacts(LinearFacts):
    """Of a mixed model; ``terms`` in the order of theta, ``levels`` per factor."""

    reml: bool
    factors: tuple[str, ...]
    levels: tuple[pd.Index, ...]
    terms: tuple[Term, ...]
    engine: str
    engine_reason: str = ""

    @property
    def keys(self) -> list[str]:
        """lme4's name of each term: ``id``, ``id.1``."""
        return unique_keys([self.factors[term.factor] for term in self.terms])

    def factor_columns(self, factor: int) -> tuple[str, ...]:
        """Names of a factor's random effects, those of all its terms in order."""
        return tuple(name for term in self.terms if term.factor == factor for name in term.names)
