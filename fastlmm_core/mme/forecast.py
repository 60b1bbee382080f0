"""What every engine that applies would cost, before anything large exists, and which one is taken.

`forecast` counts; `choose.choose_engine` takes the first row of `preferred` and makes that engine.
"""

from dataclasses import dataclass, field

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.mme import costs
from fastlmm_core.mme.collapsed import can_collapse

PROBES = 50
"""Of the iterative engine, unless asked for otherwise."""

STEPS = 6
"""Values with gradients of a search; degrees of freedom take one more per variance parameter."""

SCOUT_PROBES, SCOUT_STEPS = 16, 6
"""Of a search by probes that only finds a start."""

FEW_STEPS, LAST_STEPS = 6, 3
"""Steps of the iterative engine with few probes, and with all of them."""

TREE_FLOP = 4e-10
"""Seconds per multiplication in small blocks."""


@dataclass(frozen=True)
class EngineForecast:
    """One engine on one model.

    Attributes
    ----------
    engine : "collapsed", "tree", "dense", "sparse" or "iterative"
    nonzeros : numbers of the factor that is kept (iterative: of the coupling), None where not counted
    flops : of one step: value, gradient and average information
    bytes : allocated beyond the cross-products
    step_seconds, fit_seconds : predicted
    note : "", or how the figures are meant
    fits : whether ``bytes`` are available
    """

    engine: str
    nonzeros: int | None
    flops: float | None
    bytes: int | None
    step_seconds: float | None
    fit_seconds: float | None
    note: str = ""
    fits: bool = True


@dataclass(frozen=True)
class Forecasts:
    """Rows per engine, the engine taken and why; ``str`` is a table.

    ``m`` columns of the Schur complement and ``pairs`` of levels that meet the eliminated factor
    (0 for nested factors); ``available`` bytes of memory, None where the system does not say.
    """

    engine: str
    reason: str
    rows: tuple[EngineForecast, ...]
    m: int
    pairs: int
    available: int | None = field(compare=False)  # changes from moment to moment
    n_threads: int

    def row(self, engine: str) -> EngineForecast:
        """The row of one engine."""
        return next(row for row in self.rows if row.engine == engine)

    def __str__(self) -> str:
        lines = [f"{'engine':<12}{'nonzeros':>10}{'flops/step':>12}{'memory':>10}{'s/step':>10}{'s/fit':>9}"]
        for row in self.rows:
            mark = " *" if row.engine == self.engine else ""
            note = row.note if row.fits else "does not fit in memory" + (f"; {row.note}" if row.note else "")
            lines.append(
                f"{row.engine + mark:<12}{_number(row.nonzeros):>10}{_number(row.flops):>12}"
                f"{_size(row.bytes):>10}{_number(row.step_seconds):>10}{_number(row.fit_seconds):>9}"
                + (f"  {note}" if note else "")
            )
        memory = "" if self.available is None else f"; {_size(self.available)} of memory available"
        return "\n".join([*lines, f"* taken: {self.reason}{memory}"])


def _number(value) -> str:
    if value is None:
        return "-"
    return f"{value:.2g}" if value < 1e4 else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")


def _size(count) -> str:
    if count is None:
        return "-"
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count} B"


def forecast(cp: CrossProducts, *, n_threads: int = 1, engine: str = "auto", analysis=None) -> Forecasts:
    """Figures of every engine that applies to these statistics.

    Parameters
    ----------
    cp : CrossProducts
    n_threads : that the predicted seconds are for; the choice is that of one thread
    engine : as for `choose_engine`: the one that is asked for, or "auto"
    analysis : SchurAnalysis, optional
        When it is known already; it is made otherwise, except for a complement that is nearly dense,
        of which bounds are given.
    """
    from fastlmm_core.mme.choose import verdict

    if cp.structure == "tree":
        rows, m, pairs = _nested(cp, n_threads), 0, 0
        available = _available()
        name = "collapsed" if can_collapse(cp) and engine == "auto" else "tree"
        return Forecasts(name, nested_reason(cp, name), rows, m, pairs, available, n_threads)
    from fastlmm_core.mme.schur_counts import analyse_schur

    sizes = costs.sizes_of(cp)
    counts = (analysis or analyse_schur(cp, n_threads)).counts
    rows = (
        _dense(sizes, counts, cp, n_threads),
        _sparse(sizes, counts, cp, n_threads),
        _iterative(sizes, counts, cp, n_threads),
    )
    name, reason = verdict(counts, sizes) if engine == "auto" else (engine, "asked for")
    name = "dense" if name == "crossed" else name
    return Forecasts(name, reason, rows, sizes.m, sizes.entries, counts.available, n_threads)


