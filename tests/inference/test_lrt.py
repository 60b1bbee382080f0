"""Likelihood-ratio tables against lme4, and the tails of the mixtures."""

import numpy as np
import pandas as pd
import pytest
from reference.loader import case, data
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference.lrt import boundary_p, chi2_upper, mixture_upper, naive_p, parameters

COLUMNS = ["npar", "aic", "bic", "llf", "deviance", "chisq", "df", "p", "p_mixture"]


@pytest.mark.reference
@pytest.mark.parametrize(
    "id", ["nepal_compare", "sleep_compare", "tlc_compare_fixed", "tlc_compare_random", "machines_compare"]
)
def test_as_lme4(id):
    recorded = case(id)
    frame, table = data(recorded["dataset"]), recorded["table"]
    ours = flm.anova(*(flm.lmer(f, frame, reml=False) for f in reversed(recorded["formulas"])))
    assert list(ours.columns) == COLUMNS
    assert list(ours.index) == [recorded["formulas"][int(name[1:]) - 1] for name in table["order"]]
    assert list(ours["npar"]) == table["npar"]
    pairs = {"aic": "AIC", "bic": "BIC", "llf": "logLik", "deviance": "deviance"}
    for mine, theirs in pairs.items():
        np.testing.assert_allclose(ours[mine], table[theirs], atol=2e-4)
    assert np.isnan(ours["chisq"].iloc[0])
    np.testing.assert_allclose(ours["chisq"].iloc[1:], table["chisq"][1:], atol=4e-4)
    assert list(ours["df"].iloc[1:]) == table["df"][1:]
    close = np.array(table["chisq"][1:], float) > 1e-6
    np.testing.assert_allclose(ours["p"].iloc[1:][close], np.array(table["p"][1:], float)[close], rtol=2e-3)


def test_reml_fits_with_other_fixed_effects_are_refitted_and_it_says_so():
    frame = flm.load_dataset("sleepstudy")
    reml = [flm.lmer(f"Reaction ~ {x} + (Days | Subject)", frame) for x in ("1", "Days")]
    ml = [flm.lmer(f"Reaction ~ {x} + (Days | Subject)", frame, reml=False) for x in ("1", "Days")]
    table, expected = flm.anova(*reml), flm.anova(*ml)
    pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(expected), rtol=1e-8)
    assert len(table.notes) == 2 and all("refitted by ML" in note for note in table.notes)
    assert str(table).startswith(table.notes[0]) and table.notes[0] in table._repr_html_().replace(
        "&lt;", "<"
    )
    assert expected.notes == [] and reml[0].method == "REML"
    assert type(table[["p"]]) is pd.DataFrame


def test_reml_fits_with_the_same_fixed_effects_keep_their_likelihoods():
    frame = flm.load_dataset("sleepstudy")
    fits = [flm.lmer(f"Reaction ~ Days + ({x} | Subject)", frame) for x in ("1", "Days")]
    table = flm.anova(*fits)
    np.testing.assert_allclose(table["deviance"], [fit.reml_criterion for fit in fits])
    x = fits[0].reml_criterion - fits[1].reml_criterion
    mixture = 0.5 * (stats.chi2.sf(x, 1) + stats.chi2.sf(x, 2))
    assert table["p_mixture"].iloc[1] == pytest.approx(mixture, rel=1e-9)
    assert "restricted" in table.notes[0]


def test_a_linear_model_takes_part_by_either_likelihood():
    frame = flm.load_dataset("sleepstudy")
    lm = flm.lm("Reaction ~ Days", frame)
    restricted = flm.anova(lm, flm.lmer("Reaction ~ Days + (1 | Subject)", frame))
    # R: -2 * logLik(lm(Reaction ~ Days, sleepstudy), REML = TRUE)
    assert restricted["deviance"].iloc[0] == pytest.approx(1893.66366347, abs=1e-7)
    ml = flm.anova(flm.lmer("Reaction ~ Days + (1 | Subject)", frame, reml=False), lm)
    assert ml["deviance"].iloc[0] == pytest.approx(-2 * lm.llf)
    assert ml["p_mixture"].iloc[1] == pytest.approx(ml["p"].iloc[1] / 2)


def test_what_cannot_be_compared():
    frame = flm.load_dataset("sleepstudy")
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", frame)
    with pytest.raises(flm.ModelError, match="two"):
        flm.anova(fit)
    with pytest.raises(flm.DataError, match="rows"):
        flm.anova(fit, flm.lmer("Reaction ~ Days + (1 | Subject)", frame[5:]))
    with pytest.raises(flm.DataError, match="response"):
        flm.anova(fit, flm.lmer("np.log(Reaction) ~ Days + (1 | Subject)", frame))
    with pytest.raises(TypeError, match="lmer or lm"):
        flm.anova(fit, 3)


def test_a_loaded_fit_needs_no_refit_by_its_own_likelihood(tmp_path):
    frame = flm.load_dataset("sleepstudy")
    small, large = (flm.lmer(f"Reaction ~ Days + ({x} | Subject)", frame) for x in ("1", "Days"))
    flm.save(small, tmp_path / "fit", statistics=False)
    loaded = flm.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(
        pd.DataFrame(flm.anova(loaded, large)), pd.DataFrame(flm.anova(small, large))
    )
    with pytest.raises(flm.DataError, match="file"):
        flm.anova(loaded, flm.lm("Reaction ~ 1", frame))


def test_tails():
    assert chi2_upper(0.0, 0) == 1.0 and chi2_upper(1.0, 0) == 0.0
    assert mixture_upper(2.7055, 1) == pytest.approx(0.05, abs=1e-5)
    assert mixture_upper(5.1384, 2) == pytest.approx(0.05, abs=1e-4)  # Stram & Lee 1994, one slope
    assert np.isnan(naive_p(3.0, 0))


def test_which_hypotheses_have_a_boundary():
    intercept = parameters([("g", ("Intercept",))])
    slope = parameters([("g", ("Intercept", "x"))])
    independent = parameters([("g", ("Intercept",)), ("g", ("x",))])
    none = parameters([])
    assert boundary_p(4.0, 1, none, intercept) == pytest.approx(stats.chi2.sf(4, 1) / 2)
    assert boundary_p(4.0, 2, intercept, slope) == pytest.approx(mixture_upper(4.0, 2))
    assert boundary_p(4.0, 1, independent, slope) == pytest.approx(stats.chi2.sf(4, 1))
    assert np.isnan(boundary_p(4.0, 3, none, slope))
    assert np.isnan(boundary_p(4.0, 1, parameters([("h", ("Intercept",))]), slope))
