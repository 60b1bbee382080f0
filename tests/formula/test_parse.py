"""The formula language: what each form stands for, and where errors point."""

import pytest

from fastlmm_core.errors import FormulaError
from fastlmm_core.formula.algebra import term_text, terms_of
from fastlmm_core.formula.parse import parse_formula


def terms(text):
    return [term_text(term) for term in terms_of(text)]


def bars(text):
    return [(bar.lhs, bar.group_name) for bar in parse_formula(f"y ~ 1 + {text}").bars]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", ["1", "x"]),
        ("0 + x", ["x"]),
        ("x - 1", ["x"]),
        ("-1 + x", ["x"]),
        ("x + 0", ["x"]),
        ("1", ["1"]),
        ("0", []),
        ("a*b", ["1", "a", "b", "a:b"]),
        ("a:b", ["1", "a:b"]),
        ("a:b + a", ["1", "a", "a:b"]),
        ("a/b", ["1", "a", "a:b"]),
        ("b %in% a", ["1", "b:a"]),
        ("(a + b)^2", ["1", "a", "b", "a:b"]),
        ("(a + b + c)**2", ["1", "a", "b", "c", "a:b", "a:c", "b:c"]),
        ("a*b*c - a:b:c", ["1", "a", "b", "c", "a:b", "a:c", "b:c"]),
        ("a*b - b", ["1", "a", "a:b"]),
        ("a + a + a:a", ["1", "a"]),
        ("(x + I(x^2)) * f", ["1", "x", "I(x ** 2)", "f", "x:f", "I(x ** 2):f"]),
        ("`odd name` + log(`odd name`)", ["1", "`odd name`", "log(`odd name`)"]),
        ("x.1 + log(x.1)", ["1", "`x.1`", "log(`x.1`)"]),
        ("np.log(x) + poly(x,2,raw=TRUE)", ["1", "np.log(x)", "poly(x, 2, raw=True)"]),
    ],
)
def test_fixed_terms(text, expected):
    assert terms(parse_formula(f"y ~ {text}").fixed) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1 | g)", [("1", "g")]),
        ("(x|g)", [("x", "g")]),
        ("(0 + x | g)", [("0 + x", "g")]),
        ("(-1 + x | g)", [("-1 + x", "g")]),
        ("(1 | a:b)", [("1", "a:b")]),
        ("(x | a/b)", [("x", "a"), ("x", "a:b")]),
        ("(1 | a/b/c)", [("1", "a"), ("1", "a:b"), ("1", "a:b:c")]),
        ("(1 | a*b)", [("1", "a"), ("1", "b"), ("1", "a:b")]),
        ("(1 | a + b)", [("1", "a"), ("1", "b")]),
        ("(1 | (a/b))", [("1", "a"), ("1", "a:b")]),
        ("(x || g)", [("1", "g"), ("0 + x", "g")]),
        ("(1 + x + f || g)", [("1", "g"), ("0 + x", "g"), ("0 + f", "g")]),
        ("(0 + x || g)", [("0 + x", "g")]),
        ("(x*f || g)", [("1", "g"), ("0 + x", "g"), ("0 + f", "g"), ("0 + x:f", "g")]),
        ("(x || a/b)", [("1", "a"), ("0 + x", "a"), ("1", "a:b"), ("0 + x", "a:b")]),
        ("(1 | g) + (0 + x | g)", [("1", "g"), ("0 + x", "g")]),
        ("((1 | g) + (1 | h))", [("1", "g"), ("1", "h")]),
        ("(1 | factor(g))", [("1", "factor(g)")]),
        ("(1 | `odd name`)", [("1", "odd name")]),
        ("(I(x^2) | g)", [("I(x ** 2)", "g")]),
    ],
)
def test_random_terms(text, expected):
    assert bars(text) == expected


def test_parts_are_taken_apart():
    parsed = parse_formula("log(y) ~ a*x + offset(z) + (x | g) - 1 + offset(2*w)")
    assert (parsed.response, parsed.fixed, parsed.offsets) == ("log(y)", "a * x - 1", ("z", "2 * w"))
    assert parse_formula("y ~ (1 | g)").fixed == "1"
    assert parse_formula("y ~ 0 + (1 | g)").fixed == "0"
    assert parse_formula("I(y*2)~1").response == "I(y * 2)"
    assert parse_formula("y ~ x").bars == ()
    assert str(parse_formula("y ~ (x | a:b)").bars[0]) == "(x | a:b)"


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    [
        ("y ~ x*(1|g)", "only be added", "x*(1|g)"),
        ("y ~ x:(1|g)", "only be added", "x:(1|g)"),
        ("y ~ x - (1|g)", "taken away", "(1|g)"),
        ("y ~ 1|g", "in parentheses", "1|g"),
        ("y ~ (1|g", "not closed", "("),
        ("y ~ (1|g|h)", "one bar", "1|g|h"),
        ("y ~ (1|3)", "grouping factor", "3"),
        ("y ~ x)", "closes nothing", ")"),
        ("y ~ x z", "operator is missing", "z"),
        ("y ~ x $ z", "no meaning", "$"),
        ("y ~ log(x", "not closed", "log(x"),
        ("y ~ x ~ z", "only one", "~"),
        ("~ x", "no response", "~"),
        ("y ~", "no terms", "~"),
        ("y ~ `x", "not closed", "`x"),
        ("y ~ I(x +)", "arithmetic", "I(x +)"),
        ("y ~ * x", "cannot stand here", "*"),
        ("y ~ x:offset(z)", "offset", "offset(z)"),
        ("y ~ x - offset(z)", "offset(-z)", "offset(z)"),
        ("cbind(a, b) ~ x", "one response", "cbind(a, b)"),
    ],
)
def test_errors_mark_the_place(text, message, marked):
    with pytest.raises(FormulaError, match=None) as caught:
        parse_formula(text)
    head, shown, carets = str(caught.value).split("\n")
    assert message in head
    start = carets.index("^")
    assert shown[start : start + carets.count("^")] == marked


@pytest.mark.parametrize("text", ["y x", "y ~ x +", "", "y ~ 2 + x", "y ~ x^z", "y ~ x:2", None])
def test_other_errors(text):
    with pytest.raises(FormulaError):
        parse_formula(text)
