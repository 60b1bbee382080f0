"""Kenward and Roger's method against pbkrtest, and its sums against n x n matrices."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from oracle.dense import indicator
from reference import names
from reference.loader import case, data, ids

import fastlmm_core as flm
from fastlmm_core.inference import kenward_roger_sums

RECORDED = [id for id in ids("lmer") if "reml" in id]


@cache
def fitted(id):
    recorded = case(id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        return flm.lmer(
            recorded["formula"], data(recorded["dataset"]), reml=recorded["reml"], weights=recorded["weights"]
        )


@pytest.mark.reference
@pytest.mark.parametrize("id", RECORDED)
def test_standard_errors_and_degrees_of_freedom_of_pbkrtest(id):
    recorded = case(id)
    table = recorded["fixef"].get("kenward_roger") or {}
    if "df" not in table:
        pytest.skip(str(table.get("skipped") or table.get("error")))
    fit = fitted(id)
    kept = fit.params.notna().to_numpy()
    ours = [names.plain(name) for name in fit.params.index[kept]]
    order = [ours.index(names.plain(names.coefficient(n, data(recorded["dataset"])))) for n in recorded["fixef"]["names"]]  # fmt: skip  # noqa: E501
    found = fit._solved.kenward_roger
    np.testing.assert_allclose(np.sqrt(np.diag(found.adjusted))[order], table["se"], rtol=1e-4)
    np.testing.assert_allclose(found.coefficient_df()[order], table["df"], rtol=2e-3)
    vcov = np.array(table["vcov_adj"], float)
    scale = np.sqrt(np.outer(np.diag(vcov), np.diag(vcov)))
    np.testing.assert_allclose(found.adjusted[np.ix_(order, order)] / scale, vcov / scale, atol=2e-4)
    pd.testing.assert_frame_equal(fit.cov_params("kenward-roger"), fit._cov_frame(found.adjusted))


def simulated(structure, seed=3):
    """An unbalanced model with prior weights: nested, crossed or one factor with a random slope."""
    rng = np.random.default_rng(seed)
    n = 150
    outer = rng.integers(0, 7, n)
    inner = outer * 4 + rng.integers(0, 4, n) if structure == "nested" else rng.integers(0, 9, n)
    x, f = rng.normal(5, 2, n), rng.integers(0, 2, n)
    b = rng.normal(size=(7, 2)) @ np.array([[1.2, 0.3], [0.0, 0.4]])
    y = 3 + x + 0.5 * f + b[outer, 0] + b[outer, 1] * x + rng.normal(size=n)
    if structure != "one":
        y += 0.8 * rng.normal(size=40)[inner]
    table = pd.DataFrame(
        {"y": y, "x": x, "f": f, "outer": outer, "inner": inner, "w": rng.uniform(0.4, 3, n)}
    )
    random = {
        "one": "(1 + x | outer)",
        "nested": "(1 + x | outer) + (1 | inner)",
        "crossed": "(1 + x | outer) + (1 | inner)",
    }[structure]
    return table, f"y ~ x + f + {random}"


def explicit(fit, table):
    """Adjusted covariance, W and P by matrices of n rows and columns."""
    X = np.column_stack([np.ones(len(table)), table["x"], table["f"]])
    parts, blocks = [], []
    for term, cov in zip(fit._facts.terms, fit._covariances):
        codes = pd.Index(fit._facts.levels[term.factor]).get_indexer(table[fit._facts.factors[term.factor]])
        Z = np.column_stack([np.ones(len(table)), table["x"]])[:, : len(cov)]
        full = indicator(codes, Z)
        for a in range(len(cov)):
            for b in range(a + 1):
                E = np.zeros_like(cov)
                E[a, b] = E[b, a] = 1.0
                parts.append(full @ np.kron(np.eye(codes.max() + 1), E) @ full.T)
        blocks.append(full @ np.kron(np.eye(codes.max() + 1), cov) @ full.T)
    residual = np.diag(1 / table["w"].to_numpy())
    V_inv = np.linalg.inv(fit.scale * residual + sum(blocks))
    D = [V_inv @ part for part in [residual, *parts]]
    Phi = np.linalg.inv(X.T @ V_inv @ X)
    P = np.array([-X.T @ d @ V_inv @ X for d in D])
    Q = np.array([[X.T @ a @ b @ V_inv @ X for b in D] for a in D])
    m = range(len(D))
    two_I = [
        [np.trace(D[r] @ D[s]) - 2 * np.trace(Phi @ Q[r, s]) + np.trace(Phi @ P[r] @ Phi @ P[s]) for s in m]
        for r in m
    ]
    W = 2 * np.linalg.inv(two_I)
    middle = sum(W[r, s] * (Q[r, s] - P[r] @ Phi @ P[s]) for r in m for s in m)
    return Phi + 2 * Phi @ middle @ Phi, W, P, Phi


@pytest.mark.parametrize("structure", ["one", "nested", "crossed"])
def test_weighted_fits_against_explicit_matrices(structure):
    table, formula = simulated(structure)
    fit = flm.lmer(formula, table, weights="w")
    adjusted, W, P, Phi = explicit(fit, table)
    found = fit._solved.kenward_roger
    np.testing.assert_allclose(found.adjusted, adjusted, rtol=1e-6)
    # W and P depend on the basis of the covariance, the degrees of freedom do not
    rng = np.random.default_rng(1)
    for l in rng.normal(size=(4, 3)):
        t = np.einsum("i,ij,rjk,kl,l->r", l, Phi, P, Phi, l) / (l @ Phi @ l)
        assert found.single_df(l)[0] == pytest.approx(2 / (t @ W @ t), rel=1e-6)
    L = rng.normal(size=(2, 3))
    Theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
    U = [Theta @ Phi @ p @ Phi for p in P]
    A1 = sum(W[r, s] * np.trace(a) * np.trace(b) for r, a in enumerate(U) for s, b in enumerate(U))
    A2 = sum(W[r, s] * np.trace(a @ b) for r, a in enumerate(U) for s, b in enumerate(U))
    from fastlmm_core.inference.kenward_roger import matched_f

    assert found.df(np.vstack([L, L.sum(0)])) == (
        2,
        *(pytest.approx(v, rel=1e-6) for v in matched_f(2, A1, A2)),
    )


def test_batches_of_uneven_levels_give_the_same_sums(monkeypatch):
    table, formula = simulated("nested")
    whole = flm.lmer(formula, table)._solved.kenward_roger
    monkeypatch.setattr(kenward_roger_sums, "BATCH_ENTRIES", 60)
    pieces = flm.lmer(formula, table)._solved.kenward_roger
    np.testing.assert_allclose(pieces.adjusted, whole.adjusted, rtol=1e-12)
    np.testing.assert_allclose(pieces.W, whole.W, rtol=1e-9, atol=1e-12 * np.abs(whole.W).max())


@pytest.mark.parametrize("structure", ["nested", "crossed"])
def test_refuses_with_the_sizes(structure, monkeypatch):
    table, formula = simulated(structure)
    fit = flm.lmer(formula, table)
    monkeypatch.setattr(kenward_roger_sums, "MOST_WORK", 1e3)
    with pytest.raises(flm.ModelError, match=r"7 levels x 2.*Satterthwaite"):
        fit.cov_params("kenward-roger")


def test_singular_fit_has_a_covariance():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"y": rng.normal(size=60), "g": np.repeat(np.arange(6), 10), "x": rng.normal(size=60)}
    )
    table["y"] -= table.groupby("g")["y"].transform("mean")
    fit = flm.lmer("y ~ x + (1 | g)", table)
    assert fit.is_singular
    se = np.sqrt(np.diag(fit.cov_params("kenward-roger")))
    assert np.isfinite(se).all() and (fit._solved.kenward_roger.coefficient_df() > 0).all()


def test_maximum_likelihood_is_refused():
    table, formula = simulated("one")
    with pytest.raises(ValueError, match="REML"):
        flm.lmer(formula, table, reml=False).conf_int(method="kenward-roger")
