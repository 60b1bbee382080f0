"""Summaries laid beside the pages that lmerTest and R print (at the polished optimum)."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

SLEEP_ML = """
Linear mixed model fit by maximum likelihood
     AIC      BIC   logLik deviance df.resid
  1763.9   1783.1   -876.0   1751.9      174
 Subject  Intercept 565.52   23.781
          Days       32.68    5.717   0.08
 Residual           654.94   25.592
Intercept  251.405      6.632 18.000  37.906  < 2e-16 ***
Days        10.467      1.502 18.000   6.968 1.65e-06 ***
Days -0.138
"""

SLEEP_DOUBLE_BAR = """
REML criterion at convergence: 1743.7
-3.9626 -0.4625  0.0204  0.4653  5.1860
 Subject   Intercept 627.57   25.051
 Subject.1 Days       35.86    5.988
 Residual            653.58   25.565
Intercept  251.405      6.885 18.156  36.513  < 2e-16 ***
Days        10.467      1.560 18.156   6.712 2.59e-06 ***
Days -0.184
"""

PENICILLIN = """
REML criterion at convergence: 330.9
-2.07923 -0.67140  0.06292  0.58377  2.97958
 plate    Intercept 0.7169   0.8467
 sample   Intercept 3.7309   1.9316
 Residual           0.3024   0.5499
