"""The plot of influence shows the distances it names."""

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from oracle.marginal import unbalanced  # noqa: E402

import fastlmm_core as flm  # noqa: E402


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_stems_are_cooks_distances():
    fit = flm.lmer("y ~ x + (x | id)", unbalanced())
    ax = fit.plot.influence(label=3)
    distance = fit.influence("id").cooks_distance
    tips = [path.vertices[1, 1] for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(tips, distance)
    named = [text.get_text() for text in ax.texts]
    assert named == list(distance.sort_values(ascending=False).index[:3])
    assert ax.get_ylabel() == "Cook's distance" and "14 levels" in ax.get_xlabel()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(distance.index)
    assert not fit.plot.influence(np.arange(fit.nobs)).get_xticks().size  # too many for names


def test_groups_that_cannot_be_left_out_and_axes_given():
    fit = flm.lmer("y ~ x + site + (1 | id)", unbalanced())
    _, mine = plt.subplots()
    ax = fit.plot.influence("site", ax=mine)
    assert ax is mine and any("5 levels without which" in text.get_text() for text in ax.texts)
