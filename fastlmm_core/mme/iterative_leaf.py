"""Small blocks of the iterative engine: the leaf, the scales of the others, their preconditioner.

Factors are ``D = U s`` of the singular value decomposition of Lambda with s held
above `SMALLEST_SCALE`, as in `crossed`: columns are orthogonal and D has an
inverse also where T is singular.
"""

from dataclasses import dataclass

import numpy as np

from fastlmm_core._kernels._iterative import aligned
from fastlmm_core._typing import Float, Int64
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.crossed import SMALLEST_SCALE


@dataclass(frozen=True, eq=False)
class LeafState:
    """``J = T (I + A T)^-1`` and ``K = (I + A T)^-1`` (levels, k, k); ``logdet = sum log|I + A T|``."""

    J: Float
    K: Float
    logdet: float


def leaf_state(A: Float, Lambda: Float) -> LeafState:
    """From ``A`` (levels, k, k)."""
    D, inverse = orthogonal_root(Lambda)
    if len(D) == 1:
        t = float(D[0, 0]) ** 2
        At = A * t
        K = 1.0 / (1.0 + At)
        logdet = float(np.log1p(At).sum())
        J = t * K
    else:
        M = np.eye(len(D)) + D.T @ A @ D
        M = 0.5 * (M + M.transpose(0, 2, 1))
        logdet = 2.0 * float(np.log(np.diagonal(_cholesky(M), axis1=1, axis2=2)).sum())
        inside = np.linalg.inv(M)
        inside = 0.5 * (inside + inside.transpose(0, 2, 1))
        J = D @ inside @ D.T
        K = inverse.T @ inside @ D.T
    if not np.isfinite(logdet):
        raise NumericalError("log|V0| is not finite")
    return LeafState(np.ascontiguousarray(J), np.ascontiguousarray(K), logdet)


def orthogonal_root(Lambda: Float) -> tuple[Float, Float]:
    """D (k, k) with orthogonal columns, ``D D' = Lambda Lambda'``, and its inverse."""
    if len(Lambda) == 1:
        scale = max(abs(float(Lambda[0, 0])), SMALLEST_SCALE)
        return np.array([[scale]]), np.array([[1.0 / scale]])
    U, s, _ = np.linalg.svd(Lambda)
    s = np.maximum(s, SMALLEST_SCALE)
    return U * s, (U / s).T


class Preconditioner:
    """P = blocks of S on its diagonal, ``P_j = R_j R_j'``.

    ``inverse`` (m, widest) by rows; per factor ``root`` R_j^-T (levels, k, k), and
    ``information`` D^-T sum_j (I - P_j^-1) D^-1.
    """

    def __init__(self, offset: Int64, widest: int):
        self.offset = offset
        self.inverse = np.zeros((int(offset[-1]), widest))
        self.root: list[Float] = []
        self.information: list[Float] = []
        self.logdet = 0.0

    def blocks(self, number: int) -> Float:
        """P_j^-1 of one factor, (levels, k, k)."""
        k = self.root[number].shape[1]
        return self.inverse[self.offset[number] : self.offset[number + 1], :k].reshape(-1, k, k)


class Scale:
    """D_f of the stacked factors, applied to blocks of columns (m, lanes)."""

    def __init__(self, Lambda: list[Float], offset: Int64, widest: int):
        self.offset, self.widest = offset, widest
        self.D, self.inverse = (list(part) for part in zip(*map(orthogonal_root, Lambda)))
        self.flat = np.concatenate([D.ravel() for D in self.D])

    def times(self, X: Float) -> Float:
        """D X."""
        return self._apply(X, self.D)

    def transposed(self, X: Float) -> Float:
        """D'X."""
        return self._apply(X, [D.T for D in self.D])

    def sandwich(self, blocks: Float) -> Float:
        """``D M_j D'`` for blocks (m, widest) by rows."""
        out = np.zeros_like(blocks)
        for D, first, last in zip(self.D, self.offset[:-1], self.offset[1:]):
            k = len(D)
            M = blocks[first:last, :k].reshape(-1, k, k)
            out[first:last, :k] = (D @ M @ D.T).reshape(-1, k)
        return out

    def preconditioner(self, diagonal: Float) -> Preconditioner:
        """From the diagonal blocks of K, (m, widest) by rows."""
        result = Preconditioner(self.offset, self.widest)
        for D, inverse, first, last in zip(self.D, self.inverse, self.offset[:-1], self.offset[1:]):
            k = len(D)
            K = diagonal[first:last, :k].reshape(-1, k, k)
            excess = D.T @ (0.5 * (K + K.transpose(0, 2, 1))) @ D
            if k == 1:
                P = 1.0 + excess
                if not P.min() > 0:
                    raise NumericalError("a diagonal block of the Schur complement is not positive definite")
                P_inverse, root = 1.0 / P, 1.0 / np.sqrt(P)
                result.logdet += float(np.log1p(excess).sum())
            else:
                R = _cholesky(np.eye(k) + excess)
                root = np.ascontiguousarray(np.linalg.inv(R).transpose(0, 2, 1))
                P_inverse = root @ root.transpose(0, 2, 1)
                result.logdet += 2.0 * float(np.log(np.diagonal(R, axis1=1, axis2=2)).sum())
            result.inverse[first:last, :k] = P_inverse.reshape(-1, k)
            result.root.append(root)
            # I - P^-1 = P^-1 (P - I)
            result.information.append(inverse.T @ (P_inverse @ excess).sum(0) @ inverse)
        return result

    def _apply(self, X: Float, matrices: list[Float]) -> Float:
        out = aligned(X.shape)
        for D, first, last in zip(matrices, self.offset[:-1], self.offset[1:]):
            if len(D) == 1:
                np.multiply(X[first:last], D[0, 0], out=out[first:last])
            else:
                units = X[first:last].reshape(-1, len(D), X.shape[1])
                out[first:last] = (D @ units).reshape(-1, X.shape[1])
        return out


def _cholesky(M: Float) -> Float:
    try:
        return np.linalg.cholesky(M)
    except np.linalg.LinAlgError as error:
        raise NumericalError("a block of the mixed-model equations is not positive definite") from error
