"""The search on simulated models: singular truths, crossed factors, saddles, interruptions."""

import numpy as np
import pytest
from oracle.dense import DenseEngine
from oracle.grouped import GroupedEngine
from scipy.optimize import minimize as scipy_minimize

from fastlmm_core.criterion.information import theta_gradient
from fastlmm_core.criterion.profiled import ProfiledObjective
from fastlmm_core.errors import NumericalError
from fastlmm_core.mme.covariance import TermBlock, ThetaMap
from fastlmm_core.optimize.chart import Chart
from fastlmm_core.optimize.control import Control
from fastlmm_core.optimize.driver import _leave_saddle, _Search, minimize
from fastlmm_core.optimize.newton import differenced, quadratic

TRUTHS = {
    "full": [[0.8, 0], [0.2, 0.4]],
    "rank one": [[0.8, 0], [0.4, 0]],
    "no slope variance": [[0.8, 0], [0, 0]],
    "no intercept variance": [[0, 0], [0, 0.6]],
    "no variance": [[0, 0], [0, 0]],
    "large": [[8.0, 0], [2, 4]],
}
SLOPES = ThetaMap([TermBlock(0, 0, 2)], [2])


def one_factor(L, seed, groups=200, reml=True, balanced=False):
    rng = np.random.default_rng(seed)
    sizes = np.full(groups, 5) if balanced else rng.integers(2, 8, groups)
    codes = np.repeat(np.arange(groups), sizes)
    n = len(codes)
    x = np.tile(np.linspace(-1, 1, 5), groups) if balanced else rng.normal(size=n)
    X = np.column_stack([np.ones(n), x] if balanced else [np.ones(n), x, rng.normal(size=n)])
    Z = X[:, :2].copy()
    b = rng.normal(size=(groups, 2)) @ np.array(L, float).T
    y = X[:, 1] + (Z * b[codes]).sum(1) + rng.normal(size=n)
    return ProfiledObjective(GroupedEngine(X, y / y.std(), [(codes, Z)]), n, reml)


def crossed(sd, seed, n=150, slope=False):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 25, n), rng.integers(0, 7, n)
    a[:25], b[:7] = range(25), range(7)
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = sd[0] * rng.normal(size=25)[a] + sd[1] * rng.normal(size=7)[b] + rng.normal(size=n)
    q = 1 + slope
    engine = DenseEngine(X, y / y.std(), [(a, X[:, :q].copy()), (b, np.ones((n, 1)))])
    return ProfiledObjective(engine, n, True), ThetaMap([TermBlock(0, 0, q), TermBlock(1, 0, 1)], [q, 1])


