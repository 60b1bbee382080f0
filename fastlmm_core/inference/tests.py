"""Tests of linear functions of the fixed effects under one way of finding degrees of freedom.

A method offers ``vcov`` (r, r), ``df(L)`` of single contrasts and ``joint(L, rhs)``;
L has a column per coefficient that is kept.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from fastlmm_core.inference.estimates import VarianceCalculus
from fastlmm_core.inference.kenward_roger import KenwardRoger
from fastlmm_core.inference.satterthwaite import contrast_df, joint_test


class JointTest(NamedTuple):
    """F with its numerator and denominator degrees of freedom; ``factor`` is already in F."""

    F: float
    num_df: int
    den_df: float
    factor: float = 1.0


class Method(Protocol):
    """``name`` is what a user asks for."""

    name: str
    vcov: np.ndarray

    def df(self, L: np.ndarray) -> np.ndarray:
        """Degrees of freedom (c,) of the rows of L (c, r)."""

    def joint(self, L: np.ndarray, beta: np.ndarray, rhs) -> JointTest:
        """F test of ``L beta = rhs``."""


@dataclass(frozen=True, eq=False)
class Satterthwaite:
    """Giesbrecht & Burns (1985) for one contrast, Fai & Cornelius (1996) for several."""

    vcov: np.ndarray
    calculus: VarianceCalculus
    name: str = "satterthwaite"

    def df(self, L: np.ndarray) -> np.ndarray:
        return contrast_df(L, self.vcov, self.calculus)

    def joint(self, L: np.ndarray, beta: np.ndarray, rhs=0.0) -> JointTest:
        return JointTest(*joint_test(L, beta, self.vcov, self.calculus, rhs))


@dataclass(frozen=True, eq=False)
class AdjustedTests:
    """Kenward & Roger (1997): adjusted covariance, scaled F."""

    found: KenwardRoger
    name: str = "kenward-roger"

    @property
    def vcov(self) -> np.ndarray:
        return self.found.adjusted

    def df(self, L: np.ndarray) -> np.ndarray:
        return self.found.single_df(L)

    def joint(self, L: np.ndarray, beta: np.ndarray, rhs=0.0) -> JointTest:
        return JointTest(*self.found.joint_test(L, beta, rhs))


@dataclass(frozen=True, eq=False)
class Residual:
    """Linear models: exact t and F with the residual degrees of freedom."""

    vcov: np.ndarray
    df_resid: float
    name: str = "residual"

    def df(self, L: np.ndarray) -> np.ndarray:
        return np.full(len(L), float(self.df_resid))

    def joint(self, L: np.ndarray, beta: np.ndarray, rhs=0.0) -> JointTest:
        values, vectors = np.linalg.eigh(L @ self.vcov @ L.T)
        used = values > 1e-10 * values.max()
        t2 = (vectors[:, used].T @ (L @ beta - rhs)) ** 2 / values[used]
        return JointTest(float(t2.mean()), int(used.sum()), float(self.df_resid))
