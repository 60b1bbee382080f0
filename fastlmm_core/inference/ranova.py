"""Models with fewer random effects, fitted from the statistics of the larger one.

A column of Z that goes takes its rows of R_f and its place in z_f with it; a
factor without columns goes altogether.  Rows of data are not needed.

A column may go from a term by itself when no column that stays was centred with
it (`reducible`), which is so for the highest-order columns of a term.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.crossprod.gram import build_cross_products
from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.formula.terms import Design
from fastlmm_core.inference.estimated import check_likelihood
from fastlmm_core.inference.estimates import FixedCoordinates
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


@dataclass(frozen=True)
class Deletion:
    """One smaller term: ``piece`` of the formula that goes (None: all), columns that stay.

    ``constant`` tells that the constant takes the place of the columns that go: all of a factor's
    levels, in a term without intercept, leave the intercept behind when another factor or nothing stays.
    """

    piece: str | None
    keep: tuple[int, ...]
    constant: bool = False


def deletions(names: Sequence[str], reduce: bool = True) -> list[Deletion]:
    """What `ranova` drops from one term, by the rules of lmerTest.

    Each piece goes that is in no interaction with others that stay; the last one leaves ``(1 | g)``,
    with an intercept in the term or without.  ``(1 | g)``, and with ``reduce=False`` every term, goes
    as a whole.
    """
    pieces = formula_terms(names)
    slopes = [piece for piece in pieces if piece != INTERCEPT]
    if not reduce or not slopes:
        return [Deletion(None, ())]
    parts = {piece: set(piece.split(":")) for piece in slopes}
    # without an intercept the first factor has a column for every level, and stands for the constant
    factors = [piece for piece in slopes if "[" in names[pieces[piece][0]]]
    found = []
    for piece in slopes:
        if any(parts[piece] < parts[other] for other in slopes):
            continue
        keep = tuple(j for j in range(len(names)) if j not in pieces[piece])
        stands = len(factors) > 1 and piece == factors[0]
        found.append(Deletion(piece, keep, INTERCEPT not in pieces and (not keep or stands)))
    return found


def sum_to_one(spec, columns) -> bool:
    """Whether columns of indicators are those of all levels, or of all their combinations."""
    atoms = sorted({a for column in columns for a in column.atoms})
    pieces = sorted({spec.atoms[a].piece for a in atoms})
    if not atoms or any(spec.atoms[a].table is None for a in atoms):
        return False
    levels = {spec.atoms[a].piece: len(spec.atoms[a].table) for a in atoms}
    sizes = [levels[piece] for piece in pieces]
    codes = dict(zip(pieces, np.indices(sizes).reshape(len(sizes), -1)))
    total = 0.0
    for column in columns:
        parts = [np.asarray(spec.atoms[a].table)[codes[spec.atoms[a].piece]] for a in column.atoms]
        total = total + np.prod(parts, axis=0)
    return bool(np.allclose(total, 1.0, rtol=0, atol=1e-12))


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


def with_constant(
    solved: SolvedModel, term: int, keep: Sequence[int]
) -> tuple[CrossProducts, ThetaMap]:
    """Statistics where the columns of a term that are not in ``keep`` are one column, their sum.

    For columns that sum to 1.  The sum comes last in the term, in the units of the data.
    """
    old, theta_map = solved.products, solved.theta_map
    block, B = theta_map.blocks[term], theta_map.maps[term]
    f, q, k, u = block.factor, block.q, theta_map.k[block.factor], len(old.C)
    K = np.zeros((q, len(keep) + 1))
    K[list(keep), range(len(keep))] = 1.0
    K[[j for j in range(q) if j not in keep], len(keep)] = 1.0
    K = np.linalg.solve(B, K)  # Z K in the standardized columns Z B
    # columns of the factor: those before and after the term stay
    r = K.shape[1]
    full = np.zeros((k, k - q + r))
    before, after = block.start, k - block.start - q
    full[range(before), range(before)] = 1.0
    full[block.rows, before : before + r] = K
    full[range(k - after, k), range(before + r, k - q + r)] = 1.0
    # U gets the new columns of this factor behind its own
    z = np.asarray(old.z[f])
    M = np.zeros((u, u + full.shape[1]))
    M[range(u), range(u)] = 1.0
    M[z, u:] = full
    places = [np.asarray(part) for part in old.z]
    places[f] = np.arange(u, M.shape[1])
    R = [Rg @ M for Rg in old.R]
    R[f] = np.ascontiguousarray(full.T @ R[f])
    pairs = {}
    for (a, b), pair in old.pairs.items():
        blocks = full.T @ pair.blocks if a == f else pair.blocks @ full if b == f else pair.blocks
        pairs[a, b] = PairBlocks(pair.indptr, pair.indices, np.ascontiguousarray(blocks))
    products = replace(old, C=M.T @ old.C @ M, z=tuple(places), R=tuple(R), pairs=pairs)
    blocks, maps = list(theta_map.blocks), list(theta_map.maps)
    for t, other in enumerate(blocks):
        if other.factor == f and other.start > block.start:
            blocks[t] = TermBlock(f, other.start - q + r, other.q)
    blocks[term], maps[term] = TermBlock(f, block.start, r), np.eye(r)
    sizes = list(theta_map.k)
    sizes[f] = k - q + r
    return products, ThetaMap(blocks, sizes, maps)


def criterion_of(
    solved: SolvedModel,
    products: CrossProducts,
    theta_map: ThetaMap,
    fixed: FixedCoordinates | None = None,
) -> float:
    """-2 (restricted) log-likelihood of a model with other random effects."""
    check_likelihood(solved.objective, "ranova")
    kept = solved.fixed.kept
    engine = choose_engine(products, kept, n_threads=engine_threads(solved))
    objective = ProfiledObjective(engine, products.n, solved.estimates.reml, products.sum_log_weights)
    again = solve_again(solved, objective, products=products, fixed=fixed, theta_map=theta_map)[0]
    check_likelihood(objective, "ranova")
    return again.estimates.objective


def criterion_by_rows(solved: SolvedModel, design: Design) -> float:
    """The same for a design with other random terms, its rows being summed anew."""
    products, standardization, layout = build_cross_products(design, n_threads=engine_threads(solved))
    kept = solved.fixed.kept
    fixed = FixedCoordinates(
        p=solved.fixed.p,
        kept=kept,
        A=standardization.fixed_map(kept),
        shift=standardization.beta(np.zeros(len(kept)), kept),
        scale=standardization.y_scale,
    )
    blocks = [TermBlock(*place) for place in layout.term_slices]
    return criterion_of(solved, products, ThetaMap(blocks, layout.k, standardization.z_maps), fixed)


def smaller_criterion(solved: SolvedModel, term: int, keep: Sequence[int]) -> float:
    """-2 (restricted) log-likelihood of the model with columns ``keep`` of one term.

    The estimates of what stays are the start.  Without any random effect it is
    that of least squares.
    """
    theta_map, columns = reduced_map(solved.theta_map, term, keep)
    products, fixed, estimates = solved.products, solved.fixed, solved.estimates
    if not any(columns):
        at = np.append(np.asarray(products.x)[fixed.kept], products.y)
        found = least_squares(products.C[np.ix_(at, at)], products.n, products.sum_log_weights, fixed)
        return reml_of_least_squares(found) if estimates.reml else -2.0 * found.llf
    return criterion_of(solved, reduced_products(products, columns), theta_map)