def best_of_bounded(objective, theta_map, starts):
    """The lowest value L-BFGS-B finds from several starts, with the analytic gradient."""

    def f(theta):
        point = objective.evaluate(theta_map.to_Lambda(theta))
        objective.gradient(point)
        return point.value, theta_gradient(point, theta_map.directions(theta))

    bounds = [(0 if low == 0 else None, None) for low in theta_map.lower]
    options = {"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8}
    return min(
        scipy_minimize(f, s, jac=True, method="L-BFGS-B", bounds=bounds, options=options).fun for s in starts
    )


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("seed", range(4))
def test_never_above_bounded_quasi_newton(truth, seed):
    objective = one_factor(TRUTHS[truth], seed, reml=seed % 2 == 0)
    optimum = minimize(objective, SLOPES)
    certificate = optimum.certificate
    assert certificate.converged and certificate.n_values <= 25
    assert certificate.n_values == objective.n_values and certificate.n_gradients == objective.n_gradients
    best = best_of_bounded(objective, SLOPES, [[1.0, 0, 1.0], [0.3, 0.1, 0.3], [0.1, 0, 0.8]])
    assert optimum.point.value <= best + 1e-6
    again = objective.evaluate(SLOPES.to_Lambda(optimum.theta))
    assert abs(again.value - optimum.point.value) < 1e-8


@pytest.mark.parametrize("sd", [(1.0, 0.7), (1.0, 0.0), (0.0, 0.7), (0.0, 0.0), (4.0, 15.0)])
@pytest.mark.parametrize("slope", [False, True])
def test_crossed_factors(sd, slope):
    objective, theta_map = crossed(sd, 5, slope=slope)
    optimum = minimize(objective, theta_map, control=Control(n_starts=1))
    assert optimum.certificate.converged and optimum.certificate.n_values <= 25
    start = np.where(theta_map.lower == 0, 1.0, 0.0)
    best = best_of_bounded(objective, theta_map, [start, 0.2 * start, 3 * start])
    assert optimum.point.value <= best + 1e-6


def test_a_vanishing_crossed_variance_is_exactly_zero():
    seen = 0
    for seed in range(8):
        objective, theta_map = crossed((1.0, 0.0), seed)
        optimum = minimize(objective, theta_map, control=Control(n_starts=1))
        at_zero = objective.evaluate(theta_map.to_Lambda(optimum.theta * [1, 0]))
        if objective.gradient(at_zero)[1][0, 0] > 0:
            seen += 1
            assert optimum.theta[1] == 0.0 and optimum.certificate.boundary == ("theta[1]",)
            assert optimum.certificate.kkt_min_eigenvalue > 0
            assert optimum.certificate.iterations <= 12
    assert seen >= 3


SADDLES = [[1, 0, 1e-9], [1, 0, 0], [0, 0, 1], [0, 0, 0], [1e-9, 0, 1e-9], [30, 0, 30]]


@pytest.mark.parametrize("start", SADDLES)
def test_starts_on_a_saddle_or_far_away(start):
    """At a diagonal of 0 the gradient in theta is 0 whatever the data say."""
    objective = one_factor(TRUTHS["full"], 11)
    optimum = minimize(objective, SLOPES, start=np.array(start, float), control=Control(n_starts=1))
    best = minimize(objective, SLOPES)
    assert optimum.certificate.converged and optimum.certificate.n_values <= 25
    assert abs(optimum.point.value - best.point.value) < 1e-8


def test_starting_at_the_optimum_costs_nothing():
    objective = one_factor(TRUTHS["full"], 2)
    first = minimize(objective, SLOPES)
    again = minimize(objective, SLOPES, start=first.theta, control=Control(n_starts=1))
    assert again.certificate.n_values <= 2
    np.testing.assert_allclose(again.theta, first.theta, rtol=1e-8)


@pytest.mark.parametrize("reml", [True, False])
def test_balanced_data_need_no_search(reml):
    """One step of scoring is the estimate itself."""
    optimum = minimize(one_factor(TRUTHS["full"], 3, reml=reml, balanced=True), SLOPES)
    assert optimum.certificate.n_values <= 2 and optimum.certificate.newton_decrement < 1e-12


def test_certificate():
    objective = one_factor(TRUTHS["rank one"], 1)
    optimum = minimize(objective, SLOPES, names=["sd", "cov", "slope"])
    c = optimum.certificate
    assert c.boundary == ("slope",) and optimum.theta[2] == 0.0
    assert c.kkt_min_eigenvalue > 0 and c.min_hessian_eigenvalue > 0
    assert 0 <= c.newton_decrement < 1e-9 and c.max_scaled_gradient < 1e-4
    assert len(c.trace) == c.iterations and c.trace[-1].value == optimum.point.value
    assert all(a.value >= b.value - 1e-9 for a, b in zip(c.trace, c.trace[1:]))
    np.testing.assert_allclose(optimum.Lambda[0] @ optimum.Lambda[0].T, optimum.T[0])
    np.testing.assert_array_equal(np.triu(optimum.Lambda[0], 1), 0)
    assert optimum.point.D is not None


def test_too_few_iterations_are_not_called_convergence():
    optimum = minimize(one_factor(TRUTHS["full"], 4), SLOPES, control=Control(max_iter=1))
    assert not optimum.certificate.converged
    assert "no convergence in 1 iterations" in optimum.certificate.reason


def test_more_starts_can_be_asked_for():
    objective = one_factor(TRUTHS["full"], 4)
    assert minimize(objective, SLOPES, control=Control(n_starts=3)).certificate.n_starts == 3
    assert minimize(objective, SLOPES).certificate.n_starts == 1


def test_crowded_models_get_several_starts():
    """Six levels, three columns, two minima."""
    rng = np.random.default_rng(44)
    codes = np.repeat(np.arange(6), rng.integers(2, 8, 6))
    n = len(codes)
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    X = np.column_stack([Z, rng.normal(size=n)])
    L = np.tril(rng.normal(size=(3, 3))) * 10 ** rng.uniform(-1, 0.5, size=(3, 1))
    L *= rng.uniform(size=(1, 3)) < 0.7
    y = X @ rng.normal(size=4) + (Z * (rng.normal(size=(6, 3)) @ L.T)[codes]).sum(1) + rng.normal(size=n)
    theta_map = ThetaMap([TermBlock(0, 0, 3)], [3])
    objective = ProfiledObjective(GroupedEngine(X, y / y.std(), [(codes, Z)]), n, True)
    one = minimize(objective, theta_map, control=Control(n_starts=1))
    several = minimize(objective, theta_map)
    assert several.certificate.n_starts == 4
    assert several.point.value < one.point.value - 0.5


def test_interruption_leaves_with_the_best_point_so_far():
    objective = one_factor(TRUTHS["full"], 6)
    evaluate, calls = objective.engine.factorize, []

    def interrupted(Lambda):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(Lambda)

    objective.engine.factorize = interrupted
    optimum = minimize(objective, SLOPES)
    assert not optimum.certificate.converged and optimum.certificate.reason == "interrupted"
    assert np.isfinite(optimum.theta).all() and optimum.point.D is not None


def test_an_objective_without_values_is_an_error():
    objective = one_factor(TRUTHS["full"], 6)

    def broken(Lambda):
        raise NumericalError("a pivot is not positive")

    objective.engine.factorize = broken
    with pytest.raises(NumericalError, match="pivot"):
        minimize(objective, SLOPES, control=Control(n_starts=2))


def test_equal_runs_give_equal_bits():
    runs = [minimize(one_factor(TRUTHS["full"], 9), SLOPES) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].theta, runs[1].theta)
    assert runs[0].certificate.trace == runs[1].certificate.trace


