"""Profile likelihoods against recorded end points, closed forms and brute force."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from reference.loader import case, data, ids
from reference.names import coefficient, plain
from scipy import optimize, stats

import fastlmm_core as flm
from fastlmm_core.inference.deviance import Coordinates, Deviance, Target
from fastlmm_core.inference.refit import fresh_objective

RECORDED = [
    "cake_numeric_reml", "cbpp_weights_reml", "dyestuff2_ml", "dyestuff_reml", "exam_ri_reml",
    "machines_nested_reml", "nepal_ri_reml", "oats_reml", "orthodont_ri_reml", "pastes_nested_ml",
    "penicillin_reml", "sleep_dbar_reml", "sleep_ri_ml", "sleep_rs_ml", "sleep_rs_reml", "tlc_int_rs_reml",
    "tlc_placebo_rs_reml",
]  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("id", RECORDED)
def test_recorded_end_points(id):
    assert id in ids("lmer")
    recorded = case(id)
    frame, exact = data(recorded["dataset"]), recorded["profile_ci95"]["exact"]
    fit = flm.lmer(recorded["formula"], frame, reml=recorded["reml"], weights=recorded["weights"])
    ours = fit.conf_int(method="profile")
    numbers = [[np.nan if v == "NA" else v for v in exact[side]] for side in ("lower", "upper")]
    theirs = np.array(numbers, float).T
    mine = ours.to_numpy()[len(ours) - len(theirs) :]
    fixed = [plain(name) for name in ours.index[-len(fit.params) :]]
    assert fixed == [coefficient(name, frame) for name in exact["names"][-len(fit.params) :]]
    known = np.isfinite(theirs).all(1)
    width = theirs[known, 1] - theirs[known, 0]
    assert (np.abs(mine[known] - theirs[known]) < 1e-6 * width[:, None]).all()


def brute_force_deviance(frame, **held):
    """ML deviance of Reaction ~ Days + (Days | Subject) over dense matrices, some parameters held."""
    groups = [g for _, g in frame.groupby("Subject", observed=True)]

    def deviance(free):
        values = dict(zip([n for n in ("b0", "b1", "s0", "s1", "rho", "sigma") if n not in held], free))
        values |= held
        Sigma = np.outer([values["s0"], values["s1"]], [values["s0"], values["s1"]])
        Sigma[0, 1] = Sigma[1, 0] = Sigma[0, 1] * values["rho"]
        total = 0.0
        for g in groups:
            Z = np.column_stack([np.ones(len(g)), g["Days"]])
            V = Z @ Sigma @ Z.T + values["sigma"] ** 2 * np.eye(len(g))
            r = g["Reaction"].to_numpy() - values["b0"] - values["b1"] * g["Days"].to_numpy()
            total += np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r) + len(g) * np.log(2 * np.pi)
        return total

    start = {"b0": 251.0, "b1": 10.4, "s0": 24.0, "s1": 5.7, "rho": 0.08, "sigma": 25.6}
    x0 = [value for name, value in start.items() if name not in held]
    return optimize.minimize(deviance, x0, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-8}).fun


@pytest.mark.parametrize(
    "name, held", [("cor_Days.Intercept|Subject", "rho"), ("sd_Days|Subject", "s1"), ("Days", "b1")]
)
def test_zeta_is_the_signed_root_of_the_minimised_deviance(name, held):
    frame = flm.load_dataset("sleepstudy").iloc[:90]
    frame = frame.assign(Subject=frame["Subject"].cat.remove_unused_categories())
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", frame, reml=False)
    curve = fit.profile(name).zeta
    i = 1 if held == "b1" else len(curve) - 3
    value, zeta = curve["value"].iloc[i], curve["zeta"].iloc[i]
    assert brute_force_deviance(frame, **{held: value}) - fit.deviance == pytest.approx(zeta**2, abs=2e-3)
    assert np.sign(zeta) == np.sign(value - fit.profile(name).estimate[name])


def test_one_way_balanced_in_closed_form():
    """Yield ~ 1: the deviance at a given mean has the ANOVA estimates with the mean's square added."""
    frame = flm.load_dataset("Dyestuff")
    limits = flm.lmer("Yield ~ 1 + (1 | Batch)", frame).conf_int(method="profile", alpha=0.1)
    a, n = 6, 5
    within = frame.groupby("Batch", observed=True)["Yield"].var().mean()
    means = frame.groupby("Batch", observed=True)["Yield"].mean()

    def deviance(mu):
        # ML: the between mean square n sum (m_i - mu)^2 / a estimates s2 + n s2_b, if above within
        return a * np.log(n * ((means - mu) ** 2).sum() / a) + a * (n - 1) * np.log(within)

    z2 = 1.6448536269514722**2
    centre = means.mean()
    upper = optimize.brentq(lambda mu: deviance(mu) - deviance(centre) - z2, centre, centre + 200)
    np.testing.assert_allclose(limits.loc["Intercept"], [2 * centre - upper, upper], rtol=1e-8)


