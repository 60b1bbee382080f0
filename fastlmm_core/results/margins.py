"""Tables of marginal means and their comparisons."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from fastlmm_core.data.table import FACTOR
from fastlmm_core.errors import DataError, FormulaError
from fastlmm_core.inference import adjust as simultaneous
from fastlmm_core.inference.distributions import t_quantile
from fastlmm_core.inference.emmeans import adjustment, comparisons
from fastlmm_core.inference.grid import (
    WEIGHTS,
    Grid,
    Numbers,
    averages,
    averaging_weights,
    drop_foreign_points,
    grid_variables,
    linear_functions,
    nested_pairs,
    slope_functions,
    variable_names,
)
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.streamrows import StatisticsRows


class MarginalMeans(NamedTuple):
    """``emmeans`` and their ``contrasts``, both DataFrames."""

    emmeans: pd.DataFrame
    contrasts: pd.DataFrame

    def __repr__(self) -> str:
        return f"{self.emmeans}\n\n{self.contrasts}"


class Margins(NamedTuple):
    """Linear functions ``L beta + offset`` of the cells of ``frame``, and the groups they form."""

    frame: pd.DataFrame
    L: np.ndarray
    offset: np.ndarray
    groups: list[np.ndarray]
    by: tuple[str, ...]
    labels: list[str]
    notes: list[str]


class _Columns:
    """The data's columns by name, on the rows used; the table is made when first asked for."""

    def __init__(self, rows):
        self.rows, self.frame = rows, None

    def __call__(self, name: str) -> pd.Series:
        if not isinstance(self.rows, FitRows):
            raise DataError(
                f"this fit has no data rows, and of {name!r} it knows too little: give its values by at, and "
                "leave weights that count rows to fits with rows"
            )
        if self.frame is None:
            self.frame = self.rows.frame
        return self.frame[name]


def column_means(rows: StatisticsRows) -> np.ndarray:
    """Means (r,) of the kept columns of X, from sums over rows of ``X A`` and of the constant 1."""
    M = rows.moments
    return M[-1, rows.layout.x[rows.kept]] @ np.linalg.inv(rows.fixed_map) / M[-1, -1]


def known_numbers(fit) -> dict[str, Numbers]:
    """Numeric variables of the fixed part, of a fit with rows: what `save` keeps of them."""
    read, found, spec = _Columns(fit._rows), {}, fit._spec
    for name in dict.fromkeys(name for term in spec.fixed_terms for name in _variables_of(spec, term)):
        column = read(name)
        if pd.api.types.is_numeric_dtype(column.dtype) and len(column):
            found[name] = Numbers.of(column)
    return found


def reference_numbers(fit) -> dict[str, Numbers]:
    """Numeric variables that are known without rows."""
    rows = fit._rows
    if isinstance(rows, StatisticsRows):
        return _numbers_of_sums(fit)
    return {} if isinstance(rows, FitRows) else vars(rows).get("numbers", {})


def _numbers_of_sums(fit) -> dict[str, Numbers]:
    """Those that are columns of X, for fits made from sums over rows."""
    means, spec, known = column_means(fit._rows), fit._spec, {}
    place = {int(j): i for i, j in enumerate(fit._kept)}
    for term in spec.fixed_terms:
        if len(term.pieces) == 1 == len(term.columns) and term.columns[0] in place:
            piece = spec.pieces[term.pieces[0]]
            if piece.piece.is_column and piece.kind != FACTOR:
                mean = float(means[place[term.columns[0]]])
                known[piece.piece.text] = Numbers(mean, max(1.0, abs(mean)))
    return known


def margins(fit, specs, at, var, weights: str) -> Margins:
    """Averages over a reference grid, or of slopes in ``var``."""
    if weights not in WEIGHTS:
        raise ValueError(f"weights are one of {', '.join(map(repr, WEIGHTS))}, found {weights!r}")
    read = _Columns(fit._rows)
    known = reference_numbers(fit)
    reference = {name: number.values or number.mean for name, number in known.items()}
    variables = grid_variables(fit._spec, read, reference | dict(at or {}))
    names = [*specs.names, *specs.by]
    _check_names(names, var, variables)
    if var is not None:
        if var not in known and not pd.api.types.is_numeric_dtype(read(var).dtype):
            raise FormulaError(f"a slope needs a number; {var!r} is a factor")
        numbers = known[var] if var in known else Numbers.of(read(var))
        variables = [_at_mean(v, numbers, at) if v.name == var else v for v in variables]
    grid = Grid.full(variables)
    pairs = nested_pairs(fit._spec, variables)
    if pairs and isinstance(fit._rows, FitRows):
        grid = drop_foreign_points(grid, pairs, read)
    X, offset = (
        linear_functions(fit._spec, grid.frame())
        if var is None
        else slope_functions(fit._spec, grid, var, numbers)
    )
    codes, W = averages(grid, names, averaging_weights(grid, names, weights, read))
    values = {n: grid.variables[grid.place(n)].values.take(codes[:, j]) for j, n in enumerate(names)}
    frame = pd.DataFrame(values, index=range(len(codes)))
    by = codes[:, len(specs.names) :]
    _, group = np.unique(by[:, ::-1], axis=0, return_inverse=True)
    group = np.ravel(group)
    labels = [" ".join(str(frame[n].iloc[i]) for n in specs.names) or "overall" for i in range(len(frame))]
    groups = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    return Margins(frame, W @ X, W @ offset, groups, specs.by, labels, _notes(fit, grid, names, var))


