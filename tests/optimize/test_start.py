"""Starting values against the quadratic equations they solve, with an explicit P."""

import numpy as np
import pytest
from oracle.dense import DenseEngine

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.start import estimate, improved, nonzero, scoring, starting_factors, wanted_starts

SLOPES = (TermBlock(0, 0, 2),)


def model(reml, blocks=SLOPES, seed=0, n=70, groups=12):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, groups, n)
    codes[:groups] = range(groups)
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.normal(size=n) + (rng.normal(size=(groups, 2))[codes] * X).sum(1)
    engine = DenseEngine(X, y, [(codes, X.copy())], rng.uniform(0.5, 2, n))
    return ProfiledObjective(engine, n, reml), ThetaMap(blocks, [2])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("blocks", [SLOPES, (TermBlock(0, 0, 1), TermBlock(0, 1, 1))])
def test_scoring_solves_the_quadratic_equations(reml, blocks):
    objective, theta_map = model(reml, blocks)
    engine, Lambda = objective.engine, np.array([[0.7, 0], [0.2 * (len(blocks) == 1), 0.4]])
    point = objective.evaluate([Lambda])
    objective.gradient(point)
    T = scoring(objective, theta_map, point)
    Vi, X, y = engine.V0inv, engine.Xy[:, :-1], engine.Xy[:, -1]
    P = Vi - Vi @ X @ np.linalg.inv(X.T @ Vi @ X) @ X.T @ Vi
    R = P if reml else Vi
    basis = [X for _, X in theta_map.t_basis]
    Vs = [engine.Z[0] @ np.kron(np.eye(12), D) @ engine.Z[0].T for D in basis] + [np.eye(len(y))]
    A = np.array([[np.trace(R @ V @ R @ W) for V in Vs] for W in Vs])
    s = np.linalg.solve(A, [y @ P @ V @ P @ y for V in Vs])
    expected = sum(a * X for a, X in zip(s, basis)) / s[-1]
    np.testing.assert_allclose(T, expected, rtol=1e-8)


def test_schall_moves_a_scalar_variance_the_right_way():
    rng = np.random.default_rng(1)
    n = 120
    a, b = rng.integers(0, 15, n), rng.integers(0, 8, n)
    a[:15], b[:8] = range(15), range(8)
    y = 5 * rng.normal(size=15)[a] + 0.1 * rng.normal(size=8)[b] + rng.normal(size=n)
    one = np.ones((n, 1))
    objective = ProfiledObjective(DenseEngine(one, y, [(a, one), (b, one)]), n, True)
    theta_map = ThetaMap([TermBlock(0, 0, 1), TermBlock(1, 0, 1)], [1, 1])
    factors = estimate(objective, theta_map, [np.eye(1), np.eye(1)])
    assert abs(factors[0][0, 0]) > 2 and (factors[1] ** 2).sum() < 0.3
    after = objective.evaluate([np.abs(factors[0]), np.array([[np.sqrt((factors[1] ** 2).sum())]])])
    assert after.value < objective.evaluate([np.eye(1), np.eye(1)]).value


def test_directions_that_do_not_matter_are_dropped():
    assert nonzero(np.diag([1.0, 1e-9])).shape == (2, 1)
    assert nonzero(np.diag([1e-6, 1e-7])).shape == (2, 2)
    assert nonzero(np.zeros((2, 2))).shape == (2, 0)


def test_starts_are_reproducible_and_differ():
    objective, theta_map = model(True)
    four = [starting_factors(objective, theta_map, None, i, 7) for i in range(4)]
    np.testing.assert_array_equal(four[3][0], starting_factors(objective, theta_map, None, 3, 7)[0])
    assert abs(four[2][0] - four[3][0]).max() > 0.01
    np.testing.assert_array_equal(four[0][0], improved(objective, theta_map, 1.0)[0])


def test_number_of_starts():
    assert wanted_starts(*model(True, groups=12)) == 2
    assert wanted_starts(*model(True, groups=8)) == 4
    assert wanted_starts(*model(True, groups=60)) == 1
    assert wanted_starts(*model(True, (TermBlock(0, 0, 1),), groups=8)) == 1