@pytest.mark.parametrize("target", ["sd", "cor", "sigma", "beta"])
@pytest.mark.parametrize(
    "formula", ["(Days | Subject)", "(Days + I(Days**2) | Subject)", "(Days || Subject)"]
)
def test_derivatives_of_the_deviance(formula, target):
    fit = flm.lmer(f"Reaction ~ Days + {formula}", flm.load_dataset("sleepstudy"), reml=False)
    solved = fit._solved
    if target == "cor" and "||" in formula:
        return
    places = {"sd": (0, len(fit._facts.terms[0].names) - 1), "cor": (0, 1, 0), "sigma": (), "beta": (1,)}
    coordinates = Coordinates(solved.theta_map, Target(target, places[target]))
    constraint = solved.fixed.A[1] if target == "beta" else None
    deviance = Deviance(fresh_objective(solved, reml=False), coordinates, constraint)
    x = coordinates.x_of([T + 0.1 * np.diag(np.diag(T)) for T in solved.estimates.terms], solved.point.s2)
    x += 0.05 * np.random.default_rng(1).normal(size=len(x)) * np.abs(x)
    level = 1.1 * float(solved.fixed.A[1] @ solved.point.beta)
    here = deviance.evaluate(x, level)
    size = len(here.g)
    for j in range(size):
        step = np.zeros(len(x) + 1)
        at = j if j < len(x) else -1
        step[at] = 1e-5 * max(abs(np.append(x, level)[at]), 1e-3)
        ahead = deviance.evaluate(x + step[:-1], level + step[-1])
        behind = deviance.evaluate(x - step[:-1], level - step[-1])
        scale = np.sqrt(np.abs(here.H[j, j] * np.diag(here.H))) + 1e-3
        assert (ahead.value - behind.value) / (2 * step[at]) == pytest.approx(here.g[j], abs=1e-4 * scale[j])
        np.testing.assert_allclose(
            (ahead.g - behind.g) / (2 * step[at]) / scale, here.H[j] / scale, atol=2e-4
        )


def test_bounds_and_singular_fits():
    frame = flm.load_dataset("Dyestuff2")
    profile = flm.lmer("Yield ~ 1 + (1 | Batch)", frame).profile()
    limits = profile.conf_int()
    assert profile.estimate["sd_Intercept|Batch"] == 0
    assert limits.loc["sd_Intercept|Batch", "lower"] == 0 < limits.loc["sd_Intercept|Batch", "upper"] < 4
    pastes = flm.lmer("strength ~ 1 + (1 | batch/cask)", flm.load_dataset("Pastes")).profile("theta_")
    assert pastes.conf_int().loc["sd_Intercept|batch", "lower"] == 0
    assert pastes.conf_int(0.8).loc["sd_Intercept|batch", "lower"] > 0
    # few subjects: the data say next to nothing about a correlation
    few = flm.load_dataset("sleepstudy").iloc[:40]
    few = few.assign(Subject=few["Subject"].cat.remove_unused_categories())
    wide = flm.lmer("Reaction ~ Days + (Days | Subject)", few).profile().conf_int(0.01)
    cor = wide.loc["cor_Days.Intercept|Subject"]
    assert cor["lower"] == -1 or cor["upper"] == 1
    assert wide.notna().all(axis=None) and (wide["lower"] < wide["upper"]).all()


def test_correlation_with_a_vanished_effect_is_undefined():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 6)
    x = np.tile(np.arange(6.0), 12)
    frame = pd.DataFrame({"g": g, "x": x, "y": rng.normal(size=72)})
    frame["y"] -= frame.groupby("g")["y"].transform("mean") * 0.9
    fit = flm.lmer("y ~ x + (x | g)", frame)
    table = fit.profile().conf_int()
    sd = fit.profile().estimate[["sd_Intercept|g", "sd_x|g"]]
    assert (sd == 0).any()
    assert table.loc["cor_x.Intercept|g"].isna().all()
    assert table.drop("cor_x.Intercept|g").notna().all(axis=None)


def test_which_and_names():
    fit = flm.lmer("Reaction ~ Days + (Days || Subject)", flm.load_dataset("sleepstudy"))
    profile = fit.profile()
    names = ["sd_Intercept|Subject", "sd_Days|Subject.1", "sigma", "Intercept", "Days"]
    assert profile.names == names and list(profile.conf_int().index) == names
    assert fit.profile("beta_").names == ["Intercept", "Days"]
    assert fit.profile(["Days", "sigma"]).names == ["Days", "sigma"]
    assert fit.profile("theta_").names == names[:3]
    assert "sigma" in repr(profile)
    with pytest.raises(ValueError, match="available.*sigma"):
        fit.profile("nothing")
    with pytest.raises(ValueError, match="alpha"):
        profile.conf_int(2)


