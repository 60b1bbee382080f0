"""Statistics of all rows become what the engines take: order, structure, checks."""

from dataclasses import dataclass, replace

import numpy as np

from ..crossprod import statistics as rooms
from ..crossprod.layout import Layout
from ..crossprod.standardize import Standardization
from ..errors import DataError, ModelError
from ..formula.design import check_term, lme4_order
from ..formula.spec import DesignSpec
from ..formula.terms import RandomTerm
from .accumulator import needs_moments
from .statistics import CrossProducts


@dataclass(frozen=True, eq=False)
class Assembled:
    """A model without rows: its statistics for the engines, and its description."""

    products: rooms.CrossProducts
    standardization: Standardization
    layout: Layout
    spec: DesignSpec
    levels: tuple
    moments: np.ndarray
    missing: dict


def assemble(stats: CrossProducts) -> Assembled:
    """Terms in lme4's order, nested or crossed, levels checked.

    Raises
    ------
    DataError
        No rows.
    ModelError
        A constant response, a factor with one level, or too many random effects.
    """
    plan = stats.plan
    if not stats.n:
        why = ", ".join(f"{name} has {count} missing" for name, count in stats.missing.items() if count)
        raise DataError(f"no rows are left of {stats.n_total}" + (f": {why}" if why else ""))
    if stats.y_range[0] == stats.y_range[1]:
        raise ModelError(
            f"the response {plan.spec.response!r} is constant ({stats.y_range[0]:g} in all {stats.n} rows)"
        )
    bars = plan.parsed.bars
    sizes = [len(found) for found in stats.levels]
    order = lme4_order([sizes[term.factor] for term in plan.spec.terms])
    factor_order = list(dict.fromkeys(plan.spec.terms[t].factor for t in order))
    place = {f: at for at, f in enumerate(factor_order)}
    terms, slices, z = [], [], [[] for _ in factor_order]
    for t in order:
        term = plan.spec.terms[t]
        f, start, q = plan.layout.term_slices[t]
        check_term(bars[t], plan.group_names[f], q, sizes[f], stats.n)
        terms.append(RandomTerm(place[f], term.columns))
        slices.append((place[f], len(z[place[f]]), q))
        z[place[f]] += range(start, start + q)
    z = [np.array(columns) for columns in z]
    levels = tuple(sizes[f] for f in factor_order)
    pairs = {}
    for a, f in enumerate(factor_order):
        for b, g in enumerate(factor_order):
            if a < b:
                found = stats.pairs[f, g] if f < g else stats.pairs[g, f].transposed()
                pairs[a, b] = replace(found, blocks=_columns(_columns(found.blocks, z[a], 1), z[b], 2))
    structure, chain, parent, pairs = _structure(levels, [len(columns) for columns in z], pairs)
    standardization = replace(
        plan.standardization,
        z_columns=tuple(plan.standardization.z_columns[t] for t in order),
        z_maps=tuple(plan.standardization.z_maps[t] for t in order),
    )
    positions = tuple(plan.layout.z[f][z[at]] for at, f in enumerate(factor_order))
    layout = replace(
        plan.layout, z=positions, levels=levels, term_slices=tuple(slices), structure=structure, order=chain,
        parent=parent,
    )  # fmt: skip
    products = rooms.CrossProducts(
        n=stats.n, sum_log_weights=stats.sum_log_weights, C=stats.C, x=layout.x, y=layout.y, z=positions,
        levels=levels, R=tuple(_columns(stats.R[f], z[at], 1) for at, f in enumerate(factor_order)),
        counts=tuple(stats.counts[f] for f in factor_order), structure=structure, order=chain, parent=parent,
        pairs=pairs, weighted=plan.spec.weights is not None,
    )  # fmt: skip
    sets = [stats.levels[f] for f in factor_order]
    spec = replace(
        plan.spec,
        groups=tuple(found.group_spec(plan.groups[f]) for f, found in zip(factor_order, sets, strict=True)),
        terms=tuple(terms),
    )
    gram = stats.C[np.ix_(layout.x, layout.x)]
    return Assembled(
        products, standardization.with_gram(gram), layout, spec, tuple(g.levels for g in spec.groups),
        _moments(stats),
        {name: count for name, count in stats.missing.items() if count},
    )  # fmt: skip


def _columns(sums, z, axis):
    """Those of a factor's columns that the terms have, in their order; no copy when that is all of them."""
    if np.array_equal(z, np.arange(sums.shape[axis])):
        return sums
    return np.ascontiguousarray(sums.take(z, axis))


def _structure(levels, k, pairs):
    """As `crossprod.layout` decides it from codes: a chain of nesting when there is one, else crossed."""
    chain = tuple(sorted(range(len(levels)), key=lambda f: -levels[f]))
    parent = []
    for inner, outer in zip(chain, chain[1:], strict=False):
        found = _oriented(pairs, inner, outer).parents(levels[inner])
        if found is None:
            break
        parent.append(found)
    else:
        return "tree", chain, tuple(parent), {}
    order = tuple(sorted(range(len(levels)), key=lambda f: -levels[f] * k[f]))
    compressed = {
        (f, g): _oriented(pairs, f, g).compressed(levels[f])
        for at, f in enumerate(order)
        for g in order[at + 1 :]
    }
    return "crossed", order, (), compressed


def _oriented(pairs, f, g):
    return pairs[f, g] if (f, g) in pairs else pairs[g, f].transposed()


def _moments(stats):
    """``[U 1]'[U 1]`` without weights."""
    layout = stats.plan.layout
    if needs_moments(layout, stats.plan.spec.weights is not None):
        return stats.moments
    one = next(j for j, column in enumerate(layout.columns) if column.is_one)
    sums = stats.C[one]
    return np.block([[stats.C, sums[:, None]], [sums[None], np.array([[float(stats.n)]])]])
