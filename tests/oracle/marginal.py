"""A fit's model as n x n matrices, from its design and its estimates: nothing of the engines is used."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from .dense import indicator
from .design_matrices import matrix


@dataclass
class Dense:
    """X (kept columns), y less offset, Z of all terms, T relative to sigma^2, weights, and what follows."""

    X: np.ndarray
    y: np.ndarray
    Z: np.ndarray
    T: np.ndarray
    w: np.ndarray
    s2: float

    def __post_init__(self):
        self.V0 = self.Z @ self.T @ self.Z.T + np.diag(1.0 / self.w)
        self.Vi = np.linalg.inv(self.V0)
        self.Q = np.linalg.inv(self.X.T @ self.Vi @ self.X)
        self.beta = self.Q @ self.X.T @ self.Vi @ self.y
        self.P = self.Vi - self.Vi @ self.X @ self.Q @ self.X.T @ self.Vi
        self.b = self.T @ self.Z.T @ self.P @ self.y

    def inverse_equations(self):
        """C^-1 of Henderson's equations as covariances of (beta^, b^ - b), valid for singular T."""
        Cbb = self.T - self.T @ self.Z.T @ self.P @ self.Z @ self.T
        Cxb = -self.Q @ self.X.T @ self.Vi @ self.Z @ self.T
        return np.block([[self.Q, Cxb], [Cxb.T, Cbb]])

    def without(self, rows):
        """The same model less some rows, at the same variances."""
        keep = np.setdiff1d(np.arange(len(self.y)), rows)
        return Dense(self.X[keep], self.y[keep], self.Z[keep], self.T, self.w[keep], self.s2)


def dense_model(fit):
    """`Dense` of an `LMMResults`."""
    design, estimates = fit._rows.design, fit._estimates
    X = matrix([design.fixed[j] for j in estimates.kept], design.atoms, design.n)
    Z, T = [], []
    for term, block in zip(design.terms, estimates.terms):
        codes = design.factors[term.factor].codes
        Z.append(indicator(codes, matrix(term.columns, design.atoms, design.n)))
        T.append(np.kron(np.eye(int(codes.max()) + 1), block))
    w = np.ones(design.n) if design.weights is None else design.weights
    return Dense(X, design.response, np.hstack(Z), block_diag(*T), w, fit.scale)


def at_theta(fit, dense, theta):
    """`dense`, the `Dense` of a fit, at another theta."""
    start, blocks = 0, []
    for term in fit._facts.terms:
        q = len(term.names)
        L = np.zeros((q, q))
        L.T[np.triu_indices(q)] = theta[start : start + q * (q + 1) // 2]
        start += q * (q + 1) // 2
        blocks.append(np.kron(np.eye(fit.ngroups[fit._facts.factors[term.factor]]), L @ L.T))
    return Dense(dense.X, dense.y, dense.Z, block_diag(*blocks), dense.w, dense.s2)


def unbalanced(seed=3, groups=14):
    """A small unbalanced data set: x, w, id, site (id in site in area), item crossed with id."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, groups)
    id_ = np.repeat(np.arange(groups), sizes)
    n = len(id_)
    frame = pd.DataFrame(
        {
            "x": rng.normal(3.0, 2.0, n),
            "w": rng.uniform(0.3, 3.0, n),
            "id": [f"p{i:02d}" for i in id_],
            "site": [f"s{i % 5}" for i in id_],
            "area": [f"a{i % 5 % 2}" for i in id_],
            "item": [f"k{i}" for i in rng.integers(0, 6, n)],
            "arm": np.where(id_ % 2 == 0, "new", "old"),
        }
    )
    b = rng.normal(0, [2.0, 0.7], (groups, 2))
    frame["y"] = (
        1.0
        + 0.5 * frame["x"]
        + b[id_, 0]
        + b[id_, 1] * frame["x"]
        + rng.normal(0, 1.5, 5)[id_ % 5]
        + rng.normal(0, 1.0, 6)[frame["item"].str[1:].astype(int)]
        + rng.normal(0, 1.0, n) / np.sqrt(frame["w"])
    )
    return frame


MODELS = {
    "intercept": ("y ~ x + (1 | id)", None),
    "slopes": ("y ~ x + (x | id)", None),
    "weighted": ("y ~ x + arm + (x | id)", "w"),
    "uncorrelated": ("y ~ x + (1 + x || id)", None),
    "nested": ("y ~ x + (1 | area) + (1 | site) + (x | id)", "w"),
    "crossed": ("y ~ x + (x | id) + (1 | item)", "w"),
    "three": ("y ~ x + (1 | id) + (1 | item) + (1 | arm)", None),
    "singular": ("y ~ x + (x + w | id)", None),
}
