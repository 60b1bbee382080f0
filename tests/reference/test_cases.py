"""Every recorded lmer fit, quantity by quantity."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import tolerances as tol
from reference import names
from reference.loader import case, data, ids
from scipy import stats

import fastlmm_core as flm

pytestmark = [pytest.mark.reference, pytest.mark.parametrize("id", ids("lmer"))]


@cache
def fitted(id):
    recorded = case(id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flm.RankWarning)
        return flm.lmer(
            recorded["formula"],
            data(recorded["dataset"]),
            reml=recorded["reml"],
            weights=recorded["weights"],
        )


def fixed(fit, series, recorded):
    """A Series by coefficient in R's order of the kept coefficients."""
    frame = data(recorded["dataset"])
    ours = pd.Series(np.asarray(series, float), index=[names.plain(n) for n in series.index])
    ours = ours[fit.params.notna().to_numpy()]
    theirs = [names.plain(names.coefficient(n, frame)) for n in recorded["fixef"]["names"]]
    assert sorted(ours.index) == sorted(theirs)
    return ours[theirs].to_numpy()


def close(ours, theirs, relative, scale=None, floor=0.0):
    """|ours - theirs| <= relative * scale + floor, elementwise; scale defaults to |theirs|."""
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    scale = np.abs(theirs) if scale is None else scale
    assert ours.shape == theirs.shape
    excess = np.abs(ours - theirs) - (relative * scale + floor)
    undefined = np.isnan(ours) & np.isnan(theirs)
    assert np.all((excess <= 0) | undefined), f"off by {np.abs(ours - theirs).max():.3g}:\n{ours}\n{theirs}"


def test_criterion_reaches_the_recorded_optimum(id):
    recorded, fit = case(id), fitted(id)
    criterion = -2 * fit.llf
    best = recorded["criterion"]
    assert criterion <= best + tol.CRITERION_ABS + tol.CRITERION_REL * abs(best)
    assert criterion >= best - tol.CRITERION_BELOW - tol.CRITERION_BELOW_REL * abs(best)
    attribute = fit.reml_criterion if recorded["reml"] else fit.deviance
    assert attribute == pytest.approx(criterion, rel=1e-12)


def test_fixed_effects(id):
    recorded, fit = case(id), fitted(id)
    estimate, se = (np.array(recorded["fixef"][k]) for k in ("estimate", "se"))
    close(fixed(fit, fit.params, recorded), estimate, tol.FIXED_EFFECTS_IN_SE, scale=se)
    close(fixed(fit, fit.bse, recorded), se, tol.STANDARD_ERROR)


def test_covariance_of_fixed_effects(id):
    recorded, fit = case(id), fitted(id)
    order = [names.plain(names.coefficient(n, data(recorded["dataset"]))) for n in recorded["fixef"]["names"]]
    ours = fit.cov_params()
    ours.index = ours.columns = [names.plain(n) for n in ours.index]
    theirs, se = np.array(recorded["fixef"]["vcov"]), np.array(recorded["fixef"]["se"])
    close(ours.loc[order, order], theirs, 3 * tol.STANDARD_ERROR, scale=np.outer(se, se))


def test_satterthwaite(id):
    recorded, fit = case(id), fitted(id)
    table = recorded["fixef"]["satterthwaite"]
    df, t, p = (np.array(table[k], float) for k in ("df", "t", "p"))
    close(fixed(fit, fit.df, recorded), df, tol.SATTERTHWAITE_DF)
    close(fixed(fit, fit.tvalues, recorded), t, tol.STANDARD_ERROR, floor=tol.FIXED_EFFECTS_IN_SE)
    ours = fixed(fit, fit.pvalues, recorded)
    shown = p > 1e-300
    quantile = stats.t.isf(p[shown] / 2, df[shown])
    close(stats.t.isf(ours[shown] / 2, df[shown]), quantile, 10 * tol.T_VALUE, floor=tol.T_VALUE)
    assert np.all(ours[~shown] < 1e-290)


