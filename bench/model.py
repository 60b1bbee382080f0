"""What a case asks a library to fit, in pieces that every adapter can turn into its own call.

Standard library only: workers in any interpreter import this.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Term:
    """``(columns | group)``; the columns are ``1`` or numeric columns of the data.

    ``group`` has several names for an interaction of grouping columns.
    """

    columns: tuple[str, ...]
    group: tuple[str, ...]

    def text(self):
        return f"({' + '.join(self.columns)} | {':'.join(self.group)})"


@dataclass(frozen=True)
class Model:
    """Response, fixed part as formula text, random terms; ``formula`` is lme4's text of the whole."""

    response: str
    fixed: str
    terms: tuple[Term, ...]
    written: str = ""

    @property
    def formula(self):
        random = self.written or " + ".join(term.text() for term in self.terms)
        return f"{self.response} ~ {self.fixed} + {random}"

    @property
    def groups(self):
        """Distinct grouping factors, as tuples of columns."""
        return tuple(dict.fromkeys(term.group for term in self.terms))

    def record(self):
        """Plain dict for JSON; `from_record` reads it."""
        return asdict(self) | {"formula": self.formula}

    @classmethod
    def from_record(cls, record):
        terms = tuple(Term(tuple(t["columns"]), tuple(t["group"])) for t in record["terms"])
        return cls(record["response"], record["fixed"], terms, record["written"])
