"""Cholesky factor of a sparse matrix: analyse once, factor many times into the same memory."""

import numpy as np

from fastlmm_core._typing import Float
from fastlmm_core.errors import NumericalError
from fastlmm_core.sparse.symbolic import Supernodes, Symbolic, build_supernodes


class Factor:
    """``P (A + shift I) P' = L L'`` by supernodes, multifrontal.

    Parameters
    ----------
    symbolic : Symbolic
        From `analyse_pattern`.
    n_threads : int
        Threads for independent subtrees; results do not depend on it.  BLAS has its own.

    Attributes
    ----------
    logdet : float
        ``log det(A + shift I)``, after `update`.
    L : (stored,) float64
        Panels of the factor; overwritten by `update`.
    """

    name = "supernodal"

    def __init__(self, symbolic: Symbolic, n_threads: int = 1):
        self.symbolic = symbolic
        self.supernodes: Supernodes = build_supernodes(symbolic, n_threads)
        self.L = np.empty(self.supernodes.stored)
        self.logdet = np.nan
        self._panels, self._permutation = self.supernodes.panels, self.supernodes.permutation

    def update(self, values: Float, shift: float = 0.0) -> float:
        """Factor ``A + shift I``; return its log-determinant.

        Parameters
        ----------
        values : (n_values,) float64
            By block columns, as `BlockPattern` states.

        Raises
        ------
        NumericalError : a pivot is not positive or not finite.
        """
        self.logdet = np.nan
        self.logdet = self._panels.factor(values, shift, self.L)
        return self.logdet

    def halfsolve(self, t: Float) -> Float:
        """``L^-1 P t`` for t (m, r): a new array, its rows in the factor's order."""
        self._check()
        x = np.ascontiguousarray(t[self._permutation], np.float64)
        self._panels.solve(self.L, x, False)
        return x

    def unsolve(self, x: Float) -> Float:
        """``P' L^-T x``: completes `halfsolve` to the solution."""
        self._check()
        work = np.array(x, np.float64, order="C")
        self._panels.solve(self.L, work, True)
        out = np.empty_like(work)
        out[self._permutation] = work
        return out

    def solve(self, t: Float) -> Float:
        """``(A + shift I)^-1 t`` for t (m, r)."""
        return self.unsolve(self.halfsolve(t))

    def _check(self):
        if not np.isfinite(self.logdet):
            raise NumericalError("there is no factor; call update with a positive definite matrix first")