def test_sigma_and_variance_components(id):
    recorded, fit = case(id), fitted(id)
    close(fit.sigma, recorded["sigma"], tol.SIGMA)
    close(fit.scale, recorded["sigma"] ** 2, 2 * tol.SIGMA)
    table = fit.varcorr()
    frame, s2 = data(recorded["dataset"]), recorded["sigma"] ** 2
    groups = [str(g).split(".")[0] for g in table["group"]]
    rows = {}
    for g, a, b, vcov, sdcor in zip(groups, table["var1"], table["var2"], table["vcov"], table["sdcor"]):
        rows[g, names.plain(a), None if pd.isna(b) else names.plain(b)] = (vcov, sdcor)
    seen = 0
    for term in recorded["varcorr"]:
        group, _ = names.group(term["group"], groups)
        cov, sd, corr = (np.atleast_2d(np.array(term[k], float)) for k in ("cov", "sd", "corr"))
        sd = sd.ravel()
        columns = [names.plain(names.coefficient(n, frame)) for n in term["names"]]
        for i, a in enumerate(columns):
            seen += 1
            vcov, sdcor = rows[group, a, None]
            close(vcov, cov[i, i], tol.VARCORR, floor=tol.VARCORR_FLOOR * s2)
            close(sdcor**2, cov[i, i], tol.VARCORR, floor=tol.VARCORR_FLOOR * s2)
            for j in range(i + 1, len(columns)):
                seen += 1
                key = (group, a, columns[j])
                vcov, sdcor = rows[key] if key in rows else rows[group, columns[j], a]
                close(vcov, cov[i, j], tol.VARCORR, scale=sd[i] * sd[j], floor=tol.VARCORR_FLOOR * s2)
                close(sdcor, corr[i, j], 2 * tol.VARCORR, scale=1.0)
    assert seen == len(rows) - 1, "rows beside the recorded ones and Residual"
    assert rows["Residual", names.plain(table["var1"].iloc[-1]), None][1] == pytest.approx(fit.sigma)


def test_random_effects(id):
    recorded, fit = case(id), fitted(id)
    effects = fit.ranef()
    frame = data(recorded["dataset"])
    for block in recorded["ranef"]:
        name, relevel = names.group(block["group"], effects)
        ours = effects[name]
        assert len(ours) == block["n_levels"]
        columns = [names.plain(names.coefficient(n, frame)) for n in block["columns"]]
        ours = ours.set_axis([names.plain(c) for c in ours.columns], axis=1)[columns]
        values = np.array(block["values"], float)
        scale = np.sqrt(np.array(block["col_ss"], float) / block["n_levels"]) + 1e-4 * recorded["sigma"]
        levels = [relevel(level) for level in block["levels"]]
        close(ours.loc[levels], values, tol.RANEF, scale=scale)
        ss = np.array(block["col_ss"], float)
        close((ours**2).sum(), ss, 2 * tol.RANEF, floor=1e-8 * recorded["sigma"] ** 2 * len(ours))


def test_conditional_covariances(id):
    recorded, fit = case(id), fitted(id)
    if recorded["ranef"][0].get("cond_var_terms") is None:
        pytest.skip("not recorded for this size")
    effects, covariances = fit.ranef(cond_var=True)
    frame = data(recorded["dataset"])
    for block in recorded["ranef"]:
        name, relevel = names.group(block["group"], effects)
        columns = [names.plain(c) for c in effects[name].columns]
        rows = effects[name].index.get_indexer([relevel(level) for level in block["levels"]])
        assert np.all(rows >= 0)
        terms = block["cond_var_terms"]
        for term in terms.values() if isinstance(terms, dict) else terms:
            at = [columns.index(names.plain(names.coefficient(n, frame))) for n in term["columns"]]
            ours = covariances[name][np.ix_(rows, at, at)]
            theirs = np.array(term["cond_var"], float)
            sd = np.sqrt(np.einsum("lii->li", theirs)) + 1e-3 * recorded["sigma"]
            scale = sd[:, :, None] * sd[:, None, :]
            close(ours, theirs, tol.CONDITIONAL_VARIANCE, scale=scale)


