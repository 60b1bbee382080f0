"""lme4's formula language: the fixed part, the random terms and the offsets.

The grammar is that of Bates, Maechler, Bolker & Walker (2015), table 2, and of
lme4's ``expandDoubleVerts`` and ``expandSlash``: ``(x || g)`` becomes
``(1 | g) + (0 + x | g)`` and ``(1 | a/b)`` becomes ``(1 | a) + (1 | a:b)``.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from ..errors import FormulaError
from .algebra import term_text, terms_of
from .tokens import fail, python_text, quote, read, summands, tokenize, walk

_STRUCTURED = re.compile(r"(us|diag|cs|homcs|hetcs|ar1|hetar1|toep|homtoep|ou|rr|gau|mat)\((.*\|.*)\)")
"""Names that other packages give to covariance structures of random terms."""


@dataclass(frozen=True)
class Bar:
    """A random term ``(lhs | group)``; several names in ``group`` are an interaction."""

    lhs: str
    group: tuple[str, ...]

    @property
    def group_name(self):
        """``a:b``."""
        return ":".join(self.group)

    def __str__(self):
        return f"({self.lhs} | {self.group_name})"


@dataclass(frozen=True)
class ParsedFormula:
    """A formula taken apart.

    Attributes
    ----------
    text : str
        As typed.
    response : str
        An expression in canonical Python, odd names in backticks.
    fixed : str
        The fixed part, ``1`` when nothing is left; the intercept is implied.
    bars : tuple of Bar
        Random terms after expansion of ``||``, ``/`` and ``*``; empty for a linear model.
    offsets : tuple of str
        Arguments of ``offset()``, to be added.
    notes : tuple of str
        What is likely not meant as it is written.
    """

    text: str
    response: str
    fixed: str
    bars: tuple[Bar, ...]
    offsets: tuple[str, ...]
    notes: tuple[str, ...] = ()


def parse_formula(text):
    """Takes a formula apart.

    Parameters
    ----------
    text : str
        ``response ~ fixed + (terms | group) + ...``.  A formula without a random term is fine.

    Returns
    -------
    ParsedFormula

    Raises
    ------
    FormulaError
        If the text is no formula; the place is marked.
    """
    if not isinstance(text, str):
        order = "; the formula comes first, then the data" if hasattr(text, "columns") else ""
        raise FormulaError(
            f"the formula is {type(text).__name__}, not text like 'y ~ x + (1 | group)'{order}"
        )
    return _cached(text)


@lru_cache(maxsize=512)
def _cached(text):
    try:
        return _parse(text)
    except RecursionError:
        raise FormulaError("the formula is nested too deeply to be read") from None


def _parse(text):
    tokens = tokenize(text)
    tildes = [place for place, token in enumerate(tokens) if token.text == "~" and token.kind == "op"]
    if not tildes:
        equals = [token for token in tokens if token.text == "="]
        if equals:
            fail(text, equals[0].start, equals[0].end, "a formula is written with '~', not with '='")
        fail(
            text, len(text), len(text) + 1,
            "a formula needs '~' between response and terms, like y ~ x + (1 | group)",
        )  # fmt: skip
    if len(tildes) > 1:
        second = tokens[tildes[1]]
        fail(text, second.start, second.end, "a formula has only one '~'")
    left, right = tokens[: tildes[0]], tokens[tildes[0] + 1 :]
    tilde = tokens[tildes[0]]
    if not left:
        fail(text, tilde.start, tilde.end, "there is no response before '~'")
    if not right:
        fail(
            text, tilde.start, tilde.end, "there are no terms after '~': write '~ 1' for the intercept alone"
        )
    if left[0].text == "cbind":
        fail(text, left[0].start, left[-1].end, "one response is needed: fit each column by itself")
    if len(left) == 1 and left[0].kind == "number":
        fail(text, left[0].start, left[0].end, f"the response is a number; {_numbered(left[0].text)}")
    parts = _Parts(text)
    parts.collect(read(text, right), 1)
    fixed = parts.fixed_text()
    response = python_text(left, text)
    found = ParsedFormula(text, response, fixed, tuple(parts.bars), tuple(parts.offsets), tuple(parts.notes))
    _check_response(found, tilde)
    return found


def _check_response(parsed, tilde):
    """The response explains itself exactly: it cannot be a term."""
    used = {str(piece) for term in terms_of(parsed.fixed) for piece in term}
    for bar in parsed.bars:
        used |= {str(piece) for term in terms_of(bar.lhs) for piece in term} | set(map(quote, bar.group))
    if parsed.response in used:
        shown = parsed.response.strip("`")
        place = re.compile(rf"(?<![\w.]){re.escape(shown)}(?![\w.])").search(parsed.text, tilde.end)
        start, end = place.span() if place else (tilde.end, len(parsed.text))
        fail(parsed.text, start, end, f"the response {shown} is also among the terms: leave it out there")


def _numbered(name):
    return f"a column whose name is a number goes in backticks: `{name}`"


class _Parts:
    """Sorts the added items of a right-hand side into fixed, random and offsets."""

    def __init__(self, text):
        self.text, self.fixed, self.bars, self.offsets, self.notes = text, [], [], [], []

    def collect(self, node, sign):
        for part_sign, part in summands(node, sign):
            self.sort(part, part_sign)

    def sort(self, node, sign):
        """One summand to where it belongs."""
        if node.kind == "paren" and _is_bar(node.children[0]):
            if sign < 0:
                self.fail(node, "a random term cannot be taken away: leave it out")
            self.bars += self.expand(node.children[0])
        elif node.kind == "paren" and _has_bar(node) and _is_sum(node.children[0]):
            self.collect(node.children[0], sign)
        elif _is_bar(node):
            self.fail(node, "a random term must be in parentheses: (terms | group)")
        elif _has_bar(node):
            self.fail(
                node,
                "a random term can only be added, it cannot be part of an interaction or a product; "
                "a slope that varies by group is (x | group)",
            )
        elif structure := _STRUCTURED.fullmatch(node.text):
            self.fail(node, _structure_advice(*structure.groups()))
        elif _is_offset(node):
            if sign < 0:
                self.fail(node, "an offset cannot be taken away: write offset(-z)")
            if node.text == "offset()":
                self.fail(node, "an offset needs a column or an expression: offset(z)")
            self.offsets.append(node.text[len("offset(") : -1])
        else:
            self.no_offset(node)
            self.note_powers(node)
            self.fixed.append((sign, node))

    def expand(self, bar):
        """The `Bar` records that one bar stands for."""
        left, right = bar.children
        if _has_bar(left) or _has_bar(right):
            self.fail(bar, "a random term has one bar")
        self.no_offset(left)
        self.note_powers(left)
        sides = [render(left)]
        if bar.text == "||":
            terms = terms_of(sides[0])
            sides = ["1" if not term else f"0 + {term_text(term)}" for term in terms]
        else:
            terms_of(sides[0])
        return [Bar(side, group) for group in self.groups(right) for side in sides]

    def groups(self, node):
        """Grouping factors of the right side of a bar, each a tuple of names."""
        if node.kind == "paren":
            return self.groups(node.children[0])
        if node.kind in ("column", "call"):
            return [(node.text,)]
        if node.kind == "op" and node.text in (":", "/", "*", "+"):
            left, right = (self.groups(child) for child in node.children)
            if node.text == "+":
                return left + right
            crossed = [tuple(dict.fromkeys(a + b)) for a in left for b in right]
            if node.text == ":":
                return crossed
            if node.text == "*":
                return left + right + crossed
            outer = tuple(dict.fromkeys(name for group in left for name in group))
            return left + [tuple(dict.fromkeys(outer + group)) for group in right]
        if node.kind == "number":
            self.fail(node, f"a grouping factor is no number; {_numbered(node.text)}")
        self.fail(node, "a grouping factor is a column, a:b, a/b or a*b")

    def fixed_text(self):
        text = ""
        for sign, node in self.fixed:
            joiner = (" + " if sign > 0 else " - ") if text else ("" if sign > 0 else "-")
            text += joiner + render(node)
        return text or "1"

    def note_powers(self, node):
        """``x^2`` is all products of x with itself, that is ``x``, as in R."""
        for part in walk(node):
            if part.kind == "op" and part.text in ("^", "**") and part.children[0].kind in ("column", "call"):
                base, shown = render(part.children[0]), render(part)
                self.notes.append(
                    f"{shown} is the term {base} crossed with itself, which is {base}: "
                    f"write I({shown}) for the power"
                )

    def no_offset(self, node):
        for part in walk(node):
            if _is_offset(part):
                self.fail(part, "an offset can only be added to the fixed part")

    def fail(self, node, message):
        fail(self.text, node.start, node.end, message)


def render(node):
    """Canonical text of a syntax tree."""
    if node.kind == "column":
        return quote(node.text)
    if node.kind in ("call", "number"):
        return node.text
    if node.kind == "paren":
        return f"({render(node.children[0])})"
    if node.kind == "unary":
        return node.text + render(node.children[0])
    gap = "" if node.text in (":", "^", "**") else " "
    return gap.join((render(node.children[0]), node.text, render(node.children[1])))


def _is_bar(node):
    return node.kind == "op" and node.text in ("|", "||")


def _is_sum(node):
    return node.kind in ("op", "unary") and node.text in ("+", "-") or node.kind == "paren"


def _has_bar(node):
    return any(_is_bar(part) for part in walk(node))


def _structure_advice(name, inside):
    """What to say of a covariance structure by name, such as ``ar1(x | g)``."""
    if name == "us":
        return f"unstructured covariances are what ({inside}) means: write it without us"
    if name == "diag":
        return f"for uncorrelated effects write ({inside.replace('|', '||', 1)})"
    return (
        f"covariance structures such as {name}() are not supported: ({inside}) has free covariances, "
        f"({inside.replace('|', '||', 1)}) none"
    )


def _is_offset(node):
    return node.kind == "call" and node.text.startswith("offset(")
