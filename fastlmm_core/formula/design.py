"""Terms and a table become a `Design`: atoms, columns, grouping factors, response.

evaluate every piece of the formula over all rows
choose the rows                (missing values, zero weights)
encode factors on those rows   (levels that occur)
code terms as products of atoms
order the random terms, check that they can be estimated
"""

from itertools import product

import numpy as np

from ..data.factors import cross
from ..data.table import FACTOR, Table
from ..errors import DataError, FormulaError, ModelError
from .advice import warn_of_factors, warn_of_model, warn_of_rows
from .contrasts import code, resolve
from .parse import ParsedFormula, parse_formula
from .reader import RowReader
from .spec import AtomSpec, DesignSpec, FixedTerm, GroupSpec, PieceSpec
from .structure import scope
from .terms import Atom, Column, Design, GroupingFactor, RandomTerm

LARGEST = 1e145
"""Of numbers beyond it, and of those below its inverse, sums of squares pass what a float holds."""


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
    builder = Builder(parsed, table, contrasts, n_threads)
    made = builder.build(weights, offset, na_action)
    builder.warn()
    warn_of_rows(builder)
    return made


class Builder(RowReader):
    """Codes the pieces into columns; see `build_design`."""

    def __init__(self, parsed, table, contrasts, n_threads):
        super().__init__(parsed, table, n_threads)
        if contrasts is not None and not hasattr(contrasts, "items"):
            raise TypeError(f"contrasts is a dict like {{'arm': 'sum'}}, found {contrasts!r}")
        self.contrasts = {
            name: resolve(found, f"contrasts of {name}") for name, found in (contrasts or {}).items()
        }
        self.atoms, self.atom_specs, self.atom_place = [], [], {}

    def build(self, weights, offset, na_action, states=None):
        """The `Design`, the `DesignSpec` and the `RowReport`."""
        states = [{} for _ in self.pieces] if states is None else states
        values = self.read(states, weights, offset, na_action)
        self.check_contrasts()
        self.check_response(values.response, values.response_name)
        check_size(values.response_name, values.response)
        if values.weights is not None:
            check_size(values.weights_name or "weights", values.weights)
        self.spans = tuple(found.kind == FACTOR or found.drop is not None for found in self.found)
        fixed, ones, fixed_terms = self.fixed_columns()
        self.built_terms = fixed_terms
        terms, factors, group_specs = self.random_terms(values.groups)
        n = self.report.n_used
        design = Design(
            n,
            tuple(self.atoms),
            fixed,
            ones,
            terms,
            factors,
            np.ascontiguousarray(values.response),
            values.response_name,
            values.offset,
            values.weights,
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
            values.offsets,
            values.weights_name,
        )
        return design, spec, self.report

    def warn(self):
        """Warns of what is likely not meant; after `build`."""
        warn_of_model(self.parsed)
        warn_of_factors(self, self.built_terms)

    def levels(self, place):
        """Levels of a factor among the pieces."""
        return self.encode(self.found[place].column)[1]

    def codes(self, place):
        """Codes of the rows used into those levels."""
        return self.encode(self.found[place].column)[0]

    def check_response(self, response, name):
        if len(response) == 1:
            raise DataError(
                f"only one row is left of {self.report.n_total}: a model needs more"
                if self.report.n_total > 1
                else "the data have one row: a model needs more"
            )
        if response[0] == response[-1] and response.min() == response.max():
            raise ModelError(
                f"the response {name!r} is constant ({response[0]:g} in all {len(response)} rows): there is "
                "nothing to explain; was another column meant, or were rows selected by it?"
            )

    def check_contrasts(self):
        for name in self.contrasts:
            factors = [f for f in self.found if f.kind == FACTOR and name in (f.piece.text, f.column.name)]
            if not factors:
                known = ", ".join(f.piece.text for f in self.found if f.kind == FACTOR) or "none"
                raise FormulaError(
                    f"contrasts name {name!r}, which is no factor of this model; its factors: {known}"
                    + (f"; C({name}) makes a factor of it" if name in self.table else "")
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
            check_size(found.names[part], values)
            return Atom(found.names[part], values), AtomSpec(found.names[part], place, part, None)

        return self.atom((place, part), make)

    def factor_atom(self, place, reduced, j, coding):
        def make():
            codes = self.codes(place)
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
        order = self.term_order([len(encoded[bar.group][0].levels) for bar in bars])
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
            self.check_term(bar, made, len(factor.levels))
            terms.append(RandomTerm(place[bar.group], made))
        return tuple(terms), tuple(factors), tuple(specs)

    def term_order(self, sizes):
        return lme4_order(sizes)

    def check_term(self, bar, columns, n_levels):
        check_term(bar, bar.group_name, len(columns), n_levels, self.report.n_used)

    def grouping(self, group, columns):
        parts = [self.encode(columns[name]) for name in group]
        name = ":".join(group)
        if len(group) == 1:
            codes, levels = parts[0]
            codes, keys = codes.astype(np.int32, copy=False), None
        else:
            codes, levels, keys = cross(parts, self.n_threads)
        spec = GroupSpec(name, group, tuple(part_levels for _, part_levels in parts), keys, levels)
        return GroupingFactor(name, codes, levels), spec


def check_size(name, values):
    """DataError for numbers whose squares no float holds; a sample of the rows tells."""
    if values.dtype.kind != "f" or not len(values):
        return
    size = float(np.abs(values[:: max(1, len(values) // 512)]).max())
    if size > LARGEST or 0.0 < size < 1.0 / LARGEST:
        size = float(np.abs(values).max())
        if size > LARGEST or size < 1.0 / LARGEST:
            raise DataError(
                f"the values of {name!r} reach {size:.2g}: sums of their squares are beyond what a float "
                "holds; change the unit, as in y / 1e100"
            )


def lme4_order(sizes):
    """Places of the random terms by decreasing number of levels, as lme4's ``mkReTrms``."""
    order = list(range(len(sizes)))
    if any(a < b for a, b in zip(sizes, sizes[1:])):
        # rev(order(nlev)), so ties come in reverse
        order = sorted(order, key=lambda place: sizes[place])[::-1]
    return order


def check_term(bar, group, k, n_levels, n):
    """What lme4's ``checkNlevels`` and ``checkZdims`` refuse."""
    if k == 0:
        raise ModelError(f"the random term {bar} has no columns: (1 | {group}) is an intercept per {group}")
    if n_levels == 1:
        raise ModelError(
            f"the random term {bar}: {group} has 1 level; a variance needs at least 2: leave the term out, "
            "or look at how the rows were selected"
        )
    if n_levels >= n:
        raise ModelError(
            f"the random term {bar}: {group} has {n_levels} levels for {n} rows, "
            "so its variance and the residual variance cannot be told apart: a grouping factor repeats "
            "over rows; was another column meant?"
        )
    if k * n_levels >= n:
        raise ModelError(
            f"the random term {bar}: {k} columns x {n_levels} levels = {k * n_levels} random effects "
            f"for {n} rows; they and the residual variance cannot be told apart: leave columns out of it, "
            "as in (1 | group)"
        )
