"""Predictions for new rows."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from fastlmm_core.crossprod.rows import add_random_effects, linear_predictor
from fastlmm_core.errors import DataError
from fastlmm_core.formula.spec import DesignSpec


def chosen_factors(re, groups: tuple[str, ...]) -> list[int]:
    """Indices of the grouping factors ``re`` asks for: ``"all"``, ``"none"``, a name or a list of names."""
    if isinstance(re, str) and re in ("all", "none"):
        return list(range(len(groups))) if re == "all" else []
    if isinstance(re, str) and re in groups:
        return [groups.index(re)]
    if isinstance(re, str) or not isinstance(re, Iterable):
        raise ValueError(f"re is 'all', 'none' or a list of groups ({', '.join(groups)}), found {re!r}")
    wanted = list(re)
    unknown = [group for group in wanted if group not in groups]
    if unknown:
        raise ValueError(
            f"re names {', '.join(map(repr, unknown))}; the groups are {', '.join(map(repr, groups))}"
        )
    return [f for f, group in enumerate(groups) if group in wanted]


def predict_new(
    spec: DesignSpec, newdata, beta, effects, factors, groups=(), new_levels="error"
) -> pd.Series:
    """``offset + X beta + sum of Z b`` on the rows of ``newdata``.

    Parameters
    ----------
    beta : (p,), NaN for aliased columns.
    effects : per factor (levels, k); only those in ``factors`` are read.
    factors : indices of the grouping factors that contribute.
    new_levels : ``"error"``, ``"population"``: an unseen level contributes 0, or ``"missing"``: NaN.

    Raises
    ------
    DataError : unseen levels with ``new_levels="error"``.
    """
    rows = spec.evaluate(newdata, random=[groups[f] for f in factors])
    if rows.unknown and new_levels == "error":
        refuse_unknown(rows.unknown)
    values = linear_predictor(rows.atoms, rows.fixed, np.nan_to_num(beta), rows.n)
    for f in factors:
        columns = [column for term in rows.terms if term.factor == f for column in term.columns]
        add_random_effects(values, rows.codes[f], rows.atoms, columns, effects[f])
    if rows.offset is not None:
        values += rows.offset
    unseen = [rows.codes[f] < 0 for f in factors] if new_levels == "missing" else []
    for mask in (rows.missing, rows.missing_groups, *unseen):
        if mask is not None:
            values[mask] = np.nan
    return pd.Series(values, index=rows.index, name="predicted")


def refuse_unknown(
    unknown: dict, advice: str = "new_levels='population' predicts them with random effect 0"
) -> None:
    """DataError naming groups and their levels without data, and what to do."""
    raise DataError(
        "; ".join(
            f"{group!r} has levels the fit did not see: {_some(levels)}" for group, levels in unknown.items()
        )
        + f"; {advice}"
    )


def _some(levels, most: int = 5) -> str:
    shown = ", ".join(repr(level) for level in levels[:most])
    return shown + (f" and {len(levels) - most} more" if len(levels) > most else "")
