"""collapsed == tree == dense, and the choice between them."""

from dataclasses import replace

import numpy as np
import pytest
from oracle.dense import DenseEngine, statistics

from fastlmm_core._kernels._tree import collapse, ratios
from fastlmm_core.errors import ModelError, NumericalError
from fastlmm_core.mme.choose import choose_engine
from fastlmm_core.mme.collapsed import CollapsedEngine, can_collapse
from fastlmm_core.mme.tree import NestedEngine, OneFactorEngine, TreeEngine


def intercepts(seed, scale=1.0, p=3, n=90, G=14):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(G), rng.integers(G, size=n - G)])
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))]) if p else np.empty((n, 0))
    y = rng.normal(size=G)[codes] + rng.normal(size=n)
    return X, y, [(codes, np.full((n, 1), scale))]


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("theta", [0.0, 0.7, -6.0])
@pytest.mark.parametrize("p", [0, 3])
def test_three_engines_agree(scale, theta, p):
    X, y, factors = intercepts(1, scale, p)
    cp = statistics(X, y, factors)
    dense = DenseEngine(X, y, factors)
    Lambda = [np.array([[theta]])]
    want_logdet, want_S = dense.factorize(Lambda)
    Q = np.linalg.inv(want_S[:-1, :-1])
    v = np.append(-Q @ want_S[:-1, -1], 1.0)
    directions = [(0, np.array([[1.0]])), (0, np.array([[-2.5]]))]
    for engine in (CollapsedEngine(cp, np.arange(p)), TreeEngine(cp, np.arange(p))):
        logdet, S = engine.factorize(Lambda)
        np.testing.assert_allclose(logdet, want_logdet, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(S, want_S, rtol=1e-10, atol=1e-10)
        for got, want in zip(engine.moments(), dense.moments(), strict=True):
            np.testing.assert_allclose(got[0], want[0], rtol=1e-9, atol=1e-9 * np.abs(want[0]).max())
        got, want = engine.second_moments(Q, v), dense.second_moments(Q, v)
        for name in ("FF", "FP", "Fg"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-9, atol=1e-13)
        got, want = (e.average_information(Q, v, directions) for e in (engine, dense))
        np.testing.assert_allclose(got, want, rtol=1e-9)
        got, want = (e.random_effects(v)[0] for e in (engine, dense))
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            engine.conditional_covariance(0), dense.conditional_covariance(0), rtol=1e-9, atol=1e-9
        )


def test_choice():
    X, y, factors = intercepts(2)
    codes, one = factors[0]
    slope = [(codes, np.column_stack([one, X[:, 1]]))]
    nested = [factors[0], (codes % 3, one)]
    cp = statistics(X, y, factors)
    keep = np.arange(3)
    assert isinstance(choose_engine(cp, keep), CollapsedEngine)
    assert isinstance(choose_engine(cp, keep, engine="tree"), OneFactorEngine)
    assert isinstance(choose_engine(statistics(X, y, factors, np.full(90, 2.0)), keep), OneFactorEngine)
    assert isinstance(choose_engine(statistics(X, y, slope), keep), OneFactorEngine)
    assert isinstance(choose_engine(statistics(X, y, [(codes, X[:, 1:2])]), keep), OneFactorEngine)
    assert isinstance(choose_engine(statistics(X, y, nested), keep), NestedEngine)
    assert not can_collapse(statistics(X, y, nested))
    with pytest.raises(ModelError):
        choose_engine(statistics(X, y, slope), keep, engine="collapsed")
    with pytest.raises(ModelError):
        choose_engine(cp, keep, engine="quantum")
    with pytest.raises(ModelError):
        choose_engine(replace(cp, structure="none", order=()), keep)


def test_not_finite():
    X, y, factors = intercepts(3)
    cp = statistics(X, y, factors)
    with pytest.raises(NumericalError):
        CollapsedEngine(cp, np.arange(3)).factorize([np.array([[np.nan]])])
    R = cp.R[0].copy()
    R[2, 0, cp.y] = np.nan
    with pytest.raises(NumericalError):
        choose_engine(replace(cp, R=(R,)), np.arange(3))


@pytest.mark.parametrize("levels", [5, 200_000])
def test_ratios_of_sums_and_counts(levels):
    rng = np.random.default_rng(levels)
    counts = rng.integers(1, 9, levels)
    R = np.ascontiguousarray(np.outer(counts * rng.uniform(0.5, 2.0, levels), [2.0, 1.0]))[:, None, :]
    expected = R[:, 0, 1] / counts
    for threads in (1, 3):
        assert ratios(R, 1, counts, threads) == (expected.min(), expected.max())
    for place, (value, count) in enumerate([(np.nan, 3), (np.inf, 3), (1.0, 0), (1.0, -2)]):
        wrong, few = R.copy(), counts.copy()
        wrong[place, 0, 1], few[place] = value, count
        assert np.isnan(ratios(wrong, 1, few, 3)).all()
    with pytest.raises(ValueError, match="counts"):
        ratios(R, 1, counts[1:], 1)


def test_sums_of_many_levels_do_not_depend_on_threads():
    rng = np.random.default_rng(8)
    R, xy = rng.normal(size=(70_001, 1, 4)), np.array([2, 0, 3])
    group = rng.integers(0, 5, len(R)).astype(np.int32)
    sums = [collapse(R, xy, group, 5, threads) for threads in (1, 3)]
    np.testing.assert_array_equal(*sums)
    for g in range(5):
        rows = R[group == g, 0][:, xy]
        np.testing.assert_allclose(sums[0][g], np.tril(rows.T @ rows), rtol=1e-12, atol=1e-9)
    alone = collapse(R, xy, np.arange(len(R), dtype=np.int32), len(R), 3)
    np.testing.assert_allclose(alone[17], np.tril(np.outer(R[17, 0, xy], R[17, 0, xy])))
