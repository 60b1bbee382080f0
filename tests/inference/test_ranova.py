"""Tests of random terms against lmerTest and against models fitted from the rows."""

import numpy as np
import pytest
from reference.loader import case, data
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference.ranova import deletions
from fastlmm_core.inference.rlrt import simulate_rlrt, spectrum


@pytest.mark.reference
@pytest.mark.parametrize("id", ["sleep_ranova", "tlc_ranova"])
def test_as_lmertest(id):
    recorded = case(id)
    table = recorded["table"]
    ours = flm.lmer(recorded["formula"], data(recorded["dataset"])).ranova()
    assert list(ours.columns) == ["npar", "llf", "aic", "LRT", "df", "p", "p_mixture"]
    assert list(ours.index) == table["rows"] and list(ours["npar"]) == table["npar"]
    np.testing.assert_allclose(ours["llf"], table["logLik"], atol=1e-5)
    np.testing.assert_allclose(ours["aic"], table["AIC"], atol=2e-5)
    assert ours["LRT"].iloc[1] == pytest.approx(table["LRT"][1], abs=2e-5)
    assert ours["df"].iloc[1] == table["df"][1]
    assert ours["p"].iloc[1] == pytest.approx(table["p"][1], rel=1e-4)
    x = ours["LRT"].iloc[1]
    assert ours["p_mixture"].iloc[1] == pytest.approx(0.5 * (stats.chi2.sf(x, 1) + stats.chi2.sf(x, 2)))