Number of obs: 144, groups:  plate, 24; sample, 6
Intercept  22.9722     0.8086  5.4871   28.41 3.62e-07 ***
"""

LM = """
-110.848  -27.483    1.546   26.142  139.953
Intercept  251.405      6.610  38.033  < 2e-16 ***
Days        10.467      1.238   8.454 9.89e-15 ***
Residual standard error: 47.71 on 178 degrees of freedom
Multiple R-squared:  0.2865, Adjusted R-squared:  0.2825
F-statistic: 71.46 on 1 and 178 DF,  p-value: 9.894e-15
"""

LM_WEIGHTS = """
-347.79  -51.51    4.16   59.41  376.71
Intercept  248.170     10.509  23.615  < 2e-16 ***
Days        11.007      1.622   6.788 1.64e-10 ***
Residual standard error: 125 on 178 degrees of freedom
F-statistic: 46.07 on 1 and 178 DF,  p-value: 1.636e-10
"""


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


def assert_shows(summary, page):
    text = str(summary)
    shown = [line.split() for line in text.splitlines()]
    for line in page.strip().splitlines():
        start = line.split()
        assert any(tokens[: len(start)] == start for tokens in _cut(shown)), f"{line!r} is not in\n{text}"


def _cut(lines):
    """Lines, also without punctuation at the end of a token."""
    return [*lines, *([token.rstrip(".") for token in line] for line in lines)]


@pytest.mark.parametrize(
    "formula, data, reml, page",
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy", False, SLEEP_ML),
        ("Reaction ~ Days + (Days || Subject)", "sleepstudy", True, SLEEP_DOUBLE_BAR),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", True, PENICILLIN),
    ],
)
def test_mixed_page(formula, data, reml, page):
    assert_shows(flm.lmer(formula, flm.load_dataset(data), reml=reml).summary(), page)


def test_linear_pages(sleep):
    assert_shows(flm.lm("Reaction ~ Days", sleep).summary(), LM)
    weighted = sleep.assign(v=1.0 + sleep["Days"])
    assert_shows(flm.lm("Reaction ~ Days", weighted, weights="v").summary(), LM_WEIGHTS)


def test_linear_page_without_intercept(sleep):
    page = "Multiple R-squared:  0.7773, Adjusted R-squared:  0.776\nF-statistic: 624.7 on 1 and 179 DF,"
    assert_shows(flm.lm("Reaction ~ Days - 1", sleep).summary(), page)
    text = str(flm.lm("Reaction ~ 1", sleep).summary())
    assert "Residual standard error: 56.33 on 179" in text and "F-statistic" not in text


def test_large_units_print_as_in_r(sleep):
    fit = flm.lmer("y ~ Days + (1 | Subject)", sleep.assign(y=sleep["Reaction"] * 1e6))
    page = (
        " Subject Intercept 1.378e+15 37123827\n Residual 9.605e+14 30991234\nIntercept 2.514e+08 9.747e+06"
    )
    assert_shows(fit.summary(), page)


def test_notes_say_how_it_ended_and_what_became_of_the_rows(sleep):
    frame = sleep.astype({"Days": float})
    frame.loc[[3, 5], "Days"] = np.nan
    frame["twice"] = 2 * frame["Days"]
    frame["v"] = 1.0
    frame.loc[0, "v"] = 0.0
    with pytest.warns(flm.RankWarning, match="twice"):
        fit = flm.lmer("Reaction ~ Days + twice + (1 | Subject)", frame, weights="v")
    text = str(fit.summary())
    assert "Fit: converged after" in text and "Newton decrement" in text
    assert "177 used of 180; 3 dropped" in text and "missing Days: 2" in text and "weight 0: 1" in text
    assert "df: Satterthwaite" in text and "Weights: v" in text
    assert "Dropped from the fixed effects, being linear in the others: twice" in text
    fixed = text[text.index("Fixed effects") : text.index("Correlation")]
    assert "twice" not in fixed


def test_singular_fit_says_so():
    fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))
    text = str(fit.summary())
    assert "Singular fit" in text and "at the boundary: Batch.Intercept" in text


def test_singular_correlation_is_nan_not_a_crash():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(np.arange(20), 5), "x": np.tile(np.arange(5.0), 20)})
    frame["y"] = frame["x"] + rng.normal(size=100)
    text = str(flm.lmer("y ~ x + (x | g)", frame).summary())
    assert "Random effects" in text


def test_parts_are_frames(sleep):
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", sleep)
    parts = fit.summary()
    assert list(parts.coefficients.columns) == ["Estimate", "Std. Error", "df", "t value", "Pr(>|t|)"]
    np.testing.assert_allclose(parts.coefficients["Std. Error"], fit.bse)
    assert parts.random_effects["Variance"].iloc[-1] == pytest.approx(fit.scale)
    assert parts.correlation.loc["Days", "Intercept"] == pytest.approx(-0.13755, abs=1e-5)
    np.testing.assert_allclose(
        parts.residuals, np.quantile(fit.resid_scaled, [0, 0.25, 0.5, 0.75, 1]), rtol=1e-12
    )


def test_html_escapes_names(sleep):
    frame = sleep.rename(columns={"Days": "a<b"})
    html = flm.lmer("Reaction ~ `a<b` + (1 | Subject)", frame).summary()._repr_html_()
    assert "a<b" not in html and "a&lt;b" in html and html.count("<table>") == 2
    assert "<table>" in flm.lm("Reaction ~ `a<b`", frame).summary()._repr_html_()


def test_many_coefficients_leave_out_their_correlations():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(200, 22)), columns=[f"x{i}" for i in range(22)])
    frame["g"] = np.repeat(np.arange(20), 10)
    frame["y"] = rng.normal(size=200) + rng.normal(size=20)[frame["g"]]
    text = str(flm.lmer("y ~ " + " + ".join(f"x{i}" for i in range(22)) + " + (1 | g)", frame).summary())
    assert "not shown for 23 > 20" in text


def test_kenward_roger_summary():
    cake = flm.load_dataset("cake").iloc[:-7]  # unbalanced: the adjusted covariance differs
    fit = flm.lmer("angle ~ recipe * temp + (temp | recipe:replicate)", cake)
    summary, plain = fit.summary(ddf="kenward-roger"), fit.summary()
    table = summary.coefficients
    adjusted = fit.contrast(np.eye(len(fit.params)), ddf="kenward-roger")
    expected = adjusted[["estimate", "std_error", "df", "t", "p"]]
    np.testing.assert_allclose(table, expected, rtol=1e-8)
    assert not np.allclose(table["Std. Error"], plain.coefficients["Std. Error"], rtol=1e-4)
    assert "Kenward-Roger's method" in str(summary) and "df: Kenward-Roger" in str(summary)
    assert "Kenward" not in str(plain) and "Satterthwaite" not in str(summary)
    effects = summary.to_dict()["fixed_effects"]
    limits = fit.conf_int(method="kenward-roger")
    for effect, (_, row) in zip(effects, limits.iterrows()):
        assert [effect["conf_low"], effect["conf_high"]] == row.tolist()
    np.testing.assert_allclose([e["std_error"] for e in effects], table["Std. Error"])
    for text in (summary.to_html(), summary.to_markdown(), summary.to_latex()):
        assert "Kenward-Roger" in text
    with pytest.raises(ValueError, match="ddf"):
        fit.summary("residual")
    with pytest.raises(flm.ModelError, match="REML"):
        fit.to_ml().summary("kenward-roger").coefficients  # noqa: B018
