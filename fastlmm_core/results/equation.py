"""The model as an equation: one tree of symbols, written as LaTeX or as MathML.

A node is a tuple whose first item is its kind: ``("text", "Days")``, ``("symbol", "beta")``,
``("number", "10.5")``, ``("op", "+")``, ``("sub", node, node)``, ``("power", node, node)``,
``("row", node, ...)`` or ``("matrix", rows of nodes)``.
"""

import html

import numpy as np

from fastlmm_core.results.numbers import format_one

PER_LINE = 5
"""Summands on one line of an equation."""

BRACKETS = "border-left:1px solid;border-right:1px solid;border-radius:.5rem;padding:0 .3rem"

GREEK = {"beta": "β", "sigma": "σ", "Sigma": "Σ", "epsilon": "ε", "tau": "τ"}
OPERATORS = {"times": ("\\times", "×"), "sim": ("\\sim", "∼"), "minus": ("-", "−"), "slash": ("/", "/")}
LATEX_SPECIAL = {c: f"\\{c}" for c in "#$%&_{}"} | {"\\": "\\backslash ", "^": "\\hat{\\ }", "~": "\\sim "}


def model_lines(fit, values: bool) -> list[tuple]:
    """Lines (left, relation, right) of a fit's model; with ``values`` estimates stand for symbols."""
    rows = [_mean(fit, values)]
    for f, term_columns, cov in _terms(fit):
        rows.append(_random(fit._facts.factors[f], term_columns, cov, values))
    variance = ("number", format_one(fit.scale)) if values else ("power", _symbol("sigma"), _number(2))
    if fit._facts.weights_name:
        variance = ("row", variance, _op("slash"), ("sub", ("italic", "w"), ("italic", "i")))
    rows.append((_indexed(_symbol("epsilon")), _op("sim"), _normal(_number(0), variance)))
    return rows


def _terms(fit):
    """Per random term: factor, (number, name) of its columns, covariance."""
    facts, seen = fit._facts, {}
    for term, cov in zip(getattr(facts, "terms", ()), getattr(fit, "_covariances", ()), strict=True):
        first = seen.get(term.factor, 0)
        seen[term.factor] = first + len(term.names)
        yield term.factor, list(enumerate(term.names, first)), cov


def _mean(fit, values):
    parts = []
    for j, name in enumerate(fit._names):
        if j not in fit._kept:
            continue
        estimate = fit._beta[j]
        if values:
            sign, factor = ("minus" if estimate < 0 else "+"), ("number", format_one(abs(estimate)))
        else:
            sign, factor = "+", ("sub", _symbol("beta"), _number(j))
        parts.append((sign, _product(factor, name)))
    for f, columns, _ in _terms(fit):
        for number, name in columns:
            parts.append(("+", _product(_effect(number, fit._facts.factors[f], "i"), name)))
    parts += [("+", _indexed(("text", text))) for text in fit._spec.offsets]
    parts.append(("+", _indexed(_symbol("epsilon"))))
    nodes = []
    for place, (sign, node) in enumerate(parts):
        if place and place % PER_LINE == 0:
            nodes.append(("break",))
        if place or sign == "minus":
            nodes.append(_op(sign))
        nodes.append(node)
    return _indexed(("text", fit.response_name)), _op("="), ("row", *nodes)


def _random(group, columns, cov, values):
    """``b_g ~ N(0, Sigma)`` of one term."""
    effects = [_effect(number, group, None) for number, _ in columns]
    if len(columns) == 1:
        variance = ("power", ("sub", _symbol("sigma"), _key(columns[0][0], group)), _number(2))
        if values:
            variance = ("number", format_one(cov[0, 0]))
        return effects[0], _op("sim"), _normal(_number(0), variance)
    zero = ("matrix", [[_number(0)] for _ in columns])
    if values:
        cells = [[("number", format_one(v)) for v in row] for row in np.asarray(cov)]
        spread = ("matrix", cells)
    else:
        spread = ("sub", _symbol("Sigma"), ("text", group))
    return ("matrix", [[e] for e in effects]), _op("sim"), _normal(zero, spread)


def _normal(mean, variance):
    return ("row", ("italic", "N"), ("fence", ("row", mean, _op(","), variance)))


