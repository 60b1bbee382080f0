"""Autocorrelation within groups: nlme 3.1-162's ``ACF`` of ``lme``, and simulated series."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

ACF = {
    "Reaction ~ Days + (Days | Subject)": [
        1.0, 0.116116017277, -0.167093113171, -0.336343192367, -0.138292845827,
    ],
    "Reaction ~ Days + (1 | Subject)": [
        1.0, 0.3825123293388, 0.0891247678511, -0.1111483255128, -0.1434620949363, -0.3738768683263,
        -0.5768101231918, -0.5402513795199, -0.5415022962756, -0.2948052796283,
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


@pytest.mark.reference
@pytest.mark.parametrize("formula", ACF)
def test_as_nlme(sleep, formula):
    fit, expected = flm.lmer(formula, sleep), ACF[formula]
    found = fit.acf(max_lag=len(expected) - 1)
    np.testing.assert_allclose(found["acf"], expected, atol=1e-5)
    assert list(found.index) == list(range(len(expected))) and found["n"].tolist()[:3] == [180, 162, 144]
    np.testing.assert_allclose(found["limit"][1:], 1.959964 / np.sqrt(found["n"][1:]), rtol=1e-6)
    # rows in another order, told by a column or by values
    mixed = flm.lmer(formula, sleep.sample(frac=1.0, random_state=1))
    for order in ("Days", mixed._frame["Days"].to_numpy()):
        pd.testing.assert_frame_equal(mixed.acf(order=order, max_lag=len(expected) - 1), found, atol=1e-6)
    assert abs(mixed.acf()["acf"][1] - found["acf"][1]) > 0.02


def test_series_with_and_without_memory():
    rng = np.random.default_rng(2)
    e = rng.normal(size=(60, 20))
    for t in range(1, 20):
        e[:, t] += 0.5 * e[:, t - 1]
    g = np.repeat(np.arange(60), 20)
    frame = pd.DataFrame({"g": g, "memory": e.ravel(), "none": rng.normal(size=1200), "other": g % 2})
    b = rng.normal(size=60)[g]
    fits = [flm.lmer("y ~ 1 + (1 | g)", frame.assign(y=frame[name] + b)) for name in ("memory", "none")]
    memory, none = (fit.acf(kind="cluster") for fit in fits)
    assert memory["acf"][1] > 0.35 and (none["acf"][1:4].abs() < 1.5 * none["limit"][1:4]).all()


def test_options(sleep):
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    assert list(fit.acf().index) == list(range(10))  # no longer than a group
    assert fit.acf("Days", max_lag=2)["n"].tolist() == [180, 170, 160]
    for wrong, match in (({"max_lag": 0}, "max_lag"), ({"level": 2}, "level"), ({"kind": "x"}, "kind")):
        with pytest.raises(ValueError, match=match):
            fit.acf(**wrong)
    for wrong, match in (({"order": "Day"}, "'Day'"), ({"order": [1, 2]}, "shape"), ({"by": "g"}, "'g'")):
        with pytest.raises(flm.DataError, match=match):
            fit.acf(**wrong)
    with pytest.raises(flm.DataError, match="misses"):
        fit.acf(order=np.where(np.arange(180) == 3, np.nan, 1.0))


def test_plot(sleep):
    pytest.importorskip("matplotlib").use("Agg")
    fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep)
    ax, table = fit.plot.acf(max_lag=5), fit.acf(max_lag=5)
    tips = [path.vertices[1, 1] for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(tips, table["acf"])
    np.testing.assert_allclose(ax.lines[2].get_ydata(), table["limit"])
    assert "Subject" in ax.get_xlabel() and "group" in fit.plot.acf(np.arange(180) // 9).get_xlabel()
