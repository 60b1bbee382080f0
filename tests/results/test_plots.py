"""Plots draw the tables they say they draw; matplotlib stays optional."""

import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgba  # noqa: E402
from oracle.dense import DenseEngine  # noqa: E402

from fastlmm_core.errors import DataError, FastLMMError, MissingDependencyError, ModelError  # noqa: E402
from fastlmm_core.results import draw, plotdata, plots  # noqa: E402


class OracleFit:
    """The public attributes of a fit at given variances, by n x n algebra; one grouping factor."""

    def __init__(self, frame, columns, cov, sigma=2.0, fixed=("Intercept", "week")):
        self._frame, self.response_name, self.sigma = frame, "lead", sigma
        values = {"Intercept": np.ones(len(frame)), "week": frame["week"].to_numpy(float)}
        X = np.column_stack([values[name] for name in fixed])
        Z = np.column_stack([values[name] for name in columns])
        y = frame["lead"].to_numpy(float)
        codes, levels = pd.factorize(frame["id"])
        cov = np.asarray(cov, float)
        engine = DenseEngine(X, y, [(codes, Z)])
        _, S = engine.factorize([np.linalg.cholesky(cov) / sigma])
        beta = np.linalg.solve(S[:-1, :-1], S[:-1, -1])
        blups = engine.random_effects(np.append(-beta, 1.0))[0]
        self.params = pd.Series(beta, index=list(fixed))
        self.cov_re = {"id": pd.DataFrame(cov, index=columns, columns=columns)}
        self._blups = {"id": pd.DataFrame(blups, index=levels, columns=columns)}
        self._cond = {"id": sigma**2 * engine.conditional_covariance(0)}
        self._population = pd.Series(X @ beta, index=frame.index)
        self.fittedvalues = self._population + np.einsum("nq,nq->n", Z, blups[codes])
        self.resid = frame["lead"] - self.fittedvalues
        self.resid_scaled = self.resid / sigma
        self.plot = plots.PlotAccessor(self)

    def ranef(self, cond_var=False):
        return (self._blups, self._cond) if cond_var else self._blups

    def predict(self, newdata=None, *, re="all"):
        return self._population if re == "none" else self.fittedvalues


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(24), rng.integers(3, 7, 24))
    week = rng.integers(0, 7, len(groups)).astype(float)
    arm = np.where(groups % 2 == 0, "placebo", "succimer")
    b = rng.multivariate_normal([0, 0], [[9.0, 0.5], [0.5, 0.4]], 24)
    lead = 25 - 0.4 * week - 3.0 * (arm == "succimer") + b[groups, 0] + b[groups, 1] * week
    data = pd.DataFrame({"id": groups, "treatment": pd.Categorical(arm), "week": week})
    data["lead"] = lead + 2 * rng.standard_normal(len(groups))
    return data.sample(frac=1.0, random_state=1)


@pytest.fixture(scope="module")
def slopes(frame):
    return OracleFit(frame, ["Intercept", "week"], [[9.0, 0.5], [0.5, 0.4]])


@pytest.fixture(scope="module")
def intercepts(frame):
    return OracleFit(frame, ["Intercept"], [[9.0]])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def points(ax, index=0):
    return np.asarray(ax.collections[index].get_offsets())


def labelled(ax, label):
    return next(artist for artist in [*ax.lines, *ax.collections] if artist.get_label() == label)


def test_residuals_draws_every_row_and_the_smooth(slopes):
    ax = slopes.plot.residuals()
    drawn = np.asarray(labelled(ax, "rows").get_offsets())
    np.testing.assert_array_equal(drawn, np.column_stack([slopes.fittedvalues, slopes.resid_scaled]))
    smooth = plotdata.local_smooth(slopes.fittedvalues.to_numpy(), slopes.resid_scaled.to_numpy())
    np.testing.assert_array_equal(labelled(ax, "local linear smooth").get_xydata(), smooth.to_numpy())
    assert ax.get_xlabel() and ax.get_ylabel()


def test_residuals_of_many_rows_are_sampled_and_say_so(slopes):
    ax = slopes.plot.residuals(max_points=40)
    assert len(labelled(ax, "rows").get_offsets()) == 40
    assert f"40 of {len(slopes.resid)} rows" in ax.texts[0].get_text()