def _product(factor, name):
    """``factor * x_i``, of the intercept the factor alone."""
    if name == "Intercept":
        return factor
    pieces = [("space",)]
    for piece in name.split(":"):
        pieces += [_op("times")] if len(pieces) > 1 else []
        pieces.append(_indexed(("text", piece)))
    return ("row", factor, *pieces)


def _effect(number, group, row):
    return ("sub", ("italic", "b"), _key(number, group, row))


def _key(number, group, row=None):
    index = (_op("["), ("italic", row), _op("]")) if row else ()
    return ("row", _number(number), _op(","), ("text", group), *index)


def _indexed(node):
    return ("sub", node, ("italic", "i"))


def _symbol(name):
    return ("symbol", name)


def _number(value):
    return ("number", str(value))


def _op(name):
    return ("op", name)


def to_latex(lines) -> str:
    """The lines as an ``aligned`` block."""
    body = " \\\\\n".join(f"  {_latex(a)} &{_latex(rel)} {_latex(b)}" for a, rel, b in lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _latex(node) -> str:
    kind, *rest = node
    if kind == "text":
        return "\\mathrm{" + "".join(LATEX_SPECIAL.get(c, c) for c in rest[0]).replace(" ", "\\ ") + "}"
    if kind in ("number", "italic"):
        return rest[0]
    if kind == "symbol":
        return f"\\{rest[0]}"
    if kind == "op":
        return OPERATORS.get(rest[0], (rest[0],))[0]
    if kind == "space":
        return "\\,"
    if kind == "break":
        return "\\\\\n  &\\quad"
    if kind in ("sub", "power"):
        return f"{_latex(rest[0])}{'_' if kind == 'sub' else '^'}{{{_latex(rest[1])}}}"
    if kind == "matrix":
        rows = " \\\\ ".join(" & ".join(map(_latex, row)) for row in rest[0])
        return f"\\begin{{pmatrix}} {rows} \\end{{pmatrix}}"
    if kind == "fence":
        return f"\\left({_latex(rest[0])}\\right)"
    return " ".join(map(_latex, rest))


def to_mathml(lines) -> str:
    """The lines as one MathML block; names are escaped."""
    rows = []
    for left, relation, right in lines:
        for number, part in enumerate(_split(right)):
            lead = [_mathml(left), _mathml(relation)] if number == 0 else ["", ""]
            cells = zip(("right", "center", "left"), (*lead, _mathml(part)))
            inside = "".join(
                f'<mtd style="text-align:{side}"><mrow>{cell}</mrow></mtd>' for side, cell in cells
            )
            rows.append(f"<mtr>{inside}</mtr>")
    return f'<math display="block"><mtable>{"".join(rows)}</mtable></math>'


def _split(node):
    """A row cut at its breaks."""
    parts = [[]]
    for item in node[1:] if node[0] == "row" else [node]:
        if item[0] == "break":
            parts.append([])
        else:
            parts[-1].append(item)
    return [("row", *part) for part in parts]


def _mathml(node) -> str:
    kind, *rest = node
    if kind == "text":
        return f'<mi mathvariant="normal">{html.escape(rest[0])}</mi>'
    if kind == "italic":
        return f"<mi>{html.escape(rest[0])}</mi>"
    if kind == "number":
        return f"<mn>{html.escape(rest[0])}</mn>"
    if kind == "space":
        return '<mspace width="0.17em"></mspace>'
    if kind == "symbol":
        return f"<mi>{GREEK[rest[0]]}</mi>"
    if kind == "op":
        return f"<mo>{html.escape(OPERATORS.get(rest[0], ('', rest[0]))[1])}</mo>"
    if kind in ("sub", "power"):
        tag = "msub" if kind == "sub" else "msup"
        return f"<{tag}><mrow>{_mathml(rest[0])}</mrow><mrow>{_mathml(rest[1])}</mrow></{tag}>"
    if kind == "matrix":
        rows = "".join(
            "<mtr>" + "".join(f"<mtd>{_mathml(cell)}</mtd>" for cell in row) + "</mtr>" for row in rest[0]
        )
        # brackets from borders: stretched ones need a mathematical font
        return f'<mtable style="{BRACKETS}">{rows}</mtable>'
    if kind == "fence":
        return f"<mrow><mo>(</mo>{_mathml(rest[0])}<mo>)</mo></mrow>"
    return "".join(map(_mathml, rest))
