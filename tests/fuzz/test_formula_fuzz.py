"""Whatever is typed as a formula, the answer is a model or a `FastLMMError`."""

import warnings

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlmm_core as flm
from fastlmm_core.formula.parse import parse_formula

TOKENS = """y x g f ~ + - * / : ^ ** | || ( ) (1|g) (x|g) 1 0 2 I( log( C( poly( bs( scale( factor( offset( ,
%in% `odd` np. np.log( 'a' " ` == < [ ] = & TRUE NULL lambda yield if else in not 1e999 9999999999 .. . é ²
levels= df= contr.sum Treatment( c( None await __import__( { } @ ; $ x.y pi np __x__ // % 0x1""".split()
TOKENS += ["\n", "\x00", "\t", "(1 | g)", "y ~ x + (1 | g)"]
SHAPES = [
    "{}",
    "y ~ {}",
    "y ~ x + (1 | g) + {}",
    "y ~ ({} | g)",
    "y ~ I({}) + (1 | g)",
    "y ~ C(f, {}) + (1 | g)",
]

texts = st.builds(
    lambda shape, joint, tokens: shape.replace("{}", joint.join(tokens)),
    st.sampled_from(SHAPES),
    st.sampled_from(["", " "]),
    st.lists(st.sampled_from(TOKENS), max_size=12),
)


def frame(n=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "g": rng.integers(0, 6, n).astype(str),
            "f": rng.choice(list("abc"), n),
            "odd": rng.normal(size=n),
        }
    )


FRAME = frame()


def random_text(source):
    """A formula of the tokens, for runs without end (run.py)."""
    tokens = [source.choice(TOKENS) for _ in range(source.randrange(13))]
    return source.choice(SHAPES).replace("{}", source.choice(["", " "]).join(tokens))


def check(text):
    """Parses, and fits what it says, or raises a `FastLMMError` with a message."""
    try:
        parsed = parse_formula(text)
    except flm.FormulaError as error:
        assert str(error)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            (flm.lmer if parsed.bars else flm.lm)(text, FRAME)
        except flm.FastLMMError as error:
            assert str(error)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(texts)
def test_a_formula_parses_or_says_why_not(text):
    check(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_any_text(text):
    try:
        parse_formula(text)
    except flm.FormulaError:
        pass
