"""Sparse symmetric positive definite matrices of many shapes, and their block patterns."""

import numpy as np
import scipy.sparse as sp

from fastlmm_core.sparse.ordering import BlockPattern


def diagonally_dominant(W):
    """Add a diagonal that makes a symmetric matrix positive definite."""
    W = sp.csr_matrix(W)
    W.setdiag(0)
    W.eliminate_zeros()
    return sp.csc_matrix(W + sp.diags(np.asarray(abs(W).sum(axis=1)).ravel() + 1.0))


def random_sparse(n, density, seed=0):
    W = sp.random(n, n, density, random_state=np.random.default_rng(seed))
    return diagonally_dominant(W + W.T)


def grid(side, dimensions=2):
    path = sp.diags([-1.0, -1.0], [1, -1], shape=(side, side))
    one, W = sp.eye(side), path
    for _ in range(dimensions - 1):
        W = sp.kron(W, one) + sp.kron(sp.eye(W.shape[0]), path)
    return diagonally_dominant(W)


def arrow(n):
    W = sp.lil_matrix((n, n))
    W[0, 1:] = W[1:, 0] = 0.3
    return diagonally_dominant(W)


def banded(n, width):
    offsets = [d for d in range(-width, width + 1) if d]
    return diagonally_dominant(sp.diags([0.5] * len(offsets), offsets, shape=(n, n)))


def disconnected(n):
    return sp.csc_matrix(
        sp.block_diag([random_sparse(n, 0.2, 1), sp.eye(3), arrow(n), random_sparse(n, 0.1, 2)])
    )


def dense(n):
    A = np.random.default_rng(3).normal(size=(n, n))
    return sp.csc_matrix(A @ A.T + np.eye(n))


SHAPES = {
    "one": lambda: sp.csc_matrix([[2.5]]),
    "two": lambda: sp.csc_matrix([[2.0, 1.0], [1.0, 3.0]]),
    "diagonal": lambda: sp.csc_matrix(sp.diags(np.linspace(0.5, 2, 40))),
    "arrow": lambda: arrow(60),
    "banded": lambda: banded(120, 3),
    "wide band": lambda: banded(150, 40),
    "disconnected": lambda: disconnected(30),
    "dense": lambda: dense(70),
    "grid": lambda: grid(17),
    "cube": lambda: grid(7, 3),
    "sparse": lambda: random_sparse(300, 0.006),
    "filling": lambda: random_sparse(250, 0.03),
    "half full": lambda: random_sparse(120, 0.5),
}


def pattern_of(A):
    """(BlockPattern, values) of a scipy matrix, one column per unit."""
    L = sp.csc_matrix(sp.tril(A))
    L.sort_indices()
    return BlockPattern.from_units(L.indptr, L.indices, np.ones(A.shape[0], np.int32)), L.data


def blocks_of(A, width):
    """(BlockPattern, values) of a scipy matrix whose columns belong to units of given widths."""
    width = np.asarray(width)
    unit = np.repeat(np.arange(len(width)), width)
    E = sp.csr_matrix((np.ones(len(unit)), (unit, np.arange(len(unit)))))
    G = sp.csc_matrix(sp.tril(E @ abs(A) @ E.T + sp.eye(len(width))))
    G.sort_indices()
    pattern = BlockPattern.from_units(G.indptr, G.indices, width)
    full = A.toarray()
    values = []
    for v in range(len(width)):
        rows = pattern.rows[pattern.row_ptr[v] : pattern.row_ptr[v + 1]]
        values += [full[rows, c] for c in range(pattern.unit_column[v], pattern.unit_column[v + 1])]
    return pattern, np.concatenate(values)


def places(pattern):
    """(rows, columns) of every value."""
    rows, columns = [], []
    for v in range(len(pattern.width)):
        own = pattern.rows[pattern.row_ptr[v] : pattern.row_ptr[v + 1]]
        for c in range(pattern.unit_column[v], pattern.unit_column[v + 1]):
            rows.append(own)
            columns.append(np.full(len(own), c))
    return np.concatenate(rows), np.concatenate(columns)
