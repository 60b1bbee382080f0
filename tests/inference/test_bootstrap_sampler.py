"""Statistics drawn without rows are distributed like those of simulated rows: first and second moments."""

import numpy as np
import pytest

import fastlmm_core as flm
from fastlmm_core.crossprod.layout import build_layout, row_atoms
from fastlmm_core.crossprod.rows import column_program
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.inference.sampler import DenseSampler, StatisticsSampler
from fastlmm_core.inference.simulate import RowStatistics
from fastlmm_core.mme.replicates import ReplicateEngine

DRAWS = 5000


def frame():
    rng = np.random.default_rng(7)
    c = np.repeat(np.arange(9), [1, 2, 3, 4, 2, 3, 5, 2, 4])
    n = len(c)
    data = {"c": c, "b": c // 2, "a": c // 4, "x": rng.normal(size=n), "w": rng.uniform(0.3, 3, n)}
    data["d"] = np.arange(n) % 5
    data["z"] = c % 3 + 0.0  # constant within c, so rank is lost in (z | c)
    data["y"] = data["x"] + rng.normal(size=9)[c] + rng.normal(size=n)
    return data


def setting(formula, weights):
    """A sampler with parameters set by hand, and the rows it stands for in its coordinates."""
    fit = flm.lmer(formula, frame(), weights=weights)
    solved, design = fit._solved, fit._rows.design
    point, layout = solved.point, build_layout(design, standardize(design))
    for f, k in enumerate(solved.theta_map.k):
        point.Lambda[f] = np.tril(0.4 + 0.5 * np.eye(k) + 0.1 * f)
    point.s2 = 0.7
    U = column_program(row_atoms(design), list(layout.columns), design.n).dense(0, design.n)
    Z = []
    for factor, z in zip(design.factors, layout.z):
        indicator = (factor.codes[:, None] == np.arange(len(factor.levels))) * 1.0
        Z.append(np.concatenate([indicator[:, [i]] * U[:, z] for i in range(indicator.shape[1])], axis=1))
    w = np.ones(design.n) if design.weights is None else design.weights
    V = np.diag(1 / w)
    for f, Zf in enumerate(Z):
        T = np.kron(np.eye(len(design.factors[f].levels)), point.Lambda[f] @ point.Lambda[f].T)
        V += Zf @ T @ Zf.T
    mean = U[:, layout.x[solved.fixed.kept]] @ point.beta
    others = [j for j in range(U.shape[1]) if j != layout.y]
    linear = np.concatenate([U[:, others], *Z], axis=1).T * w
    return solved, linear, mean, point.s2 * V, w, others


MODELS = [
    ("y ~ x + (1 | c)", None),
    ("y ~ x + (x | c)", "w"),
    ("y ~ x + (z | c)", None),
    ("y ~ x + (x || b)", "w"),
    ("y ~ x + (x | b) + (1 | c)", "w"),
    ("y ~ x + (x | a) + (1 | b) + (x | c)", None),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formula, weights", MODELS)
def test_moments(formula, weights):
    solved, linear, mean, V, w, others = setting(formula, weights)
    sampler = StatisticsSampler(solved.products, solved.fixed.kept, solved.point)
    Uy, yy, Zy = sampler.draw([np.random.default_rng([5, i]) for i in range(DRAWS)])
    compare(Uy, yy, Zy, linear, mean, V, w, others)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formula, weights", [MODELS[2], ("y ~ x + (x | c) + (x | d)", "w")])
def test_moments_from_a_dense_root(formula, weights):
    solved, linear, mean, V, w, others = setting(formula, weights)
    sampler = DenseSampler(solved.products, solved.fixed.kept, solved.point)
    Uy, yy, Zy = sampler.draw([np.random.default_rng([7, i]) for i in range(DRAWS)])
    kept = list(solved.products.x[solved.fixed.kept])
    rows = [others.index(j) for j in kept] + list(range(len(others), len(linear)))
    compare(Uy, yy, Zy, linear[rows], mean, V, w, kept)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formula, weights", MODELS[:4])
def test_moments_in_packed_levels(formula, weights):
    solved, linear, mean, V, w, others = setting(formula, weights)
    engine = ReplicateEngine(solved.products, solved.fixed.kept, DRAWS)
    point = solved.point
    generators = [np.random.default_rng([6, i]) for i in range(DRAWS)]
    engine.draw(point.beta, point.Lambda[0], point.s2**0.5, generators)
    drawn = [engine.statistics(i) for i in range(DRAWS)]
    # only columns of X are kept up here
    kept = list(solved.products.x[solved.fixed.kept])
    rows = [others.index(j) for j in kept] + list(range(len(others), len(linear)))
    Uy, yy, Zy = (np.array(part) for part in zip(*((one[0], one[1], one[2][0]) for one in drawn)))
    compare(Uy, yy, [Zy], linear[rows], mean, V, w, kept)


def compare(Uy, yy, Zy, linear, mean, V, w, others):
    """First and second moments, and linear dependencies, of drawn statistics."""
    drawn = np.concatenate([Uy[:, others], *(part.reshape(DRAWS, -1) for part in Zy), yy[:, None]], axis=1)
    W = np.diag(w)
    expected_mean = np.append(linear @ mean, mean @ W @ mean + np.trace(W @ V))
    cross = 2 * linear @ V @ W @ mean
    square = 2 * np.trace(W @ V @ W @ V) + 4 * mean @ W @ V @ W @ mean
    expected = np.block([[linear @ V @ linear.T, cross[:, None]], [cross[None], np.array([[square]])]])
    sd = np.sqrt(np.diag(expected))
    used = sd > 1e-9 * sd.max()
    z = (drawn.mean(0) - expected_mean)[used] / sd[used] * np.sqrt(DRAWS)
    assert np.abs(z).max() < 4.5
    scaled = (np.cov(drawn.T) - expected)[np.ix_(used, used)] / np.outer(sd[used], sd[used])
    assert np.abs(scaled).max() * np.sqrt(DRAWS) < 9
    # sums that are linear in each other stay so in every draw
    null = np.linalg.svd(linear)[0][:, np.linalg.matrix_rank(linear) :]
    assert np.abs(drawn[:100, :-1] @ null).max(initial=0.0) < 1e-9 * np.abs(drawn).max()


@pytest.mark.parametrize("formula, weights", MODELS[:2] + MODELS[4:])
def test_one_response_from_both_ways_of_summing(formula, weights):
    """The statistics of a row-wise response, against dense sums."""
    fit = flm.lmer(formula, frame(), weights=weights)
    design = fit._rows.design
    layout = build_layout(design, standardize(design))
    y = np.random.default_rng(1).normal(size=design.n)
    U = column_program(row_atoms(design), list(layout.columns), design.n).dense(0, design.n)
    U[:, layout.y] = 0
    wy = y if design.weights is None else y * design.weights
    for keep in (True, False):
        Uy, yy, Zy = RowStatistics(design, layout, keep)(y)
        np.testing.assert_allclose(Uy, U.T @ wy, atol=1e-12)
        assert yy == pytest.approx(y @ wy)
        for f, factor in enumerate(design.factors):
            dense = np.array(
                [(U[:, layout.z[f]] * wy[:, None])[factor.codes == i].sum(0) for i in range(len(Zy[f]))]
            )
            np.testing.assert_allclose(Zy[f], dense, atol=1e-12)