def test_smooth_reproduces_a_line_and_follows_a_bend():
    x = np.random.default_rng(0).uniform(-1, 1, 5000)
    line = plotdata.local_smooth(x, 3.0 - 2.0 * x)
    np.testing.assert_allclose(line["smooth"], 3.0 - 2.0 * line["x"], atol=1e-10)
    bend = plotdata.local_smooth(x, x**2, span=0.2)
    np.testing.assert_allclose(bend["smooth"], bend["x"] ** 2, atol=0.02)
    constant = plotdata.local_smooth(np.ones(50), x[:50])
    np.testing.assert_allclose(constant["smooth"], [x[:50].mean()])


def test_qq_points_and_quartile_line(slopes):
    ax = slopes.plot.qq()
    drawn = np.asarray(labelled(ax, "rows").get_offsets())
    np.testing.assert_array_equal(drawn[:, 1], np.sort(slopes.resid_scaled))
    assert np.all(np.diff(drawn[:, 0]) > 0) and abs(drawn[:, 0].mean()) < 1e-12
    line = labelled(ax, "through the quartiles").get_xydata()
    slope = (line[1, 1] - line[0, 1]) / (line[1, 0] - line[0, 0])
    low, high = np.quantile(slopes.resid_scaled, [0.25, 0.75])
    assert slope == pytest.approx((high - low) / (2 * 0.6744897501960817))


def test_qq_keeps_both_tails_when_thinned():
    values = np.random.default_rng(2).standard_normal(30_000)
    table, line = plotdata.normal_quantiles(values)
    ax = draw.quantiles(plt.figure().add_subplot(), table, line, "r", 1000)
    drawn = np.asarray(labelled(ax, "rows").get_offsets())[:, 1]
    assert len(drawn) <= 1000
    np.testing.assert_array_equal(drawn[[0, 1, -2, -1]], np.sort(values)[[0, 1, -2, -1]])


def test_caterpillar_intervals_are_the_conditional_variances(slopes):
    axes = slopes.plot.ranef("id")
    assert len(axes) == 2
    blups, cond = slopes.ranef(cond_var=True)
    for j, (ax, column) in enumerate(zip(axes, blups["id"].columns, strict=True)):
        order = np.argsort(blups["id"][column].to_numpy(), kind="stable")
        estimate = blups["id"][column].to_numpy()[order]
        np.testing.assert_array_equal(np.asarray(labelled(ax, "BLUP").get_offsets())[:, 0], estimate)
        colours = ("leaves out zero", "covers zero")
        segments = np.concatenate([labelled(ax, colour).get_segments() for colour in colours])
        segments = segments[np.argsort(segments[:, 0, 1])]
        half = 1.959963984540054 * np.sqrt(cond["id"][order, j, j])
        np.testing.assert_allclose(segments[:, 0, 0], estimate - half)
        np.testing.assert_allclose(segments[:, 1, 0], estimate + half)
        assert [t.get_text() for t in ax.get_yticklabels()] == [str(i) for i in blups["id"].index[order]]


def test_caterpillar_of_many_levels_is_thinned_by_rank():
    n = 5000
    blups = pd.DataFrame({"Intercept": np.random.default_rng(0).standard_normal(n)})
    table = plotdata.caterpillar(blups, np.full((n, 1, 1), 0.25))["Intercept"]
    ax = draw.caterpillar(plt.figure().add_subplot(), table, "Intercept", "g", 0.95, 200)
    drawn = np.asarray(labelled(ax, "BLUP").get_offsets())[:, 0]
    assert len(drawn) == 200 and drawn[0] == blups.min().item() and drawn[-1] == blups.max().item()
    assert "200 of 5,000" in ax.texts[0].get_text()


def test_histogram_integrates_to_one_and_shows_both_spreads(intercepts):
    ax = intercepts.plot.ranef_hist()
    assert sum(bar.get_width() * bar.get_height() for bar in ax.patches) == pytest.approx(1.0)
    for label, sd in (
        ("normal, sd of the BLUPs", intercepts.ranef()["id"]["Intercept"].std()),
        ("normal, sd of the model", 3.0),
    ):
        peak = labelled(ax, label).get_ydata().max()
        assert peak == pytest.approx(1 / (sd * np.sqrt(2 * np.pi)), rel=1e-2)


def test_histogram_of_a_zero_variance_draws_no_curve():
    ax = draw.histogram(plt.figure().add_subplot(), np.zeros(5), "Intercept", "g", 0.0, "auto")
    assert not ax.lines and ax.get_legend() is None


