"""Terms and a table become a `Design`: atoms, columns, grouping factors, response.

evaluate every piece of the formula over all rows
choose the rows                (missing values, zero weights)
encode factors on those rows   (levels that occur)
code terms as products of atoms
order the random terms, check that they can be estimated
"""

from functools import lru_cache
from itertools import product

import numpy as np

from ..data.factors import cross, encode
from ..data.table import FACTOR, Table, numeric_column
from ..errors import DataError, FormulaError, ModelError
from .algebra import Piece, term_text, terms_of
from .contrasts import code, resolve
from .parse import ParsedFormula, parse_formula
from .pieces import Frame
from .rows import choose_rows
from .spec import AtomSpec, DesignSpec, FixedTerm, GroupSpec, PieceSpec, number_values
from .structure import scope
from .terms import Atom, Column, Design, GroupingFactor, RandomTerm


@lru_cache(maxsize=512)
def _plan(parsed):
    """Pieces in order of appearance, and the terms of the fixed part and of each bar as piece numbers."""
    pieces = {}

    def numbered(source):
        return tuple(
            tuple(pieces.setdefault(piece, len(pieces)) for piece in term) for term in terms_of(source)
        )

    fixed = numbered(parsed.fixed)
    names = tuple(term_text(term) for term in terms_of(parsed.fixed))
    bars = tuple(numbered(bar.lhs) for bar in parsed.bars)
    text = parsed.response
    plain = text.isidentifier() or (text[0] == text[-1] == "`" and text.count("`") == 2)
    return tuple(pieces), fixed, names, bars, Piece(text.strip("`") if plain else text, plain)


def build_design(parsed, table, *, weights=None, contrasts=None, na_action="drop", offset=None, n_threads=1):
    """A model's rows and columns.

    Parameters
    ----------
    parsed : ParsedFormula or str
    table : Table or any data frame
    weights : str, (n,) array or None
        Prior weights (the inverse of a row's residual variance, up to sigma^2), or their column.
    contrasts : dict of str to contrast, optional
        Per column ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"``, ``"diff"``, ``"SAS"``, a
        formulaic contrast, or an array (levels x columns).
    na_action : {"drop", "raise"}
        What to do with rows where a value that is used is missing.
    offset : str, (n,) array or None
        Added to the formula's offsets.
    n_threads : int
        Threads for the encoding of grouping columns.

    Returns
    -------
    design : Design
    spec : DesignSpec
        Rebuilds the columns on new data.
    report : RowReport

    Raises
    ------
    FormulaError
        A column that is not there, an expression that cannot be computed, a contrast that does not fit.
    DataError
        Infinite values, negative weights, a response that is no number, no rows left.
    ModelError
        A grouping factor with one level, or no fewer random effects than rows; a constant response.
    """
    parsed = parsed if isinstance(parsed, ParsedFormula) else parse_formula(parsed)
    table = table if isinstance(table, Table) else Table(table)
    if na_action not in ("drop", "raise"):
        raise ValueError(f"na_action is {na_action!r}, it must be 'drop' or 'raise'")
    return _Builder(parsed, table, contrasts, n_threads).build(weights, offset, na_action)


