"""Sums over pairs of levels that Kenward and Roger's method needs.

With ``K = Z'V0^-1 Z`` in blocks ``K_ij`` (levels i of factor f, j of g), ``G = Z'V0^-1 X``
and directions ``E_r`` of the random covariance (r belongs to one factor),

    trace_EK[r] = sum_i tr(E_r K_ii),                   GEG[r] = sum_i G_i'E_r G_i,
    trace_EKEK[r, s] = sum_ij tr(E_r K_ij E_s K_ij'),   GEKEG[r, s] = sum_ij G_i'E_r K_ij E_s G_j.

V0 is block diagonal over the levels of the outermost of nested factors, so there K comes
in small independent pieces; for crossed factors it comes in panels of columns.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.errors import ModelError
from fastlmm_core.inference.dense import dense_equations, eliminate
from fastlmm_core.mme.engine import Direction, Engine

BATCH_ENTRIES = 1 << 21
"""Entries of K in memory at a time."""

MOST_WORK = 2e12
"""Multiplications for K from which the method is refused (about a minute or two)."""

LARGEST_BLOCK = 6000
"""Random effects that share rows up to which their K is one dense matrix (1.5 GB with work space)."""


class PairSums:
    """Accumulates the sums over blocks of K.

    Parameters
    ----------
    directions : (factor, k x k symmetric) pairs.
    k : columns per factor.
    p : columns of X.
    """

    def __init__(self, directions: Sequence[Direction], k: Sequence[int], p: int):
        m = len(directions)
        self.k, self.p = k, p
        self.trace_EK, self.GEG = np.zeros(m), np.zeros((m, p, p))
        self.trace_EKEK, self.GEKEG = np.zeros((m, m)), np.zeros((m, m, p, p))
        self.own = [[r for r, (f, _) in enumerate(directions) if f == g] for g in range(len(k))]
        self.E = [
            np.array([directions[r][1] for r in own]).reshape(-1, kf, kf) for own, kf in zip(self.own, k)
        ]

    def times_G(self, f: int, G: np.ndarray) -> np.ndarray:
        """``E_r G_i`` for all directions of factor f: G (n, levels k, p) -> (n, levels k, directions p)."""
        n, rows, p = G.shape
        k = self.k[f]
        product = np.einsum("rab,nibp->niarp", self.E[f], G.reshape(n, rows // k, k, p))
        return product.reshape(n, rows, len(self.own[f]) * p)

    def add_own(self, f: int, blocks: np.ndarray, G: np.ndarray, EG: np.ndarray) -> None:
        """Add ``K_ii`` (n, k, k) of factor f, and products of its G (n, rows, p) with ``EG``."""
        own, rows = self.own[f], G.shape[0] * G.shape[1]
        self.trace_EK[own] += np.einsum("rab,ab->r", self.E[f], blocks.sum(axis=0))
        products = G.reshape(rows, self.p).T @ EG.reshape(rows, -1)
        self.GEG[own] += products.reshape(self.p, len(own), self.p).transpose(1, 0, 2)

    def add(self, f: int, g: int, K: np.ndarray, EG_f: np.ndarray, EG_g: np.ndarray) -> None:
        """Add blocks ``K`` (n, rows k_f, columns k_g) of factors f and g; ``EG`` as `times_G` returns."""
        n, rows, columns = K.shape
        kf, kg, own, other = self.k[f], self.k[g], self.own[f], self.own[g]
        blocks = K.reshape(n, rows // kf, kf, columns // kg, kg)
        # KK[a, b, c, d] = sum K_ij[a, b] K_ij[c, d]
        pairs = blocks.transpose(0, 1, 3, 2, 4).reshape(-1, kf * kg)
        KK = (pairs.T @ pairs).reshape(kf, kg, kf, kg)
        at = np.ix_(own, other)
        self.trace_EKEK[at] += np.einsum("rca,sbd,abcd->rs", self.E[f], self.E[g], KK, optimize=True)
        middle = EG_f.reshape(n * rows, -1).T @ (K @ EG_g).reshape(n * rows, -1)
        shape = (len(own), self.p, len(other), self.p)
        self.GEKEG[at] += middle.reshape(shape).transpose(0, 2, 1, 3)


def pair_sums(
    engine: Engine,
    products: CrossProducts,
    columns: np.ndarray,
    Lambda: Sequence[np.ndarray],
    directions: Sequence[Direction],
) -> PairSums:
    """The sums at the Lambda the engine was factorized for.

    Parameters
    ----------
    columns : (p,) positions in U of the columns of X.

    Raises
    ------
    ModelError : more work than `MOST_WORK`.
    """
    sums = PairSums(directions, engine.k, len(columns))
    rows = sum(G * k for G, k in zip(engine.levels, engine.k))
    products_work = float(rows) * (len(directions) * len(columns)) ** 2
    if products.structure == "tree":
        _check_work(nested_work(products) + products_work, products, _largest_piece(products))
        for pieces in nested_pieces(products, columns):
            K, G = solve_pieces(*pieces, Lambda)
            _add_square(sums, K, G, pieces[2])
    elif hasattr(engine, "inverse_columns"):
        _check_work(engine.columns_work + products_work, products)
        _add_columns(sums, engine)
    else:
        _check_work(4.0 * rows**3 + products_work, products, rows)
        A, B, parts = dense_equations(products, columns)
        K, G = eliminate(A, B, parts, Lambda)
        _add_square(sums, K[None], G[None], parts)
    return sums


def _check_work(work: float, products: CrossProducts, block: int = 0) -> None:
    if work > MOST_WORK or block > LARGEST_BLOCK:
        sizes = " + ".join(f"{G} levels x {len(z)}" for G, z in zip(products.levels, products.z, strict=True))
        raise ModelError(
            f"Kenward-Roger's method needs all of Z'V^-1 Z between levels that share rows ({sizes}): "
            f"about {work:.1e} multiplications (at most {MOST_WORK:.0e} are offered"
            + (f", in blocks of {LARGEST_BLOCK}; the largest has {block}" if block > LARGEST_BLOCK else "")
            + "); use Satterthwaite's method"
        )


def _add_square(sums: PairSums, K: np.ndarray, G: np.ndarray, parts: Sequence[slice]) -> None:
    EG = [sums.times_G(f, G[:, part]) for f, part in enumerate(parts)]
    for f, rows in enumerate(parts):
        sums.add_own(f, _diagonal_blocks(K[:, rows, rows], sums.k[f]), G[:, rows], EG[f])
        for g, cols in enumerate(parts):
            sums.add(f, g, np.ascontiguousarray(K[:, rows, cols]), EG[f], EG[g])


def _add_columns(sums: PairSums, engine: Engine) -> None:
    """Panels of columns of K from an engine's own solver."""
    G = [g[:, :, : sums.p].reshape(1, -1, sums.p) for g in engine.projections()]
    EG = [sums.times_G(f, G_f) for f, G_f in enumerate(G)]
    for f, G_f in enumerate(G):
        sums.add_own(f, np.zeros((1, sums.k[f], sums.k[f])), G_f, EG[f])
    rows = sum(levels * k for levels, k in zip(engine.levels, engine.k))
    for g, (levels, k) in enumerate(zip(engine.levels, engine.k)):
        step = max(1, BATCH_ENTRIES // (rows * k))
        for first in range(0, levels, step):
            last = min(first + step, levels)
            panel = engine.inverse_columns(g, first, last)
            own = _diagonal_blocks(panel[g][None, first * k : last * k], k)
            sums.trace_EK[sums.own[g]] += np.einsum("rab,ab->r", sums.E[g], own.sum(axis=0))
            for f, K in enumerate(panel):
                sums.add(f, g, K[None], EG[f], EG[g][:, first * k : last * k])


def _diagonal_blocks(K: np.ndarray, k: int) -> np.ndarray:
    """Blocks (n levels, k, k) on the diagonals of K (n, levels k, levels k)."""
    n, rows, _ = K.shape
    blocks = K.reshape(n, rows // k, k, rows // k, k)
    return np.diagonal(blocks, axis1=1, axis2=3).transpose(0, 3, 1, 2).reshape(-1, k, k)


Pieces = tuple[np.ndarray, np.ndarray, list[slice]]


def solve_pieces(A: np.ndarray, B: np.ndarray, parts: list[slice], Lambda) -> tuple[np.ndarray, np.ndarray]:
    """``K = (I + A T)^-1 A`` and ``G = (I + A T)^-1 B`` for A (n, q, q), B (n, q, p); T per part."""
    n, q, _ = A.shape
    M = np.empty_like(A)
    for part, L in zip(parts, Lambda, strict=True):
        T = L @ L.T
        M[:, :, part] = (A[:, :, part].reshape(n, q, -1, len(T)) @ T).reshape(n, q, -1)
    if q == 1:
        scale = 1.0 / (1.0 + M)
        return A * scale, B * scale
    M[:, np.arange(q), np.arange(q)] += 1.0
    solved = np.linalg.solve(M, np.concatenate([A, B], axis=2))
    K = solved[:, :, :q]
    return 0.5 * (K + K.transpose(0, 2, 1)), solved[:, :, q:]


def _largest_piece(products: CrossProducts) -> int:
    return int((_slots(products)[1] @ np.array([len(products.z[f]) for f in products.order])).max())


def nested_work(products: CrossProducts) -> float:
    """Multiplications for K of nested factors: 4 q^3 per level of the outermost, q its random effects."""
    sizes = _slots(products)[1] @ np.array([len(products.z[f]) for f in products.order], float)
    return float(4.0 * (sizes**3).sum())


def _slots(products: CrossProducts) -> tuple[list[np.ndarray], np.ndarray]:
    """Outermost ancestor of every level, by place in ``order``; and counts (outer levels, factors)."""
    outer = products.order[-1]
    ancestors = [np.arange(products.levels[outer])]
    for parent in reversed(products.parent):
        ancestors.insert(0, ancestors[0][parent])
    counts = np.array([np.bincount(a, minlength=products.levels[outer]) for a in ancestors]).T
    return ancestors, counts


def nested_pieces(products: CrossProducts, columns: np.ndarray) -> Iterator[Pieces]:
    """``Z'WZ`` (n, q, q) and ``Z'WX`` (n, q, p) of batches of outermost levels, and each factor's columns.

    Levels with fewer effects than the largest of their batch are padded with zeros.
    """
    order, k = products.order, [len(z) for z in products.z]
    ancestors, counts = _slots(products)
    sizes = counts @ np.array([k[f] for f in order])
    queue = np.argsort(sizes, kind="stable")
    by_outer = [np.argsort(a, kind="stable") for a in ancestors]
    starts = [np.concatenate([[0], np.cumsum(c)]) for c in counts.T]
    # place of a level among those of its outermost ancestor
    place = []
    for levels, first, ancestor in zip(by_outer, starts, ancestors):
        place.append(np.empty(len(levels), np.int64))
        place[-1][levels] = np.arange(len(levels)) - first[ancestor[levels]]
    done = 0
    while done < len(queue):
        width = int(sizes[queue[min(done + 4096, len(queue)) - 1]])
        batch = queue[done : done + max(1, min(4096, BATCH_ENTRIES // max(width, 1) ** 2))]
        done += len(batch)
        yield _piece(products, columns, batch, counts[batch], by_outer, starts, place)


def _piece(products, columns, batch, counts, by_outer, starts, place) -> Pieces:
    order, n = products.order, len(batch)
    widths = {f: int(counts[:, d].max()) * len(products.z[f]) for d, f in enumerate(order)}
    ends = np.cumsum([widths[f] for f in range(len(order))])
    parts = [slice(int(end) - widths[f], int(end)) for f, end in enumerate(ends)]
    A = np.zeros((n, int(ends[-1]), int(ends[-1])))
    B = np.zeros((n, int(ends[-1]), len(columns)))
    for d, f in enumerate(order):
        k = len(products.z[f])
        piece = np.repeat(np.arange(n), counts[:, d])
        offset = np.arange(len(piece)) - np.repeat(np.cumsum(counts[:, d]) - counts[:, d], counts[:, d])
        levels = by_outer[d][starts[d][batch][piece] + offset]
        R = products.R[f][levels]
        rows = parts[f].start + place[d][levels][:, None] * k + np.arange(k)
        B[piece[:, None], rows] = R[:, :, columns]
        above = levels
        for e in range(d, len(order)):
            g = order[e]
            if e > d:
                above = products.parent[e - 1][above]
            z = products.z[g]
            cols = parts[g].start + place[e][above][:, None] * len(z) + np.arange(len(z))
            A[piece[:, None, None], rows[:, :, None], cols[:, None, :]] = R[:, :, z]
            if e > d:
                A[piece[:, None, None], cols[:, :, None], rows[:, None, :]] = R[:, :, z].transpose(0, 2, 1)
    return A, B, parts
