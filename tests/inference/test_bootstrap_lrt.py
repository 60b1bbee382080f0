"""The simulated likelihood-ratio test, against pbkrtest, refits of rows, and exact distributions."""

import doctest
import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference import nested
from fastlmm_core.results.bootstrap_lrt import BootstrapTest, bootstrap_lrt

RECORDED = Path(__file__).parents[1] / "reference" / "parity" / "parity.json"
SLEEP = "Reaction ~ Days + "


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


def fitted(name, formula, **options):
    data = flm.load_dataset(name)
    return (flm.lmer if "|" in formula else flm.lm)(formula, data, **options)


@pytest.mark.parametrize("case", json.loads(RECORDED.read_text())["bootstrap"], ids=lambda c: c["dataset"])
def test_moments_of_pbmodcomp(case):
    large, small = (fitted(case["dataset"], case[which]) for which in ("large", "small"))
    test = bootstrap_lrt(small, large, nsim=400, seed=4)
    assert test.statistic == pytest.approx(case["statistic"], rel=1e-6) and test.df == case["df"]
    assert test.n_failed == 0 and not test.restricted
    error = (test.draws.var() / 400 + case["var"] / case["n"]) ** 0.5
    assert abs(test.draws.mean() - case["mean"]) < 4 * error
    assert test.draws.var() == pytest.approx(case["var"], rel=0.35)
    # the approximations by hand, as in pbkrtest's summary
    mean, variance = test.draws.mean(), test.draws.var(ddof=1)
    table, df, x = test.table, test.df, test.statistic
    assert table.loc["bartlett", "p"] == pytest.approx(stats.chi2.sf(df * x / mean, df))
    gamma = stats.gamma(mean**2 / variance, scale=variance / mean)
    assert table.loc["gamma", "p"] == pytest.approx(gamma.sf(x))
    den_df = table.loc["F", "den_df"]
    assert stats.f(df, den_df).mean() == pytest.approx(mean / df)
    assert table.loc["F", "p"] == pytest.approx(stats.f.sf(x / df, df, den_df))
    assert table.loc["bootstrap", "p"] == test.p == ((test.draws >= x).sum() + 1) / 401


PAIRS = {
    "slope": ("sleepstudy", SLEEP + "(Days | Subject)", SLEEP + "(1 | Subject)"),
    "correlation": ("sleepstudy", SLEEP + "(Days | Subject)", SLEEP + "(Days || Subject)"),
    "no random": ("sleepstudy", SLEEP + "(1 | Subject)", "Reaction ~ Days"),
    "inner": ("Oats", "yield ~ nitro + (1 | Block / Variety)", "yield ~ nitro + (1 | Block)"),
    "outer": ("Oats", "yield ~ nitro + (1 | Block / Variety)", "yield ~ 1 + (1 | Block:Variety)"),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "diameter ~ 1 + (1 | plate)"),
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_statistic_is_that_of_anova(name, reml):
    data, one, two = PAIRS[name]
    large, small = fitted(data, one, reml=reml), fitted(data, two, **({"reml": reml} if "|" in two else {}))
    test, table = bootstrap_lrt(large, small, nsim=5, seed=1), flm.anova(small, large)
    assert test.statistic == pytest.approx(table["chisq"].iloc[1], abs=1e-6)
    assert test.df == table["df"].iloc[1]
    assert test.table.loc["chi-square", "p"] == pytest.approx(table["p"].iloc[1], rel=1e-4)
    if "mixture" in test.table.index:
        assert test.table.loc["mixture", "p"] == pytest.approx(table["p_mixture"].iloc[1], rel=1e-4)
    assert ("mixture" in test.table.index) == (name != "correlation")
    assert "bartlett" not in test.table.index


@pytest.mark.parametrize("name", ["slope", "correlation", "no random"])
def test_responses_fitted_together_and_one_by_one(name):
    data, one, two = PAIRS[name]
    data = flm.load_dataset(data).iloc[:80]
    for large in (flm.lmer(one, data), flm.lmer("Reaction ~ Days + I(Days^2)" + one[len(SLEEP) - 3 :], data)):
        small = (flm.lmer if "|" in two else flm.lm)(two, data)
        found = bootstrap_lrt(large, small, nsim=40, seed=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nested, "fit_batch", lambda *_: SimpleNamespace(found=np.zeros(40, bool)))
            alone = bootstrap_lrt(large, small, nsim=40, seed=2)
        np.testing.assert_allclose(found.draws, alone.draws, atol=2e-6)


@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")
@pytest.mark.parametrize("name", ["slope", "inner", "crossed", "outer"])
def test_distribution_is_that_of_refitted_rows(name):
    data, one, two = PAIRS[name]
    data = flm.load_dataset(data)
    if name in ("slope", "crossed"):  # few clusters: the mass at 0 is far from a half
        data = data.iloc[: 80 if name == "slope" else 72]
    large, small = flm.lmer(one, data, reml=False), flm.lmer(two, data, reml=False)
    by_statistics = bootstrap_lrt(large, small, nsim=400, seed=1)
    responses = small.simulate(40 if name == "crossed" else 120, seed=2)
    refits = [(large.refit(responses[c]).llf, small.refit(responses[c]).llf) for c in responses]
    by_rows = 2.0 * np.diff(refits, axis=1)[:, 0] * -1.0
    by_rows[by_rows < 1e-6] = 0.0
    assert stats.ks_2samp(by_statistics.draws, by_rows).pvalue > 1e-3
    zero = (by_statistics.draws == 0).mean(), (by_rows == 0).mean()
    assert abs(zero[0] - zero[1]) < 4 * (0.25 / len(by_rows) + 0.25 / 400) ** 0.5


