"""The parametric bootstrap, against refits of simulated rows."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference import bootstrap
from fastlmm_core.inference.batch import fit_batch
from fastlmm_core.inference.bootstrap import Replicator, seed_sequence

FORMULAS = [
    "Reaction ~ Days + (Days | Subject)",
    "Reaction ~ Days + (1 | Subject)",
    "Reaction ~ Days + (Days || Subject)",
    "Reaction ~ 0 + (Days | Subject)",
]


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_fits_together_end_where_single_searches_end(sleep, formula, reml):
    fit = flm.lmer(formula, sleep, reml=reml)
    model = Replicator(fit._solved)
    drawn = model.draw([np.random.default_rng(child) for child in seed_sequence(3).spawn(60)])
    solved = fit._solved
    start, N = solved.point.Lambda[0], solved.objective.N
    together = fit_batch(model._engines.engine, solved.theta_map, start, N, reml, 60)
    assert together.found.mean() > 0.95
    for i in np.flatnonzero(together.found):
        objective, alone = model.fit_one(model.products_of(drawn[i]))
        there = objective.evaluate([together.Lambda[i]])
        assert there.value < alone.point.value + 1e-7
        np.testing.assert_allclose(together.s2[i], there.s2, rtol=1e-5)
        np.testing.assert_allclose(together.beta[i], there.beta, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name, formula, weights",
    [
        ("sleepstudy", FORMULAS[0], None),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)", None),
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", None),
        ("cbpp", "incidence ~ period + (1 | herd)", "size"),
    ],
)
def test_distribution_is_that_of_refitted_rows(name, formula, weights):
    fit = flm.lmer(formula, flm.load_dataset(name), weights=weights)
    by_statistics = fit.bootstrap(200, seed=1).draws
    responses = fit.simulate(100, seed=2)
    rows = [fit._natural(_replicate(fit.refit(responses[column]))) for column in responses]
    by_rows = pd.DataFrame(rows, columns=by_statistics.columns)
    for column in by_statistics:
        if not column.startswith("theta"):
            p = stats.ks_2samp(by_statistics[column].dropna(), by_rows[column].dropna()).pvalue
            assert p > 1e-3, column


def _replicate(fit):
    from fastlmm_core.inference.bootstrap import Replicate

    return Replicate(fit._beta, fit.theta, fit.sigma)


def test_columns_and_limits(sleep):
    fit = flm.lmer(FORMULAS[0], sleep)
    boot = fit.bootstrap(300, seed=1)
    assert list(boot.draws.columns) == [
        "sd_Intercept|Subject",
        "cor_Days.Intercept|Subject",
        "sd_Days|Subject",
        "sigma",
        "Intercept",
        "Days",
        "theta_Subject.Intercept",
        "theta_Subject.Days.Intercept",
        "theta_Subject.Days",
    ]
    assert boot.n_failed == 0 and len(boot.draws) == 300
    np.testing.assert_allclose(boot.estimate["Intercept":"Days"], fit.params)
    np.testing.assert_allclose(boot.estimate.filter(like="theta"), fit.theta)
    sd = fit.varcorr()["sdcor"]
    np.testing.assert_allclose(boot.estimate.iloc[[0, 2, 1, 3]], sd)
    # fixed effects of a balanced design: normal with the standard errors of the fit
    table = boot.summary()
    np.testing.assert_allclose(table.loc[["Intercept", "Days"], "std_error"], fit.bse, rtol=0.15)
    assert (table["bias"].abs() < 5 * table["std_error"] / np.sqrt(300) + 0.2 * table["std_error"]).all()
    percentile = boot.conf_int()
    np.testing.assert_allclose(percentile["lower"], boot.draws.quantile(0.025))
    basic = boot.conf_int(0.1, "basic")
    np.testing.assert_allclose(basic["lower"], 2 * boot.estimate - boot.draws.quantile(0.95))
    normal = boot.conf_int(0.1, "normal")
    width = 2 * 1.6448536 * boot.draws.std()
    np.testing.assert_allclose(normal["upper"] - normal["lower"], width, rtol=1e-6)
    shortest = boot.conf_int(0.1, "shortest")
    for name, (low, high) in shortest.iterrows():  # as short as any interval between two draws that holds 270
        values = np.sort(boot.draws[name].dropna())
        held = -(-9 * len(values) // 10)
        assert high - low == min(values[i + held - 1] - values[i] for i in range(len(values) - held + 1))
        assert ((values >= low) & (values <= high)).sum() == held
    assert "none failed" in repr(boot)
    with pytest.raises(ValueError, match="kind"):
        boot.conf_int(kind="bca")
    with pytest.raises(ValueError, match="alpha"):
        boot.conf_int(alpha=5)


def test_limits_of_the_fit(sleep):
    table = flm.lmer(FORMULAS[1], sleep).conf_int(0.1, method="boot")
    assert list(table.index) == ["sd_Intercept|Subject", "sigma", "Intercept", "Days"]
    assert (table["lower"] < table["upper"]).all()
    with pytest.raises(ValueError, match="boot"):
        flm.lmer(FORMULAS[1], sleep).conf_int(method="other")


@pytest.mark.parametrize(
    "name, formula",
    [("sleepstudy", FORMULAS[0]), ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
     ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")],
)  # fmt: skip
def test_threads_do_not_change_draws(name, formula):
    fit = flm.lmer(formula, flm.load_dataset(name))
    nsim = 300 if name == "sleepstudy" else 130
    one, two = (fit.bootstrap(nsim, seed=9, n_jobs=jobs).draws for jobs in (1, 3))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    other = fit.bootstrap(5, seed=10).draws
    assert not np.allclose(other.iloc[:5, 0], one.iloc[:5, 0])


def test_statistics_of_the_user(sleep):
    fit = flm.lmer(FORMULAS[1], sleep)
    slope = fit.bootstrap(20, seed=1, statistic=lambda f: f.params["Days"])
    np.testing.assert_allclose(slope.draws["statistic"], fit.bootstrap(20, seed=1).draws["Days"], rtol=1e-5)
    several = fit.bootstrap(5, seed=1, statistic=lambda f: {"t": f.tvalues["Days"], "sd": f.sigma}, n_jobs=2)
    assert list(several.draws.columns) == ["t", "sd"] and several.draws.notna().all(axis=None)
    crossed = flm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", flm.load_dataset("Penicillin"))
    assert crossed.bootstrap(3, seed=1, statistic=lambda f: f.params).draws.shape == (3, 1)
    with pytest.raises(flm.DataError, match="no rows"):
        fit.bootstrap(2, statistic=lambda f: f.resid.std() if f is not fit else 1.0)


def test_failures_are_counted(sleep, monkeypatch):
    fit = flm.lmer(FORMULAS[1], sleep)
    whole = Replicator.fit_chunk
    monkeypatch.setattr(Replicator, "fit_chunk", lambda self, g: [None, None, *whole(self, g)[2:]])
    boot = fit.bootstrap(30, seed=1)
    assert boot.n_failed == 2 and len(boot.draws) == 30 and boot.draws.isna().all(axis=1).sum() == 2
    assert (boot.summary()["n"] == 28).all() and "2 failed" in repr(boot)
    assert boot.conf_int().notna().all(axis=None)


def test_crossed_factors_by_rows_and_without(monkeypatch):
    frame = flm.load_dataset("Penicillin")
    formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    fit = flm.lmer(formula, frame)
    by_root = fit.bootstrap(200, seed=1).draws
    without_rows = flm.fit(flm.plan(formula, frame).accumulate(frame))
    pd.testing.assert_frame_equal(without_rows.bootstrap(200, seed=1).draws, by_root, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(bootstrap, "FEW_EFFECTS", 5)
    by_rows = fit.bootstrap(200, seed=2).draws
    for column in by_root:
        assert stats.ks_2samp(by_rows[column], by_root[column]).pvalue > 1e-3
    monkeypatch.setattr(bootstrap, "MOST_EFFECTS", 5)
    with pytest.raises(flm.DataError, match="draws rows"):
        without_rows.bootstrap(2)


def test_singular_fits_and_progress():
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))
    seen = []
    draws = fit.bootstrap(200, seed=1, progress=seen.append, n_jobs=1).draws
    # between-batch mean squares fall below the within ones in more than half of the replicates
    expected = stats.f.cdf(1, 5, 24)
    assert (draws["sd_Intercept|Batch"] == 0).mean() == pytest.approx(expected, abs=0.12)
    assert seen[-1] == 1.0 and sorted(seen) == seen
    with pytest.raises(TypeError, match="progress"):
        fit.bootstrap(2, progress=3)


def test_wrong_arguments(sleep, tmp_path):
    fit = flm.lmer(FORMULAS[1], sleep)
    for nsim in (0, 2.5, True):
        with pytest.raises(ValueError, match="nsim"):
            fit.bootstrap(nsim)
    flm.save(fit, tmp_path / "fit", statistics=False)
    with pytest.raises(flm.DataError, match="file"):
        flm.load(tmp_path / "fit").bootstrap(2)


def test_a_bar_on_a_terminal_and_lines_elsewhere(sleep, capsys, monkeypatch):
    import io
    import sys

    fit = flm.lmer(FORMULAS[1], sleep)
    fit.bootstrap(2, seed=1, progress=True)
    assert capsys.readouterr().err.endswith("100% bootstrap\n")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    fit.bootstrap(250, seed=1, progress=True, n_jobs=1)
    text = sys.stderr.getvalue()
    assert text.endswith("100%\n") and text.count("\r") == 2 and "#" * 40 in text


@pytest.mark.parametrize(
    "name, formula",
    [("Dyestuff", "Yield ~ 1 + (1 | Batch)"), ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")],
)
def test_random_effects_that_stay(name, formula):
    """lme4's use.u: refits of responses around the fitted values."""
    data = flm.load_dataset(name)
    fit = flm.lmer(formula, data)
    found = fit.bootstrap(150, seed=1, re="all")
    responses = fit.simulate(60 if name == "Dyestuff" else 25, seed=2, re="all")
    rows = np.array([fit._natural(_replicate(fit.refit(responses[column]))) for column in responses])
    for j, column in enumerate(found.draws):
        assert stats.ks_2samp(found.draws[column], rows[:, j]).pvalue > 1e-3, column
    # the intercept's error is that of the residuals alone
    new = fit.bootstrap(150, seed=1)
    assert found.draws["Intercept"].std() < 0.6 * new.draws["Intercept"].std()
    np.testing.assert_array_equal(found.draws, fit.bootstrap(150, seed=1, re="all", n_jobs=2).draws)


