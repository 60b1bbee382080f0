"""`CrossProducts` of crossed factors by SciPy's sparse products: for tests of 10^3 to 10^6 rows."""

import numpy as np
import scipy.sparse as sp

from fastlmm_core.crossprod.statistics import CrossProducts, PairBlocks


def indicators(codes, Z):
    n, k = Z.shape
    columns = codes[:, None].astype(np.int64) * k + np.arange(k)
    return sp.csr_matrix((Z.ravel(), columns.ravel(), np.arange(0, n * k + 1, k)))


def cross_products(Xy, factors):
    """`CrossProducts` by sparse matrix products, the factors in the order given."""
    Zs = [indicators(*factor) for factor in factors]
    ks = [Z.shape[1] for _, Z in factors]
    U = np.column_stack([Xy, *(Z for _, Z in factors)])
    ends = np.cumsum([Xy.shape[1], *ks])
    pairs = {}
    for f in range(len(Zs)):
        for g in range(f + 1, len(Zs)):
            block = (Zs[f].T @ Zs[g]).tobsr((ks[f], ks[g]))
            block.sort_indices()
            indptr, indices = block.indptr.astype(np.int64), block.indices.astype(np.int32)
            pairs[f, g] = PairBlocks(indptr, indices, block.data)
    levels = tuple(Z.shape[1] // k for Z, k in zip(Zs, ks))
    return CrossProducts(
        n=len(Xy),
        sum_log_weights=0.0,
        C=U.T @ U,
        x=np.arange(Xy.shape[1] - 1),
        y=Xy.shape[1] - 1,
        z=tuple(np.arange(a, b) for a, b in zip(ends, ends[1:])),
        levels=levels,
        R=tuple((Z.T @ U).reshape(G, k, -1) for Z, G, k in zip(Zs, levels, ks)),
        counts=tuple(np.bincount(codes) for codes, _ in factors),
        structure="crossed",
        order=tuple(range(len(factors))),
        parent=(),
        pairs=pairs,
        weighted=False,
    )
