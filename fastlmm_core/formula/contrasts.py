"""Codings of factors: which numbers stand for a level, and what their columns are called.

Matrices and names are formulaic's; treatment coding and full indicators are
written directly because a factor may have many thousand levels.
"""

import ast
import functools
from dataclasses import dataclass

import numpy as np
from formulaic.transforms.contrasts import (
    Contrasts,
    CustomContrasts,
    DiffContrasts,
    HelmertContrasts,
    PolyContrasts,
    SASContrasts,
    SumContrasts,
    TreatmentContrasts,
)

from ..errors import FormulaError

BY_NAME = {
    "treatment": TreatmentContrasts,
    "SAS": SASContrasts,
    "sum": SumContrasts,
    "helmert": HelmertContrasts,
    "poly": PolyContrasts,
    "diff": DiffContrasts,
    "custom": CustomContrasts,
}
_PATSY = {
    "Treatment": lambda reference=None: (
        TreatmentContrasts() if reference is None else TreatmentContrasts(reference)
    ),
    "Sum": SumContrasts,
    "Helmert": HelmertContrasts,
    "Poly": PolyContrasts,
    "Diff": DiffContrasts,
}


@dataclass(frozen=True, eq=False)
class Coding:
    """Columns of one coded factor: ``names`` and ``tables`` of one value per level.

    ``first`` is the level of the first column when the columns are 0/1 indicators of the levels
    ``first ...``, else None.
    """

    names: tuple[str, ...]
    tables: tuple[np.ndarray, ...]
    first: int | None


def constant(node, text):
    """Value of a literal or of a contrast object inside ``C(...)``, from its syntax tree."""
    if isinstance(node, ast.Name) and node.id in _PATSY:
        return _PATSY[node.id]()
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "contr":
        return resolve(node.attr, text)
    if isinstance(node, ast.Call):
        arguments = [constant(argument, text) for argument in node.args]
        options = {word.arg: constant(word.value, text) for word in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id == "c":
            return arguments
        make = None
        if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", None) == "contr":
            make = BY_NAME.get(node.func.attr)
        elif isinstance(node.func, ast.Name):
            make = _PATSY.get(node.func.id)
        if make is not None:
            try:
                return make(*arguments, **options)
            except TypeError as error:
                raise FormulaError(f"{text}: {error}") from None
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise FormulaError(f"{text}: {ast.unparse(node)} is no contrast and no list of levels") from None


def resolve(contrast, where):
    """A formulaic ``Contrasts`` object from a name, a class, an object, or an array (levels x columns)."""
    if contrast is None or isinstance(contrast, Contrasts):
        return contrast
    if isinstance(contrast, type) and issubclass(contrast, Contrasts):
        return contrast()
    if isinstance(contrast, str):
        made = BY_NAME.get(contrast.removeprefix("contr."))
        if made is None or made is CustomContrasts:
            known = ", ".join(name for name in BY_NAME if name != "custom")
            raise FormulaError(
                f"{where}: there is no contrast {contrast!r}; known are {known}, or give an array"
            )
        return made()
    if isinstance(contrast, dict):
        return CustomContrasts(contrast)
    try:
        matrix = np.asarray(contrast, float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim != 2:
        raise FormulaError(f"{where}: {contrast!r} is no contrast: give a name or a matrix, levels x columns")
    return CustomContrasts(matrix)


def code(name, levels, contrast, reduced):
    """The `Coding` of a factor.

    Parameters
    ----------
    name : str
        As it stands in the formula.
    levels : pandas.Index
    contrast : formulaic Contrasts or None
        None is treatment coding against the first level.
    reduced : bool
        Whether the intercept is spanned already.
    """
    if contrast is None or (not reduced and not isinstance(contrast, CustomContrasts)):
        first = 1 if reduced else 0
        names = [f"{name}[T.{level}]" if reduced else f"{name}[{level}]" for level in levels[first:]]
        return Coding(tuple(names), indicator_tables(len(levels), first), first)
    if len(levels) == 1 and reduced:
        return Coding((), (), None)
    return _formulaic(name, _Key(levels.tolist()), _Contrast(contrast), reduced)


def indicator_tables(n_levels, first, end=None):
    """One-hot vectors of the levels ``first ... end - 1``, all windows on one array with a single 1."""
    line = np.zeros(2 * n_levels - 1)
    line[n_levels - 1] = 1.0
    line.flags.writeable = False
    return tuple(line[n_levels - 1 - j : 2 * n_levels - 1 - j] for j in range(first, end or n_levels))


class _Key(tuple):
    """Levels as a hashable key that tells 1 from True and 1.0."""

    def __hash__(self):
        return hash((tuple(self), tuple(type(level) for level in self)))

    def __eq__(self, other):
        return tuple(self) == tuple(other) and all(type(a) is type(b) for a, b in zip(self, other))


class _Contrast:
    """A contrast object as a hashable key."""

    def __init__(self, contrast):
        self.contrast = contrast
        matrix = getattr(contrast, "contrasts", None)
        self.key = (type(contrast), matrix.tobytes() if matrix is not None else repr(contrast))
        self.key += (repr(getattr(contrast, "contrast_names", None)),)

    def __hash__(self):
        return hash(self.key)

    def __eq__(self, other):
        return self.key == other.key


@functools.lru_cache(maxsize=256)
def _formulaic(name, levels, contrast, reduced):
    contrast, levels = contrast.contrast, list(levels)
    rows = len(contrast.contrasts) if isinstance(contrast, CustomContrasts) else len(levels)
    if rows != len(levels):
        raise FormulaError(f"contrasts of {name}: {rows} rows for {len(levels)} levels {levels}")
    try:
        matrix = np.asarray(contrast.get_coding_matrix(levels, reduced, sparse=False), float)
        fields = contrast.get_coding_column_names(levels, reduced)
    except ValueError as error:
        raise FormulaError(f"contrasts of {name}: {error}") from None
    shape = contrast.get_factor_format(levels, reduced_rank=reduced)
    names = tuple(shape.format(name=name, field=field) for field in fields)
    tables = tuple(np.ascontiguousarray(matrix[:, j]) for j in range(matrix.shape[1]))
    return Coding(names, tables, 0 if np.array_equal(matrix, np.eye(len(levels))) else None)
