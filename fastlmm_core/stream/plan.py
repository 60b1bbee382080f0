"""What a fit needs besides rows: terms, known levels, transform states, centres and scales.

A `Plan` is plain data: every place that holds some of the rows turns them into
statistics of the same coordinates, and these add up.
"""

import hashlib
import html
import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from ..crossprod.layout import Layout, build_layout
from ..crossprod.rows import ScaledColumn
from ..crossprod.standardize import Standardization, standardize
from ..data.factors import match
from ..data.table import Table
from ..errors import DataError, FastLMMError, FormulaError, ModelError
from ..formula.design import Builder
from ..formula.parse import parse_formula
from ..formula.reader import RowReader
from ..formula.spec import DesignSpec
from ..formula.terms import GroupingFactor
from .columns import check_columns, needed_columns, piece_names
from .forecast import Expected, Forecast, expected_levels, forecast
from .learn import Learned, learn
from .look import look_through
from .sources import Source, open_source

ROWS_PER_SECOND = 6e6  # of one core on a small model, for rough times
FIRST_ROWS = 1 << 16  # that centres and scales come from, about
VERSION = 1


@dataclass(frozen=True, eq=False)
class Plan:
    """A model on data that are still to be read.

    Attributes
    ----------
    formula : str
    spec : DesignSpec
        Columns as recipes, with levels, contrasts and transform states; without groups.
    groups : tuple of tuple of str
        Columns of each grouping factor; their levels are numbered in the stream.
    standardization, layout
        The coordinates of the statistics.
    columns : tuple of str
        What is read of the data.
    reml : bool
        What `fit` does by default.
    rows : int or None
        Rows of the data, where known.
    learned : tuple of str
        Parts of the formula whose levels or transforms took a first pass, over their columns alone.
    expected : dict of str to Expected
        Per grouping factor the number of levels to expect in all rows, and how that is known.
    engines : Forecasts or None
        What each engine that applies would need, and which is taken and why; None where pairs of levels
        are still to be counted.  JSON leaves it out.

    Notes
    -----
    A plan holds no rows, but the levels of factors in the fixed part, and centres and scales
    near the means and standard deviations of the first rows.
    """

    formula: str
    spec: DesignSpec
    groups: tuple[tuple[str, ...], ...]
    standardization: Standardization
    layout: Layout
    columns: tuple[str, ...]
    reml: bool = True
    na_action: str = "drop"
    rows: int | None = None
    source: str = ""
    row_bytes: int = 0
    data_name: str | None = None
    learned: tuple[str, ...] = ()
    expected: dict[str, Expected] = field(default_factory=dict)
    mapped_bytes: int = 0
    engines: object | None = None
    _cache: dict = field(default_factory=dict, repr=False)

    @property
    def parsed(self):
        """The formula taken apart, a `ParsedFormula`."""
        return parse_formula(self.formula)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the grouping factors, interactions as ``a:b``."""
        return tuple(":".join(parts) for parts in self.groups)

    @property
    def key(self) -> str:
        """Identity of the statistics' coordinates: plans with one key give statistics that add up."""
        if "key" not in self._cache:
            saved = self.to_dict()
            text = json.dumps({name: saved[name] for name in _COORDINATES}, sort_keys=True)
            self._cache["key"] = hashlib.sha256(text.encode()).hexdigest()
        return self._cache["key"]

    def same_model(self, other: "Plan") -> bool:
        """Whether both have the same columns and levels, maybe with other centres and scales."""
        mine, theirs = self.to_dict(), other.to_dict()
        return all(mine[name] == theirs[name] for name in ("formula", "spec", "groups", "na_action"))

    def accumulate(
        self, data, *, onto=None, n_threads: int | None = None, progress=None, checkpoint=None, client=None
    ):  # fmt: skip
        """Statistics of some rows.

        Parameters
        ----------
        data : whatever `plan` takes; a frame is one batch.
        onto : CrossProducts, optional
            Of earlier, other rows: the result holds both, as ``onto.merge(...)`` gives it, in less time;
            ``onto`` itself stays what it is.
        n_threads, checkpoint, client
            As for `lmer`.
        progress : bool or callable, optional
            True shows rows, rows per second and time left; a callable gets ``(rows, rows in all or None)``.

        Returns
        -------
        CrossProducts
            Add up those of disjoint rows with ``merge``; `fit` takes the sum.
        """
        from .cluster import accumulate_anywhere

        return accumulate_anywhere(
            self,
            data,
            open_source(data),
            client,
            onto=onto,
            n_threads=n_threads,
            progress=progress,
            checkpoint=checkpoint,
        )

    def forecast(self, levels: dict | None = None) -> Forecast:
        """Memory that the pass and the fit will take.

        Parameters
        ----------
        levels : dict of str to int, optional
            Grouping factor -> number of levels, where more is known than the plan could see.

        Returns
        -------
        Forecast
            Bytes beyond what the process holds before: ``batches``, ``statistics``, ``fit``, ``peak``.
        """
        return forecast(self, levels)

    def to_json(self) -> str:
        """The plan as text, to be shared; numbers survive exactly."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The inverse of `to_json`.

        Raises
        ------
        DataError
            The text is no plan.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"this text is no plan: {error!r}") from error

    def to_dict(self) -> dict:
        """The plan as text, numbers, lists and dicts, as `to_json` writes it; engines are left out."""
        s, layout = self.standardization, self.layout
        return _plain(
            {
                "version": VERSION,
                "formula": self.formula,
                "spec": self.spec.to_dict(),
                "groups": [list(parts) for parts in self.groups],
                "standardization": {
                    "x_columns": [_pack_column(c) for c in s.x_columns],
                    "z_columns": [[_pack_column(c) for c in columns] for columns in s.z_columns],
                    "x_map": s.x_map,
                    "x_scale": s.x_scale,
                    "y_center": s.y_center,
                    "y_scale": s.y_scale,
                    "ones": s.ones,
                    "z_maps": list(s.z_maps),
                },
                "layout": {
                    "columns": [_pack_column(c) for c in layout.columns],
                    "y": int(layout.y),
                    "z": list(layout.z),
                    "term_slices": [list(place) for place in layout.term_slices],
                    "fixed_names": list(layout.fixed_names),
                },
                "columns": list(self.columns),
                "reml": self.reml,
                "na_action": self.na_action,
                "rows": self.rows,
                "source": self.source,
                "row_bytes": self.row_bytes,
                "data_name": self.data_name,
                "learned": list(self.learned),
                "expected": {name: asdict(found) for name, found in self.expected.items()},
                "mapped_bytes": self.mapped_bytes,
            }
        )

    @classmethod
    def from_dict(cls, saved: dict) -> "Plan":
        """The inverse of `to_dict`.

        Raises
        ------
        DataError
            A later version of the package wrote it.
        """
        saved = _arrays(saved)
        if saved["version"] > VERSION:
            raise DataError(f"this plan is of version {saved['version']}, this package reads up to {VERSION}")
        s, lay = saved["standardization"], saved["layout"]
        standardization = Standardization(
            tuple(_unpack_column(c) for c in s["x_columns"]),
            tuple(tuple(_unpack_column(c) for c in columns) for columns in s["z_columns"]),
            s["x_map"], s["x_scale"], s["y_center"], s["y_scale"], s["ones"], tuple(s["z_maps"]),
        )  # fmt: skip
        p = len(standardization.x_columns)
        layout = _layout(
            tuple(_unpack_column(c) for c in lay["columns"]), np.arange(p, dtype=np.int32), lay["y"],
            tuple(lay["z"]), tuple(tuple(place) for place in lay["term_slices"]), tuple(lay["fixed_names"]),
        )  # fmt: skip
        names = ("formula", "reml", "na_action", "rows", "source", "row_bytes", "data_name")
        return cls(
            spec=DesignSpec.from_dict(saved["spec"]),
            groups=tuple(tuple(parts) for parts in saved["groups"]),
            standardization=standardization,
            layout=layout,
            columns=tuple(saved["columns"]),
            learned=tuple(saved.get("learned", ())),
            expected={name: Expected(**found) for name, found in saved.get("expected", {}).items()},
            mapped_bytes=int(saved.get("mapped_bytes", 0)),
            **{name: saved[name] for name in names},
        )

    def __str__(self) -> str:
        from .describe import describe

        return describe(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


_COORDINATES = ("formula", "spec", "groups", "standardization", "layout")


def build_plan(
    formula, data, *, reml=True, weights=None, contrasts=None, na_action="drop", levels=None
) -> Plan:
    """See `fastlmm_core.plan`."""
    source = open_source(data)
    return plan_of(formula, source, reml, weights, contrasts, na_action, levels, expect=True)[0]


def plan_of(
    formula, source: Source, reml, weights, contrasts, na_action, levels=None, learned=None,
    look_at=look_through, trust=False, expect=False,
):  # fmt: skip
    """The plan of a source, and what was learned for it; with ``expect`` also the levels to expect."""
    parsed = parse_formula(formula)
    if not parsed.bars:
        raise FormulaError(f"{formula}\nhas no random term like (1 | group): statistics are for mixed models")
    if na_action not in ("drop", "raise"):
        raise ValueError(f"na_action is {na_action!r}, it must be 'drop' or 'raise'")
    if weights is not None and not isinstance(weights, str):
        raise DataError("weights of data that are read in batches are the name of a column")
    columns = needed_columns(parsed, piece_names(parsed), weights, source.names)
    check_columns(parsed, columns, source)
    batch = first_rows(source, columns, lambda data: _has_rows(parsed, data, weights))
    first = batch.data
    anew = learned is None
    if anew:
        learned = learn(parsed, source, first, levels, look_at, trust)
    try:
        layout, standardization, spec = _template(parsed, first, learned, weights, contrasts, na_action, anew)
    except DataError as error:
        if not source.files:
            raise
        raise DataError(f"{batch.label}: {error}") from error
    plan = Plan(
        formula=formula,
        spec=spec,
        groups=_groups(parsed),
        standardization=standardization,
        layout=layout,
        columns=tuple(columns),
        reml=bool(reml),
        na_action=na_action,
        rows=source.rows,
        source=source.kind,
        row_bytes=int(source.row_bytes(columns)),
        data_name=getattr(first, "attrs", {}).get("name"),
        learned=learned.passed,
        expected=expected_levels(_groups(parsed), first, source, parsed) if expect else {},
        mapped_bytes=source.mapped_bytes,
    )
    return plan, learned


def first_rows(source: Source, columns, is_useful):
    """The first batch with rows to use, else with rows; a source that is read once gets all back."""
    batches = source.batches(columns, batch_rows=FIRST_ROWS if source.again else None)
    seen, found = [], None
    for batch in batches:
        seen = [batch] if source.again else [*seen, batch]
        useful = len(Table(batch.data)) and is_useful(batch.data)
        if useful or found is None and len(Table(batch.data)):
            found = batch
        if useful:
            break
    if found is None:
        raise DataError(f"the {source.kind} has no rows")
    if source.again:
        close = getattr(batches, "close", None)
        if close:
            close()
    else:
        _put_back(source, seen, batches)
    return found


def _has_rows(parsed, data, weights) -> bool:
    """Whether a batch has a row without missing values; what is wrong in other ways is found later."""
    try:
        reader = RowReader(parsed, Table(data))
        reader.read([{} for _ in reader.pieces], weights, None, "drop", may_be_empty=True)
    except FastLMMError:
        return True
    return reader.report.n_used > 0


def _put_back(source, seen, rest):
    def read(columns, rows, skip):
        yield from seen
        yield from rest
        source.read = used_up

    def used_up(columns, rows, skip):
        raise DataError(f"this {source.kind} was read already, and it can be read only once")

    source.read = read


def _groups(parsed):
    return tuple(dict.fromkeys(bar.group for bar in parsed.bars))


class _Template(Builder):
    """The design of the first rows with the levels of all of them."""

    def __init__(self, parsed, table, contrasts, learned: Learned):
        super().__init__(parsed, table, contrasts, 1)
        self.learned, self.matched = learned, {}

    def levels(self, place):
        return self.learned.levels[place]

    def codes(self, place):
        if place not in self.matched:
            codes, unseen = match(self.found[place].column, self.levels(place))
            codes = np.ascontiguousarray(self.used(codes))
            if (codes < 0).any():
                raise DataError(
                    f"{self.found[place].piece}: level {unseen[0]!r} is not among the levels that were given"
                )
            self.matched[place] = codes
        return self.matched[place]

    def grouping(self, group, columns):
        """All rows of one level: levels are numbered in the stream."""
        codes = np.zeros(self.report.n_used, np.int32)
        return GroupingFactor(":".join(group), codes, pd.RangeIndex(1)), None

    def check_response(self, response, name):
        """One batch says nothing."""

    def check_term(self, bar, columns, n_levels):
        if not columns:
            raise ModelError(f"the random term {bar} has no columns")

    def term_order(self, sizes):
        """Terms stay as they are written until all levels are known."""
        return list(range(len(sizes)))


def _template(parsed, first, learned, weights, contrasts, na_action, warn):
    table = Table(first)
    states = [dict(state) for state in learned.states]
    builder = _Template(parsed, table, contrasts, learned)
    design, spec, _ = builder.build(weights, None, na_action, states)
    if warn:
        builder.warn()
    standardization = standardize(design)
    layout = build_layout(design, standardization)
    layout = _layout(layout.columns, layout.x, layout.y, layout.z, layout.term_slices, layout.fixed_names)
    return layout, standardization, replace(spec, groups=())


def _layout(columns, x, y, z, term_slices, fixed_names) -> Layout:
    """A layout whose levels are open."""
    several = len(z) > 1
    return Layout(
        columns=columns, x=x, y=int(y), z=tuple(np.asarray(place, np.int32) for place in z),
        levels=(0,) * len(z), term_slices=term_slices, structure="crossed" if several else "tree",
        order=tuple(range(len(z))), parent=(), is_sorted=(False,) * len(z), fixed_names=fixed_names,
    )  # fmt: skip


def _pack_column(column: ScaledColumn):
    packed = [list(column.atoms), list(column.centers), column.multiplier]
    return [*packed, [_pack_column(product) for product in column.more]] if column.more else packed


def _unpack_column(saved) -> ScaledColumn:
    more = tuple(map(_unpack_column, saved[3])) if len(saved) > 3 else ()
    return ScaledColumn(tuple(saved[0]), tuple(map(float, saved[1])), float(saved[2]), more)


def _plain(value):
    """Arrays as JSON: exact, since JSON numbers are written with all their digits."""
    if isinstance(value, np.ndarray):
        return {"array": value.dtype.str, "shape": list(value.shape), "values": value.ravel().tolist()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _arrays(value):
    """The inverse of `_plain`."""
    if isinstance(value, dict):
        if set(value) == {"array", "shape", "values"}:
            return np.array(value["values"], np.dtype(value["array"])).reshape(value["shape"])
        return {key: _arrays(item) for key, item in value.items()}
    return [_arrays(item) for item in value] if isinstance(value, list) else value
