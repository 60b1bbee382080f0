"""Cluster-robust covariances against R's clubSandwich 0.5.8 and against plain matrices.

The numbers of R: ``coef_test(fit, vcovCR(fit, type), test = "Satterthwaite")`` for lme4's fits,
on `unbalanced()` written to a file.
"""

import numpy as np
import pandas as pd
import pytest
from oracle.marginal import dense_model, unbalanced
from scipy import stats

import fastlmm_core as flm
from fastlmm_core.inference import robust

# model, cluster, kind -> standard errors, degrees of freedom
CLUB_SANDWICH = {
    ("int", None, "CR0"): (
        [1.024272154326, 0.134166001419, 1.354224896640],
        [6.53927818895, 5.08636526261, 11.91809608519],
    ),
    ("int", None, "CR1"): (
        [1.062937448257, 0.139230639619, 1.405345590936],
        [6.53927818895, 5.08636526261, 11.91809608519],
    ),
    ("int", None, "CR2"): (
        [1.09148219116, 0.14942239897, 1.46542625042],
        [6.53978206340, 4.51947140282, 11.89805423958],
    ),
    ("int", "site", "CR0"): (
        [1.295457188751, 0.125729714693, 1.878742651327],
        [3.54291734916, 2.55328981428, 3.88438650480],
    ),
    ("int", "site", "CR1"): (
        [1.448365167994, 0.140570094423, 2.100498140297],
        [3.54291734916, 2.55328981428, 3.88438650480],
    ),
    ("int", "site", "CR2"): (
        [1.512951852279, 0.151395721563, 2.190096176905],
        [3.33218361614, 2.38838277394, 3.84098463520],
    ),
    ("nested", None, "CR0"): ([0.525095185706, 0.128514280244], [3.86201958359, 2.57955403872]),
    ("nested", None, "CR1"): ([0.587074264948, 0.143683333352], [3.86201958359, 2.57955403872]),
    ("nested", None, "CR2"): ([0.579432694102, 0.156589261315], [3.80659342212, 2.39778143448]),
    ("int", None, "CR3"): (
        [1.171940474925, 0.1660794244886, 1.594051104258],
        [6.53952662896, 4.014767032053, 11.87532179706],
    ),
    ("int", "site", "CR3"): (
        [1.748214735942, 0.1831506519737, 2.519069810612],
        [3.113833300653, 2.242087760733, 3.796004972774],
    ),
    ("nested", None, "CR3"): ([0.6531663052568, 0.1892110692876], [3.743833182005, 2.241049162043]),
}
FORMULAS = {"int": "y ~ x + arm + (1 | id)", "nested": "y ~ x + (1 | site) + (1 | id)"}


@pytest.fixture(scope="module")
def frame():
    return unbalanced()


@pytest.fixture(scope="module")
def fits(frame):
    return {name: flm.lmer(formula, frame) for name, formula in FORMULAS.items()}


@pytest.mark.reference
@pytest.mark.parametrize("model, cluster, kind", CLUB_SANDWICH)
def test_as_clubsandwich(fits, model, cluster, kind):
    fit, (se, df) = fits[model], CLUB_SANDWICH[model, cluster, kind]
    table = fit.robust(kind, cluster)
    np.testing.assert_allclose(table["std_error"], se, rtol=2e-6)
    np.testing.assert_allclose(table["df"], df, rtol=2e-6)
    cov = fit.cov_params(kind, cluster=cluster)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), table["std_error"], rtol=1e-12)
    limits = fit.conf_int(method=kind, cluster=cluster)
    np.testing.assert_allclose(limits, table[["lower", "upper"]], rtol=1e-12)
    np.testing.assert_allclose(table["p"], 2 * stats.t.sf(abs(fit.params / table["std_error"]), table["df"]))


@pytest.mark.reference
def test_sleep_study():
    """Balanced: CR2 and CR1 agree with the model's own standard errors."""
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    for kind in ("CR1", "CR2"):
        table = fit.robust(kind)
        np.testing.assert_allclose(table["std_error"], [6.82455653207, 1.54578889629], rtol=1e-6)
        np.testing.assert_allclose(table["df"], [17, 17], rtol=1e-8)
    np.testing.assert_allclose(fit.robust("CR0")["std_error"], [6.63227680702, 1.50223678231], rtol=1e-6)