MODELS = [
    ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    ("Machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"),
]
SMALLER = {
    "Pastes": ["strength ~ 1 + (1 | batch)", "strength ~ 1 + (1 | batch:cask)"],
    "Penicillin": ["diameter ~ 1 + (1 | sample)", "diameter ~ 1 + (1 | plate)"],
    "sleepstudy": ["Reaction ~ Days + (0 + Days | Subject)", "Reaction ~ Days + (1 | Subject)"],
    "Machines": ["score ~ Machine + (1 | Worker)", "score ~ Machine + (1 | Worker:Machine)"],
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name, formula", MODELS)
def test_smaller_models_are_those_fitted_from_the_rows(name, formula, reml):
    frame = flm.load_dataset(name)
    table = flm.lmer(formula, frame, reml=reml).ranova()
    expected = sorted(flm.lmer(smaller, frame, reml=reml).llf for smaller in SMALLER[name])
    np.testing.assert_allclose(sorted(table["llf"].iloc[1:]), expected, atol=1e-7)
    assert table["llf"].iloc[0] >= max(expected) - 1e-9
    np.testing.assert_allclose(table["p_mixture"].iloc[1:], table["p"].iloc[1:] / 2)


def test_the_last_term_leaves_least_squares():
    frame = flm.load_dataset("sleepstudy")
    table = flm.lmer("Reaction ~ Days + (1 | Subject)", frame).ranova()
    assert table.loc["(1 | Subject)", "llf"] == pytest.approx(-1893.66366347 / 2, abs=1e-6)
    ml = flm.lmer("Reaction ~ Days + (1 | Subject)", frame, reml=False).ranova()
    assert ml.loc["(1 | Subject)", "llf"] == pytest.approx(flm.lm("Reaction ~ Days", frame).llf, abs=1e-8)


def test_a_factor_goes_with_all_its_columns():
    frame = flm.load_dataset("Machines")
    table = flm.lmer("score ~ Machine + (Machine | Worker)", frame).ranova()
    assert list(table.index) == ["<none>", "Machine in (Machine | Worker)"]
    smaller = flm.lmer("score ~ Machine + (1 | Worker)", frame)
    assert table["llf"].iloc[1] == pytest.approx(smaller.llf, abs=1e-7)
    assert table["df"].iloc[1] == 5 and np.isnan(table["p_mixture"].iloc[1])


def test_polynomials_and_centred_columns():
    frame = flm.load_dataset("sleepstudy").copy()
    frame["Days"] = frame["Days"] + 1000.0
    frame["z"] = np.random.default_rng(1).normal(size=180) + 500
    for full, parts in [
        (
            "(Days + I(Days**2) | Subject)",
            {"I(Days ** 2)": "(Days | Subject)", "Days": "(I(Days**2) | Subject)"},
        ),
        ("(Days * z | Subject)", {"Days:z": "(Days + z | Subject)"}),
    ]:
        table = flm.lmer(f"Reaction ~ Days + {full}", frame).ranova()
        assert len(table) == len(parts) + 1
        for piece, part in parts.items():
            (row,) = [label for label in table.index if label.startswith(piece + " in")]
            expected = flm.lmer(f"Reaction ~ Days + {part}", frame).llf
            assert table.loc[row, "llf"] == pytest.approx(expected, abs=1e-5)


def test_chains_of_three_and_crossed_slopes():
    rng = np.random.default_rng(4)
    c = np.arange(24).repeat(4)
    frame = {"c": c, "b": c // 3, "a": c // 6, "d": rng.integers(0, 7, 96), "x": rng.normal(size=96)}
    effect = rng.normal(size=24)[c] + rng.normal(size=8)[c // 3] * frame["x"] + rng.normal(size=7)[frame["d"]]
    frame["y"] = effect + rng.normal(size=96)
    for full, parts in [
        (
            "(1 | a) + (x | b) + (1 | c)",
            ["(x | b) + (1 | c)", "(1 | a) + (1 | b) + (1 | c)", "(1 | a) + (x | b)"],
        ),
        ("(x | b) + (x | d)", ["(1 | b) + (x | d)", "(x | b) + (1 | d)"]),
    ]:
        table = flm.lmer(f"y ~ x + {full}", frame).ranova()
        expected = sorted(flm.lmer(f"y ~ x + {part}", frame).llf for part in parts)
        np.testing.assert_allclose(sorted(table["llf"].iloc[1:]), expected, atol=1e-6)


def test_what_is_left_out_of_a_term():
    def left(names, **options):
        return [(d.piece, list(d.keep), d.constant) for d in deletions(names, **options)]

    assert left(["Intercept"]) == [(None, [], False)]
    assert left(["x"]) == [("x", [], True)]
    assert left(["x"], reduce=False) == left(["Intercept", "x"], reduce=False) == [(None, [], False)]
    assert left(["Intercept", "x", "z"]) == [("x", [0, 2], False), ("z", [0, 1], False)]
    assert left(["Intercept", "f[T.b]", "f[T.c]"]) == [("f", [0], False)]
    assert left(["Intercept", "x", "z", "x:z"]) == [("x:z", [0, 1, 2], False)]
    assert left(["f[a]", "f[b]", "x"]) == [("f", [2], False), ("x", [0, 1], False)]


def brute_force_rlrt(mu, df, w2, rest):
    """The supremum over a very fine grid."""
    grid = np.concatenate([[0.0], np.geomspace(1e-8, 1e5, 200001)])
    D = sum(w / (1 + grid * m) for w, m in zip(w2, mu)) + rest
    return (df * np.log((w2.sum() + rest) / D) - sum(np.log1p(grid * m) for m in mu)).max()


def test_eigenvalues_of_unequal_groups_and_weights():
    rng = np.random.default_rng(1)
    g = rng.integers(0, 12, 70)
    frame = {"g": g, "x": rng.normal(size=70), "w": rng.uniform(0.5, 2, 70)}
    frame["y"] = rng.normal(size=70) + rng.normal(size=12)[g]
    for weights in (None, "w"):
        fit = flm.lmer("y ~ x + (1 | g)", frame, weights=weights)
        w = np.sqrt(frame["w"]) if weights else np.ones(70)
        X = np.column_stack([np.ones(70), frame["x"]]) * w[:, None]
        Z = (g[:, None] == np.arange(12)) * w[:, None]
        residual = Z - X @ np.linalg.lstsq(X, Z, rcond=None)[0]
        expected = np.linalg.eigvalsh(residual.T @ residual)
        mu, multiplicity = spectrum(fit._solved)
        np.testing.assert_allclose(np.sort(np.repeat(mu, multiplicity)), expected[expected > 1e-8], rtol=1e-8)


def test_many_distinct_sizes_are_refused():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(2500), 2)
    frame = {"g": g, "x": rng.normal(size=5000), "w": rng.uniform(1, 2, 5000)}
    frame["y"] = rng.normal(size=5000) + rng.normal(size=2500)[g]
    with pytest.raises(flm.ModelError, match="5000|4[0-9]{3}"):
        flm.exact_rlrt(
            flm.lmer("y ~ x + I(x**2) + (1 | g)", {**frame, "g": np.arange(5000) % 4500}, weights="w")
        )
    assert flm.exact_rlrt(flm.lmer("y ~ x + (1 | g)", frame), nsim=500, seed=1)["p"] == 1 / 501


def test_draws_are_the_supremum():
    mu, multiplicity, df = np.array([2.0, 7.0]), np.array([3, 1]), 20

    class Fixed:
        def chisquare(self, k, size=None):
            return self.values[0] if size is None else self.values[1]

    rng, fixed = np.random.default_rng(2), Fixed()
    fixed.values = rng.chisquare(np.broadcast_to(multiplicity, (40, 2))), rng.chisquare(16, 40)
    fixed.values[0][:20] *= 4.0  # half of them clearly inside
    found = simulate_rlrt(mu, multiplicity, df, 40, fixed)
    for value, w2, rest in zip(found, *fixed.values):
        spread = np.array([w2[0] / 3] * 3 + [w2[1]])
        assert value == pytest.approx(
            max(0, brute_force_rlrt(np.array([2.0, 2.0, 2.0, 7.0]), df, spread, rest)), abs=1e-6
        )


def test_exact_test_on_data():
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", frame)
    found = flm.exact_rlrt(fit, nsim=2000, seed=1)
    assert found["statistic"] == pytest.approx(fit.ranova()["LRT"].iloc[1]) and found["p"] == 1 / 2001
    assert found["p_error"] == pytest.approx(np.sqrt(found["p"] * (1 - found["p"]) / 2000))
    null = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))
    assert flm.exact_rlrt(null, nsim=100, seed=1)["p"] == 1.0
    # balanced one-way: RLRT > c is an F test, whose null tail is known exactly
    dyestuff = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff"), reml=False)
    exact = flm.exact_rlrt(dyestuff, nsim=40000, seed=2)
    table = flm.load_dataset("Dyestuff").groupby("Batch", observed=True)["Yield"]
    between, within = 5 * table.mean().var(), table.var().mean()
    p = stats.f.sf(between / within, 5, 24)
    assert exact["p"] == pytest.approx(p, abs=4 * np.sqrt(p / 40000))
    with pytest.raises(flm.ModelError, match="single random term"):
        flm.exact_rlrt(flm.lmer("Reaction ~ Days + (Days | Subject)", frame))


def test_a_loaded_fit_says_what_it_lacks(tmp_path):
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", flm.load_dataset("sleepstudy"))
    flm.save(fit, tmp_path / "fit", statistics=False)
    with pytest.raises(flm.DataError, match="file"):
        flm.load(tmp_path / "fit").ranova()
