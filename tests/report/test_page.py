"""The report: whole, safe, by itself."""

import builtins
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.report.markup import number, p_value

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def sleep():
    return flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def page(sleep):
    return sleep.report()


def test_every_section_is_there(page):
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "The model", "Data", "How the search ended", "Coefficients", "Variance components", "Random effects",
        "Diagnostics", "Influential groups", "Fitted lines", "Time",
    ]  # fmt: skip


def test_numbers_of_the_fit_are_on_the_page(sleep, page):
    text = Reader(page).text
    for value in (*sleep.params, *sleep.bse, sleep.icc()["adjusted"], sleep.r2()["conditional"]):
        assert number(float(value), 3) in text or number(float(value)) in text
    assert "certified minimum" in text and "All 180 rows" in text
    worst = sleep.influence(by="Subject").cooks_distance.idxmax()
    assert re.search(rf">{worst}</th><td>0\.149", page)


def test_nothing_is_fetched_and_nothing_runs(page):
    reader = Reader(page)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe", "object", "form"})
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert "href" not in attributes
        if "src" in attributes:
            assert (
                tag == "img"
                and attributes["src"].startswith("data:image/svg+xml;base64,")
                and attributes["alt"]
            )
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "url(" not in page and not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", page))


def test_the_same_fit_gives_the_same_page(sleep, page):
    assert sleep.report() == page


def test_labels_are_escaped():
    rng = np.random.default_rng(1)
    evil = "<script>alert(1)</script>"
    g = np.repeat([evil, '"><img src=x onerror=1>', "b&c", *"defgh"], 6)
    data = pd.DataFrame({"<b>y": 1.0, "g<i>": g, "f": np.tile(["!", evil], 24)})
    data["<b>y"] = rng.normal(size=48) + np.repeat(np.arange(8) % 3, 6)
    fit = flm.lmer("`<b>y` ~ f + (1 | `g<i>`)", data)
    for plots in (True, False):
        reader = Reader(fit.report(plots=plots, title=evil))
        tags = {tag for tag, _ in reader.tags}
        assert tags.isdisjoint({"script", "b", "i"})
        assert all("onerror" not in attributes for _, attributes in reader.tags)
        assert evil in reader.text and '"><img src=x onerror=1>' in reader.text
    assert evil in Reader(fit.summary().to_html()).text


def test_without_figures(sleep, tmp_path):
    path = tmp_path / "out.html"
    text = sleep.report(path, plots=False)
    assert path.read_text(encoding="utf-8") == text
    assert "<img" not in text and "matplotlib" not in text
    assert "The five lowest and the five highest" in text


def test_without_matplotlib(sleep, monkeypatch):
    plain = builtins.__import__

    def absent(name, *rest, **options):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return plain(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    text = sleep.report()
    assert "matplotlib is not installed" in text and "<img" not in text


def test_dropped_rows_singular_fit_and_aliased_columns():
    data = flm.load_dataset("Dyestuff2").assign(x=1.0)
    data["x"] = np.arange(len(data)) % 4
    data["x2"] = 2 * data["x"]
    data.loc[data.index[:3], "Yield"] = np.nan
    with pytest.warns(flm.RankWarning):
        fit = flm.lmer("Yield ~ x + x2 + (1 | Batch)", data)
    text = Reader(fit.report(plots=False)).text
    assert "27 of 30 rows were used; 3 were left out (missing Yield: 3)" in text
    assert "Batch: 6 levels" in text and "e−3" not in text
    assert "singular" in text and "estimated as exactly 0: Batch.Intercept" in text
    assert "A dash stands for" in text


def test_a_fit_without_rows_says_what_is_missing(sleep, tmp_path):
    flm.save(sleep, tmp_path / "a.flm")
    text = Reader(flm.load(tmp_path / "a.flm").report()).text
    assert "Fitted lines" in text and text.count("not drawn, this fit was loaded from a file") == 1
    assert text.count("not drawn") == 3 and text.count("Not computed: ") == 1
    assert number(float(sleep.params["Days"])) in text


def test_of_a_plain_linear_model():
    fit = flm.lm("Reaction ~ Days", flm.load_dataset("sleepstudy"))
    text = Reader(fit.report()).text
    assert "least squares" in text and "10.47" in text and number(fit.rsquared, 3) in text
    assert "Normal quantiles" in text and "not drawn" not in text and fit.report().count("<img") == 2


def test_many_rows_become_pixels(monkeypatch, sleep):
    monkeypatch.setattr("fastlmm_core.report.figures.MOST_VECTOR_ROWS", 100)
    assert "data:image/png;base64," in sleep.report()


@pytest.mark.parametrize(
    "value, text",
    [(251.40510, "251.4"), (-0.5, "−0.5000"), (3.2e-6, "3.200e−06"), (0.0, "0.000"), (7, "7"), (np.nan, "–"),
     (1234567.0, "1.235e+06"), (54321.0, "54,321"), (np.inf, "∞"), (None, "–")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_p_values():
    assert p_value(1e-20) == "< 2e−16" and p_value(0.04321) == "0.0432" and p_value(np.nan) == "–"