def nested_reason(cp: CrossProducts, name: str) -> str:
    """Why the equations of nested factors need no more."""
    if name == "collapsed":
        return "one random intercept: levels with the same number of rows are one record"
    depth = len(cp.order)
    chain = "one grouping factor" if depth == 1 else f"{depth} grouping factors, each nested"
    return f"{chain}: the equations stay block-diagonal"


def _available() -> int | None:
    from fastlmm_core.mme.crossed_arrays import available_bytes

    return available_bytes()


def _parameters(cp: CrossProducts) -> int:
    return sum(len(z) * (len(z) + 1) // 2 for z in cp.z)


def _nested(cp: CrossProducts, n_threads: int) -> tuple[EngineForecast, ...]:
    k, u = [len(z) for z in cp.z], cp.C.shape[0]
    numbers = sum(G * q * (q + 1) // 2 for G, q in zip(cp.levels, k, strict=True))
    flops = float(sum(G * q * (q + u) ** 2 for G, q in zip(cp.levels, k, strict=True)))
    size = sum(8 * G * q * (2 * q + 2 * u) for G, q in zip(cp.levels, k, strict=True))
    seconds = costs.with_threads("tree", TREE_FLOP * flops + 5e-5, n_threads)
    rows = [EngineForecast("tree", numbers, flops, size, seconds, STEPS * seconds)]
    if can_collapse(cp):
        records = int(len(set(cp.counts[cp.order[0]].tolist())))
        short = records * float(u) ** 2
        rows.insert(0, EngineForecast("collapsed", records, short, int(16 * short), 5e-5, STEPS * 5e-5))
    return tuple(rows)


def _dense(s, counts, cp, n_threads) -> EngineForecast:
    seconds = costs.with_threads("dense", counts.dense_seconds, n_threads)
    fit = (STEPS + _parameters(cp)) * seconds
    return EngineForecast(
        "dense", s.m * (s.m + 1) // 2, costs.dense_flops(s), counts.dense_bytes, seconds, fit,
        fits=counts.dense_fits,
    )  # fmt: skip


def _sparse(s, counts, cp, n_threads) -> EngineForecast:
    if counts.nnz_L is not None:
        nnz, flops, size, note = counts.nnz_L, counts.flops, counts.sparse_bytes, ""
        seconds, fits = counts.sparse_seconds, counts.sparse_fits
    else:  # nearly dense, or too many entries to order: a factor has at least as many
        full = counts.density_S > 0.5
        nnz = s.m * (s.m + 1) // 2 if full else counts.nnz_S
        flops = float(s.m) ** 3 / 3 if full else float(nnz) * nnz / s.m
        size = 8 * (3 if full else 2) * nnz + 40 * counts.nnz_S
        note = "not ordered: S is nearly dense" if full else "at least this much: not ordered"
        seconds = costs.sparse_seconds(s, counts.nnz_S, nnz, flops)
        fits = counts.available is None or size <= counts.available
    seconds = costs.with_threads("sparse", seconds, n_threads)
    return EngineForecast(
        "sparse", nnz, costs.sparse_flops(s, flops), size, seconds, (STEPS + _parameters(cp)) * seconds,
        note, fits,
    )  # fmt: skip


def _iterative(s, counts, cp, n_threads) -> EngineForecast:
    from fastlmm_core.mme.iterative_arrays import iterative_bytes

    seconds = costs.with_threads("iterative", costs.iterative_seconds(s, PROBES), n_threads)
    few = costs.with_threads("iterative", costs.iterative_seconds(s, SCOUT_PROBES), n_threads)
    size = iterative_bytes(s)
    return EngineForecast(
        "iterative", s.entries, costs.iterative_flops(s, PROBES), size, seconds,
        FEW_STEPS * few + LAST_STEPS * seconds, f"estimates, {PROBES} probes per column",
        counts.available is None or size <= counts.available,
    )  # fmt: skip


def scout_seconds(s: costs.Sizes) -> float:
    """A search by few probes, one thread."""
    return SCOUT_STEPS * costs.iterative_seconds(s, SCOUT_PROBES)