def _check_names(names, var, variables) -> None:
    known = [variable.name for variable in variables]
    for name in names if var is None else [*names, var]:
        if name not in known:
            shown = ", ".join(map(repr, known)) or "none"
            raise FormulaError(f"the fixed part does not use {name!r}; its variables: {shown}")
    if var is not None and var in names:
        raise ValueError(f"slopes in {var!r} cannot be averaged for {var!r}; give its value by at")


def _at_mean(variable, numbers: Numbers, at):
    """A numeric variable of few values at its mean, where a slope in it is wanted."""
    if variable.name in (at or {}) or len(variable.values) == 1:
        return variable
    return type(variable)(variable.name, pd.Index([numbers.mean]), False)


def _notes(fit, grid: Grid, names, var) -> list[str]:
    """What was averaged over, and whether interactions make that a mixture."""
    over = [v.name for v in grid.variables if v.discrete and len(v.values) > 1 and v.name not in names]
    notes = []
    if over:
        notes.append(f"averaged over the levels of: {', '.join(over)}")
        focus = {*names, var}
        terms = [set(_variables_of(fit._spec, term)) for term in fit._spec.fixed_terms]
        if any(term & focus and term & set(over) for term in terms):
            notes.append("these averages hide interactions with what they are averaged over")
    return notes


def _variables_of(spec, term) -> list[str]:
    return [name for piece in term.pieces for name in variable_names(spec.pieces[piece].piece)]


def means_frame(fit, found: Margins, method, level: float, column: str) -> pd.DataFrame:
    """Means with unadjusted limits."""
    estimate, se, df = fit._linear_functions(found.L, method, found.labels)
    estimate = estimate + found.offset
    reach = t_quantile(0.5 + level / 2.0, df) * se
    frame = found.frame.copy()
    columns = {column: estimate, "SE": se, "df": df, "lower": estimate - reach, "upper": estimate + reach}
    for name, values in columns.items():
        frame[name] = values
    frame.attrs["notes"] = found.notes
    return frame


def covariance_of(fit, L, method, adjust_by: str) -> np.ndarray | None:
    """Covariance of ``L beta`` (c, c), where the adjustment asks for it."""
    if adjust_by not in simultaneous.BY_COVARIANCE:
        return None
    L = L[:, fit._kept]
    return L @ method.vcov @ L.T


def contrasts_frame(fit, found: Margins, contr, adjust, method, level: float) -> pd.DataFrame:
    """Comparisons within each group, adjusted over the comparisons of a group."""
    frames = []
    adjust_by = adjustment(adjust, contr, simultaneous.METHODS)
    for rows in found.groups:
        family = comparisons(contr, [found.labels[i] for i in rows])
        L = family.C @ found.L[rows]
        estimate, se, df = fit._linear_functions(L, method, family.labels)
        estimate = estimate + family.C @ found.offset[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = estimate / se
        judged = simultaneous.Family(df, adjust_by, len(rows), covariance_of(fit, L, method, adjust_by))
        reach, p = judged.critical_values(level) * se, judged.p_values(t)
        columns = {"contrast": list(family.labels)}
        columns |= {name: [found.frame[name].iloc[rows[0]]] * len(t) for name in found.by}
        columns |= {
            "estimate": estimate,
            "SE": se,
            "df": df,
            "lower": estimate - reach,
            "upper": estimate + reach,
        }
        frames.append(pd.DataFrame(columns | {"t": t, "p": p}))
    if not sum(map(len, frames)):
        raise ValueError(f"nothing to compare: one mean ({found.labels[0]}) in each group")
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["notes"] = [*found.notes, f"p values and limits adjusted: {adjust_by}"]
    return frame
