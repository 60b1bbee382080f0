"""Mixed-model equations of several factors as dense matrices, for what needs every block of an inverse."""

import numpy as np

from fastlmm_core.crossprod.statistics import CrossProducts


def dense_equations(
    products: CrossProducts, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """``Z'WZ`` (m, m), ``Z'WX`` (m, r) and each factor's rows, levels outermost within a factor.

    ``columns`` (r,) are positions in U.
    """
    sizes = [G * len(z) for G, z in zip(products.levels, products.z, strict=True)]
    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    A = np.zeros((ends[-1], ends[-1]))
    B = np.concatenate([R[:, :, columns].reshape(-1, len(columns)) for R in products.R])
    for f, z in enumerate(products.z):
        levels = np.arange(products.levels[f])
        _place(A, parts[f], parts[f], levels, levels, products.R[f][:, :, z])
    if products.structure == "tree":
        for d, inner in enumerate(products.order):
            levels = np.arange(products.levels[inner])
            above = levels
            for step in range(d, len(products.order) - 1):
                # an inner level's rows all lie in one level of each outer factor
                above = products.parent[step][above]
                outer = products.order[step + 1]
                blocks = products.R[inner][:, :, products.z[outer]]
                _place(A, parts[inner], parts[outer], levels, above, blocks)
                _place(A, parts[outer], parts[inner], above, levels, blocks.transpose(0, 2, 1))
    for (f, g), pair in products.pairs.items():
        rows = np.repeat(np.arange(products.levels[f]), np.diff(pair.indptr))
        _place(A, parts[f], parts[g], rows, pair.indices, pair.blocks)
        _place(A, parts[g], parts[f], pair.indices, rows, pair.blocks.transpose(0, 2, 1))
    return A, B, parts


def _place(A, rows: slice, columns: slice, i, j, blocks) -> None:
    """Put ``blocks[n]`` (k, l) at block (i[n], j[n]) of one part of A."""
    _, k, width = blocks.shape
    at = rows.start + np.asarray(i)[:, None, None] * k + np.arange(k)[None, :, None]
    to = columns.start + np.asarray(j)[:, None, None] * width + np.arange(width)[None, None, :]
    A[at, to] = blocks


def eliminate(A: np.ndarray, B: np.ndarray, parts: list[slice], Lambda) -> tuple[np.ndarray, np.ndarray]:
    """``K = Z'V0^-1 Z`` (m, m) and ``G = Z'V0^-1 X`` (m, r), also for singular Lambda.

    ``V0^-1 = W - WZ Lambda (I + Lambda'Z'WZ Lambda)^-1 Lambda'Z'W`` (Woodbury).
    """
    AL = np.empty_like(A)
    LB = np.empty_like(B)
    for part, L in zip(parts, Lambda, strict=True):
        k = len(L)
        AL[:, part] = (A[:, part].reshape(-1, k) @ L).reshape(len(A), -1)
        LB[part] = np.einsum("ab,iau->ibu", L, B[part].reshape(-1, k, B.shape[1])).reshape(-1, B.shape[1])
    M = np.eye(len(A))
    for part, L in zip(parts, Lambda, strict=True):
        k = len(L)
        M[part] += np.einsum("ab,iau->ibu", L, AL[part].reshape(-1, k, len(A))).reshape(-1, len(A))
    solved = np.linalg.solve(M, np.column_stack([AL.T, LB]))
    K = A - AL @ solved[:, : len(A)]
    return 0.5 * (K + K.T), B - AL @ solved[:, len(A) :]


def apply(direction: np.ndarray, part: slice, matrix: np.ndarray) -> np.ndarray:
    """Rows of one factor of ``(I kron direction) matrix``."""
    k = len(direction)
    blocks = matrix[part].reshape(-1, k, matrix.shape[1])
    return np.einsum("ab,ibu->iau", direction, blocks).reshape(-1, matrix.shape[1])
