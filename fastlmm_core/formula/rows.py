"""Which rows a model uses, and why the others are left out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import DataError


@dataclass(frozen=True, eq=False)
class RowReport:
    """Rows of the data and what became of them.

    Attributes
    ----------
    n_total, n_used : int
    n_missing : int
        Rows dropped because a value that the model uses is missing.
    missing_by_column : dict of str to int
        Missing values per column, or per expression that gave NaN.
    n_zero_weight : int
        Complete rows dropped because their weight is 0.
    mask : (n_total,) bool or None
        True for a row that is used; None when all are.
    index : pandas.Index
        Labels of the rows used.
    """

    n_total: int
    n_used: int
    n_missing: int
    missing_by_column: dict
    n_zero_weight: int
    mask: np.ndarray | None
    index: pd.Index


def choose_rows(table, missing, infinite, weights, na_action, may_be_empty=False):
    """The `RowReport` of a model.

    Parameters
    ----------
    table : Table
    missing, infinite : dict of str to (n,) bool
    weights : (n,) float64 or None
        NaN where missing.
    na_action : {"drop", "raise"}
    may_be_empty : bool
        Whether a table without a row to use is fine: a batch of many.

    Raises
    ------
    DataError
        For infinite values, weights below 0, missing values with ``na_action="raise"``, or no rows left.
    """
    n, index = table.n, table.row_labels()
    counts = {name: int(np.count_nonzero(mask)) for name, mask in missing.items()}
    if missing and na_action == "raise":
        name, mask = next(iter(missing.items()))
        raise DataError(
            f"{_places(name, mask, index)} missing: drop or fill them, or use na_action='drop'"
            + (f" (also missing: {', '.join(list(missing)[1:])})" if len(missing) > 1 else "")
        )
    keep = None
    for mask in missing.values():
        keep = ~mask if keep is None else keep & ~mask
    complete = n if keep is None else int(np.count_nonzero(keep))
    used = complete
    if weights is not None:
        _check_weights(weights, keep, index)
        zero = weights == 0.0
        if zero.any():
            keep = ~zero if keep is None else keep & ~zero
            used = int(np.count_nonzero(keep))
    for name, mask in infinite.items():
        bad = mask if keep is None else mask & keep
        if bad.any():
            how = "leave those rows out or mark them as missing"
            if name not in table:
                how += ", or change the expression (log(0) and 1/0 are infinite)"
            raise DataError(f"{_places(name, bad, index)} infinite: {how}")
    if not used and not may_be_empty:
        if not n:
            raise DataError("the data have no rows")
        reasons = [f"{name} has {count} missing" for name, count in counts.items()]
        if complete:
            reasons.append(f"{complete} have weight 0")
        why = ", ".join(reasons)
        raise DataError(f"no rows are left of {n}" + (f": {why}" if why else ""))
    if used == n:
        keep = None
    return RowReport(
        n, used, n - complete, counts, complete - used, keep, index if keep is None else index[keep]
    )


def _check_weights(weights, keep, index):
    bad = weights < 0.0
    if keep is not None:
        bad &= keep
    if bad.any():
        raise DataError(f"{_places('weights', bad, index)} negative: a weight is the inverse of a variance")


def _places(name, mask, index, most=5):
    """``column 'x' has 3 values (rows 4, 7, 9)`` without the adjective."""
    count = int(np.count_nonzero(mask))
    s, verb = ("", "is") if count == 1 else ("s", "are")
    return f"{name!r} has {count} value{s} ({row_list(mask, index, most)}) that {verb}"


def row_list(mask, index, most=5):
    """``rows 4, 7, 9, ...``: labels of the first rows where ``mask`` is True."""
    places = np.flatnonzero(mask)
    rows = ", ".join(str(label) for label in index[places[:most]])
    return f"row{'s' if len(places) > 1 else ''} {rows}{', ...' if len(places) > most else ''}"