@pytest.mark.parametrize(
    "attribute, key", [("fittedvalues", "fitted"), ("resid", "resid"), ("resid_scaled", "scaled_resid")]
)
def test_rows(id, attribute, key):
    recorded, fit = case(id), fitted(id)
    ours, theirs = np.asarray(getattr(fit, attribute), float), recorded[key]
    quantiles = np.array(theirs["quantiles_0_25_50_75_100"])
    scale = quantiles[-1] - quantiles[0] or 1.0
    assert ours.shape == (theirs["n"],)
    close(np.quantile(ours, [0, 0.25, 0.5, 0.75, 1]), quantiles, tol.FITTED, scale=scale)
    close(ours[:5], theirs["head5"], tol.FITTED, scale=scale)
    close(ours[-3:], theirs["tail3"], tol.FITTED, scale=scale)
    close(np.sum(ours**2), theirs["ss"], tol.FITTED, floor=1e-6 * scale**2)


def test_predictions(id):
    recorded, fit = case(id), fitted(id)
    frame, expected = data(recorded["dataset"]), recorded["predict"]
    new = frame.iloc[np.array(expected["rows"]) - 1]
    scale = np.ptp(recorded["fitted"]["quantiles_0_25_50_75_100"]) or abs(expected["population"][0])
    close(fit.predict(new), expected["conditional"], tol.FITTED, scale=scale)
    close(fit.predict(new, re="none"), expected["population"], tol.FITTED, scale=scale)
    if "new_level" in expected:
        column = expected["new_level"]["column_set_to_unseen"]
        unseen = new.iloc[:2].assign(**{column: "__new__"})
        with pytest.raises(flm.DataError, match="__new__"):
            fit.predict(unseen)
        ours = fit.predict(unseen, new_levels="population")
        close(ours, expected["new_level"]["conditional"], tol.FITTED, scale=scale)


def test_r2_and_icc(id):
    recorded, fit = case(id), fitted(id)
    expected, r2, icc = recorded["r2"], fit.r2(), fit.icc()
    close(r2["marginal"], expected["r2_marginal"], tol.R2, floor=tol.R2)
    close(r2["conditional"], expected["r2_conditional"], tol.R2, floor=tol.R2)
    close(icc["adjusted"], expected["icc_adjusted"], tol.R2, floor=tol.R2)
    close(icc["unadjusted"], expected["icc_unadjusted"], tol.R2, floor=tol.R2)


def test_information_criteria(id):
    recorded, fit = case(id), fitted(id)
    floor = tol.CRITERIA_ABS + 1e-10 * abs(recorded["criterion"])
    close(fit.llf, recorded["logLik"], 0, floor=floor)
    close(fit.aic, recorded["AIC"], 0, floor=2 * floor)
    close(fit.bic, recorded["BIC"], 0, floor=2 * floor)


def test_counts(id):
    recorded, fit = case(id), fitted(id)
    assert fit.nobs == recorded["nobs"]
    assert fit.df_modelwc == recorded["npar"]
    assert len(fit.theta) == len(recorded["theta"])
    ours = {str(group): int(count) for group, count in dict(fit.ngroups).items()}
    for group, count in recorded["ngrps"].items():
        assert ours[names.group(group, ours)[0]] == count
    assert len(ours) == len(recorded["ngrps"])
    assert fit.converged
    assert bool(fit.is_singular) == recorded["is_singular"]


def test_theta_where_it_is_unique(id):
    recorded, fit = case(id), fitted(id)
    if recorded["is_singular"]:
        pytest.skip("theta is not unique in a singular fit")
    theirs = np.array(recorded["theta"], float)
    close(fit.theta, theirs, 1e-3, scale=np.abs(theirs).max())


def test_dropped_columns(id):
    recorded, fit = case(id), fitted(id)
    dropped = recorded["fixef"]["dropped_columns"] or []
    frame = data(recorded["dataset"])
    ours = [names.plain(n) for n in fit.params.index[fit.params.isna()]]
    assert ours == [names.plain(names.coefficient(n, frame)) for n in dropped]
    if dropped:
        with pytest.warns(flm.RankWarning, match=dropped[0]):
            flm.lmer(recorded["formula"], frame, reml=recorded["reml"])
