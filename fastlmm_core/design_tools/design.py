"""The rows of a planned study."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..errors import DataError

MOST_ROWS = 50_000_000


def simulate_design(
    groups: Mapping[str, int],
    *,
    crossed: bool = False,
    between: Mapping[str, Mapping] | None = None,
    within: Mapping | None = None,
    covariates: Mapping | None = None,
    replicates: int = 1,
    seed=None,
) -> pd.DataFrame:
    """Rows of a balanced design, without a response.

    Parameters
    ----------
    groups : dict name -> number
        ``{"school": 10, "class": 3}``: 10 schools with 3 classes each, whose labels are unique; with
        ``crossed=True`` 10 and 3 levels in all combinations.
    crossed : bool
    between : dict group -> dict factor -> levels, optional
        Factors that are constant within a level of a group: their combinations are dealt in turn to its
        levels.  ``{"subject": {"treatment": ["placebo", "drug"]}}``.
    within : dict factor -> values, optional
        Cells: every combination occurs in every innermost group.  Numbers make a numeric column, text a
        categorical one whose first value is the reference.
    covariates : dict name -> callable or (group, callable), optional
        ``callable(rng, size)`` draws values by row, or one for each level of the group.
    replicates : int
        Rows per cell.
    seed : int, SeedSequence or Generator, optional

    Returns
    -------
    DataFrame
        Groups as categoricals of ``name1, name2, ...``, then factors and covariates.

    Raises
    ------
    DataError : a name used twice, an unknown group, or numbers below 1.
    """
    _check(groups, between, within, covariates, replicates)
    rng = np.random.default_rng(seed)
    names, counts = list(groups), [int(n) for n in groups.values()]
    within, between = dict(within or {}), dict(between or {})
    cells = [*map(len, within.values()), int(replicates)]
    shape = (*counts, *cells)
    if np.prod([float(n) for n in shape]) > MOST_ROWS:
        raise DataError(
            f"this design has {np.prod([float(n) for n in shape]):.0f} rows, more than {MOST_ROWS:,}"
        )
    at = np.indices(shape).reshape(len(shape), -1)
    columns, codes = {}, {}
    for g, name in enumerate(names):
        levels = counts[g] if crossed else int(np.prod(counts[: g + 1]))
        code = at[g] if crossed else np.ravel_multi_index(tuple(at[: g + 1]), counts[: g + 1])
        codes[name] = (code, levels)
        labels = [f"{name}{i + 1}" for i in range(levels)]
        columns[name] = pd.Categorical.from_codes(code, labels)
    for name, factors in between.items():
        sizes = [len(values) for values in factors.values()]
        turn = codes[name][0] % int(np.prod(sizes))
        for (factor, values), which in zip(factors.items(), np.unravel_index(turn, sizes)):
            columns[factor] = _column(values, which)
    for k, (name, values) in enumerate(within.items()):
        columns[name] = _column(values, at[len(counts) + k])
    for name, maker in (covariates or {}).items():
        if callable(maker):
            columns[name] = _drawn(name, maker, rng, at.shape[1])
        else:
            code, levels = codes[maker[0]]
            columns[name] = _drawn(name, maker[1], rng, levels)[code]
    return pd.DataFrame(columns)


def _check(groups, between, within, covariates, replicates) -> None:
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups is a dict such as {{'subject': 20, 'item': 6}}, found {groups!r}")
    for group, factors in (between or {}).items():
        if not isinstance(factors, Mapping):
            raise TypeError(
                f"between names factors by group, as in {{{next(iter(groups), 'subject')!r}: "
                f"{{'arm': ['a', 'b']}}}}; found {factors!r} for {group!r}"
            )
    if not groups:
        raise DataError("a design needs at least one group: groups={'subject': 20}")
    for name, n in [*groups.items(), ("replicates", replicates)]:
        if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
            raise DataError(f"{name} is a positive whole number, found {n!r}")
    used = [*groups, *(within or {}), *(covariates or {})]
    used += [factor for factors in (between or {}).values() for factor in factors]
    for name in used:
        if used.count(name) > 1:
            raise DataError(f"{name!r} is named twice in this design")
    wanted = [*(between or {}), *(m[0] for m in (covariates or {}).values() if not callable(m))]
    for name in wanted:
        if name not in groups:
            raise DataError(f"there is no group {name!r}; the groups are {', '.join(groups)}")


def _column(values, which):
    values = list(values)
    if not values:
        raise DataError("a factor of a design needs at least one value")
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in values):
        return np.asarray(values)[which]
    return pd.Categorical.from_codes(which, [str(v) for v in values])


def _drawn(name, maker, rng, size):
    values = np.asarray(maker(rng, size))
    if values.shape != (size,):
        raise DataError(f"covariate {name!r}: its function gave shape {values.shape}, expected ({size},)")
    return values


def resize(frame: pd.DataFrame, along: str, n: int, groups) -> pd.DataFrame:
    """A frame with ``n`` levels of ``along``: its own in order, then copies with new labels.

    Other grouping columns whose levels each lie within one level of ``along`` get new labels too.
    """
    codes, levels = pd.factorize(frame[along])
    if (codes < 0).any():
        frame = frame[codes >= 0]
        codes = codes[codes >= 0]
    inner = [
        g for g in groups
        if g != along and g in frame.columns and frame.groupby(g, observed=True)[along].nunique().max() == 1
    ]  # fmt: skip
    parts = []
    for cycle in range(-(-n // len(levels))):
        part = frame[codes + cycle * len(levels) < n]
        if cycle:
            new = {name: part[name].astype(str) + f".{cycle + 1}" for name in (along, *inner)}
            part = part.assign(**new)
        else:
            part = part.assign(**{name: part[name].astype(str) for name in (along, *inner)})
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
