"""The algebra of terms (Wilkinson & Rogers 1973): ``+ - : * / %in% ^`` over pieces.

A term is a tuple of pieces in order of first appearance; two terms are the same
when they hold the same pieces.  The empty term is the intercept.
"""

from functools import lru_cache
from typing import NamedTuple

from .tokens import fail, quote, read, summands, tokenize

MOST_TERMS = 100_000
"""A formula of more terms is refused: ``a*b*...`` doubles them with every factor."""


class Piece(NamedTuple):
    """A variable of a formula: a column by its name, or an expression in canonical Python."""

    text: str
    is_column: bool

    def __str__(self):
        return quote(self.text) if self.is_column else self.text


@lru_cache(maxsize=512)
def terms_of(source):
    """Terms of the right-hand side ``source``, intercept implied, by increasing degree.

    Returns
    -------
    tuple of tuple of Piece
        ``()`` is the intercept and comes first when there is one.
    """
    tokens = tokenize(source)
    start = _Terms(source)
    terms = start.add([()], read(source, tokens)) if tokens else [()]
    return tuple(sorted(terms, key=len))


def term_text(term):
    """A term as it is written: ``a:b``, or ``1`` for the intercept."""
    return ":".join(str(piece) for piece in term) if term else "1"


class _Terms:
    """Evaluates syntax trees; ``text`` is the formula that errors point into."""

    def __init__(self, text):
        self.text = text

    def add(self, terms, node, sign=1):
        """Terms with those of ``node`` added (or taken away), where 0 stands for minus 1."""
        known = {frozenset(term): term for term in terms}
        for part_sign, part in summands(node, sign):
            new = [()] if part.kind == "number" else self.terms(part)
            if part.kind == "number":
                if float(part.text) not in (0.0, 1.0):
                    self.fail(
                        part, "a number other than 0 and 1 is no term: write I(2 * x) to rescale a column"
                    )
                part_sign = 1 if (float(part.text) == 1.0) == (part_sign > 0) else -1
            for term in new:
                if part_sign > 0:
                    known.setdefault(frozenset(term), term)
                else:
                    known.pop(frozenset(term), None)
        return list(known.values())

    def terms(self, node):
        if node.kind in ("column", "call"):
            return [(Piece(node.text, node.kind == "column"),)]
        if node.kind == "number":
            self.fail(node, "a number cannot be part of an interaction: write I(2 * x) to rescale a column")
        if node.kind == "paren":
            return self.add([], node.children[0])
        if node.kind == "unary" or node.text in "+-":
            return self.add([], node)
        if node.text in ("^", "**"):
            return self.power(node)
        if node.text in ("|", "||"):
            self.fail(node, "a random term must be in parentheses and added: ... + (1 | group)")
        left, right = self.terms(node.children[0]), self.terms(node.children[1])
        if len(left) * len(right) > MOST_TERMS:
            self.fail(node, f"this stands for more than {MOST_TERMS} terms")
        if node.text in (":", "%in%"):
            return _product(left, right)
        if node.text == "*":
            return _union(_union(left, right), _product(left, right))
        everything = tuple(dict.fromkeys(piece for term in left for piece in term))
        return _union(left, _product([everything], right))

    def power(self, node):
        base, exponent = node.children
        if exponent.kind != "number" or not exponent.text.isdigit() or int(exponent.text) < 1:
            self.fail(exponent, "terms can only be raised to a whole number: write I(x^2) to square a column")
        base = self.terms(base)
        result = base
        # k pieces have no terms of more than k: further powers change nothing
        pieces = len({piece for term in base for piece in term})
        for _ in range(min(int(exponent.text[:9]), pieces) - 1):
            if len(result) * len(base) > MOST_TERMS:
                self.fail(node, f"this stands for more than {MOST_TERMS} terms")
            result = _union(result, _product(result, base))
        return result

    def fail(self, node, message):
        fail(self.text, node.start, node.end, message)


def _union(first, second):
    known = {frozenset(term) for term in first}
    result = list(first)
    for term in second:
        if frozenset(term) not in known:
            known.add(frozenset(term))
            result.append(term)
    return result


def _product(first, second):
    return _union([], [tuple(dict.fromkeys(a + b)) for a in first for b in second])
