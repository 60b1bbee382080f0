"""Satterthwaite's and Kenward-Roger's figures of random models against n x n matrices.

Models are nested, crossed or partly crossed, with and without slopes and prior weights, all unbalanced.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import fastlmm_core as flm
from fastlmm_core.crossprod.rows import dense_columns

SHAPES = [
    "(1 | a)", "(x | a)", "(x || a)", "(0 + x | a)", "(1 | a) + (1 | b)", "(x | a) + (1 | b)", "(1 | a / b)",
    "(x | a) + (x | b)", "(f | a)", "(x + z | a)", "(1 | a / b) + (1 | c)", "(1 | a) + (0 + z | c)",
]  # fmt: skip


def draw(seed):
    """Data in which the random effects are large enough to be found, and a formula."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(70, 140))
    shape = SHAPES[seed % len(SHAPES)]
    table = pd.DataFrame(
        {
            "a": rng.integers(0, rng.integers(6, 12), n),
            "c": rng.integers(0, 7, n),
            "x": rng.normal(rng.choice([0.0, 20.0]), 2, n),
            "z": rng.normal(size=n),
            "f": pd.Categorical(rng.choice(["u", "v", "w"], n, p=[0.5, 0.3, 0.2])),
            "w": rng.uniform(0.3, 3.0, n),
        }
    )
    nested = "/" in shape
    table["b"] = rng.integers(0, 3, n) if nested else rng.integers(0, 8, n)
    y = 1 + 0.5 * table["x"] + (table["f"] == "v") + rng.normal(size=n) / np.sqrt(table["w"])
    for name, size in (("a", 12), ("b", 8), ("c", 7)):
        y += 1.5 * rng.normal(size=size)[table[name]]
    y += (table["x"] - table["x"].mean()) * rng.normal(size=12)[table["a"]] * 0.8
    y += 1.2 * rng.normal(size=36)[3 * table["a"] + table["b"] % 3]
    y += table["z"] * rng.normal(size=12)[table["a"]]
    y += (table["x"] - table["x"].mean()) * rng.normal(size=8)[table["b"]] * 0.6
    y += (table["f"] == "w") * rng.normal(size=12)[table["a"]]
    y += 1.3 * table["z"] * rng.normal(size=7)[table["c"]]
    table["y"] = y
    return table, f"y ~ x + f + {shape}", ("w" if rng.random() < 0.5 else None)


