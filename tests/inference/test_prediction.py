"""Prediction errors against the inverse of the mixed-model equations, written out."""

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import MODELS, Dense, dense_model, unbalanced
from scipy import stats
from scipy.linalg import block_diag

import fastlmm_core as flm
from fastlmm_core.inference import prediction_crossed

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module")
def fits(frame):
    return {
        name: flm.lmer(formula, frame, weights=weights, control=None)
        for name, (formula, weights) in MODELS.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_standard_errors_are_those_of_the_inverse_equations(fits, frame, name):
    fit, dense = fits[name], dense_model(fits[name])
    rows = np.hstack([dense.X, dense.Z])
    expected = np.sqrt(dense.s2 * np.einsum("ni,ij,nj->n", rows, dense.inverse_equations(), rows))
    table = fit.predict(se=True)
    np.testing.assert_allclose(table["se"], expected, rtol=1e-9)
    np.testing.assert_allclose(table["mean"], fit.fittedvalues, rtol=1e-12)
    np.testing.assert_allclose(fit.predict(frame, se=True), table, rtol=1e-12)
    observed = fit.predict(frame, interval="observation")
    np.testing.assert_allclose(observed["se"] ** 2, expected**2 + fit.scale / dense.w, rtol=1e-9)


def test_henderson_inverse_is_that_of_the_coefficient_matrix(fits):
    from fastlmm_core.mme.henderson import coefficient_matrix

    dense = dense_model(fits["intercept"])
    C = coefficient_matrix(dense.X, dense.Z, dense.T, dense.w)
    np.testing.assert_allclose(np.linalg.inv(C), dense.inverse_equations(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["nested", "crossed", "slopes"])
def test_some_groups_only(fits, name):
    fit, dense = fits[name], dense_model(fits[name])
    # the first term is id's, q columns per level
    q = len(fit._facts.terms[0].names)
    size = q * fit.ngroups["id"]
    Z = dense.Z.copy()
    Z[:, size:] = 0.0
    rows = np.hstack([dense.X, Z])
    expected = dense.s2 * np.einsum("ni,ij,nj->n", rows, dense.inverse_equations(), rows)
    table = fit.predict(re=["id"], interval="mean")
    np.testing.assert_allclose(table["se"] ** 2, expected, rtol=1e-9)
    rest = dense.Z - Z
    new = dense.s2 * np.einsum("ni,ij,nj->n", rest, dense.T, rest)
    drawn = fit.predict(re=["id"], interval="new_cluster")
    np.testing.assert_allclose(drawn["se"] ** 2, expected + new, rtol=1e-9)


def test_levels_that_are_not_each_others_ancestors(fits, frame):
    """id p00 belongs to s0 in a0; asked for in another site and area, every block between them enters."""
    fit, dense = fits["nested"], dense_model(fits["nested"])
    moved = frame.iloc[:12].assign(site="s3", area="a0")
    design = fit._rows.design
    Z = []
    for term in design.terms:
        factor = design.factors[term.factor]
        codes = pd.Index(factor.levels).get_indexer(moved[factor.name])
        values = np.column_stack([np.ones(12), moved["x"]])[:, : len(term.columns)]
        block = np.zeros((12, len(factor.levels) * values.shape[1]))
        for r in range(12):
            block[r, codes[r] * values.shape[1] : (codes[r] + 1) * values.shape[1]] = values[r]
        Z.append(block)
    rows = np.hstack([dense.X[:12], *Z])
    expected = dense.s2 * np.einsum("ni,ij,nj->n", rows, dense.inverse_equations(), rows)
    np.testing.assert_allclose(fit.predict(moved, se=True)["se"] ** 2, expected, rtol=1e-9)


def test_population_intervals_use_satterthwaite(fits, frame):
    fit = fits["slopes"]
    mean = fit.predict(frame, re="none", interval="mean", level=0.9)
    design = np.column_stack([np.ones(len(frame)), frame["x"]])
    expected = np.sqrt(np.einsum("ni,ij,nj->n", design, fit.cov_params().to_numpy(), design))
    np.testing.assert_allclose(mean["se"], expected, rtol=1e-12)
    # at x = 0 it is the intercept's own interval
    origin = fit.predict(pd.DataFrame({"x": [0.0]}), re="none", interval="mean")
    np.testing.assert_allclose(
        origin[["lower", "upper"]].iloc[0], fit.conf_int().loc["Intercept"], rtol=1e-10
    )
    new = fit.predict(frame, interval="new_cluster", re="none")
    random = np.einsum("ni,ij,nj->n", design, fit.cov_re["id"].to_numpy(), design)
    np.testing.assert_allclose(new["se"] ** 2, expected**2 + random, rtol=1e-12)
    whole = fit.predict(frame, interval="observation", re="none")
    np.testing.assert_allclose(whole["se"] ** 2, new["se"] ** 2 + fit.scale, rtol=1e-12)


def at_theta(fit, dense, theta, log_s2):
    """The dense model of a fit at other variance parameters."""
    start, blocks = 0, []
    for term in fit._facts.terms:
        q = len(term.names)
        L = np.zeros((q, q))
        size = q * (q + 1) // 2
        L.T[np.triu_indices(q)] = theta[start : start + size]
        start += size
        blocks.append(np.kron(np.eye(fit.ngroups[fit._facts.factors[term.factor]]), L @ L.T))
    return Dense(dense.X, dense.y, dense.Z, block_diag(*blocks), dense.w, np.exp(log_s2))


def expected_df(fit, dense, variance):
    """2 f^2 / g'A g with g from central differences of ``variance(dense model)`` (n,)."""
    at = np.append(fit.theta, np.log(fit.scale))
    steps = 1e-5 * np.eye(len(at))
    g = (
        np.array(
            [
                variance(at_theta(fit, dense, (at + e)[:-1], (at + e)[-1]))
                - variance(at_theta(fit, dense, (at - e)[:-1], (at - e)[-1]))
                for e in steps
            ]
        )
        / 2e-5
    )
    f = variance(at_theta(fit, dense, at[:-1], at[-1]))
    calculus = fit._solved.calculus
    g = np.vstack([calculus.gradient(g[:-1].T).T, g[-1:]])
    return 2 * f**2 / np.einsum("mn,mk,kn->n", g, calculus.covariance, g)


def reach(table):
    return (table["upper"] - table["mean"]) / table["se"]


def test_df_of_a_new_cluster(fits):
    fit, dense = fits["slopes"], dense_model(fits["slopes"])
    x = np.array([1.0, 5.0])

    def variance(model):
        return np.array([model.s2 * (x @ model.Q @ x + x @ model.T[:2, :2] @ x + 1.0)])

    table = fit.predict(pd.DataFrame({"x": [5.0]}), re="none", interval="observation")
    np.testing.assert_allclose(reach(table), stats.t.ppf(0.975, expected_df(fit, dense, variance)), rtol=1e-6)


@pytest.mark.parametrize("name", ["slopes", "weighted", "nested", "crossed"])
def test_df_with_predicted_random_effects(fits, name):
    """Satterthwaite's df of the whole prediction error variance."""
    fit, dense = fits[name], dense_model(fits[name])
    rows = np.hstack([dense.X, dense.Z])

    def variance(model):
        return model.s2 * np.einsum("ni,ij,nj->n", rows, model.inverse_equations(), rows)

    expected = expected_df(fit, dense, variance)
    np.testing.assert_allclose(reach(fit.predict(interval="mean")), stats.t.ppf(0.975, expected), rtol=2e-4)
    noisy = expected_df(fit, dense, lambda model: variance(model) + model.s2 / model.w)
    np.testing.assert_allclose(
        reach(fit.predict(interval="observation")), stats.t.ppf(0.975, noisy), rtol=2e-4
    )


def test_new_levels_and_missing_rows(fits, frame):
    fit = fits["slopes"]
    new = frame.iloc[:4].assign(id=["p00", "nobody", "p01", None])
    with pytest.raises(flm.DataError, match="nobody"):
        fit.predict(new, se=True)
    table = fit.predict(new, se=True, new_levels="population")
    assert np.isnan(table["se"].iloc[3]) and np.isnan(table["mean"].iloc[3])
    alone = fit.predict(new, re="none", se=True)
    np.testing.assert_allclose(table.iloc[1], alone.iloc[1], rtol=1e-12)
    wide = fit.predict(new, interval="observation", new_levels="population")
    wanted = fit.predict(new, interval="observation", re="none")
    np.testing.assert_allclose(wide["se"].iloc[1], wanted["se"].iloc[1], rtol=1e-12)


@pytest.mark.parametrize("name", ["slopes", "weighted", "nested", "crossed"])
def test_rows_to_condition_on_are_the_equations_with_the_rows_added(fits, frame, name):
    """New and known levels alike: the model of all rows, at the variances of the fit to some of them."""
    formula, weights = MODELS[name]
    held = frame["id"].isin(["p02", "p03", "p07"]) | (frame.index % 11 == 0)
    part = flm.lmer(formula, frame[~held], weights=weights)
    whole = flm.lmer(formula, frame, weights=weights)
    whole._estimates.__dict__.update(terms=part._estimates.terms)
    model = dense_model(whole)
    model.s2 = part.scale
    target = frame[frame["id"].isin(["p02", "p07", "p05"])]
    rows = np.hstack([model.X, model.Z])[target.index]
    given = frame[held]
    table = part.predict(target, condition_on=given, se=True)
    np.testing.assert_allclose(table["mean"], rows @ np.append(model.beta, model.b), rtol=1e-9)
    expected = model.s2 * np.einsum("ni,ij,nj->n", rows, model.inverse_equations(), rows)
    np.testing.assert_allclose(table["se"] ** 2, expected, rtol=1e-8)
    np.testing.assert_allclose(part.predict(target, condition_on=given), table["mean"], rtol=1e-14)
    limits = part.predict(target, condition_on=given, interval="mean")

    def variance(model):
        return model.s2 * np.einsum("ni,ij,nj->n", rows, model.inverse_equations(), rows)

    whole._estimates.__dict__.update(theta=part._estimates.theta, r2=part.scale * whole._estimates.N)
    whole._solved.__dict__["calculus"] = part._solved.calculus
    df = expected_df(whole, model, variance)
    np.testing.assert_allclose(reach(limits), stats.t.ppf(0.975, df), rtol=5e-4)


def test_what_cannot_be_conditioned_on(fits, frame):
    fit = fits["slopes"]
    with pytest.raises(flm.DataError, match="q1"):
        fit.predict(frame[:2].assign(id="q1"), condition_on=frame[:2].assign(id="q2"))
    with pytest.raises(flm.DataError, match="miss"):
        fit.predict(frame[:2], condition_on=frame[:2].assign(y=np.nan))
    with pytest.raises(ValueError, match="newdata"):
        fit.predict(condition_on=frame[:2])
    with pytest.raises(ValueError, match="new_cluster"):
        fit.predict(frame[:2], condition_on=frame[:2], interval="new_cluster")
    with pytest.raises(flm.DataError, match="column"):
        fits["weighted"].predict(frame[:2], condition_on=frame[:2].drop(columns="w"))


def test_options(fits):
    with pytest.raises(ValueError, match="new_cluster"):
        fits["slopes"].predict(interval="prediction")
    with pytest.raises(ValueError, match="between 0 and 1"):
        fits["slopes"].predict(interval="mean", level=95)


@pytest.mark.parametrize("name", ["crossed", "three"])
def test_conjugate_gradients_give_what_the_dense_matrix_gives(frame, monkeypatch, name):
    formula, weights = MODELS[name]
    dense = flm.lmer(formula, frame, weights=weights)
    expected = dense.predict(interval="mean"), dense.influence("item").cooks_distance
    monkeypatch.setattr(prediction_crossed, "DENSE_LIMIT", 3)
    fit = flm.lmer(formula, frame, weights=weights)
    np.testing.assert_allclose(fit.predict(interval="mean"), expected[0], rtol=1e-6)
    np.testing.assert_allclose(fit.influence("item").cooks_distance, expected[1], rtol=1e-8)


def test_crossed_factors_over_the_limit_say_so(frame, monkeypatch):
    monkeypatch.setattr(prediction_crossed, "DENSE_LIMIT", 3)
    fit = flm.lmer(MODELS["crossed"][0], frame)
    assert fit.predict(frame[:3], se=True)["se"].notna().all()
    monkeypatch.setattr(prediction_crossed, "MOST_WORK", 5e4)
    with pytest.raises(flm.ModelError, match="49 rows"):
        fit.predict(se=True)
    assert fit.predict(re="none", se=True)["se"].notna().all()


def test_saved_fits_have_errors_of_population_means(fits, frame, tmp_path):
    fit = fits["slopes"]
    flm.save(fit, tmp_path / "fit.flm", statistics=False)
    read = flm.load(tmp_path / "fit.flm")
    for interval in ("mean", "observation", "new_cluster"):
        np.testing.assert_allclose(
            read.predict(frame, re="none", interval=interval),
            fit.predict(frame, re="none", interval=interval),
            rtol=1e-12,
        )
    with pytest.raises(flm.DataError, match="re='none'"):
        read.predict(frame, se=True)


def test_coverage():
    """Intervals cover what they say they cover: 120 data sets, binomial error about 2 %."""
    rng = np.random.default_rng(8)
    groups, size = 40, 5
    codes = np.repeat(np.arange(groups), size)
    x = np.tile(np.arange(size) - 2.0, groups)
    hits = {"mean": [], "observation": [], "new_cluster": [], "population": []}
    for _ in range(120):
        b = rng.normal(0, [2.0, 0.5], (groups, 2))
        truth = 1.0 + 0.3 * x + b[codes, 0] + b[codes, 1] * x
        y = truth + rng.normal(0, 1.0, len(x))
        fit = flm.lmer("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": codes.astype(str)}))
        again = truth + rng.normal(0, 1.0, len(x))
        fresh = rng.normal(0, [2.0, 0.5], (len(x), 2))
        other = 1.0 + 0.3 * x + fresh[:, 0] + fresh[:, 1] * x
        new = {"mean": truth, "observation": again, "new_cluster": other}
        for interval, value in new.items():
            table = fit.predict(interval=interval)
            hits[interval].append(np.mean((table["lower"] <= value) & (value <= table["upper"])))
        table = fit.predict(re="none", interval="mean")
        hits["population"].append(np.mean((table["lower"] <= 1 + 0.3 * x) & (1 + 0.3 * x <= table["upper"])))
    for interval, found in hits.items():
        slack = 3.5 * np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - 0.95) < slack + 0.01, (interval, np.mean(found))


@pytest.mark.parametrize("name", ["slopes", "nested", "crossed"])
def test_unseen_levels_as_missing(fits, frame, name):
    fit = fits[name]
    new = frame.iloc[:4].copy()
    new.loc[new.index[1], "id"] = "nobody"
    new.loc[new.index[2], "x"] = np.nan
    for options in ({}, {"se": True}, {"interval": "observation"}):
        table = fit.predict(new, new_levels="missing", **options)
        zero = fit.predict(new, new_levels="population", **options)
        gone = np.array([False, True, True, False])
        assert pd.DataFrame(table).isna().all(axis=1).to_numpy().tolist() == gone.tolist()
        np.testing.assert_array_equal(table[~gone], zero[~gone])
    # levels that are not asked for, and those that other rows tell about, are not missing
    assert fit.predict(new.drop(index=new.index[2]), re="none", new_levels="missing").notna().all()
    seen = frame.iloc[[1]].assign(id="nobody", y=3.0)
    told = fit.predict(new, condition_on=seen, new_levels="missing", se=True)
    assert told["se"].isna().tolist() == [False, False, True, False]
    other = fit.predict(new.assign(id="somebody"), condition_on=seen, new_levels="missing")
    assert other.isna().all()
