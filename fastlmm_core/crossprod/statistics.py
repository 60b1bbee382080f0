"""The sufficient statistics of a linear mixed model.

With ``U`` the distinct columns of ``[Z X y]`` (standardized, see
`standardize`), the likelihood depends on the rows only through

* ``C = U'WU``                                   (u x u)
* ``R_f[i] = Z_fi' W U``, one per level of factor f   (k_f x u)
* ``Z_fi' W Z_gj`` for co-occurring levels of crossed factors f, g

All of them are sums over rows, so batches merge by addition.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class PairBlocks:
    """Sparse ``Z_f'W Z_g`` by co-occurring levels, compressed by rows of f.

    ``indptr`` (G_f + 1,) int64, ``indices`` (nnz,) int32 ascending within a
    row, ``blocks`` (nnz, k_f, k_g) float64.
    """

    indptr: np.ndarray
    indices: np.ndarray
    blocks: np.ndarray


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sums over rows that determine the likelihood.

    ``x`` (p,) and ``z[f]`` (k_f,) are positions in U of the columns of X and of
    factor f's Z; ``y`` is the position of the response.  For ``structure ==
    "tree"`` the factors in ``order`` form a chain of nesting, innermost first,
    and ``parent[d]`` (levels of order[d],) int32 maps a level of ``order[d]``
    to its level of ``order[d + 1]``; then ``R`` of an inner factor against the
    Z columns of an outer one is the whole coupling and ``pairs`` is empty.
    For ``"crossed"``, ``order[0]`` is the factor to eliminate and
    ``pairs[(f, g)]`` holds every pair of distinct factors once, f before g in
    ``order``.  ``"none"`` has no factors.
    """

    n: int
    sum_log_weights: float
    C: np.ndarray
    x: np.ndarray
    y: int
    z: tuple[np.ndarray, ...]
    levels: tuple[int, ...]
    R: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]
    structure: str
    order: tuple[int, ...]
    parent: tuple[np.ndarray, ...]
    pairs: dict[tuple[int, int], PairBlocks]
    weighted: bool
