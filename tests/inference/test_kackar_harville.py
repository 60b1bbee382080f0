"""The variance that estimated variance parameters add to predictions."""

import warnings

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import MODELS, at_theta, dense_model, unbalanced

import fastlmm_core as flm

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module")
def fits(frame):
    return {name: flm.lmer(formula, frame, weights=w) for name, (formula, w) in MODELS.items()}


def weights_of(dense, rows_x, rows_z):
    """a (n_rows, n) with ``x'beta^ + z'b^ = a'y``."""
    beta = dense.Q @ dense.X.T @ dense.Vi
    return rows_x @ beta + rows_z @ dense.T @ dense.Z.T @ dense.P


def expected_g3(fit, dense, rows_x, rows_z):
    """``sum A_jk Cov(theta_j, theta_k)`` with ``A_jk = (da/dtheta_j)'V (da/dtheta_k)`` by differences."""
    theta, h = fit.theta, 1e-5
    da = []
    for e in h * np.eye(len(theta)):
        up, down = (at_theta(fit, dense, theta + sign * e) for sign in (1, -1))
        da.append((weights_of(up, rows_x, rows_z) - weights_of(down, rows_x, rows_z)) / (2 * h))
    calculus = fit._solved.calculus
    da = np.moveaxis(calculus.gradient(np.moveaxis(da, 0, -1)), -1, 0)
    A = dense.s2 * np.einsum("jrn,nm,krm->rjk", da, dense.V0, da, optimize=True)
    return np.einsum("rjk,jk->r", A, calculus.covariance[:-1, :-1])


@pytest.mark.parametrize("name", MODELS)
def test_added_variance_is_that_of_the_differentiated_predictor(fits, frame, name):
    fit, dense = fits[name], dense_model(fits[name])
    plain = fit.predict(se=True)
    for correction, times in (("kackar-harville", 1.0), ("prasad-rao", 2.0)):
        table = fit.predict(se=True, correction=correction)
        expected = times * expected_g3(fit, dense, dense.X, dense.Z)
        found = table["se"] ** 2 - plain["se"] ** 2
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7 * plain["se"].max() ** 2)
        pd.testing.assert_series_equal(table["mean"], plain["mean"])
    # new rows, the population alone, and what an interval adds
    np.testing.assert_allclose(fit.predict(frame, se=True, correction="prasad-rao"), table, rtol=1e-9)
    population = fit.predict(re="none", se=True, correction="kackar-harville")["se"] ** 2
    expected = expected_g3(fit, dense, dense.X, 0.0 * dense.Z)
    found = population - fit.predict(re="none", se=True)["se"] ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
    wide = fit.predict(interval="observation", correction="prasad-rao")
    np.testing.assert_allclose(wide["se"] ** 2, table["se"] ** 2 + fit.scale / dense.w, rtol=1e-9)


@pytest.mark.parametrize("name", ["slopes", "nested", "crossed"])
def test_levels_that_were_not_seen(fits, frame, name):
    """They have no effect to predict: only beta's part is left."""
    fit = fits[name]
    new = frame.iloc[:3].assign(id="new", site="new", area="new", item="new")
    options = {"new_levels": "population", "se": True}
    added = [fit.predict(new, correction=c, **options)["se"] ** 2 for c in (None, "kackar-harville")]
    none = [fit.predict(new, re="none", se=True, correction=c)["se"] ** 2 for c in (None, "kackar-harville")]
    np.testing.assert_allclose(added[1] - added[0], none[1] - none[0], rtol=1e-8)


def test_balanced_fixed_effects_do_not_depend_on_theta():
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    plain, corrected = (fit.predict(re="none", se=True, correction=c) for c in (None, "prasad-rao"))
    np.testing.assert_allclose(corrected, plain, rtol=1e-9)
    assert (fit.predict(se=True, correction="prasad-rao")["se"] > fit.predict(se=True)["se"]).all()


def test_population_means_agree_with_kenward_roger(frame):
    """Its covariance adds the same to first order: observed for expected information, and no curvature."""
    fit = flm.lmer("y ~ x + arm + (1 | id)", frame)
    new = pd.DataFrame({"x": [0.0, 3.0, 8.0], "arm": ["new", "old", "new"]})
    X = np.array([[1, 0, 0], [1, 3, 1], [1, 8, 0]], float)
    model, adjusted = (X @ fit.cov_params(kind) @ X.T for kind in ("model", "kenward-roger"))
    theirs = np.diag(adjusted) - np.diag(model)
    ours = [fit.predict(new, re="none", se=True, correction=c)["se"] ** 2 for c in (None, "prasad-rao")]
    np.testing.assert_allclose(ours[1] - ours[0], theirs, rtol=0.5)
    assert (theirs > 0).all()


def test_mean_squared_error_of_simulated_groups():
    """Twelve groups of four rows: plug-in errors are too small, Prasad and Rao's are about right."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 4)
    error, plain, corrected = [], [], []
    for _ in range(300):
        b = rng.normal(size=12)
        data = pd.DataFrame({"g": g, "y": b[g] + rng.normal(size=48)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = flm.lmer("y ~ 1 + (1 | g)", data)
        if fit.theta[0] < 0.25:  # near the boundary there is no expansion
            continue
        first = data.iloc[::4]
        error.append((fit.predict(first) - b) ** 2)
        plain.append(fit.predict(first, se=True)["se"] ** 2)
        corrected.append(fit.predict(first, se=True, correction="prasad-rao")["se"] ** 2)
    truth, usual, added = (np.mean(values) for values in (error, plain, corrected))
    assert usual < 0.95 * truth and added == pytest.approx(truth, rel=0.05)


def test_what_is_asked_for(fits, frame, tmp_path):
    fit = fits["slopes"]
    with pytest.raises(ValueError, match="correction is one of"):
        fit.predict(se=True, correction="kr")
    with pytest.raises(ValueError, match="standard errors"):
        fit.predict(correction="prasad-rao")
    with pytest.raises(ValueError, match="condition_on"):
        fit.predict(frame, condition_on=frame.head(2), correction="prasad-rao", se=True)
    out = fit.predict(frame, se=True, correction="prasad-rao", out=tmp_path / "p.csv")
    np.testing.assert_allclose(pd.read_csv(out)["se"], fit.predict(se=True, correction="prasad-rao")["se"])
    flm.save(fit, tmp_path / "fit.flm", statistics=False)
    with pytest.raises(flm.DataError, match="equations"):
        flm.load(tmp_path / "fit.flm").predict(frame, re="none", se=True, correction="prasad-rao")


def test_rows_that_take_too_long(fits, frame, monkeypatch):
    from fastlmm_core.inference import kackar_harville

    monkeypatch.setattr(kackar_harville, "MOST_WORK", 10.0)
    with pytest.raises(flm.ModelError, match="fewer rows"):
        fits["crossed"].predict(frame, se=True, correction="prasad-rao")
    assert fits["slopes"].predict(frame, se=True, correction="prasad-rao")["se"].notna().all()


@pytest.mark.parametrize("name", ["slopes", "crossed"])
def test_sizes_of_blocks_do_not_matter(frame, monkeypatch, name):
    from fastlmm_core.inference import kackar_harville

    formula, weights = MODELS[name]
    whole = flm.lmer(formula, frame, weights=weights).predict(se=True, correction="prasad-rao")
    monkeypatch.setattr(kackar_harville, "CHUNK", 40)
    parts = flm.lmer(formula, frame, weights=weights).predict(se=True, correction="prasad-rao")
    np.testing.assert_allclose(parts, whole, rtol=1e-10)
