"""Models with fewer random effects, fitted from the statistics of the larger one.

A column of Z that goes takes its rows of R_f and its place in z_f with it; a
factor without columns goes altogether.  Rows of data are not needed.

A column may go from a term by itself when no column that stays was centred with
it (`reducible`), which is so for the highest-order columns of a term.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.inference.estimated import check_likelihood
from fastlmm_core.inference.lrt import reml_of_least_squares
from fastlmm_core.inference.ols import least_squares
from fastlmm_core.inference.refit import engine_threads, solve_again
from fastlmm_core.inference.solved import SolvedModel
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.covariance import TermBlock, ThetaMap

INTERCEPT = "Intercept"


def formula_terms(names: Sequence[str]) -> dict[str, list[int]]:
    """Columns of a random term by the piece of formula they come from: ``Machine[T.B]`` is ``Machine``."""
    pieces: dict[str, list[int]] = {}
    for j, name in enumerate(names):
        pieces.setdefault(re.sub(r"\[[^\]]*\]", "", name), []).append(j)
    return pieces


def deletions(names: Sequence[str]) -> list[tuple[str | None, list[int]]]:
    """What `ranova` drops from one term: (piece or None for all, the columns that stay).

    With an intercept, each piece that is in no interaction with others that stay;
    terms without an intercept, or with nothing else, go as a whole.
    """
    pieces = formula_terms(names)
    slopes = [piece for piece in pieces if piece != INTERCEPT]
    if INTERCEPT not in pieces or not slopes:
        return [(None, [])]
    parts = {piece: set(piece.split(":")) for piece in slopes}
    marginal = [p for p in slopes if not any(parts[p] < parts[other] for other in slopes)]
    return [(piece, [j for j in range(len(names)) if j not in pieces[piece]]) for piece in marginal]


def reducible(B: np.ndarray, keep: Sequence[int]) -> bool:
    """Whether the standardized columns ``keep`` of ``Z~ = Z B`` are made of the same columns of Z only."""
    drop = [j for j in range(len(B)) if j not in keep]
    return not B[np.ix_(drop, list(keep))].any()


def reduced_map(theta_map: ThetaMap, term: int, keep: Sequence[int]) -> tuple[ThetaMap, list[list[int]]]:
    """The map of the model with columns ``keep`` of one term, and the columns each old factor keeps.

    Factors without columns have an empty list and are left out of the map.
    """
    stays = [list(range(block.q)) for block in theta_map.blocks]
    stays[term] = list(keep)
    columns: list[list[int]] = [[] for _ in theta_map.k]
    places = sorted(range(len(stays)), key=lambda t: (theta_map.blocks[t].factor, theta_map.blocks[t].start))
    starts = {}
    for t in places:
        block = theta_map.blocks[t]
        starts[t] = len(columns[block.factor])
        columns[block.factor] += [block.start + j for j in stays[t]]
    left = [f for f, kept in enumerate(columns) if kept]
    blocks, maps = [], []
    for t, block in enumerate(theta_map.blocks):
        if stays[t]:
            blocks.append(TermBlock(left.index(block.factor), starts[t], len(stays[t])))
            maps.append(theta_map.maps[t][np.ix_(stays[t], stays[t])])
    return ThetaMap(blocks, [len(columns[f]) for f in left], maps), columns


def reduced_products(products: CrossProducts, columns: Sequence[Sequence[int]]) -> CrossProducts:
    """Statistics with only ``columns[f]`` of each factor's Z."""
    left = [f for f, kept in enumerate(columns) if kept]
    place = {f: i for i, f in enumerate(left)}
    order = tuple(place[f] for f in products.order if f in place)
    pairs = {}
    for (f, g), pair in products.pairs.items():
        if f in place and g in place:
            blocks = np.ascontiguousarray(pair.blocks[:, columns[f]][:, :, columns[g]])
            pairs[place[f], place[g]] = PairBlocks(pair.indptr, pair.indices, blocks)
    structure = products.structure
    if len(left) < 2:
        structure = "tree" if left else "none"
        pairs = {}
    return replace(
        products,
        z=tuple(np.asarray(products.z[f])[list(columns[f])] for f in left),
        levels=tuple(products.levels[f] for f in left),
        R=tuple(np.ascontiguousarray(products.R[f][:, list(columns[f])]) for f in left),
        counts=tuple(products.counts[f] for f in left),
        structure=structure,
        order=order,
        parent=_parents(products, place) if structure == "tree" else (),
        pairs=pairs,
    )


def _parents(products: CrossProducts, place: dict[int, int]) -> tuple[np.ndarray, ...]:
    """Parents in the chain of the factors that stay."""
    parents: list[np.ndarray] = []
    above: np.ndarray | None = None
    for d, f in enumerate(products.order):
        if f in place:
            if above is not None:
                parents.append(above)
            above = np.arange(products.levels[f], dtype=np.int32)
        if above is not None and d < len(products.parent):
            above = products.parent[d][above]
    return tuple(parents)


def smaller_criterion(solved: SolvedModel, term: int, keep: Sequence[int]) -> float:
    """-2 (restricted) log-likelihood of the model with columns ``keep`` of one term.

    The estimates of what stays are the start.  Without any random effect it is
    that of least squares.
    """
    check_likelihood(solved.objective, "ranova")
    theta_map, columns = reduced_map(solved.theta_map, term, keep)
    products, fixed, estimates = solved.products, solved.fixed, solved.estimates
    if not any(columns):
        at = np.append(np.asarray(products.x)[fixed.kept], products.y)
        found = least_squares(products.C[np.ix_(at, at)], products.n, products.sum_log_weights, fixed)
        return reml_of_least_squares(found) if estimates.reml else -2.0 * found.llf
    smaller = reduced_products(products, columns)
    engine = choose_engine(smaller, fixed.kept, n_threads=engine_threads(solved))
    objective = ProfiledObjective(engine, products.n, estimates.reml, products.sum_log_weights)
    again = solve_again(solved, objective, theta_map=theta_map)[0]
    check_likelihood(objective, "ranova")
    return again.estimates.objective