class _Builder:
    def __init__(self, parsed, table, contrasts, n_threads):
        self.parsed, self.table, self.n_threads = parsed, table, n_threads
        self.frame = Frame(table, parsed.text)
        self.pieces, self.fixed_terms, self.term_names, self.bar_terms, self.response = _plan(parsed)
        self.contrasts = {
            name: resolve(found, f"contrasts of {name}") for name, found in (contrasts or {}).items()
        }
        self.missing, self.infinite = {}, {}
        self.encoded, self.atoms, self.atom_specs, self.atom_place = {}, [], [], {}

    def build(self, weights, offset, na_action):
        states = [{} for _ in self.pieces]
        self.found = [self.note(self.frame.evaluate(p, s)) for p, s in zip(self.pieces, states)]
        response, response_name = self.response_values()
        groups = self.group_columns()
        weights, weights_name = self.weight_values(weights)
        offset, offsets = self.offset_total(offset)
        self.report = choose_rows(self.table, self.missing, self.infinite, weights, na_action)
        self.rows = self.report.mask
        response, weights, offset = (None if v is None else self.used(v) for v in (response, weights, offset))
        if offset is not None:
            response = response - offset
        self.check_contrasts()
        _check_response(response, response_name)
        self.spans = tuple(found.kind == FACTOR or found.drop is not None for found in self.found)
        fixed, ones, fixed_terms = self.fixed_columns()
        terms, factors, group_specs = self.random_terms(groups)
        n = self.report.n_used
        design = Design(
            n,
            tuple(self.atoms),
            fixed,
            ones,
            terms,
            factors,
            np.ascontiguousarray(response),
            response_name,
            offset,
            weights,
        )
        pieces = tuple(
            PieceSpec(found.piece, found.kind, self.levels(place) if found.kind == FACTOR else None, state)
            for place, (found, state) in enumerate(zip(self.found, states))
        )
        spec = DesignSpec(
            self.parsed.text,
            self.parsed.response,
            self.parsed.fixed,
            pieces,
            tuple(self.atom_specs),
            group_specs,
            fixed,
            terms,
            fixed_terms,
            offsets,
            weights_name,
        )
        return design, spec, self.report

    # -- values over all rows ------------------------------------------------

    def note(self, found):
        """Remembers what is missing or infinite in an evaluated piece."""
        self.missing.update(found.missing)
        self.infinite.update(found.infinite)
        return found

    def response_values(self):
        found = self.note(self.frame.evaluate(self.response, {}))
        if found.kind == FACTOR:
            shown = ", ".join(repr(level) for level in found.column.levels[:4].tolist())
            raise DataError(f"the response {self.response.text!r} is not a number: it holds {shown}, ...")
        if len(found.arrays) != 1:
            raise DataError(
                f"the response {self.response.text!r} has {len(found.arrays)} columns, one is needed"
            )
        return found.arrays[0].astype(np.float64, copy=False), self.response.text

    def group_columns(self):
        """``{name: Column}`` of everything behind a bar."""
        columns = {}
        for bar in self.parsed.bars:
            for name in bar.group:
                if name not in columns:
                    column = columns[name] = self.frame.factor(name)
                    if column.missing is not None:
                        self.missing[name] = column.missing
                    if column.infinite is not None:
                        self.infinite[name] = column.infinite
        return columns

    def weight_values(self, weights):
        if weights is None:
            return None, None
        name = weights if isinstance(weights, str) else None
        column = self.frame.column(name) if name else self.own_column("weights", weights)
        return self.number_column(column), name

    def offset_total(self, offset):
        """The sum of all offsets, and those that are expressions of columns."""
        texts = (*self.parsed.offsets, offset) if isinstance(offset, str) else self.parsed.offsets
        total = None
        for text in texts:
            part, mask = number_values(self.frame, text, "offset")
            if mask is not None:
                self.missing[f"offset({text})"] = mask
            total = part if total is None else total + part
        if offset is not None and not isinstance(offset, str):
            part = self.number_column(self.own_column("offset", offset))
            total = part if total is None else total + part
        return total, texts

    def own_column(self, name, values):
        values = np.asarray(values)
        if values.shape != (self.table.n,):
            raise DataError(f"{name} has shape {values.shape}, the data have {self.table.n} rows")
        if values.dtype.kind not in "fiub":
            raise DataError(f"{name} is not numeric: its dtype is {values.dtype}")
        return numeric_column(name, values)

    def number_column(self, column):
        if column.kind != "numeric":
            raise DataError(f"column {column.name!r} is not numeric, as weights and offsets must be")
        if column.missing is not None:
            self.missing[column.name] = column.missing
        if column.infinite is not None:
            self.infinite[column.name] = column.infinite
        return column.values.astype(np.float64, copy=False)

    # -- rows used -----------------------------------------------------------

    def used(self, values):
        return values if self.rows is None else values[self.rows]

    def encode(self, column):
        """Codes and levels of a column on the rows used; one encoding per column."""
        key = id(column)
        if key not in self.encoded:
            self.encoded[key] = encode(column, self.rows, self.n_threads)
        return self.encoded[key]

    def levels(self, place):
        return self.encode(self.found[place].column)[1]

    def check_contrasts(self):
        for name in self.contrasts:
            factors = [f for f in self.found if f.kind == FACTOR and name in (f.piece.text, f.column.name)]
            if not factors:
                known = ", ".join(f.piece.text for f in self.found if f.kind == FACTOR) or "none"
                raise FormulaError(
                    f"contrasts name {name!r}, which is no factor of this model; its factors: {known}"
                )

    # -- columns -------------------------------------------------------------

    def fixed_columns(self):
        """The fixed columns, coefficients ``a`` with ``X a = 1`` or None, and the terms' places."""
        columns, terms, ones_at = [], [], None
        for term, name, products in zip(
            self.fixed_terms, self.term_names, scope(self.fixed_terms, self.spans), strict=True
        ):
            start = len(columns)
            for factors in products:
                first = len(columns)
                columns += self.columns(factors)
                if ones_at is None and self.sums_to_one(factors):
                    ones_at = range(first, len(columns))
            terms.append(FixedTerm(name, term, tuple(range(start, len(columns)))))
        ones = None
        if ones_at is not None:
            ones = np.zeros(len(columns))
            ones[list(ones_at)] = 1.0
        return tuple(columns), ones, tuple(terms)

    def sums_to_one(self, factors):
        """Whether the columns of a product are all indicators of a partition of the rows."""
        return all(
            self.found[place].kind == FACTOR and not reduced and self.coding(place, reduced).first == 0
            for place, reduced in factors
        )

    def columns(self, factors):
        """Columns of a product of coded pieces; the first piece varies fastest, as in R."""
        if not factors:
            return [Column("Intercept")]
        options = [self.piece_columns(place, reduced) for place, reduced in reversed(factors)]
        made = []
        for chosen in product(*options):
            chosen = chosen[::-1]
            made.append(Column(":".join(name for name, _ in chosen), tuple(atom for _, atom in chosen)))
        return made

    def piece_columns(self, place, reduced):
        """``(name, atom)`` of each column of one coded piece."""
        found = self.found[place]
        if found.kind != FACTOR:
            parts = [part for part in range(len(found.arrays)) if not (reduced and part == found.drop)]
            return [(found.names[part], self.number_atom(place, part)) for part in parts]
        coding = self.coding(place, reduced)
        return [(name, self.factor_atom(place, reduced, j, coding)) for j, name in enumerate(coding.names)]

    def coding(self, place, reduced):
        found = self.found[place]
        contrast = found.contrast
        if contrast is not None:
            contrast = resolve(contrast, found.piece.text)
        else:
            contrast = self.contrasts.get(found.piece.text) or self.contrasts.get(found.column.name)
        key = (place, reduced)
        if key not in self.encoded:
            self.encoded[key] = code(found.piece.text, self.levels(place), contrast, reduced)
        return self.encoded[key]

    def number_atom(self, place, part):
        def make():
            found = self.found[place]
            values = np.ascontiguousarray(self.used(found.arrays[part]))
            return Atom(found.names[part], values), AtomSpec(found.names[part], place, part, None)

        return self.atom((place, part), make)

    def factor_atom(self, place, reduced, j, coding):
        def make():
            codes = self.encode(self.found[place].column)[0]
            table, name = coding.tables[j], coding.names[j]
            return Atom(name, codes, table), AtomSpec(name, place, j, table, level)

        # an indicator of a level is one atom, whatever coding asks for it
        level = None if coding.first is None else coding.first + j
        key = (place, reduced, j) if level is None else (place, "level", level)
        return self.atom(key, make)

    def atom(self, key, make):
        if key not in self.atom_place:
            atom, spec = make()
            self.atom_place[key] = len(self.atoms)
            self.atoms.append(atom)
            self.atom_specs.append(spec)
        return self.atom_place[key]

    # -- random terms --------------------------------------------------------

    def random_terms(self, columns):
        """Terms and grouping factors in lme4's order, with what rebuilds them."""
        bars, encoded = self.parsed.bars, {}
        for bar in bars:
            if bar.group not in encoded:
                encoded[bar.group] = self.grouping(bar.group, columns)
        sizes = [len(encoded[bar.group][0].levels) for bar in bars]
        order = list(range(len(bars)))
        if any(a < b for a, b in zip(sizes, sizes[1:])):
            # mkReTrms: rev(order(nlev)), so ties come in reverse
            order = sorted(order, key=lambda place: sizes[place])[::-1]
        terms, factors, specs, place = [], [], [], {}
        for at in order:
            bar = bars[at]
            factor, spec = encoded[bar.group]
            if bar.group not in place:
                place[bar.group] = len(factors)
                factors.append(factor)
                specs.append(spec)
            products = scope(self.bar_terms[at], self.spans)
            made = tuple(
                column for term in products for factors_ in term for column in self.columns(factors_)
            )
            _check_term(bar, made, len(factor.levels), self.report.n_used)
            terms.append(RandomTerm(place[bar.group], made))
        return tuple(terms), tuple(factors), tuple(specs)

    def grouping(self, group, columns):
        parts = [self.encode(columns[name]) for name in group]
        name = ":".join(group)
        if len(group) == 1:
            codes, levels = parts[0]
            keys = None
        else:
            codes, levels, keys = cross(parts, self.n_threads)
        spec = GroupSpec(name, group, tuple(part_levels for _, part_levels in parts), keys, levels)
        return GroupingFactor(name, codes, levels), spec


def _check_term(bar, columns, n_levels, n):
    """What lme4's ``checkNlevels`` and ``checkZdims`` refuse."""
    k = len(columns)
    if k == 0:
        raise ModelError(f"the random term {bar} has no columns")
    if n_levels == 1:
        raise ModelError(f"the random term {bar}: {bar.group_name} has 1 level; a variance needs at least 2")
    if n_levels >= n:
        raise ModelError(
            f"the random term {bar}: {bar.group_name} has {n_levels} levels for {n} rows, "
            "so its variance and the residual variance cannot be told apart"
        )
    if k * n_levels >= n:
        raise ModelError(
            f"the random term {bar}: {k} columns x {n_levels} levels = {k * n_levels} random effects "
            f"for {n} rows; they and the residual variance cannot be told apart"
        )


def _check_response(response, name):
    if response[0] == response[-1] and response.min() == response.max():
        raise ModelError(f"the response {name!r} is constant ({response[0]:g} in all {len(response)} rows)")