def test_fit_lines_draw_data_and_fitted_values(slopes, frame):
    axes = slopes.plot.fit_lines("week", color="treatment", panels="treatment")
    assert [ax.get_title() for ax in axes] == ["placebo", "succimer"]
    assert axes[0].get_xlabel() == "week" and axes[0].get_ylabel() == "lead"
    for k, (ax, arm) in enumerate(zip(axes, ["placebo", "succimer"], strict=True)):
        rows = frame["treatment"] == arm
        drawn = points(ax)
        want = frame.loc[rows, ["week", "lead"]].to_numpy()
        np.testing.assert_allclose(drawn[np.lexsort(drawn.T)], want[np.lexsort(want.T)])
        np.testing.assert_allclose(ax.collections[0].get_facecolor()[0, :3], to_rgba(draw.CYCLE[k])[:3])
        lines = [line for line in ax.lines if line.get_label().startswith("_child")]
        thin = [line.get_xydata() for line in lines if line.get_linewidth() == 0.9]
        assert len(thin) == frame.loc[rows, "id"].nunique()
        table = pd.DataFrame({"x": frame["week"], "f": slopes.fittedvalues, "id": frame["id"]})[rows]
        first = table["id"].iloc[0]
        want = table[table["id"] == first].sort_values("x", kind="stable")[["x", "f"]].to_numpy()
        np.testing.assert_allclose(thin[0], want)


def test_fit_lines_default_column_and_population_line(slopes, frame):
    ax = slopes.plot.fit_lines()
    line = labelled(ax, "population").get_xydata()
    np.testing.assert_array_equal(line[:, 0], np.unique(frame["week"]))
    np.testing.assert_allclose(line[:, 1], slopes.params["Intercept"] + slopes.params["week"] * line[:, 0])
    assert "population" not in [a.get_label() for a in slopes.plot.fit_lines(population=False).lines]


def test_fit_lines_sample_groups_in_equal_shares(slopes, frame):
    axes = slopes.plot.fit_lines("week", panels="treatment", max_groups=6, population=False)
    assert [len(ax.lines) for ax in axes] == [3, 3]
    assert "6 of 24 levels of id" in axes[-1].texts[0].get_text()
    ax = slopes.plot.fit_lines("week", groups=[3, 5], population=False)
    assert len(ax.lines) == 2 and len(points(ax)) == frame["id"].isin([3, 5]).sum()


def test_shrinkage_of_intercepts_has_group_estimates_against_blups(intercepts, frame):
    ax = intercepts.plot.shrinkage()
    drawn = points(ax)
    beta = intercepts.params
    means = (frame["lead"] - beta["week"] * frame["week"]).groupby(frame["id"]).mean()
    blups = intercepts.ranef()["id"]["Intercept"]
    np.testing.assert_allclose(drawn[:, 0], means.loc[blups.index])
    np.testing.assert_allclose(drawn[:, 1], blups + beta["Intercept"])
    assert np.all(np.abs(drawn[:, 1] - beta["Intercept"]) <= np.abs(drawn[:, 0] - beta["Intercept"]) + 1e-9)


def test_shrinkage_of_slopes_has_least_squares_and_arrows(slopes, frame):
    ax = slopes.plot.shrinkage("id")
    ols = np.asarray(labelled(ax, "least squares within the group").get_offsets())
    blup = np.asarray(labelled(ax, "BLUP + fixed effect").get_offsets())
    levels = slopes.ranef()["id"].index
    rows = [frame.loc[frame["id"] == i, ["week", "lead"]].to_numpy() for i in levels]
    want = np.array([np.polyfit(part[:, 0], part[:, 1], 1)[::-1] for part in rows])
    np.testing.assert_allclose(ols, want, rtol=1e-8)
    np.testing.assert_allclose(blup, slopes.ranef()["id"].to_numpy() + slopes.params.to_numpy())
    arrows = ax.collections[0]
    np.testing.assert_allclose(np.column_stack([arrows.U, arrows.V]), blup - ols)


def test_shrinkage_leaves_far_points_outside_and_says_so():
    rng = np.random.default_rng(8)
    ols, blup = rng.standard_normal((200, 2)), 0.5 * rng.standard_normal((200, 2))
    ols[7] = [0.0, 500.0]
    ax = plt.figure().add_subplot()
    assert draw.frame_the_bulk(ax, ols, blup) == 1
    assert ax.get_ylim()[1] < 10 and ax.get_ylim()[1] > blup[:, 1].max()
    assert draw.frame_the_bulk(plt.figure().add_subplot(), ols[8:], blup[8:]) == 0


