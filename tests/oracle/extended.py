"""The criterion by n x n matrices in long doubles, for data that cost a double its digits."""

import numpy as np

LONG = np.longdouble
HAS_DIGITS = float(np.finfo(LONG).eps) < 1e-18
"""Whether they are longer than a double: not with every compiler."""


def cholesky(A):
    """Lower factor (n, n) of a symmetric positive definite matrix of any float type."""
    A = A.copy()
    for j in range(len(A)):
        A[j:, j] = A[j:, j] / np.sqrt(A[j, j])
        A[j + 1 :, j + 1 :] -= np.outer(A[j + 1 :, j], A[j + 1 :, j])
    return np.tril(A)


def forward(L, B):
    """``L^-1 B``."""
    X = B.copy()
    for j in range(len(L)):
        X[j] /= L[j, j]
        X[j + 1 :] -= np.outer(L[j + 1 :, j], X[j])
    return X


def criterion(y, X, terms, weights=None, reml=True):
    """Objective and sigma at given T; ``terms`` are (codes, Z (n, q), T (q, q) relative to sigma^2)."""
    y, X = np.asarray(y, LONG), np.asarray(X, LONG)
    n, p = X.shape
    V = np.diag(1 / np.asarray(np.ones(n) if weights is None else weights, LONG))
    for codes, Z, T in terms:
        Z, codes = np.asarray(Z, LONG), np.asarray(codes)
        V += (Z @ np.asarray(T, LONG) @ Z.T) * (codes[:, None] == codes)
    L = cholesky(V)
    E = forward(L, np.column_stack([X, y]))
    R = cholesky(E.T @ E)
    N, r2 = n - reml * p, R[p, p] ** 2
    value = 2 * np.log(np.diag(L)).sum() + N * (1 + np.log(2 * LONG(np.pi) * r2 / N))
    value += reml * 2 * np.log(np.diag(R)[:p]).sum()
    return float(value), float(np.sqrt(r2 / N))
