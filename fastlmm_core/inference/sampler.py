"""Sufficient statistics of simulated responses, drawn without simulating rows.

For nested factors.  With ``U`` the columns of [Z X] and e ~ N(0, s2 W^-1), ``U'W e``
is normal with covariance ``s2 U'W U``.  That matrix is factored level by level,
innermost factor first.  With R_i = Z_i'W U on level i,

    A_i = R_i[:, z] = B_i B_i',  E_i = B_i^+ R_i,  R_parent -= E_i[:, z_parent]'E_i,  C -= sum E_i'E_i,

B_i from eigenvectors, so any rank will do.  With independent xi_i of length
rank A_i and eta of length rank C (what is left of it), ``U'W e = sum_i E_i'xi_i + C^1/2 eta``
has that covariance exactly, and so have its parts by level; ``e'W e`` is the
squared length of all xi and eta plus s2 times a chi-square on the degrees of
freedom left.  Adding ``X beta + Z b`` is algebra on cross-products.

A response costs O(random effects x columns) at any number of rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from fastlmm_core.criterion.profiled import Point
from fastlmm_core.crossprod.statistics import CrossProducts
from fastlmm_core.inference.dense import dense_equations

RANK = 1e-10
"""Eigenvalues below this, relative to the trace before elimination, are zero."""


@dataclass(frozen=True, eq=False)
class _Factor:
    """One factor: cross-products with all columns R, its Z, E after elimination of inner factors;
    ``used`` (levels, k) marks the eigenvalues that are not zero."""

    z: np.ndarray
    R: np.ndarray
    E: np.ndarray
    used: np.ndarray
    above: tuple  # sparse (levels of each outer factor, levels), outermost last


class StatisticsSampler:
    """Draws ``(U'W y, y'W y, Z_f'W y)`` for y from a fitted model with nested factors.

    Parameters
    ----------
    products : CrossProducts, ``structure == "tree"``
    keep : (p,) int, columns of X kept
    point : the fit; everything in the engine's coordinates
    """

    def __init__(self, products: CrossProducts, keep: np.ndarray, point: Point):
        self.order = products.order
        self.u, self.y = products.C.shape[0], products.y
        self.sigma = float(np.sqrt(point.s2))
        self._x = np.asarray(products.x)[keep]
        self._beta = point.beta
        self._C = products.C.copy()
        self._C[products.y] = self._C[:, products.y] = 0.0
        self._L = [self.sigma * point.Lambda[f] for f in self.order]
        self._eliminate(products)

    def _eliminate(self, products: CrossProducts) -> None:
        R = []
        for f in self.order:
            Rf = products.R[f].copy()
            Rf[:, :, self.y] = 0.0
            R.append(Rf)
        rest, left = [Rf.copy() for Rf in R], self._C.copy()
        self._factors, rank = [], 0
        for d, f in enumerate(self.order):
            z = np.asarray(products.z[f])
            above, map_up = [], np.arange(products.levels[f])
            for e in range(d + 1, len(self.order)):
                map_up = np.asarray(products.parent[e - 1])[map_up]
                shape = (products.levels[self.order[e]], products.levels[f])
                ones = np.ones(shape[1])
                above.append(sparse.csr_matrix((ones, (map_up, np.arange(shape[1]))), shape))
            A = rest[d][:, :, z]
            values, vectors = np.linalg.eigh(0.5 * (A + A.transpose(0, 2, 1)))
            size = np.trace(R[d][:, :, z], axis1=1, axis2=2)
            used = values > RANK * size[:, None]
            inverse_root = np.where(used, 1.0 / np.sqrt(np.where(used, values, 1.0)), 0.0)
            E = inverse_root[:, :, None] * (vectors.transpose(0, 2, 1) @ rest[d])
            rank += int(used.sum())
            for e, up in enumerate(above, start=d + 1):
                za = np.asarray(products.z[self.order[e]])
                part = np.einsum("iba,ibu->iau", E[:, :, za], E)
                rest[e] -= (up @ part.reshape(len(E), -1)).reshape(rest[e].shape)
            left -= np.tensordot(E, E, ((0, 1), (0, 1)))
            self._factors.append(_Factor(z, R[d], E, used, tuple(above)))
        x = self._x
        values, vectors = np.linalg.eigh(left[np.ix_(x, x)]) if len(x) else (np.zeros(0), np.zeros((0, 0)))
        used = values > RANK * np.trace(self._C[np.ix_(x, x)])
        self._root = vectors[:, used] * np.sqrt(values[used])
        self.df = products.n - rank - int(used.sum())

    @property
    def n_normals(self) -> int:
        """Standard normal deviates per response."""
        return 2 * sum(f.R.shape[0] * f.R.shape[1] for f in self._factors) + self._root.shape[1]

    def draw(self, generators: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """One response per generator: U'Wy (r, u), y'Wy (r,), and per factor Z_f'Wy (r, levels, k)."""
        r = len(generators)
        normals = np.empty((r, self.n_normals))
        squares = np.empty(r)
        for row, generator in enumerate(generators):
            generator.standard_normal(out=normals[row])
            squares[row] = generator.chisquare(self.df) if self.df > 0 else 0.0
        b, xi, eta = self._split(normals)
        s, x, beta = self.sigma, self._x, self._beta
        Ue = np.zeros((r, self.u))
        Ue[:, x] = s * (eta @ self._root.T)
        for factor, part in zip(self._factors, xi, strict=True):
            Ue += s * np.tensordot(part, factor.E, ((1, 2), (0, 1)))
        Ze = [s * part for part in self._project(xi)]
        UZb = np.zeros((r, self.u))
        for factor, part in zip(self._factors, b, strict=True):
            UZb += np.tensordot(part, factor.R, ((1, 2), (0, 1)))
        Zb = self._products_of(b)
        CX = self._C[x] if len(x) else np.zeros((0, self.u))
        Xb = beta @ CX
        Uy = Xb + UZb + Ue
        Zy, yy = [], np.full(r, float(beta @ CX[:, x] @ beta))
        yy += 2.0 * (UZb + Ue)[:, x] @ beta
        lengths = sum((part * part).sum((1, 2)) for part in xi) + (eta * eta).sum(1)
        yy += s**2 * (lengths + squares)
        for factor, bf, Zbf, Zef in zip(self._factors, b, Zb, Ze, strict=True):
            yy += (bf * (Zbf + 2.0 * Zef)).sum((1, 2))
            Zy.append(factor.R[:, :, x] @ beta + Zbf + Zef)
        by_factor = [Zy[self.order.index(f)] for f in range(len(self.order))]
        return Uy, yy, by_factor

    def _split(self, normals):
        """Random effects b = L z, xi, eta."""
        r, at = len(normals), 0
        b, xi = [], []
        for factor, L in zip(self._factors, self._L, strict=True):
            G, k = factor.R.shape[:2]
            b.append(normals[:, at : at + G * k].reshape(r, G, k) @ L.T)
            at += G * k
        for factor in self._factors:
            G, k = factor.R.shape[:2]
            xi.append(normals[:, at : at + G * k].reshape(r, G, k) * factor.used)
            at += G * k
        return b, xi, normals[:, at:]

    def _project(self, xi):
        """``Z_f'W e / s`` per factor: own part and that of inner levels."""
        result = []
        for d, factor in enumerate(self._factors):
            total = np.einsum("iba,rib->ria", factor.E[:, :, factor.z], xi[d])
            for inner in range(d):
                below = self._factors[inner]
                part = np.einsum("iba,rib->ria", below.E[:, :, factor.z], xi[inner])
                total = total + _sum_up(below.above[d - inner - 1], part)
            result.append(total)
        return result

    def _products_of(self, b):
        """``Z_f'W Z b`` per factor, over all factors of b."""
        result = [
            np.einsum("iab,rib->ria", f.R[:, :, f.z], part) for f, part in zip(self._factors, b, strict=True)
        ]
        for d, factor in enumerate(self._factors):
            for e in range(d + 1, len(self._factors)):
                up, coupling = factor.above[e - d - 1], factor.R[:, :, self._factors[e].z]
                parents = up.T.tocsr().indices
                result[d] = result[d] + np.einsum("iab,rib->ria", coupling, b[e][:, parents])
                result[e] = result[e] + _sum_up(up, np.einsum("iba,rib->ria", coupling, b[d]))
        return result


def _sum_up(up, part: np.ndarray) -> np.ndarray:
    """Sums over the levels below: (r, levels, k) -> (r, outer levels, k)."""
    r, G, k = part.shape
    sums = up @ np.ascontiguousarray(part.transpose(1, 0, 2)).reshape(G, r * k)
    return sums.reshape(-1, r, k).transpose(1, 0, 2)


class DenseSampler:
    """The same for any grouping factors, from one dense root of ``[Z X]'W[Z X]``.

    O(q^3) once and O(q^2) per response, q the number of random effects.  ``U'W y`` has
    entries at the columns of X kept only.
    """

    def __init__(self, products: CrossProducts, keep: np.ndarray, point: Point):
        x = np.asarray(products.x)[keep]
        A, B, self._parts = dense_equations(products, x)
        self._G = np.block([[A, B], [B.T, products.C[np.ix_(x, x)]]])
        values, vectors = np.linalg.eigh(self._G)
        used = values > RANK * values[-1]
        self._root = vectors[:, used] * np.sqrt(values[used])
        self.df = products.n - int(used.sum())
        self._x, self._u, self._beta = x, products.C.shape[0], point.beta
        self.sigma = float(np.sqrt(point.s2))
        self._L = [self.sigma * L for L in point.Lambda]

    def draw(self, generators: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """One response per generator: U'Wy (r, u), y'Wy (r,), and per factor Z_f'Wy (r, levels, k)."""
        r, q = len(generators), self._parts[-1].stop
        normals, squares = np.empty((r, q + self._root.shape[1])), np.empty(r)
        for row, generator in enumerate(generators):
            generator.standard_normal(out=normals[row])
            squares[row] = generator.chisquare(self.df) if self.df > 0 else 0.0
        t = np.empty((r, len(self._G)))
        t[:, q:] = self._beta
        for part, L in zip(self._parts, self._L, strict=True):
            t[:, part] = (normals[:, part].reshape(r, -1, len(L)) @ L.T).reshape(r, -1)
        xi = normals[:, q:]
        mean, error = t @ self._G, self.sigma * (xi @ self._root.T)
        yy = (t * (mean + 2.0 * error)).sum(1) + self.sigma**2 * ((xi * xi).sum(1) + squares)
        total = mean + error
        Uy = np.zeros((r, self._u))
        Uy[:, self._x] = total[:, q:]
        Zy = [total[:, part].reshape(r, -1, len(L)) for part, L in zip(self._parts, self._L, strict=True)]
        return Uy, yy, Zy
