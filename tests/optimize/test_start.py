"""Starting values against the quadratic equations they solve, with an explicit P."""

import numpy as np
import pytest
from oracle.dense import DenseEngine

from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.start import (
    AMPLE,
    ample_sd,
    ample_terms,
    estimate,
    improved,
    mean_products,
    nonzero,
    scoring,
    starting_factors,
    wanted_starts,
)

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
    apart = (TermBlock(0, 0, 1), TermBlock(0, 1, 1))
    assert wanted_starts(*model(True, n=120, groups=12)) == 1
    assert wanted_starts(*model(True, n=120, groups=8)) == 4  # 3 parameters on 8 levels
    assert wanted_starts(*model(True, groups=30)) == 2  # 60 random effects on 70 rows
    assert wanted_starts(*model(True, apart, groups=12)) == 4
    assert wanted_starts(*model(True, apart, groups=30)) == 8
    assert wanted_starts(*model(True, (TermBlock(0, 0, 1),), groups=8)) == 1


def test_an_expensive_search_is_repeated_where_terms_compete():
    apart = (TermBlock(0, 0, 1), TermBlock(0, 1, 1))
    for shift, wanted in ((0.0, 1), (10.0, 3)):
        objective, theta_map = model(True, apart)
        Z = objective.engine.Z[0]
        Z[:, 1::2] += shift * Z[:, 0::2]  # the slope's covariate moves away from 0
        objective.work = 1e9
        assert wanted_starts(objective, theta_map) == wanted


def test_ample_starts_leave_no_direction_of_z_negligible():
    objective, theta_map = model(True, (TermBlock(0, 0, 1), TermBlock(0, 1, 1)))
    Z = objective.engine.Z[0].reshape(70, 12, 2)
    A = np.einsum("nga,ngb->ab", Z, Z) / 12
    np.testing.assert_allclose(mean_products(objective, theta_map)[0], A, rtol=1e-10)
    for number, ample in enumerate(AMPLE, 1):
        factors = starting_factors(objective, theta_map, None, number, 0)
        assert factors[0] == factors[1] == ample_sd(objective, theta_map, ample)[0]
        np.testing.assert_allclose(np.linalg.eigvalsh(A)[0] * factors[0][0, 0] ** 2, ample)
    one_at_a_time = [starting_factors(objective, theta_map, None, number, 0) for number in (4, 5)]
    assert one_at_a_time[0][0] == one_at_a_time[1][1] > 10 * one_at_a_time[0][1]


@pytest.mark.parametrize("work", [1e3, 1e9])
def test_terms_whose_mean_is_no_fixed_effect(work):
    """Each has a start of its own; where a search is expensive, only if the mean explains something."""
    factor = np.arange(70) % 7, np.ones((70, 1))
    rng = np.random.default_rng(0)
    engine = DenseEngine(np.ones((70, 1)), rng.normal(size=70), [factor, factor])
    theta_map = ThetaMap((TermBlock(0, 0, 1), TermBlock(1, 0, 1)), [1, 1])
    wanted, alone = {}, {}
    for gain in (0.0, 1.0, 100.0):
        engine.unmatched = lambda gain=gain: [np.zeros(1), np.array([gain])]
        objective = ProfiledObjective(engine, 70, True)
        objective.work = work
        wanted[gain] = wanted_starts(objective, theta_map)
        chosen = [ample_terms(objective, theta_map, number) for number in range(1, wanted[gain])]
        alone[gain] = [number for number, (terms, _) in enumerate(chosen, 1) if terms == [1]]
    if work < 1e6:
        assert wanted == {0.0: 2, 1.0: 8, 100.0: 8} and alone == {0.0: [], 1.0: [5], 100.0: [5]}
    else:
        assert wanted == {0.0: 1, 1.0: 1, 100.0: 2} and alone == {0.0: [], 1.0: [], 100.0: [1]}