def test_group_least_squares_marks_what_a_group_does_not_identify():
    x = np.array([1e6, 1e6 + 1, 1e6 + 2, 5.0, 5.0, 7.0])
    codes = np.array([0, 0, 0, 1, 1, 2])
    b = plotdata.group_least_squares(codes, 4, np.column_stack([x, np.ones(6)]), 2.0 + 3.0 * x)
    np.testing.assert_allclose(b[0], [3.0, 2.0], rtol=1e-6)
    assert np.isnan(b[1:]).all()
    through_zero = plotdata.group_least_squares(codes, 3, x[:, None], 3.0 * x)
    np.testing.assert_allclose(through_zero, 3.0)


def test_group_keys_of_an_interaction_join_the_columns():
    frame = pd.DataFrame({"a": [1, 1, 2], "b": ["u", "v", "u"]})
    assert list(plotdata.group_keys(frame, "a:b")) == ["1:u", "1:v", "2:u"]
    with pytest.raises(ModelError, match="no column 'c'"):
        plotdata.group_keys(frame, "a:c")


@pytest.mark.parametrize("name", ["residuals", "qq", "fit_lines", "shrinkage"])
def test_given_axes_are_used(slopes, name):
    figure, ax = plt.subplots()
    assert getattr(slopes.plot, name)(ax=ax) is ax
    assert plt.get_fignums() == [figure.number]


def test_given_axes_must_be_as_many_as_panels(slopes):
    _, axes = plt.subplots(1, 2)
    assert list(slopes.plot.ranef(ax=axes)) == list(axes)
    assert slopes.plot.ranef_hist(ax=axes[0], columns=["week"]) is axes[0]
    with pytest.raises(ValueError, match="2 panels but ax holds 1"):
        slopes.plot.ranef(ax=axes[0])


def test_wrong_names_are_named(slopes):
    with pytest.raises(ModelError, match="no grouping factor 'pupil'; the model has 'id'"):
        slopes.plot.ranef("pupil")
    with pytest.raises(ModelError, match="no random effect 'day'"):
        slopes.plot.ranef_hist(columns=["day"])
    with pytest.raises(DataError, match="'treatment' is not a numeric column"):
        slopes.plot.fit_lines("treatment")


def test_absent_matplotlib_names_the_extra(slopes, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"fastlmm_core\[plot\]") as caught:
        slopes.plot.qq()
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, FastLMMError)


def test_importing_the_plots_leaves_matplotlib_alone():
    code = "import sys, fastlmm_core.results.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_profile_is_passed_on(slopes, monkeypatch):
    drawn = types.SimpleNamespace(plot=lambda ax=None: ("drawn", ax))
    monkeypatch.setattr(slopes, "profile", lambda which=None: drawn, raising=False)
    assert slopes.plot.profile(ax=3) == ("drawn", 3)


def test_plots_of_a_fitted_model_show_its_own_numbers():
    from fastlmm_core.api import lmer
    from fastlmm_core.datasets import load_dataset

    sleep = load_dataset("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", sleep)
    ax = fit.plot.fit_lines()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Days", "Reaction")
    blup = np.asarray(labelled(fit.plot.shrinkage(), "BLUP + fixed effect").get_offsets())
    np.testing.assert_allclose(blup, fit.coef()["Subject"][["Intercept", "Days"]])
    drawn = np.asarray(labelled(fit.plot.residuals(), "rows").get_offsets())
    np.testing.assert_allclose(drawn.sum(axis=1), fit.fittedvalues + fit.resid_scaled)

    fit = lmer("strength ~ 1 + (1 | batch/cask)", load_dataset("Pastes"))
    table, size = fit.plot._shrinkage_table("batch:cask")
    assert size.sum() == fit.nobs
    base = fit.predict(re=["batch"]).groupby(plotdata.group_keys(fit._frame, "batch:cask")).mean()
    means = fit._frame.groupby(plotdata.group_keys(fit._frame, "batch:cask"))["strength"].mean()
    want = means - base + fit.params["Intercept"]
    np.testing.assert_allclose(table["ols"]["Intercept"], want.loc[table.index.astype(str)])
