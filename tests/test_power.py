"""Planned designs, and power by simulation against what theory says of balanced designs."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.design_tools import simulate
from fastlmm_core.design_tools.design import resize
from fastlmm_core.design_tools.power import binomial_limits

TRIAL = "y ~ arm + (1 | subject)"


def trial(n):
    return flm.simulate_design({"subject": n}, between={"subject": {"arm": ["a", "b"]}}, replicates=4)


@pytest.fixture(scope="module")
def sleep():
    return flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))


def test_nested_design():
    found = flm.simulate_design(
        {"school": 4, "class": 3}, between={"class": {"method": ["old", "new"], "sex": ["f", "m"]}},
        within={"time": [0, 1.5], "form": ["x", "y", "z"]}, replicates=2,
    )  # fmt: skip
    assert len(found) == 4 * 3 * 2 * 3 * 2 and list(found) == [
        "school",
        "class",
        "method",
        "sex",
        "time",
        "form",
    ]
    assert (
        found["class"].nunique() == 12
        and (found.groupby("class", observed=True)["school"].nunique() == 1).all()
    )
    assert found["time"].dtype == float and found["method"].cat.categories.tolist() == ["old", "new"]
    assert (found.groupby("class", observed=True)["method"].nunique() == 1).all()
    once = found.drop_duplicates("class")
    assert (once.groupby(["method", "sex"], observed=True).size() == 3).all()
    assert (found.groupby(["class", "time", "form"], observed=True).size() == 2).all()


def test_crossed_design_and_covariates():
    made = {"groups": {"person": 6, "item": 5}, "crossed": True, "seed": 4}
    makers = {
        "age": ("person", lambda rng, n: rng.normal(40, 10, n)),
        "noise": lambda rng, n: rng.uniform(size=n),
    }
    found = flm.simulate_design(**made, covariates=makers)
    assert (pd.crosstab(found["person"], found["item"]) == 1).all().all()
    assert found.groupby("person", observed=True)["age"].nunique().max() == 1 and found["age"].nunique() == 6
    assert found["noise"].nunique() == 30
    pd.testing.assert_frame_equal(found, flm.simulate_design(**made, covariates=makers))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"groups": {}}, "at least one group"),
        ({"groups": {"g": 0}}, "g is a positive whole number"),
        ({"groups": {"g": 3}, "replicates": 1.5}, "replicates is a positive"),
        ({"groups": {"g": 3}, "within": {"g": [1]}}, "'g' is named twice"),
        ({"groups": {"g": 3}, "between": {"h": {"a": [1]}}}, "no group 'h'"),
        ({"groups": {"g": 3}, "covariates": {"c": lambda rng, n: rng.normal(size=2)}}, "shape"),
        ({"groups": {"g": 10**5, "h": 10**5}}, "rows, more than"),
    ],
)
def test_what_is_no_design(options, words):
    with pytest.raises(flm.DataError, match=words):
        flm.simulate_design(**options)


def test_resizing_copies_levels_and_what_lies_within_them():
    frame = flm.simulate_design({"school": 3, "class": 2}, within={"time": [0, 1]})
    found = resize(frame, "school", 8, ["school", "class"])
    assert found["school"].nunique() == 8 and found["class"].nunique() == 16 and len(found) == 32
    assert (found.groupby("class")["school"].nunique() == 1).all()
    assert resize(frame, "school", 2, ["school"])["school"].unique().tolist() == ["school1", "school2"]


def test_power_is_that_of_the_noncentral_t():
    """Means of subjects have variance sd^2 + sigma^2 / m: the test is a t test of two samples of them."""
    n, sd, sigma, effect, nsim = 20, 2.0, 1.0, 2.0, 800
    found = flm.power(
        TRIAL, trial(n), test="arm[T.b]", beta={"arm[T.b]": effect}, sd={"subject": sd}, sigma=sigma,
        nsim=nsim, seed=1,
    ).table.iloc[0]  # fmt: skip
    error = np.sqrt((sd**2 + sigma**2 / 4) * 4 / n)
    edge, df, shift = stats.t.isf(0.025, n - 2), n - 2, effect / error
    expected = stats.nct.sf(edge, df, shift) + stats.nct.cdf(-edge, df, shift)
    assert abs(found["power"] - expected) < 3.5 * np.sqrt(expected * (1 - expected) / nsim)
    assert found["lower"] < found["power"] < found["upper"] and found["failed"] == 0
    assert found["exaggeration"] > 1 and found["rows"] == 80


def test_no_effect_is_found_at_the_rate_of_the_level():
    found = flm.power(
        TRIAL, trial(16), test="arm[T.b]", sd={"subject": 2.0}, sigma=1.0, nsim=700, seed=2, alpha=0.1
    )
    assert abs(found.table["power"][0] - 0.1) < 3.5 * np.sqrt(0.09 / 700)
    assert "exaggeration" not in found.table
    np.testing.assert_allclose(found.estimates[64].std(), np.sqrt(4.25 * 4 / 16), rtol=0.1)


def test_draws_have_the_parameters_that_were_asked_for(sleep):
    seen = []

    def keep(fit):
        seen.append([*fit.params, *fit.varcorr()["vcov"]])
        return 1.0

    flm.power(
        sleep, test=keep, beta={"Days": -3.0}, sd={"Subject": [30.0, 5.0]}, cor={"Subject": 0.5}, sigma=20.0,
        nsim=400, seed=3, n_jobs=1,
    )  # fmt: skip
    found, errors = np.mean(seen, axis=0), np.std(seen, axis=0) / 20.0
    expected = [sleep.params["Intercept"], -3.0, 900.0, 25.0, 75.0, 400.0]
    assert (np.abs(found - expected) < 4 * errors).all()


def test_results_do_not_depend_on_the_threads(sleep):
    options = {"test": "Days", "nsim": 60, "seed": 9, "along": "Subject", "sizes": [6, 12]}
    first, second = flm.power(sleep, n_jobs=1, **options), flm.power(sleep, n_jobs=3, **options)
    pd.testing.assert_frame_equal(first.pvalues, second.pvalues)
    assert first.pvalues[6].mean() > first.pvalues[12].mean()
    assert not first.pvalues.equals(flm.power(sleep, n_jobs=1, **options | {"seed": 10}).pvalues)


def test_a_curve(sleep):
    done = []
    found = flm.power(
        sleep, test="Days", beta={"Days": 4.0}, along="Subject", sizes=[6, 18, 54], nsim=120, seed=1,
        progress=done.append,
    )  # fmt: skip
    assert found.table["size"].tolist() == [6, 18, 54] and found.table["rows"].tolist() == [60, 180, 540]
    assert found.table["power"].is_monotonic_increasing and found.table["power"][2] > 0.9
    assert found.smallest(0.9) == 54 and found.smallest(1.1) is None and done[-1] == 1.0
    assert "Days" in repr(found)


def test_plot(sleep):
    matplotlib = pytest.importorskip("matplotlib")
    found = flm.power(sleep, test="Days", along="Subject", sizes=[6, 9], nsim=10, seed=1)
    ax = found.plot()
    assert ax.get_xlabel() == "Subject" and len(ax.containers) == 1
    np.testing.assert_array_equal(ax.containers[0][0].get_ydata(), found.table["power"])
    matplotlib.pyplot.close(ax.figure)


def test_designs_from_a_function_contrasts_and_joint_tests():
    options = {"sd": {"subject": 0.5}, "sigma": 1.0, "nsim": 40, "seed": 5, "beta": {"arm[T.b]": 3.0}}
    curve = flm.power(TRIAL, trial, sizes=[8, 16], test="arm[T.b]", **options)
    assert curve.table["rows"].tolist() == [32, 64] and (curve.table["power"] > 0.9).all()
    single = flm.power(TRIAL, trial(16), test="arm[T.b] = 3", **options)
    assert single.table["power"][0] < 0.3
    joint = flm.power(TRIAL, trial(16), test=["arm[T.b] = 0", "Intercept = 0"], **options)
    assert joint.table["power"][0] > 0.9


def test_crossed_groups():
    design = flm.simulate_design(
        {"person": 12, "item": 8}, crossed=True, between={"item": {"kind": ["u", "v"]}}
    )
    found = flm.power(
        "y ~ kind + (1 | person) + (1 | item)", design, test="kind[T.v]", beta={"kind[T.v]": 3.0},
        sd={"person": 1.0, "item": 0.5}, sigma=1.0, nsim=40, seed=1,
    )  # fmt: skip
    assert found.table["power"][0] > 0.9 and found.table["failed"][0] == 0


@pytest.mark.parametrize(
    "change, kind, words",
    [
        ({"test": "nothing"}, ValueError, "no coefficient 'nothing'"),
        ({"beta": {"nothing": 1.0}}, ValueError, "no coefficient 'nothing'"),
        ({"sd": {"person": 1.0}}, ValueError, "no random term 'person'"),
        ({"sd": {}}, ValueError, "sd of the random term 'subject'"),
        ({"sd": {"subject": [1.0, 2.0]}}, ValueError, "takes one value of at least 0 for each of"),
        ({"sigma": None}, ValueError, "needs data, sd"),
        ({"sigma": -1.0}, ValueError, "sigma is positive"),
        ({"alpha": 5}, ValueError, "alpha must lie"),
        ({"nsim": 0}, ValueError, "nsim is a positive"),
        ({"sizes": [4]}, flm.DataError, "along=None"),
        ({"sizes": [4], "along": "arm"}, flm.FormulaError, "no grouping factor"),
        ({"sizes": [1], "along": "subject"}, ValueError, "at least 2"),
    ],
)
def test_what_is_missing_is_named(change, kind, words):
    options = {"data": trial(8), "test": "arm[T.b]", "sd": {"subject": 1.0}, "sigma": 1.0, "nsim": 5} | change
    with pytest.raises(kind, match=words):
        flm.power(TRIAL, **options)


def test_correlations_are_checked(sleep):
    for cor in (1.5, [[1.0, 0.2], [0.3, 1.0]], np.eye(3)):
        with pytest.raises(ValueError, match="cor\\['Subject'\\]"):
            flm.power(sleep, test="Days", cor={"Subject": cor}, nsim=5)
    with pytest.raises(TypeError, match="power takes a fit"):
        flm.power(flm.lm("Reaction ~ Days", flm.load_dataset("sleepstudy")), test="Days")


def test_limits_of_a_proportion():
    for hits, n in ((0, 20), (7, 20), (20, 20)):
        expected = stats.binomtest(hits, n).proportion_ci()
        np.testing.assert_allclose(binomial_limits(hits, n), [expected.low, expected.high], atol=1e-12)


def test_arguments_that_are_no_dicts():
    with pytest.raises(TypeError, match=r"groups is a dict such as \{'subject': 20"):
        flm.simulate_design(12)
    with pytest.raises(TypeError, match=r"as in \{'subject': \{'arm': \['a', 'b'\]\}\}; found \['a', 'b'\]"):
        flm.simulate_design({"subject": 12}, between={"arm": ["a", "b"]})
    rows = flm.simulate_design({"subject": 12}, within={"week": [0, 1, 2]})
    for name, wrong in (("sd", 1.0), ("beta", 0.5)):
        options = {"sd": {"subject": 1.0}, "sigma": 1.0, name: wrong}
        with pytest.raises(TypeError, match=f"{name} is a dict such as"):
            flm.power("y ~ week + (1 | subject)", rows, test="week", nsim=2, **options)


def test_a_sigma_of_zero_is_refused_with_a_pilot_too():
    pilot = flm.lmer("Reaction ~ Days + (1 | Subject)", flm.load_dataset("sleepstudy"))
    with pytest.raises(ValueError, match="sigma is positive, found 0"):
        flm.power(pilot, test="Days", sigma=0.0, nsim=2)


def test_notebooks_show_the_table():
    pilot = flm.lmer("Reaction ~ Days + (1 | Subject)", flm.load_dataset("sleepstudy"))
    found = flm.power(pilot, test="Days", nsim=4, seed=1)
    assert "<table" in found._repr_html_() and "power" in found._repr_html_()
    assert pilot._repr_html_() == pilot.summary().to_html()
    plan = flm.plan("Reaction ~ Days + (1 | Subject)", flm.load_dataset("sleepstudy"))
    assert repr(plan) == str(plan) and "Plan of Reaction ~ Days" in plan._repr_html_()


def test_responses_of_a_planned_study():
    rows = flm.simulate_design({"school": 40, "class": 3}, within={"time": [0.0, 1.0, 2.0]})
    given = {
        "beta": {"Intercept": 5.0, "time": -1.0},
        "sd": {"school": [2.0, 0.5], "school:class": 1.0},
        "cor": {"school": -0.4},
        "sigma": 0.7,
    }
    formula = "y ~ time + (time | school) + (1 | school:class)"
    y = simulate(formula, rows, nsim=600, seed=3, **given)
    assert y.shape == (360, 600) and y.index.equals(rows.index)
    Z = np.column_stack([np.ones(3), [0.0, 1.0, 2.0]])
    S = np.array([[4.0, -0.4], [-0.4, 0.25]])
    V = Z @ S @ Z.T + 1.0 + 0.49 * np.eye(3)
    classes = y.to_numpy().reshape(120, 3, 600).transpose(1, 0, 2)
    np.testing.assert_allclose(classes.mean((1, 2)), 5.0 - np.arange(3.0), atol=0.1)
    np.testing.assert_allclose(np.cov(classes.reshape(3, -1)), V, rtol=0.06)
    pd.testing.assert_frame_equal(y.iloc[:, :2], simulate(formula, rows, nsim=2, seed=3, **given))
    with pytest.raises(ValueError, match="no coefficient 'tiem'"):
        simulate(formula, rows, **{**given, "beta": {"tiem": 1.0}})
    with pytest.raises(ValueError, match="sd of the random term"):
        simulate(formula, rows, **{**given, "sd": {"school": [2.0, 0.5]}})
