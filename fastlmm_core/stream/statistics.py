"""The statistics of some rows of a planned model: they add up, and they can be fitted without rows."""

from dataclasses import dataclass, replace

import numpy as np

from ..archive import put_arrays, read_archive, take_arrays, write_archive
from ..errors import DataError, ModelError
from .level_sets import Levels, LevelSet
from .pairs import Pairs
from .plan import Plan

__all__ = ["CrossProducts", "LevelSet", "Levels"]

KIND = "fastlmm_core statistics"
_NUMBERS = ("n", "n_total", "n_zero_weight", "sum_log_weights")


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sums over rows that determine the fit of a planned model.

    Attributes
    ----------
    plan : Plan
    n, n_total : int
        Rows used, rows read.
    missing : dict of str to int
        Missing values per column.
    C : (u, u) float64
        ``U'WU`` of the distinct columns U of [X y Z], in the plan's coordinates.
    moments : (u + 1, u + 1) float64 or None
        ``[U 1]'[U 1]`` without weights, where C does not hold it.
    levels : tuple of LevelSet
        Per grouping factor, those that occur.
    R, counts : tuple of (levels, k, u) float64 and (levels,) int64
        Per level ``Z_i'W U`` and the number of rows.
    pairs : dict (f, g) -> Pairs
        ``Z_f'W Z_g`` over levels that occur together.
    files : tuple
        Files that are in the sums, by path, size and time, where they were read by `lmer` with a checkpoint.

    Notes
    -----
    What statistics tell whoever gets them, in the data's own units since the plan says how to go back:

    - every value of the grouping columns, with its number of rows, and which values of two grouping columns
      occur together and how often;
    - per level of a grouping factor the sums of all design columns and of the response, and for random
      slopes the sums of their products with the slope's column.  A level with as few rows as its factor
      has random columns (one row, for a random intercept) tells these rows;
    - over all rows the sums of squares and products of design columns and response, the counts of
      factor levels and of missing values, and the smallest and the largest response;
    - with a checkpoint, the paths, sizes and times of the files.

    They hold no other columns, no rows of larger levels, and no order of rows.  Where sites may not show
    sums of small clusters, leave small clusters out; where they may not show the clusters' names, replace
    them by numbers that the sites agree on.  Nothing is blurred: statistics are as confidential as a
    table of sums per cluster.
    """

    plan: Plan
    n: int
    n_total: int
    n_zero_weight: int
    missing: dict
    sum_log_weights: float
    y_range: tuple[float, float]
    C: np.ndarray
    moments: np.ndarray | None
    levels: tuple[LevelSet, ...]
    R: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]
    pairs: dict
    used: tuple
    files: tuple = ()

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.n

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels per grouping factor."""
        return {name: len(found) for name, found in zip(self.plan.group_names, self.levels, strict=True)}

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = [self.C, *self.R, *self.counts, *(p.blocks for p in self.pairs.values())]
        return sum(array.nbytes for array in arrays) + sum(p.f.nbytes * 2 for p in self.pairs.values())

    def small_levels(self, rows: int | None = None) -> dict[str, int]:
        """How many levels of each grouping factor have so few rows that their sums may tell the rows.

        Parameters
        ----------
        rows : int, optional
            Count levels with at most so many rows; by default as many as the factor has random columns.
        """
        sizes = [R.shape[1] if rows is None else rows for R in self.R]
        return {
            name: int(np.count_nonzero(counts <= most))
            for name, counts, most in zip(self.plan.group_names, self.counts, sizes, strict=True)
        }

    def __repr__(self) -> str:
        groups = ", ".join(f"{name}: {count}" for name, count in self.ngroups.items())
        return f"<CrossProducts of {self.plan.formula!r}, {self.n} rows, {groups}>"

    def check_same_plan(self, plan: Plan) -> None:
        """ModelError where the statistics of ``plan`` would have other coordinates."""
        if self.plan.key != plan.key:
            raise ModelError(
                "these statistics are of different plans, so their coordinates differ: share one plan "
                "(plan.to_json()) and accumulate all rows with it"
            )

    def merge(self, other: "CrossProducts") -> "CrossProducts":
        """The statistics of both sets of rows, which must be disjoint.

        Associative up to rounding, and the same bits in both orders; levels are matched by value.

        Raises
        ------
        ModelError
            They are of different plans.
        """
        if not isinstance(other, CrossProducts):
            raise TypeError(f"merge takes CrossProducts, found {type(other).__name__}")
        self.check_same_plan(other.plan)
        levels, unions = zip(
            *(mine.merge(theirs) for mine, theirs in zip(self.levels, other.levels, strict=True)), strict=True
        )
        places = [union.places() for union in unions] if self.pairs else []
        pairs = {
            (f, g): self.pairs[f, g].relabelled(places[f][0], places[g][0])
            .merge(other.pairs[f, g].relabelled(places[f][1], places[g][1]))
            for f, g in self.pairs
        }  # fmt: skip
        names = [*self.missing, *(name for name in other.missing if name not in self.missing)]
        return replace(
            self,
            n=self.n + other.n,
            n_total=self.n_total + other.n_total,
            n_zero_weight=self.n_zero_weight + other.n_zero_weight,
            missing={name: self.missing.get(name, 0) + other.missing.get(name, 0) for name in names},
            sum_log_weights=self.sum_log_weights + other.sum_log_weights,
            y_range=(min(self.y_range[0], other.y_range[0]), max(self.y_range[1], other.y_range[1])),
            C=self.C + other.C,
            moments=None if self.moments is None else self.moments + other.moments,
            levels=levels,
            R=tuple(union.add(*sums) for union, *sums in zip(unions, self.R, other.R, strict=True)),
            counts=tuple(
                union.add(*sums) for union, *sums in zip(unions, self.counts, other.counts, strict=True)
            ),
            pairs=pairs,
            used=tuple(None if a is None else a + b for a, b in zip(self.used, other.used, strict=True)),
            files=(*self.files, *other.files),
        )

    __add__ = merge

    def save(self, path) -> None:
        """Write to one file, which appears only when it is complete; it cannot execute code when read.

        Raises
        ------
        DataError
            The file cannot be written, e.g. a full disk.
        """
        arrays: dict[str, np.ndarray] = {"C": self.C}
        if self.moments is not None:
            arrays["moments"] = self.moments
        for f, (R, counts) in enumerate(zip(self.R, self.counts, strict=True)):
            arrays[f"R{f}"], arrays[f"counts{f}"] = R, counts
        for (f, g), pairs in self.pairs.items():
            arrays[f"pairs{f}_{g}_f"], arrays[f"pairs{f}_{g}_g"] = pairs.f, pairs.g
            arrays[f"pairs{f}_{g}"] = pairs.blocks
        values = {
            "plan": self.plan.to_json(),
            "missing": self.missing,
            "y_range": list(self.y_range),
            "levels": [found.pack() for found in self.levels],
            "used": [None if found is None else found.tolist() for found in self.used],
            "files": [list(file) for file in self.files],
            **{name: getattr(self, name) for name in _NUMBERS},
        }
        try:
            write_archive(path, take_arrays(values, arrays, "values"), arrays, kind=KIND, compress=False)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(cls, path) -> "CrossProducts":
        """Read a file written by `save`.

        Raises
        ------
        DataError
            The file is missing, truncated, altered, or of another kind.
        """
        try:
            values, arrays = read_archive(path, kind=KIND)
        except FileNotFoundError:
            raise DataError(f"there is no file {path}") from None
        try:
            values = put_arrays(values, arrays)
            plan = Plan.from_json(values["plan"])
            groups = range(len(plan.groups))
            return cls(
                plan=plan,
                missing=dict(values["missing"]),
                y_range=tuple(values["y_range"]),
                C=arrays["C"],
                moments=arrays.get("moments"),
                levels=tuple(LevelSet.unpack(saved) for saved in values["levels"]),
                R=tuple(arrays[f"R{f}"] for f in groups),
                counts=tuple(arrays[f"counts{f}"] for f in groups),
                pairs={
                    (f, g): Pairs(*(arrays[f"pairs{f}_{g}{end}"] for end in ("_f", "_g", "")))
                    for f in groups for g in range(f + 1, len(plan.groups))
                },
                used=tuple(None if u is None else np.array(u, np.int64) for u in values["used"]),
                files=tuple(tuple(file) for file in values["files"]),
                **{name: values[name] for name in _NUMBERS},
            )  # fmt: skip
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"{path} lacks a part of saved statistics: {error!r}") from error
