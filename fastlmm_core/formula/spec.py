"""What a design remembers: enough to rebuild its columns on other rows, and no rows.

A `DesignSpec` is plain data.  `DesignSpec.evaluate` reads new data with the
levels, contrasts and transform states of the fit; `to_dict` and `from_dict`
turn it into strings, numbers, lists and arrays and back.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..data.factors import cross_keys, labels, match
from ..data.table import FACTOR, Table, what_it_holds
from ..errors import DataError, FormulaError
from .algebra import Piece
from .contrasts import indicator_tables
from .pieces import Frame
from .saving import array, pack, pack_columns, pack_index, unpack, unpack_columns, unpack_index
from .terms import Atom, Column, RandomTerm


@dataclass(frozen=True, eq=False)
class PieceSpec:
    """One variable of the formula: its text, its kind, its levels or its transform states."""

    piece: Piece
    kind: str
    levels: pd.Index | None
    state: dict


@dataclass(frozen=True, eq=False)
class AtomSpec:
    """Where an atom comes from: a part of a numeric piece, or a table over a factor's levels.

    ``level`` is set when the table is the indicator of that level.
    """

    name: str
    piece: int
    part: int
    table: np.ndarray | None
    level: int | None = None


@dataclass(frozen=True, eq=False)
class GroupSpec:
    """A grouping factor: its parts (one, or several for an interaction) and their levels.

    ``keys`` are the mixed-radix numbers of an interaction's combinations, see `data.factors.cross`.
    """

    name: str
    parts: tuple[str, ...]
    part_levels: tuple[pd.Index, ...]
    keys: np.ndarray | None
    levels: pd.Index


@dataclass(frozen=True)
class FixedTerm:
    """A term of the fixed part: ``x:f``, the pieces in it, and its places among the fixed columns."""

    name: str
    pieces: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class NewRows:
    """A design on new data.

    ``atoms`` line up with `Design.atoms`, None where ``random`` excluded them.  ``codes`` has one
    (n,) int32 array per grouping factor, -1 for a level that is missing or was not seen, None for a
    factor that was not asked for.  ``unknown`` maps group names to unseen levels.  ``missing`` marks rows
    where a number, a factor or an offset is missing; ``missing_groups`` rows where a group is.
    """

    n: int
    atoms: tuple
    fixed: tuple
    terms: tuple
    codes: tuple
    unknown: dict
    offset: np.ndarray | None
    missing: np.ndarray | None
    missing_groups: np.ndarray | None
    index: pd.Index


@dataclass(frozen=True, eq=False)
class DesignSpec:
    """The columns of a design as recipes.

    Attributes
    ----------
    text, response, fixed_text : str
        The formula, its response and its fixed part.
    pieces, atoms, groups : tuple
    fixed, terms : tuple
        As in `Design`.
    fixed_terms : tuple of FixedTerm
        Which columns belong to which term, for tests of terms.
    offsets : tuple of str
        Expressions that are added up.
    weights : str or None
        Name of the weights' column, if they came by name.
    """

    text: str
    response: str
    fixed_text: str
    pieces: tuple[PieceSpec, ...]
    atoms: tuple[AtomSpec, ...]
    groups: tuple[GroupSpec, ...]
    fixed: tuple[Column, ...]
    terms: tuple[RandomTerm, ...]
    fixed_terms: tuple[FixedTerm, ...]
    offsets: tuple[str, ...]
    weights: str | None = None
    _cache: dict = field(default_factory=dict, repr=False)

    @property
    def group_names(self):
        """Names of the grouping factors, in the order of `Design.factors`."""
        return tuple(group.name for group in self.groups)

    def evaluate(self, data, random=True, offset=True):
        """The design's columns on new rows.

        Parameters
        ----------
        data : Table or any data frame
            Only the columns that are needed have to be there; the response is not.
        random : bool or collection of str
            Whether to evaluate random terms, or the group names to do it for.
        offset : bool
            Whether to evaluate the formula's offsets.

        Returns
        -------
        NewRows

        Raises
        ------
        DataError
            If a factor of a design column has a level that the fit did not see.
        FormulaError
            If a column is not there.
        """
        table = data if isinstance(data, Table) else Table(data)
        frame = Frame(table, self.text)
        wanted = {
            g for g, name in enumerate(self.group_names) if random is True or (random and name in random)
        }
        columns = [*self.fixed, *(c for term in self.terms if term.factor in wanted for c in term.columns)]
        needed = {atom for column in columns for atom in column.atoms}
        missing, values = None, {}
        for place in sorted({self.atoms[atom].piece for atom in needed}):
            values[place], mask = _piece_values(frame, self.pieces[place])
            missing = _either(missing, mask)
        atoms = tuple(
            _atom(spec, values[spec.piece]) if place in needed else None
            for place, spec in enumerate(self.atoms)
        )
        codes, unknown, missing_groups = [], {}, None
        for g, group in enumerate(self.groups):
            if g not in wanted:
                codes.append(None)
                continue
            found, unseen, mask = _group_codes(frame, group)
            codes.append(found)
            missing_groups = _either(missing_groups, mask)
            if unseen:
                unknown[group.name] = unseen
        total = None
        for text in self.offsets if offset else ():
            part, mask = number_values(frame, text, "offset")
            total = part if total is None else total + part
            missing = _either(missing, mask)
        return NewRows(
            table.n,
            atoms,
            self.fixed,
            self.terms,
            tuple(codes),
            unknown,
            total,
            missing,
            missing_groups,
            table.row_labels(),
        )

    def response_values(self, data):
        """The response on other rows: (n,) float64, NaN where missing; offsets are not subtracted."""
        table = data if isinstance(data, Table) else Table(data)
        return number_values(Frame(table, self.text), self.response, "response")[0]

    def to_dict(self):
        """The spec as nested dicts and lists of text, numbers and arrays."""
        return {
            "text": self.text,
            "response": self.response,
            "fixed_text": self.fixed_text,
            "pieces": [
                {
                    "text": p.piece.text,
                    "is_column": p.piece.is_column,
                    "kind": p.kind,
                    "levels": pack_index(p.levels),
                    "state": pack(p.state),
                }
                for p in self.pieces
            ],
            "atoms": [
                {
                    "name": a.name,
                    "piece": a.piece,
                    "part": a.part,
                    "level": a.level,
                    "table": a.table if a.level is None else None,
                }
                for a in self.atoms
            ],
            "groups": [
                {
                    "name": g.name,
                    "parts": list(g.parts),
                    "part_levels": [pack_index(i) for i in g.part_levels],
                    "keys": g.keys,
                    "levels": pack_index(g.levels),
                }
                for g in self.groups
            ],
            "fixed": pack_columns(self.fixed),
            "terms": [{"factor": t.factor, "columns": pack_columns(t.columns)} for t in self.terms],
            "fixed_terms": [
                {"name": t.name, "pieces": list(t.pieces), "columns": list(t.columns)}
                for t in self.fixed_terms
            ],
            "offsets": list(self.offsets),
            "weights": self.weights,
        }

    @classmethod
    def from_dict(cls, saved):
        """The inverse of `to_dict`."""
        pieces = tuple(
            PieceSpec(
                Piece(p["text"], p["is_column"]), p["kind"], unpack_index(p["levels"]), unpack(p["state"])
            )
            for p in saved["pieces"]
        )
        return cls(
            saved["text"],
            saved["response"],
            saved["fixed_text"],
            pieces,
            tuple(_saved_atom(a, pieces) for a in saved["atoms"]),
            tuple(
                GroupSpec(
                    g["name"],
                    tuple(g["parts"]),
                    tuple(unpack_index(i) for i in g["part_levels"]),
                    array(g["keys"], np.int64),
                    unpack_index(g["levels"]),
                )
                for g in saved["groups"]
            ),
            unpack_columns(saved["fixed"]),
            tuple(RandomTerm(t["factor"], unpack_columns(t["columns"])) for t in saved["terms"]),
            tuple(
                FixedTerm(t["name"], tuple(t["pieces"]), tuple(t["columns"])) for t in saved["fixed_terms"]
            ),
            tuple(saved["offsets"]),
            saved["weights"],
        )


def _saved_atom(saved, pieces):
    table, level = array(saved["table"]), saved["level"]
    if level is not None:
        table = indicator_tables(len(pieces[saved["piece"]].levels), level, level + 1)[0]
    return AtomSpec(saved["name"], saved["piece"], saved["part"], table, level)


def number_values(frame, text, role):
    """Values of one numeric expression, float64 with NaN where missing, and the mask of those or None."""
    found = frame.evaluate(Piece(text.strip("`"), True) if _is_name(text) else Piece(text, False), {})
    if found.kind == FACTOR:
        raise DataError(f"{role} {text} is not a number: {what_it_holds(found.column)}")
    if len(found.arrays) != 1:
        raise DataError(f"{role} {text} has {len(found.arrays)} columns, one is needed")
    mask = _any(found.missing)
    values = found.arrays[0].astype(np.float64)
    if mask is not None:
        values[mask] = np.nan
    if found.infinite:
        raise DataError(f"{role} {text} has infinite values")
    return values, mask


def _is_name(text):
    return text.isidentifier() or (text[0] == text[-1] == "`" and text.count("`") == 2)


def _piece_values(frame, spec):
    """A piece on new data: list of float arrays, or codes; and where it is missing."""
    found = frame.evaluate(spec.piece, spec.state)
    if spec.kind == FACTOR:
        column = found.column
        if column is None:
            raise DataError(f"{spec.piece} is a number in these data and was a factor in the fit")
        codes, unseen = match(column, spec.levels)
        if unseen:
            shown = ", ".join(repr(level) for level in unseen[:5]) + (", ..." if len(unseen) > 5 else "")
            raise DataError(
                f"{spec.piece}: level{'s' if len(unseen) > 1 else ''} {shown} did not occur in the fit, "
                f"which had {_some(spec.levels)}; a coefficient is known for these only"
            )
        mask = codes < 0
        if not mask.any():
            return codes, None
        codes[mask] = 0
        return codes, mask
    if found.kind == FACTOR:
        raise DataError(
            f"{spec.piece} is not a number in these data, as it was in the fit: {what_it_holds(found.column)}"
        )
    mask = _any(found.missing)
    arrays = found.arrays
    if mask is not None:
        arrays = [np.where(mask, np.nan, values) for values in arrays]
    return arrays, mask


def _some(levels, most=5):
    shown = ", ".join(repr(level) for level in levels[:most])
    return shown + (f" and {len(levels) - most} more" if len(levels) > most else "")


def _atom(spec, values):
    if spec.table is not None:
        return Atom(spec.name, values, spec.table)
    return Atom(spec.name, values[spec.part])


def _group_codes(frame, group):
    """Codes of a grouping factor on new data, the levels not seen in the fit, and where it is missing."""
    found, unseen, missing = [], [], None
    try:
        columns = [frame.factor(part) for part in group.parts]
    except FormulaError as error:
        what, line, place = str(error).partition("\n")
        raise FormulaError(
            f"{what}; without groups only re='none' can be predicted{line}{place}"
        ) from None
    for column, levels in zip(columns, group.part_levels):
        codes, new = match(column, levels)
        found.append(codes)
        unseen.append(new)
        missing = _either(missing, column.missing)
    if group.keys is None:
        return found[0], unseen[0], missing
    keys = cross_keys(found, [len(levels) for levels in group.part_levels])
    place = np.searchsorted(group.keys, keys).clip(max=len(group.keys) - 1)
    codes = np.where(group.keys[place] == keys, place, -1).astype(np.int32)
    absent = codes < 0
    if missing is not None:
        absent &= ~missing
    return codes, _combinations(columns, absent), missing


def _combinations(columns, rows):
    """The distinct ``"a:b"`` of some rows."""
    if not rows.any():
        return []
    texts = []
    for column in columns:
        values = column.values[rows]
        if column.kind == FACTOR:
            texts.append(labels(column.levels)[values])
        else:
            texts.append(labels(pd.Index(values if column.dtype is None else values.view(column.dtype))))
    return sorted({":".join(parts) for parts in zip(*texts)})


def _any(masks):
    total = None
    for mask in masks.values():
        total = _either(total, mask)
    return total


def _either(first, second):
    if first is None or second is None:
        return second if first is None else first
    return first | second