def test_some_random_effects_that_stay():
    fit = flm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", flm.load_dataset("Penicillin"))
    found = fit.bootstrap(60, seed=1, re=["sample"])
    assert found.draws["Intercept"].std() < 0.4 * fit.bootstrap(60, seed=1).draws["Intercept"].std()
    with pytest.raises(ValueError, match="kind='parametric'"):
        fit.bootstrap(5, kind="cluster", by="plate", re="all")
    with pytest.raises(ValueError, match="re is"):
        fit.bootstrap(5, re="some")
    summed = flm.plan(fit.formula, flm.load_dataset("Penicillin"))
    summed = flm.fit(summed.accumulate(flm.load_dataset("Penicillin")))
    with pytest.raises(flm.DataError, match="rows to draw"):
        summed.bootstrap(5, re="all")


@pytest.mark.parametrize(
    "name, formula",
    [("sleepstudy", FORMULAS[0]), ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
     ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
     ("Oats", "yield ~ nitro + Variety + (1 | Block)")],
)  # fmt: skip
def test_shares_of_variance(name, formula):
    """ICC and R2 of replicates come from their statistics, and are those of their estimates on the rows."""
    fit = flm.lmer(formula, flm.load_dataset(name))
    rows, kept = fit._rows, []

    def shares(one):
        if one is not fit:
            kept.append(one)
        return pd.concat([one.icc(), one.r2()])

    boot = fit.bootstrap(20, seed=1, statistic=shares, n_jobs=1)
    np.testing.assert_allclose(boot.estimate, pd.concat([fit.icc(), fit.r2()]))
    for one, draw in zip(kept, boot.draws.to_numpy()):
        again = type(rows)(rows.design, rows.source, one._beta, one._solved, one.sigma, one._covariances)
        random, fixed = again.variances[1], again.variances[0]
        assert draw[0] == pytest.approx(random / (random + one.scale), rel=1e-9)
        assert draw[2] == pytest.approx(fixed / (fixed + random + one.scale), rel=1e-8, abs=1e-12)
    table = boot.conf_int()
    assert (table["lower"] <= boot.estimate + 0.3).all() and ((0 <= table) & (table <= 1)).all(axis=None)


def test_shares_of_variance_by_clusters_and_with_weights():
    fit = flm.lmer(FORMULAS[0], flm.load_dataset("sleepstudy"))
    found = fit.bootstrap(20, seed=1, kind="cluster", statistic=lambda one: one.icc())
    assert found.draws["adjusted"].between(0.2, 0.95).all()
    weighted = flm.lmer("incidence ~ period + (1 | herd)", flm.load_dataset("cbpp"), weights="size")
    assert weighted.bootstrap(3, seed=1, statistic=lambda one: one.r2()).draws.isna().all(axis=None)
    with pytest.raises(flm.DataError, match="no rows"):
        fit.bootstrap(3, seed=1, statistic=lambda one: one.resid if one is not fit else 0.0)
