"""Clusters drawn with replacement: statistics against rows, and real fits of the drawn rows."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.inference.resample import ClusterResampler
from fastlmm_core.results.robust import cluster_codes

NESTED = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    ("Oats", "yield ~ nitro * Variety + (1 | Block/Variety)"),
]


def resampler(fit, by=None):
    return ClusterResampler(fit._solved, fit._rows.design, cluster_codes(fit, by))


@pytest.mark.parametrize("name, formula", NESTED)
def test_weighted_sums_are_those_of_the_drawn_rows(name, formula):
    frame = flm.load_dataset(name)
    frame["w"] = np.random.default_rng(1).uniform(0.5, 2.0, len(frame))
    for weights in (None, "w"):
        found = resampler(flm.lmer(formula, frame, weights=weights))
        assert found.by_statistics
        for seed in range(3):
            drawn = np.sort(np.random.default_rng(seed).integers(0, found.J, found.J))
            sums, rows = found._weighted(drawn).products, found._taken(drawn).products
            assert (sums.n, sums.levels, sums.order) == (rows.n, rows.levels, rows.order)
            assert sums.sum_log_weights == pytest.approx(rows.sum_log_weights, abs=1e-12)
            np.testing.assert_allclose(sums.C, rows.C, atol=1e-11 * abs(rows.C).max())
            for f in range(len(sums.levels)):
                np.testing.assert_allclose(sums.R[f], rows.R[f], atol=1e-11)
                np.testing.assert_array_equal(sums.counts[f], rows.counts[f])
            for a, b in zip(sums.parent, rows.parent, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name, formula, by",
    [
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)", "Subject"),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)", "batch"),
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "plate"),
    ],
)
def test_replicates_are_fits_of_the_drawn_rows(name, formula, by):
    frame = flm.load_dataset(name)
    fit = flm.lmer(formula, frame)
    found = fit.bootstrap(3, seed=4, kind="cluster", by=by)
    codes = cluster_codes(fit, by)
    for i, child in enumerate(np.random.SeedSequence(4).spawn(3)):
        drawn = np.sort(np.random.default_rng(child).integers(0, codes.max() + 1, codes.max() + 1))
        parts = [frame[codes == c].assign(**{by: f"copy {j}"}) for j, c in enumerate(drawn)]
        real = flm.lmer(formula, pd.concat(parts, ignore_index=True))
        assert found.draws["sigma"].iloc[i] == pytest.approx(real.sigma, rel=1e-5)
        assert found.draws["Intercept"].iloc[i] == pytest.approx(real.params["Intercept"], rel=1e-6)


def test_the_same_whatever_the_threads_and_again():
    fit = flm.lmer(NESTED[0][1], flm.load_dataset("sleepstudy"))
    one = fit.bootstrap(40, seed=2, kind="cluster", n_jobs=1).draws
    two = fit.bootstrap(40, seed=2, kind="cluster", n_jobs=3).draws
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    limits = fit.conf_int(method="boot", nsim=40, seed=2, kind="cluster", alpha=0.1)
    again = fit.bootstrap(40, 2, kind="cluster").conf_int(0.1)
    pd.testing.assert_frame_equal(limits, again.loc[limits.index])
    assert "theta_Subject.Days" not in limits.index and "Days" in limits.index


def test_errors_agree_with_the_cluster_robust_ones():
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"g": np.arange(80).repeat(6), "x": rng.normal(size=480)})
    frame["y"] = rng.standard_t(3, 80)[frame["g"]] + frame["x"] + rng.normal(size=480) * (1 + frame["g"] % 3)
    fit = flm.lmer("y ~ x + (1 | g)", frame)
    spread = fit.bootstrap(400, seed=1, kind="cluster").draws[["Intercept", "x"]].std()
    robust = fit.robust("CR1")["std_error"]
    np.testing.assert_allclose(spread, robust, rtol=0.12)


def test_statistics_of_the_user_see_the_copies():
    fit = flm.lmer(NESTED[1][1], flm.load_dataset("Pastes"))

    def statistic(one):
        effects = one.ranef()
        assert sorted(len(table) for table in effects.values()) == [10, 30]
        return {"largest": effects["batch"]["Intercept"].max()}

    draws = fit.bootstrap(5, seed=1, kind="cluster", statistic=statistic).draws
    assert draws["largest"].notna().all() and draws["largest"].nunique() > 2


def test_a_resample_without_a_needed_cluster_fails_alone():
    frame = flm.load_dataset("sleepstudy")
    frame["only"] = (frame["Subject"] == "308").astype(float) * frame["Days"]
    found = flm.lmer("Reaction ~ Days + only + (1 | Subject)", frame).bootstrap(60, seed=3, kind="cluster")
    # (1 - 1/18)^18 of the resamples leave the subject out
    assert 8 <= found.n_failed <= 35
    assert found.draws["only"].notna().sum() == 60 - found.n_failed


def test_what_cannot_be_asked():
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", frame)
    with pytest.raises(ValueError, match="cluster"):
        fit.bootstrap(2, kind="wild")
    with pytest.raises(ValueError, match="parametric"):
        fit.bootstrap(2, by="Subject")
    with pytest.raises(flm.DataError, match="no grouping factor"):
        fit.bootstrap(2, kind="cluster", by="nobody")
    with pytest.raises(TypeError, match="nsim"):
        fit.conf_int(nsim=3)
    with pytest.raises(flm.ModelError, match="two clusters"):
        fit.bootstrap(2, kind="cluster", by=np.zeros(180))
    stats = flm.plan("Reaction ~ Days + (1 | Subject)", frame).accumulate(frame)
    with pytest.raises(flm.DataError, match="needs the rows"):
        flm.fit(stats).bootstrap(2, kind="cluster")