def test_one_variance_has_the_exact_distribution(sleep):
    """Crainiceanu & Ruppert's distribution, which is drawn without fitting anything."""
    small, large = flm.lm("Reaction ~ Days", sleep), flm.lmer(SLEEP + "(1 | Subject)", sleep)
    found = bootstrap_lrt(large, small, nsim=1500, seed=1)
    from fastlmm_core.inference.rlrt import simulate_rlrt, spectrum

    mu, multiplicity = spectrum(large._solved)
    exact = simulate_rlrt(mu, multiplicity, 178, 5000, np.random.default_rng(2))
    assert found.restricted
    for at in (0.0, 0.5, 2.0, 4.0):
        share = (exact > at + 1e-6).mean()
        assert abs((found.draws > at + 1e-6).mean() - share) < 4 * (share * (1 - share) / 1500) ** 0.5


def test_rejects_a_true_hypothesis_as_often_as_it_says():
    """Fixed effects of eight groups: chi-square is liberal, the bootstrap is not."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(8), 4)
    frame = pd.DataFrame({"g": g, "x": np.repeat(np.arange(8) % 2, 4), "y": 0.0})
    p = []
    for _ in range(150):
        y = rng.normal(size=8)[g] + rng.normal(size=32)
        data = frame.assign(y=y)
        large, small = flm.lmer("y ~ x + (1 | g)", data), flm.lmer("y ~ 1 + (1 | g)", data)
        test = bootstrap_lrt(large, small, nsim=60, seed=rng)
        p.append((test.p, test.table.loc["chi-square", "p"]))
    simulated, naive = np.array(p).T
    assert stats.kstest(simulated, "uniform").pvalue > 1e-3
    assert (naive < 0.2).mean() > (simulated < 0.2).mean()


def test_results_depend_on_the_seed_alone(sleep):
    large, small = flm.lmer(SLEEP + "(Days | Subject)", sleep), flm.lmer(SLEEP + "(1 | Subject)", sleep)
    seen = []
    one = bootstrap_lrt(large, small, nsim=60, seed=9, n_jobs=1, progress=seen.append)
    two = bootstrap_lrt(large, small, nsim=60, seed=9, n_jobs=3)
    np.testing.assert_array_equal(one.draws, two.draws)
    assert seen[-1] == 1.0 and isinstance(one, BootstrapTest) and "60 draws" in repr(one)
    assert not np.array_equal(one.draws, bootstrap_lrt(large, small, nsim=60, seed=8).draws)


def test_fixed_parts_are_matched_by_span(sleep):
    """Other names and codings of the smaller model's columns."""
    cake = flm.load_dataset("cake")
    large = flm.lmer("angle ~ recipe + factor(temp) + (1 | recipe:replicate)", cake)
    linear = flm.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
    sums = flm.lmer("angle ~ recipe + temp + (1 | recipe:replicate)", cake, contrasts={"recipe": "sum"})
    one, two = (bootstrap_lrt(large, small, nsim=20, seed=1) for small in (linear, sums))
    assert one.df == 4 and one.statistic == pytest.approx(flm.anova(linear, large)["chisq"].iloc[1], abs=1e-6)
    np.testing.assert_allclose(one.draws, two.draws, atol=1e-5)


def test_without_rows(sleep):
    plans = [flm.plan(SLEEP + "(Days | Subject)", sleep), flm.plan("Reaction ~ 1 + (Days | Subject)", sleep)]
    large, small = (flm.fit(plan.accumulate(sleep)) for plan in plans)
    found = bootstrap_lrt(large, small, nsim=30, seed=1)
    rows = [flm.lmer(formula, sleep) for formula in (large.formula, small.formula)]
    with_rows = bootstrap_lrt(*rows, 30, seed=1)
    assert found.statistic == pytest.approx(with_rows.statistic, abs=1e-6)
    assert np.isfinite(found.draws).all()


def test_what_cannot_be_compared(sleep):
    slopes = flm.lmer(SLEEP + "(Days | Subject)", sleep)
    apart = flm.lmer("Reaction ~ Days + I(Days^2) + (Days || Subject)", sleep)
    with pytest.raises(flm.ModelError, match="not among"):
        bootstrap_lrt(apart, flm.lmer("Reaction ~ 1 + (Days | Subject)", sleep))
    with pytest.raises(flm.ModelError, match="span"):
        bootstrap_lrt(slopes, flm.lmer("Reaction ~ I(Days^2) + (1 | Subject)", sleep), nsim=5)
    with pytest.raises(flm.ModelError, match="6 parameters"):
        bootstrap_lrt(slopes, slopes)
    with pytest.raises(flm.ModelError, match="linear models"):
        bootstrap_lrt(flm.lm("Reaction ~ Days", sleep), flm.lm("Reaction ~ 1", sleep))
    with pytest.raises(flm.DataError, match="differ in rows"):
        bootstrap_lrt(slopes, flm.lmer(SLEEP + "(1 | Subject)", sleep.iloc[:100]))
    with pytest.raises(TypeError, match="lmer or lm"):
        bootstrap_lrt(slopes, "Reaction ~ 1")
    with pytest.raises(ValueError, match="nsim"):
        bootstrap_lrt(slopes, flm.lmer(SLEEP + "(1 | Subject)", sleep), nsim=0)


EXAMPLES = ["results.bootstrap_lrt", "results.resampling", "results.simulating", "design_tools.responses"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    failed, attempted = doctest.testmod(importlib.import_module(f"fastlmm_core.{name}"))
    assert attempted and not failed
