"""The columns of the data that a formula reads."""

import numpy as np

from ..data.table import Table
from ..formula.algebra import Piece
from ..formula.evaluate import CONSTANTS, Categorical, compile_expression
from ..formula.pieces import Frame
from ..formula.reader import formula_plan
from .sources import Source


def text_columns(text: str, is_column: bool, names) -> list[str]:
    """Columns that an expression reads."""
    if is_column or text in names:
        return [text]
    if text[:1] == text[-1:] == "`":
        return [text.strip("`")]
    if text.isidentifier():
        return [text]
    expression = compile_expression(text)
    if isinstance(expression, Categorical):
        if expression.column is not None and (
            expression.column in names or expression.column not in CONSTANTS
        ):
            return [expression.column]
        expression = compile_expression(expression.inner)
    return [name for name in expression.names if name in names or name not in CONSTANTS]


def needed_columns(parsed, pieces, weights, names) -> list[str]:
    """Columns that a model reads, each once."""
    found = [name for piece in pieces for name in text_columns(piece.text, piece.is_column, names)]
    found += text_columns(parsed.response, False, names)
    for bar in parsed.bars:
        for group in bar.group:
            found += [group] if group in names or "(" not in group else text_columns(group, False, names)
    for text in parsed.offsets:
        found += text_columns(text, False, names)
    return list(dict.fromkeys([*found, *([weights] if weights is not None else [])]))


def piece_names(parsed) -> tuple[Piece, ...]:
    """The pieces of a formula without any data."""
    return formula_plan(parsed)[0]


def check_columns(parsed, columns, source: Source) -> None:
    """FormulaError for the first column that the source does not have."""
    frame = Frame(Table({name: np.empty(0) for name in source.names}), parsed.text)
    for name in columns:
        frame.column(name)
