"""Arithmetic inside a formula: ``log(x)``, ``I(x**2)``, ``poly(x, 2)``, ``np.sqrt(x)``.

Expressions are compiled once and run against the columns with a closed list of
functions, so that a formula, also one read from a file, can compute numbers and
nothing else.  The stateful transforms (``poly``, ``scale``, ``bs``, ...) are
formulaic's; what they learn from the data is kept and reused on new data.
"""

import ast
import functools
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np
from formulaic.transforms import TRANSFORMS

from ..errors import FormulaError
from .tokens import hide_quoted, show_quoted


def _log(x, base=None):
    return np.log(x) if base is None else np.log(x) / np.log(base)


def _identity(x):
    return x


FUNCTIONS = {
    "I": _identity,
    "log": _log,
    **{name: getattr(np, name) for name in (
        "log10", "log2", "log1p", "exp", "expm1", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh",
        "abs", "floor", "ceil", "sign", "round", "minimum", "maximum", "where", "clip",
    )},
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "arcsin": np.arcsin, "arccos": np.arccos,
    "arctan": np.arctan, "pmin": np.minimum, "pmax": np.maximum, "ifelse": np.where,
    "c": lambda *values: list(values),
}  # fmt: skip
_TRANSFORMS = ("poly", "scale", "center", "standardize", "bs", "cr", "cs", "cc")
STATEFUL = {name: TRANSFORMS[name] for name in _TRANSFORMS if name in TRANSFORMS}
CATEGORICAL = ("C", "factor")
_CALLED = {**FUNCTIONS, **STATEFUL}
CONSTANTS = {"pi": np.pi}
_NUMPY = {name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)} | {
    "where",
    "clip",
    "round",
    "abs",
}
_NODES = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Attribute, ast.Constant, ast.BinOp,
    ast.UnaryOp, ast.Compare, ast.List, ast.Tuple, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Expression:
    """A compiled expression.

    ``names`` are the columns it may use (a constant such as ``pi`` among them, unless a column
    of that name is there); ``stateful`` are the keys of its transforms' states.
    """

    text: str
    code: CodeType
    names: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...]
    stateful: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Categorical:
    """``C(inner, contrasts, levels=...)`` or ``factor(inner, levels=...)``."""

    text: str
    inner: str
    column: str | None
    contrasts: Any = None
    levels: tuple | None = None


@functools.lru_cache(maxsize=512)
def compile_expression(text):
    """An `Expression`, or a `Categorical` for a call of ``C`` or ``factor``.

    Raises
    ------
    FormulaError
        For a function that is not known, or syntax that is no arithmetic.
    """
    source, aliases = hide_quoted(text)
    tree = ast.parse(source, mode="eval")
    call = tree.body
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CATEGORICAL:
        return _categorical(text, call, aliases)
    names, stateful = [], []
    _check(tree, text)
    _powers_of_floats(tree)
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.Name) and id(node) not in functions and node.id != "np":
            names.append(aliases.get(node.id, node.id))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in STATEFUL:
            key = show_quoted(ast.unparse(node), aliases)
            stateful.append(key)
            state = ast.parse(f"__state__[{key!r}]", mode="eval").body
            node.keywords.append(ast.keyword("_state", state))
    for node in ast.walk(tree):  # a column may be called log: functions are looked up by themselves
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            node.func = ast.parse(f"__functions__[{node.func.id!r}]", mode="eval").body
    code = compile(ast.fix_missing_locations(tree), "<formula>", "eval")
    pairs = tuple((alias, name) for alias, name in aliases.items())
    return Expression(text, code, tuple(dict.fromkeys(names)), pairs, tuple(dict.fromkeys(stateful)))


def _check(tree, text):
    """Only arithmetic, comparisons and calls of known functions."""
    attributes = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise FormulaError(f"{text}: {type(node).__name__} has no place in a formula")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "np"):
                raise FormulaError(
                    f"{text}: only functions of np can be written with a dot; quote odd names in `...`"
                )
            if node.attr not in _NUMPY and node.attr not in ("pi", "e"):
                raise FormulaError(f"{text}: np.{node.attr} is not an elementwise function")
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else None
            if name is None and not isinstance(node.func, ast.Attribute):
                raise FormulaError(f"{text}: this is no function call")
            if name in CATEGORICAL:
                raise FormulaError(f"{text}: {name}() marks a whole term as categorical and cannot be nested")
            if name is not None and name not in FUNCTIONS and name not in STATEFUL:
                known = ", ".join(sorted({*FUNCTIONS, *STATEFUL, *CATEGORICAL}))
                raise FormulaError(f"{text}: there is no function {name}(); known are {known} and np.<ufunc>")
            if any(argument.arg is None for argument in node.keywords):
                raise FormulaError(f"{text}: ** arguments have no place in a formula")
        if isinstance(node, ast.Name) and node.id.startswith("__") and id(node) not in attributes:
            raise FormulaError(f"{text}: {node.id} has no place in a formula")