def sandwich(dense, clusters, kind):
    """The definition with n x n matrices: covariance, and df of each coefficient."""
    n, J = len(dense.y), len(np.unique(clusters))
    X, M = dense.X, dense.Q
    residual, IH = dense.y - X @ dense.beta, np.eye(n) - X @ M @ X.T @ dense.Vi
    estimating = []
    for c in np.unique(clusters):
        i = np.flatnonzero(clusters == c)
        W = np.linalg.inv(dense.V0[np.ix_(i, i)])
        A = np.eye(len(i))
        if kind == "CR2":
            D = np.linalg.cholesky(dense.V0[np.ix_(i, i)]).T
            B = D @ IH[np.ix_(i, i)] @ dense.V0[np.ix_(i, i)] @ D.T
            values, vectors = np.linalg.eigh(0.5 * (B + B.T))
            power = [1 / np.sqrt(v) if v > 1e-12 * values.max() else 0.0 for v in values]
            A = D.T @ (vectors * power) @ vectors.T @ D
        if kind == "CR3":
            A = np.linalg.inv(IH[np.ix_(i, i)])
        E = np.zeros((X.shape[1], n))
        E[:, i] = X[i].T @ W @ A
        estimating.append(E)
    scale = J / (J - 1) if kind == "CR1" else 1.0
    scores = [E @ residual for E in estimating]
    cov = scale * M @ sum(np.outer(s, s) for s in scores) @ M
    df = []
    for c in np.eye(len(M)):
        g = np.array([IH.T @ E.T @ M @ c for E in estimating])
        Omega = g @ dense.V0 @ g.T
        df.append(np.trace(Omega) ** 2 / np.trace(Omega @ Omega))
    return cov, np.array(df)


@pytest.mark.parametrize("kind", robust.KINDS)
@pytest.mark.parametrize(
    "formula, weights, cluster",
    [
        ("y ~ x + arm + (x | id)", "w", None),
        ("y ~ x + (1 | area) + (1 | site) + (x | id)", "w", "site"),
        ("y ~ x + (1 | site) + (1 + x || id)", None, None),
        ("y ~ x + (1 | id)", None, "id"),
        ("y ~ x + (x | site)", None, None),  # clusters wider than k + p
    ],
)
@pytest.mark.filterwarnings("ignore::fastlmm_core.errors.ConvergenceWarning")
def test_as_plain_matrices(frame, kind, formula, weights, cluster):
    if cluster == "site":
        formula = formula.replace("(1 | area) + ", "")
    fit = flm.lmer(formula, frame, weights=weights)
    outer = cluster or ("site" if "site" in formula else "id")
    cov, df = sandwich(dense_model(fit), frame[outer].to_numpy(), kind)
    np.testing.assert_allclose(fit.cov_params(kind, cluster=cluster), cov, rtol=1e-7)
    np.testing.assert_allclose(fit.robust(kind, cluster)["df"], df, rtol=1e-7)


def test_cr2_does_not_depend_on_the_shift_of_x(frame, fits):
    moved = flm.lmer(FORMULAS["int"], frame.assign(x=frame["x"] + 1e6))
    ours = fits["int"].robust().loc["x"].drop(["estimate", "t", "p", "lower", "upper"])
    np.testing.assert_allclose(moved.robust().loc["x", ours.index], ours, rtol=1e-6)


def test_clusters_by_array_and_aliased_columns(frame, fits):
    labels = frame["site"].to_numpy()
    pd.testing.assert_frame_equal(fits["int"].robust("CR2", labels), fits["int"].robust("CR2", "site"))
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("y ~ x + I(2 * x) + (1 | id)", frame)
    table = fit.robust("CR0")
    assert table.iloc[2][["std_error", "df"]].isna().all() and table.iloc[:2].notna().all(axis=None)


def test_what_is_refused(frame, fits, monkeypatch):
    crossed = flm.lmer("y ~ x + (1 | id) + (1 | item)", frame)
    with pytest.raises(flm.ModelError, match="crossed with the clusters"):
        crossed.robust()
    with pytest.raises(flm.ModelError, match="'site' lie in several"):
        fits["nested"].robust(cluster="id")
    with pytest.raises(flm.ModelError, match="two clusters"):
        fits["int"].robust(cluster=np.zeros(len(frame)))
    with pytest.raises(flm.DataError, match="nobody"):
        fits["int"].robust(cluster="nobody")
    with pytest.raises(flm.DataError, match="shape"):
        fits["int"].robust(cluster=[1, 2])
    with pytest.raises(ValueError, match="CR2"):
        fits["int"].robust("CR4")
    monkeypatch.setattr(robust, "LARGEST", 3)
    with pytest.raises(flm.ModelError, match="limit is 3 rows"):
        fits["nested"].robust()
    assert fits["nested"].robust("CR1")["df"].notna().all()


def test_jackknife_of_a_linear_model():
    """CR3 is the jackknife about the estimate; of single rows, HC3."""
    frame = unbalanced()
    fit = flm.lm("y ~ x + arm", frame)
    moved = fit.influence("site").params - fit.params
    np.testing.assert_allclose(fit.cov_params("CR3", cluster="site"), moved.T @ moved, rtol=1e-8)
    X, h = fit.design().to_numpy(), fit.influence().leverage.to_numpy()
    M = np.linalg.inv(X.T @ X)
    hc3 = M @ (X.T * (fit.resid.to_numpy() / (1 - h)) ** 2) @ X @ M
    np.testing.assert_allclose(fit.cov_params("CR3"), hc3, rtol=1e-8)


def test_jackknife_needs_every_coefficient_without_each_cluster():
    frame = unbalanced()
    frame["one"] = (frame["site"] == "s0") * 1.0
    fit = flm.lmer("y ~ x + one + (1 | site) + (1 | id)", frame)
    assert fit.robust("CR3")["std_error"].isna().all() and fit.robust("CR2")["std_error"].notna().all()
