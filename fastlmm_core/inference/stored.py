"""A solved model as arrays and back: the statistics, so that it can be evaluated and fitted again.

Sizes depend on the numbers of levels and columns, not of rows.  A fit by probes is not stored: its
equations are estimates that another run would not repeat.
"""

import numpy as np

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks
from fastlmm_core.crossprod.threads import resolve_threads
from fastlmm_core.inference.estimates import Estimates, FixedCoordinates
from fastlmm_core.inference.refit import PARALLEL_WORK
from fastlmm_core.inference.solved import SolvedModel, StoredModel
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.covariance import TermBlock, ThetaMap

SMALL_BYTES = 1 << 25
"""Statistics up to this size go with a fit unless asked otherwise."""


def statistics_bytes(products: CrossProducts) -> int:
    """Bytes of the statistics that `pack` would store."""
    arrays = [*products.R, *products.counts, *products.parent]
    for pair in products.pairs.values():
        arrays += [pair.indptr, pair.indices, pair.blocks]
    return products.C.nbytes + sum(np.asarray(array).nbytes for array in arrays)


def pack(solved: SolvedModel) -> dict:
    """Numbers, strings, arrays, and lists and dicts of them."""
    products, fixed, theta_map = solved.products, solved.fixed, solved.theta_map
    return {
        "n": int(products.n),
        "sum_log_weights": float(products.sum_log_weights),
        "weighted": bool(products.weighted),
        "structure": products.structure,
        "order": [int(f) for f in products.order],
        "levels": [int(count) for count in products.levels],
        "y": int(products.y),
        "C": products.C,
        "x": np.asarray(products.x),
        "z": [np.asarray(z) for z in products.z],
        "R": list(products.R),
        "counts": [np.asarray(counts) for counts in products.counts],
        "parent": list(products.parent),
        "pairs": [[int(f), int(g), p.indptr, p.indices, p.blocks] for (f, g), p in products.pairs.items()],
        "kept": np.asarray(fixed.kept),
        "A": fixed.A,
        "shift": fixed.shift,
        "scale": float(fixed.scale),
        "blocks": [[block.factor, block.start, block.q] for block in theta_map.blocks],
        "maps": [np.asarray(B) for B in theta_map.maps],
        "Lambda": list(solved.point.Lambda),
        "engine": solved.objective.engine.name,
    }


def unpack(stored: dict, estimates: Estimates) -> SolvedModel:
    """The model at its estimates, on an engine made anew.

    Raises
    ------
    ValueError, KeyError, IndexError, TypeError : parts that do not belong together.
    """
    products = _products(stored)
    p = len(products.x)
    kept = _within(stored["kept"], p, "kept")
    r, k = len(kept), [len(z) for z in products.z]
    fixed = FixedCoordinates(
        p=p, kept=kept, A=_shaped(stored["A"], (r, r)), shift=_shaped(stored["shift"], (r,)),
        scale=float(stored["scale"]),
    )  # fmt: skip
    blocks = [TermBlock(int(f), int(start), int(q)) for f, start, q in stored["blocks"]]
    for block, B in zip(blocks, stored["maps"], strict=True):
        if not 0 <= block.start <= block.start + block.q <= k[block.factor] or block.factor < 0:
            raise ValueError("a random term lies outside its factor")
        _shaped(B, (block.q, block.q))
    theta_map = ThetaMap(blocks, k, stored["maps"])
    Lambda = [_shaped(L, (size, size)) for L, size in zip(stored["Lambda"], k, strict=True)]
    engine = choose_engine(products, kept, engine=stored["engine"], n_threads=1)
    objective = ProfiledObjective(engine, products.n, estimates.reml, products.sum_log_weights)
    if objective.work > PARALLEL_WORK and (threads := resolve_threads(None)) > 1:
        engine = choose_engine(products, kept, engine=stored["engine"], n_threads=threads)
        objective = ProfiledObjective(engine, products.n, estimates.reml, products.sum_log_weights)
    return SolvedModel(objective, objective.evaluate(Lambda), theta_map, estimates, fixed, products)


def restore(stored: dict, results: tuple) -> SolvedModel:
    """A copied or pickled model."""
    found = StoredModel(*results)
    return unpack(stored, found.estimates).with_results(found)


def _products(stored: dict) -> CrossProducts:
    C = np.ascontiguousarray(stored["C"], float)
    u, levels = len(C), tuple(int(count) for count in stored["levels"])
    _shaped(C, (u, u))
    z = tuple(_within(part, u, "z") for part in stored["z"])
    R = tuple(np.ascontiguousarray(part, float) for part in stored["R"])
    counts = tuple(np.asarray(part, np.int64) for part in stored["counts"])
    for G, columns, Rf, count in zip(levels, z, R, counts, strict=True):
        _shaped(Rf, (G, len(columns), u))
        _shaped(count, (G,))
    order = tuple(int(f) for f in stored["order"])
    if stored["structure"] not in ("tree", "crossed") or sorted(order) != list(range(len(levels))):
        raise ValueError("the order of the factors is none")
    parent = tuple(np.ascontiguousarray(part, np.int32) for part in stored["parent"])
    if stored["structure"] == "tree":
        for d, (inner, outer) in enumerate(zip(order, order[1:])):
            _shaped(_within(parent[d], levels[outer], "parent"), (levels[inner],))
    pairs = {}
    for f, g, indptr, indices, blocks in stored["pairs"]:
        indptr = np.ascontiguousarray(indptr, np.int64)
        _shaped(indptr, (levels[f] + 1,))
        indices = np.ascontiguousarray(_within(indices, levels[g], "indices"), np.int32)
        if indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] != len(indices):
            raise ValueError("pairs of levels are out of order")
        blocks = _shaped(np.ascontiguousarray(blocks, float), (len(indices), len(z[f]), len(z[g])))
        pairs[int(f), int(g)] = PairBlocks(indptr, indices, blocks)
    y = int(stored["y"])
    if not 0 <= y < u:
        raise ValueError("the response is no column")
    return CrossProducts(
        n=int(stored["n"]), sum_log_weights=float(stored["sum_log_weights"]), C=C,
        x=_within(stored["x"], u, "x"), y=y, z=z, levels=levels, R=R, counts=counts,
        structure=stored["structure"], order=order, parent=parent, pairs=pairs,
        weighted=bool(stored["weighted"]),
    )  # fmt: skip


def _within(values, bound: int, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{what!r} holds no positions")
    if len(values) and not (0 <= values.min() and values.max() < bound):
        raise ValueError(f"{what!r} points outside its table")
    return values


def _shaped(array, shape) -> np.ndarray:
    if np.shape(array) != shape:
        raise ValueError(f"an array has shape {np.shape(array)}, not {shape}")
    return array