class Dense:
    """V, its derivatives in the entries of each Sigma and in sigma^2, X and y of a fit."""

    def __init__(self, fit):
        design = fit._rows.design
        n = design.n
        source_w = np.ones(n) if design.weights is None else design.weights
        self.X = dense_columns(design.atoms, design.fixed, n)
        self.y = design.response
        self.V, self.D = fit.scale * np.diag(1.0 / source_w), []
        for term, cov in zip(design.terms, fit._covariances, strict=True):
            Z = dense_columns(design.atoms, term.columns, n)
            codes = design.factors[term.factor].codes
            same = codes[:, None] == codes[None, :]
            self.V += np.where(same, Z @ cov @ Z.T, 0.0)
            q = len(cov)
            for i in range(q):
                for j in range(i + 1):
                    E = np.zeros((q, q))
                    E[i, j] = E[j, i] = 1.0
                    self.D.append(np.where(same, Z @ E @ Z.T, 0.0))
        self.D.append(np.diag(1.0 / source_w))
        self.W = linalg.inv(self.V)
        self.Phi = linalg.inv(self.X.T @ self.W @ self.X)
        self.P = self.W - self.W @ self.X @ self.Phi @ self.X.T @ self.W

    def satterthwaite(self, L):
        """df of each row of L: the observed information of V's linear parameters, and the delta method."""
        PD = [self.P @ D for D in self.D]
        Py = self.P @ self.y
        m = len(PD)
        H = np.empty((m, m))
        for r in range(m):
            for s in range(m):
                quadratic = 2.0 * Py @ self.D[r] @ self.P @ self.D[s] @ Py
                H[r, s] = quadratic - np.trace(PD[r] @ PD[s])
        d = 1.0 / np.sqrt(np.abs(H.diagonal()))
        A = 2.0 * d[:, None] * linalg.inv(H * np.outer(d, d)) * d
        out = []
        for row in L:
            u = self.W @ self.X @ self.Phi @ row
            g = np.array([u @ D @ u for D in self.D])
            out.append(2.0 * (row @ self.Phi @ row) ** 2 / (g @ A @ g))
        return np.array(out)

    def kenward_roger(self):
        """Adjusted covariance, as Kenward & Roger (1997) write it."""
        X, W, Phi = self.X, self.W, self.Phi
        WD = [W @ D for D in self.D]
        P = [-X.T @ A @ W @ X for A in WD]
        m = len(WD)
        Q = [[X.T @ WD[r] @ WD[s] @ W @ X for s in range(m)] for r in range(m)]
        info = np.array(
            [
                [
                    0.5 * np.trace(WD[r] @ WD[s])
                    - np.trace(Phi @ Q[r][s])
                    + 0.5 * np.trace(Phi @ P[r] @ Phi @ P[s])
                    for s in range(m)
                ]
                for r in range(m)
            ]
        )
        d = 1.0 / np.sqrt(info.diagonal())
        C = d[:, None] * linalg.inv(info * np.outer(d, d)) * d
        middle = sum(C[r, s] * (Q[r][s] - P[r] @ Phi @ P[s]) for r in range(m) for s in range(m))
        return Phi + 2.0 * Phi @ middle @ Phi, P, C

    def kenward_roger_f(self, L, beta):
        """F, numerator and denominator degrees of freedom of ``L beta = 0``; their section 2."""
        adjusted, P, C = self.kenward_roger()
        q, Phi = len(L), self.Phi
        T = L.T @ linalg.inv(L @ Phi @ L.T) @ L
        m = len(P)
        TPP = [T @ Phi @ P[r] @ Phi for r in range(m)]
        A1 = sum(C[r, s] * np.trace(TPP[r]) * np.trace(TPP[s]) for r in range(m) for s in range(m))
        A2 = sum(C[r, s] * np.trace(TPP[r] @ TPP[s]) for r in range(m) for s in range(m))
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        scale = 3 * q + 2 * (1 - g)
        c1, c2, c3 = g / scale, (q - g) / scale, (q + 2 - g) / scale
        E = 1.0 / (1.0 - A2 / q)
        V = (2.0 / q) * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        rho = V / (2.0 * E**2)
        df = 4.0 + (q + 2) / (q * rho - 1.0)
        F = beta @ L.T @ linalg.solve(L @ adjusted @ L.T, L @ beta) / q
        return df / (E * (df - 2.0)) * F, q, df


def is_regular(fit):
    """Whether no term's covariance is near singular."""
    return all(np.linalg.eigvalsh(T)[0] > 1e-4 * np.trace(T) for T in fit._estimates.terms)


@pytest.mark.parametrize("seed", range(48))
def test_against_explicit_matrices(seed):
    table, formula, weights = draw(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", flm.RankWarning)
        fit = flm.lmer(formula, table, weights=weights)
    dense = Dense(fit)
    p = len(fit.params)
    L = np.vstack([np.eye(p), np.random.default_rng(seed).normal(size=(2, p))])
    adjusted, _, _ = dense.kenward_roger()
    scale = np.sqrt(np.outer(np.diag(adjusted), np.diag(adjusted)))
    np.testing.assert_allclose(fit.cov_params("kenward-roger") / scale, adjusted / scale, atol=1e-6)
    single = fit.contrast(L, ddf="kenward-roger")
    expected = [dense.kenward_roger_f(row[None], fit.params.to_numpy())[2] for row in L]
    np.testing.assert_allclose(single["df"], expected, rtol=1e-5)
    joint = fit.contrast(L[2:4], ddf="kenward-roger", joint=True).iloc[0]
    F, q, df = dense.kenward_roger_f(L[2:4], fit.params.to_numpy())
    np.testing.assert_allclose(joint[["F", "num_df", "den_df"]].astype(float), [F, q, df], rtol=1e-5)
    if is_regular(fit):  # on the boundary the parameters of V are not free
        np.testing.assert_allclose(fit.contrast(L)["df"], dense.satterthwaite(L), rtol=1e-4)


def test_most_of_the_models_are_regular():
    regular = 0
    for seed in range(48):
        table, formula, weights = draw(seed)
        fit = flm.lmer(formula, table, weights=weights)
        regular += is_regular(fit)
    assert regular > 30