def test_columns_in_either_order():
    """A vanishing first variance is as easy as a vanishing second one."""
    objective = one_factor(TRUTHS["no intercept variance"], 0)
    engine = objective.engine
    swapped = one_factor(TRUTHS["no intercept variance"], 0)
    swapped.engine.A, swapped.engine.B = engine.A[:, ::-1, ::-1], engine.B[:, ::-1]
    one, two = minimize(objective, SLOPES), minimize(swapped, SLOPES)
    assert abs(one.point.value - two.point.value) < 1e-8
    np.testing.assert_allclose(one.T[0], two.T[0][::-1, ::-1], atol=1e-6)
    assert max(one.certificate.n_values, two.certificate.n_values) <= 12


def test_a_saddle_is_left_both_ways_tried():
    """From a point above the optimum, with a direction and without a gradient."""
    objective = one_factor(TRUTHS["full"], 8)
    for direction in ([1.0, 0, 0], [-1.0, 0, 0], [0, 0.3, -1.0]):
        chart = Chart(SLOPES, [0.2 * np.eye(2)])
        point = objective.evaluate(chart.Lambda(chart.M))
        search = _Search(objective, Control(), chart, point, [], {})
        search.model = quadratic(objective, chart, point, "exact")
        search.decrement, search.direction = 0.0, np.array(direction)
        assert _leave_saddle(search) > 0
        assert search.point.value < point.value


def test_hessian_by_differences_is_the_exact_one():
    objective = one_factor(TRUTHS["full"], 8)
    chart = Chart(SLOPES, [np.array([[0.9, 0.1], [0.3, 0.5]])])
    model = quadratic(objective, chart, objective.evaluate(chart.Lambda(chart.M)), "exact")
    H = differenced(objective, chart, model)
    np.testing.assert_allclose(H, model.H, atol=1e-4 * abs(model.H).max())