def _powers_of_floats(tree):
    """Bases of powers as floats: a power of Python's whole numbers may take all time and memory."""
    for power in ast.walk(tree):
        if isinstance(power, ast.BinOp) and isinstance(power.op, ast.Pow):
            for node in ast.walk(power.left):
                if isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) < 2**1000:
                    node.value = float(node.value)


def _categorical(text, call, aliases):
    from .contrasts import constant

    options = {word.arg: word.value for word in call.keywords}
    positional = list(call.args)
    if not positional or len(positional) > 2 or set(options) - {"contrasts", "levels", "contr"}:
        raise FormulaError(f"{text}: write C(column), C(column, contrasts) or C(column, levels=[...])")
    inner = positional[0]
    second = positional[1] if len(positional) == 2 else options.get("contrasts", options.get("contr"))
    levels = options.get("levels")
    if second is not None and call.func.id == "factor":
        levels, second = second, None
    if levels is not None:
        levels = constant(levels, text)
        if not isinstance(levels, (list, tuple)) or len(set(map(repr, levels))) < len(levels):
            raise FormulaError(f"{text}: levels are a list of distinct values, like levels=['a', 'b']")
    column = aliases.get(inner.id, inner.id) if isinstance(inner, ast.Name) else None
    return Categorical(
        text,
        show_quoted(ast.unparse(inner), aliases),
        column,
        None if second is None else constant(second, text),
        None if levels is None else tuple(levels),
    )


def run(expression, columns, state):
    """Value of an expression over the rows.

    Parameters
    ----------
    expression : Expression
    columns : dict of str to (n,) ndarray
        float64 for numbers; text and factors as object arrays.
    state : dict
        States of the transforms by key: filled on the first run, used on later ones.

    Raises
    ------
    FormulaError
        If the arithmetic fails.
    """
    scope = {**CONSTANTS, "np": np, "__builtins__": {}, "__functions__": _CALLED, "__state__": state}
    aliases = {name: alias for alias, name in expression.aliases}
    for name, values in columns.items():
        scope[aliases.get(name, name)] = values
    for key in expression.stateful:
        state.setdefault(key, {})
    try:
        with np.errstate(all="ignore"):
            return eval(expression.code, scope)
    except Exception as error:
        raise FormulaError(
            f"{expression.text} cannot be computed: {type(error).__name__}: {error}"
        ) from error


def parts_of(value, n, text):
    """The columns of an evaluated expression.

    Returns
    -------
    names : list of str
        Full column names, as formulaic builds them.
    arrays : list of (n,) ndarray
    drop : int or None
        The part to leave out where the intercept is spanned already.
    """
    metadata = getattr(value, "__formulaic_metadata__", None)
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, dict):
        fields = {key: part for key, part in value.items() if not str(key).startswith("__")}
        arrays, keys = list(fields.values()), list(fields)
    else:
        if isinstance(value, str):
            raise FormulaError(f"{text} gives text, numbers are needed")
        value = np.asarray(value)
        if value.ndim == 0:
            value = np.full(n, value)
        if value.ndim == 1:
            return [text], [_numbers(value, n, text)], None
        arrays = [value[:, place] for place in range(value.shape[1])]
        keys = list(getattr(metadata, "column_names", None) or range(value.shape[1]))
    shape = metadata.format if metadata is not None else "{name}[{field}]"
    names = [shape.format(name=text, field=key) for key in keys]
    drop = None
    if metadata is not None and metadata.spans_intercept and metadata.drop_field in keys:
        drop = keys.index(metadata.drop_field)
    return names, [_numbers(array, n, text) for array in arrays], drop


def _numbers(array, n, text):
    array = np.asarray(array)
    if array.shape != (n,):
        raise FormulaError(f"{text} gives {array.shape} values for {n} rows")
    if array.dtype.kind not in "fiub":
        raise FormulaError(f"{text} gives {array.dtype} values, numbers are needed")
    return array if array.dtype.kind == "b" else np.ascontiguousarray(array, np.float64)
