"""Formulas that once ended in another exception than `FormulaError`, or did not end."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.formula.algebra import terms_of
from fastlmm_core.formula.parse import parse_formula


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 5)
    y = rng.normal(size=8)[g] + rng.normal(size=40)
    return pd.DataFrame({"y": y, "x": rng.normal(size=40), "f": list("abca") * 10, "g": g.astype(str)})


@pytest.mark.parametrize(
    "text",
    [
        "y ~ " + "(" * 3000 + "x" + ")" * 3000,
        "y ~ " + "-" * 3000 + "x",
        "y ~ I(" + "-" * 3000 + "x)",
        "y ~ I(" + "(" * 500 + "x" + ")" * 500 + ")",
    ],
    ids=["parentheses", "signs", "signs in a call", "parentheses in a call"],
)
def test_deep_nesting(text):
    try:
        parse_formula(text)
    except flm.FormulaError as error:
        assert "nested too deeply" in str(error) or "not an arithmetic expression" in str(error)


def test_long_sums():
    names = [f"x{i}" for i in range(3000)]
    terms = terms_of(parse_formula("y ~ " + " + ".join(names) + " + (1 | g)").fixed)
    assert [term[0].text for term in terms[1:]] == names


def test_terms_taken_away_in_order():
    assert [str(t) for t in map(len, terms_of("a * b - a:b - 1 + 0 + 1 - b"))] == ["0", "1"]
    assert terms_of("a - a + b - (b - c)") == ((),)


def test_powers_of_any_height_end():
    assert terms_of("(a + b)^9999999999") == terms_of("a * b")
    assert len(terms_of("(a + b + c)^2")) == 7


def test_too_many_terms():
    with pytest.raises(flm.FormulaError, match="more than 100000 terms"):
        parse_formula("y ~ " + "*".join(f"x{i}" for i in range(25)))


@pytest.mark.parametrize(
    "text, said",
    [
        ("y ~ I(2 ** 999999999 * x) + (1 | g)", "cannot be computed"),
        ("y ~ I(x + 10 ** 10 ** 8) + (1 | g)", "cannot be computed"),
        ("y ~ I('a' * 1000) + (1 | g)", "text"),
        ("y ~ C(f, levels=3) + (1 | g)", "distinct values"),
        ("y ~ C(f, levels=['a', 'a']) + (1 | g)", "distinct values"),
        ("y ~ offset() + (1 | g)", "offset needs"),
    ],
)
def test_messages(data, text, said):
    with pytest.raises(flm.FormulaError, match=said):
        flm.lmer(text, data)


def test_powers_still_compute(data):
    found = flm.lm("y ~ I(2 ** x) + I(x ** 2)", data)
    expected = flm.lm("y ~ a + b", data.assign(a=2.0 ** data["x"], b=data["x"] ** 2))
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-12)


@pytest.mark.parametrize("contrast", ["TRUE", "1", "c(1, 2)", "c('a', 'b')"])
def test_contrasts_that_are_none(data, contrast):
    with pytest.raises(flm.FormulaError, match="no contrast"):
        flm.lmer(f"y ~ C(f, {contrast}) + (1 | g)", data)
