"""CHOLMOD through scikit-sparse, where it is installed: a second opinion, never required.

Orders of its own (METIS among them) serve `analyse_pattern`, and `CholmodFactor`
offers the methods of `cholesky.Factor`, so that one can be checked against the
other.  scikit-sparse 0.4 (0.4.16; ``analyze``, ``Factor.cholesky_inplace``) and 0.5 (0.5.0;
``CholeskyFactor.factorize``) are spoken to in their own words.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

from fastlmm_core._typing import Float, Int32, Int64
from fastlmm_core.errors import MissingDependencyError, NumericalError
from fastlmm_core.sparse.ordering import BlockPattern


def _library() -> Any:
    try:
        from sksparse import cholmod
    except ImportError as error:
        raise MissingDependencyError("CHOLMOD needs scikit-sparse: pip install scikit-sparse") from error
    return cholmod


def cholmod_order(pattern: BlockPattern, method: str = "default") -> Int32:
    """A permutation of the units by CHOLMOD, for `analyse_pattern`.

    ``method`` is "default", "best", "amd", "metis", "nesdis" or "colamd".  Raises
    MissingDependencyError without scikit-sparse.
    """
    units = len(pattern.width)
    A = sp.csc_array((np.ones(len(pattern.idx)), pattern.idx, pattern.ptr), shape=(units, units))
    return np.ascontiguousarray(_permutation(_analyse(A, method)), np.int32)


def _analyse(A, method: str):
    """Symbolic factor of a lower triangle."""
    library = _library()
    if hasattr(library, "CholeskyFactor"):
        return library.CholeskyFactor(A, lower=True, order=method)
    return library.analyze(sp.csc_matrix(A), mode="auto", ordering_method=method)


def _permutation(factor) -> Int64:
    return np.asarray(factor.perm if hasattr(factor, "perm") else factor.P())


class CholmodFactor:
    """`cholesky.Factor` by CHOLMOD: the same arguments, values and results.

    Parameters
    ----------
    pattern : BlockPattern
    method : str
        Ordering, as for `cholmod_order`.

    Raises
    ------
    MissingDependencyError : scikit-sparse is not installed.
    """

    name = "cholmod"

    def __init__(self, pattern: BlockPattern, method: str = "amd"):
        self._below = np.ones(pattern.n_values, bool)
        for v in np.flatnonzero(pattern.width > 1):
            own = pattern.rows[pattern.row_ptr[v] : pattern.row_ptr[v + 1]]
            block = self._below[pattern.value_ptr[v] : pattern.value_ptr[v + 1]].reshape(-1, len(own))
            block[:] = own >= np.arange(*pattern.unit_column[v : v + 2])[:, None]
        lengths = np.repeat(np.diff(pattern.row_ptr), pattern.width)
        kept = np.concatenate([[0], np.cumsum(self._below)])
        starts = kept[np.concatenate([[0], np.cumsum(lengths)])]
        if (pattern.width == 1).all():
            rows = pattern.rows
        else:  # a unit's rows again for each of its columns
            owners = np.repeat(np.arange(len(pattern.width)), pattern.width)
            rows = np.concatenate([pattern.rows[pattern.row_ptr[v] : pattern.row_ptr[v + 1]] for v in owners])
        self._A = sp.csc_array((np.ones(kept[-1]), rows[self._below], starts), shape=(pattern.m, pattern.m))
        self._factor = _analyse(self._A, method)
        self.logdet = np.nan

    @property
    def permutation(self) -> Int64:
        """The column of the matrix at each place of the factor, (m,)."""
        return _permutation(self._factor)

    def update(self, values: Float, shift: float = 0.0) -> float:
        """Factor ``A + shift I``; return its log-determinant.  Raises NumericalError."""
        self._A.data = np.ascontiguousarray(values[self._below], np.float64)
        self.logdet = np.nan
        try:
            if hasattr(self._factor, "factorize"):
                self._factor.factorize(self._A, beta=shift)
                with np.errstate(invalid="ignore", divide="ignore"):
                    logs = np.log(self._factor.factor.diagonal())
                logdet = float(logs.sum()) * (2 if self._factor.is_ll else 1)
            else:
                self._factor.cholesky_inplace(sp.csc_matrix(self._A), beta=shift)
                with np.errstate(invalid="ignore", divide="ignore"):  # LDL' lets negative pivots pass
                    logdet = float(self._factor.logdet())
        except Exception as error:
            if "ositive" not in type(error).__name__ + str(error):
                raise
            raise NumericalError("a sparse matrix is not positive definite, or not finite") from error
        if not np.isfinite(logdet):
            raise NumericalError("a sparse matrix is not positive definite, or not finite")
        self.logdet = logdet
        return logdet

    def solve(self, t: Float) -> Float:
        """``(A + shift I)^-1 t`` for t (m, r)."""
        if not np.isfinite(self.logdet):
            raise NumericalError("there is no factor; call update with a positive definite matrix first")
        solve = getattr(self._factor, "solve", self._factor)
        return np.ascontiguousarray(solve(np.asfortranarray(t)))
