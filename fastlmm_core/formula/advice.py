"""What is likely not meant as it is written: told as warnings, and fitted all the same."""

from itertools import combinations

import numpy as np
import pandas as pd

from ..data.table import FACTOR
from ..errors import DataWarning, ModelWarning, RankWarning, advise
from .algebra import term_text, terms_of
from .rows import row_list

MOST_LEVELS_READ = 1000
"""Levels of a text column that are looked at."""


def warn_of_model(parsed) -> None:
    """Warnings that the formula alone gives cause for."""
    for note in parsed.notes:
        advise(note, ModelWarning)
    for first, second in combinations(parsed.bars, 2):
        if first.group != second.group:
            continue
        both = [term for term in terms_of(first.lhs) if term in terms_of(second.lhs)]
        if both:
            what = ", ".join("an intercept" if not term else f"a slope of {term_text(term)}" for term in both)
            rest = [term_text(term) for term in terms_of(first.lhs) if term not in both]
            others = " + ".join(["0", *rest]) if rest else ""
            remedy = f"write ({others} | {first.group_name}) for the first" if rest else f"leave {first} out"
            advise(
                f"{first} and {second} both have {what} per {first.group_name}, whose two variances cannot "
                f"be told apart: {remedy}",
                ModelWarning,
            )


def warn_of_factors(builder, fixed_terms) -> None:
    """Warnings about factors of the fixed part.

    Parameters
    ----------
    builder : Builder, with its pieces evaluated
    fixed_terms : tuple of FixedTerm
    """
    for term in fixed_terms:
        for place in term.pieces:
            found = builder.found[place]
            if found.kind != FACTOR:
                continue
            levels = builder.levels(place)
            if len(levels) == 1 and not term.columns:
                advise(
                    f"{found.piece} has one level ({levels[0]!r}): it cannot be told from the intercept and "
                    "has no coefficient",
                    RankWarning,
                )
            elif found.piece.is_column and builder.table.is_text(found.column.name):
                _warn_of_text(found.column.name, levels)
    _warn_of_fixed_groups(builder, fixed_terms)


def _warn_of_text(name, levels) -> None:
    """Numbers that were read as text: three levels or more, since two give the same fit."""
    shown = pd.Series(levels[:MOST_LEVELS_READ].astype(object))
    words = shown[pd.to_numeric(shown, errors="coerce").isna()].tolist()
    if len(levels) < 3 or len(words) > 0.2 * len(shown):
        return
    but = f" (all but {', '.join(map(repr, words[:3]))})" if words else ""
    coerce = ", errors='coerce'" if words else ""
    advise(
        f"column {name!r} holds numbers kept as text{but}: it enters as a factor with {len(levels)} levels; "
        f"pd.to_numeric(data[{name!r}]{coerce}) makes numbers, .astype('category') says that it is a factor",
        DataWarning,
    )


def _warn_of_fixed_groups(builder, fixed_terms) -> None:
    fixed = {builder.found[term.pieces[0]].piece.text for term in fixed_terms if len(term.pieces) == 1
             and builder.found[term.pieces[0]].kind == FACTOR}  # fmt: skip
    for bar in builder.parsed.bars:
        if bar.group_name in fixed and () in terms_of(bar.lhs):
            advise(
                f"{bar.group_name} has a coefficient per level and a random intercept per level {bar}: the "
                "coefficients leave nothing for the variance; keep one of the two",
                ModelWarning,
            )


def warn_of_rows(builder) -> None:
    """Rows that an expression turns into no number, as ``sqrt`` of what is below 0."""
    expressions = {str(found.piece) for found in builder.found if not found.piece.is_column}
    expressions.add(builder.response.text)
    for name in expressions - set(builder.table.names):
        mask = builder.missing.get(name)
        if mask is not None and np.any(mask):
            rows = row_list(mask, builder.table.row_labels())
            advise(
                f"{name!r} is no number in {np.count_nonzero(mask)} rows ({rows}) that have its columns: "
                "these rows are left out",
                DataWarning,
            )