def test_curves_and_figures():
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    profile = fit.profile()
    table = profile.zeta
    assert list(table.columns) == ["parameter", "value", "zeta", "slope"]
    for _, curve in table.groupby("parameter"):
        assert (np.diff(curve["value"]) > 0).all() and (np.diff(curve["zeta"]) > 0).all()
        assert np.abs(curve["zeta"]).max() == pytest.approx(2.5758, abs=0.06)
        inner = curve["slope"].iloc[1:-1]
        between = np.gradient(curve["zeta"], curve["value"])[1:-1]
        np.testing.assert_allclose(inner, between, rtol=0.1)
    for kind in ("zeta", "density"):
        axes = profile.plot(kind)
        assert [ax.get_xlabel() for ax in axes] == profile.names
        assert all(len(ax.lines) for ax in axes)
        plt.close("all")
    (ax,) = fit.profile("Days").plot(ax=plt.figure().add_subplot())
    assert ax.get_ylabel() == "zeta" and len(fit.plot.profile("beta_")) == 2
    with pytest.raises(ValueError, match="Axes"):
        profile.plot(ax=ax)
    density = fit.profile("Days").plot("density")[0].lines[0].get_xydata()
    area = (np.diff(density[:, 0]) * (density[1:, 1] + density[:-1, 1]) / 2).sum()
    assert area == pytest.approx(0.99, abs=0.005)
    plt.close("all")
    with pytest.raises(ValueError, match="kind"):
        profile.plot("line")


def test_a_loaded_fit_says_what_it_lacks(tmp_path):
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", flm.load_dataset("sleepstudy"))
    flm.save(fit, tmp_path / "fit", statistics=False)
    with pytest.raises(flm.DataError, match="file"):
        flm.load(tmp_path / "fit").conf_int(method="profile")


@pytest.mark.parametrize(
    "rows, formula, sim",
    [(60, "(Days | Subject)", 3), (180, "(Days + I(Days**2) | Subject)", 2),
     (180, "(Days + I(Days**2) | Subject)", 12)],
)  # fmt: skip
def test_paths_with_several_branches_and_curved_valleys(rows, formula, sim):
    """Simulated data on which a path once jumped to a worse minimum, or crawled."""
    frame = flm.load_dataset("sleepstudy").iloc[:rows]
    frame = frame.assign(Subject=frame["Subject"].cat.remove_unused_categories())
    fit = flm.lmer(f"Reaction ~ Days + {formula}", frame)
    again = fit.refit(fit.simulate(sim, seed=3)[f"sim_{sim}"])
    profile = again.profile("theta_")
    limits, estimate = profile.conf_int(), profile.estimate
    known = estimate.notna()
    assert limits[known].notna().all(axis=None)
    assert (limits["lower"][known] <= estimate[known]).all()
    assert (estimate[known] <= limits["upper"][known]).all()
    for name, path in profile._paths.items():
        for end in limits.loc[name] if path is not None else ():
            tau = min(path._known, key=lambda tau: abs(path.to_natural(tau) - end))
            place = path._known[tau]
            at_bound = tau in (path.low, path.high)
            assert at_bound or abs(abs(place.zeta) - 1.959964) < 1e-5
            free = path._free()
            assert np.abs(place.expansion.g[free]).max() < 0.1


def test_a_correlation_is_free_where_its_effects_are_not_needed():
    """A model without the slopes is compatible with every correlation."""
    frame = flm.load_dataset("sleepstudy").iloc[:60]
    frame = frame.assign(Subject=frame["Subject"].cat.remove_unused_categories())
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", frame)
    y = fit.simulate(3, seed=3)["sim_3"]
    both = fit.refit(y).profile("cor_Days.Intercept|Subject")
    frame["Reaction"] = y
    models = [flm.lmer(f"Reaction ~ Days + ({z} | Subject)", frame, reml=False) for z in ("1", "Days")]
    limit = np.sqrt(models[0].deviance - models[1].deviance)
    inside, outside = (2 * stats.norm.sf(limit + step) for step in (-0.05, 0.05))
    assert both.conf_int(outside).to_numpy().tolist() == [[-1.0, 1.0]]
    assert (both.conf_int(inside).abs() < 1).all(axis=None)


@pytest.mark.parametrize(
    "name, formula",
    [
        ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ],
)
def test_threads_do_not_change_a_profile(name, formula):
    fit = flm.lmer(formula, flm.load_dataset(name))
    one, three = fit.profile(n_jobs=1), fit.profile(n_jobs=3)
    assert len(three._objectives) == 3
    limits = one.conf_int()
    pd.testing.assert_frame_equal(limits, three.conf_int(), check_exact=True)
    pd.testing.assert_frame_equal(one.zeta, three.zeta, check_exact=True)
    named = fit.conf_int(method="profile", which="theta_", n_jobs=2)
    pd.testing.assert_frame_equal(named, limits.loc[named.index], check_exact=True)
