"""Formula text to a syntax tree, with the place of every piece kept for error messages.

Operators bind as in R: ``^`` over ``:`` over ``%in%`` over ``* /`` over ``+ -``
over ``|`` over ``~``.  A function call is one leaf: its inside is arithmetic in
Python's spelling, so ``^`` becomes ``**`` there.
"""

import ast
import keyword
import re
from dataclasses import dataclass

from ..errors import FormulaError

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>(?:[^\W\d]|\.(?=[^\W\d]))[\w.]*)
    | (?P<quoted>`[^`]+`)
    | (?P<string>"[^"]*"|'[^']*')
    | (?P<op>\|\||%in%|\*\*|==|!=|<=|>=|//|[-~|+*/:^(),=<>\[\]&])
    )""",
    re.VERBOSE,
)
_CONSTANTS = {"TRUE": "True", "FALSE": "False", "NULL": "None"}
_WORDS = {"and", "or", "not", "in", "is", "if", "else", "for", "lambda", "await", "True", "False", "None"}
_MODULES = ("np.", "contr.")
_BINDING = {"|": 5, "||": 5, "+": 10, "-": 10, "*": 20, "/": 20, "%in%": 25, ":": 30, "^": 50, "**": 50}
_UNARY = 40


@dataclass(frozen=True)
class Token:
    """A lexeme and its place ``text[start:end]``."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Node:
    """A piece of syntax: kind ``column``, ``call``, ``number``, ``paren``, ``unary`` or ``op``.

    ``text`` is the column's name, the call in canonical Python, the number or the operator.
    """

    kind: str
    text: str
    children: tuple["Node", ...]
    start: int
    end: int


def fail(text, start, end, message):
    """Raises `FormulaError` with the place marked under the formula."""
    shown = text.replace("\n", " ")
    raise FormulaError(f"{message}\n    {shown}\n    {' ' * start}{'^' * max(end - start, 1)}")


def quote(name):
    """A column's name as it is written in a formula: in backticks unless it is an identifier."""
    return name if _is_plain(name) else f"`{name}`"


def _is_plain(name):
    """Whether a column's name can stand in Python as it is; ``yield`` and ``class`` cannot."""
    return name.isidentifier() and not keyword.iskeyword(name)


def tokenize(text):
    """Tokens of a formula."""
    tokens, place = [], 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            if not text[place:].strip():
                break
            place += len(text[place:]) - len(text[place:].lstrip())
            fail(text, place, len(text) if text[place] in "`\"'" else place + 1, _no_meaning(text[place]))
        kind = found.lastgroup
        start, place = found.start(kind), found.end()
        tokens.append(Token(kind, found.group(kind), start, place))
    return tokens


def _no_meaning(sign):
    """What to say of a character that starts no lexeme."""
    if sign == "`":
        return "the quote ` is not closed; a column whose name has a backtick must be renamed"
    if sign in "\"'":
        return f"the quote {sign} is not closed; a column whose name has it goes in backticks: `a{sign}b`"
    if sign == ".":
        return "'.' has no meaning in a formula: name the columns"
    if sign == "$":
        return "'$' has no meaning in a formula: columns are named without their table"
    return f"{sign!r} has no meaning in a formula; a column whose name has it goes in backticks: `a{sign}b`"


def _missing_operator(first, second):
    """What to say of two lexemes side by side."""
    message = f"{second.text!r} cannot stand here: an operator is missing"
    if first.kind in ("name", "number") and second.kind in ("name", "number"):
        message += f"; a column whose name has a space goes in backticks: `{first.text} {second.text}`"
    return message


def python_text(tokens, text):
    """Tokens of an arithmetic expression as canonical Python with odd names in backticks."""
    for first, second in zip(tokens, tokens[1:]):
        words = {first.text, second.text} & _WORDS
        if {first.kind, second.kind} <= {"name", "number"} and not words:
            fail(text, second.start, second.end, _missing_operator(first, second))
    spelled = [_spelling(token) for token in tokens]
    return canonical(" ".join(spelled), text, tokens[0].start, tokens[-1].end)


def _spelling(token):
    if token.kind == "name":
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        odd = "." in token.text and not token.text.startswith(_MODULES)
        odd = odd or keyword.iskeyword(token.text) and token.text not in _WORDS
        return f"`{token.text}`" if odd else token.text
    return "**" if token.text == "^" else token.text


def hide_quoted(source):
    """Backticked names replaced by identifiers; returns the new source and {identifier: name}."""
    names = {}

    def alias(found):
        name = found.group(1)
        if _is_plain(name):
            return name
        for known, other in names.items():
            if other == name:
                return known
        names[f"column_{len(names)}__"] = name
        return f"column_{len(names) - 1}__"

    return re.sub(r"`([^`]+)`", alias, source), names


def show_quoted(source, names):
    """The inverse of `hide_quoted`."""
    for alias, name in names.items():
        source = source.replace(alias, f"`{name}`")
    return source


def canonical(source, text, start, end):
    """A Python expression in the one spelling its names are built from."""
    hidden, names = hide_quoted(source)
    try:
        tree = ast.parse(hidden, mode="eval")
        return show_quoted(ast.unparse(tree), names)
    except (SyntaxError, ValueError, MemoryError):  # text no Python can hold: a null byte, deep nesting
        fail(text, start, end, "this is not an arithmetic expression")


class _Reader:
    """Pratt's top-down operator precedence (1973) over the tokens."""

    def __init__(self, text, tokens):
        self.text, self.tokens, self.at = text, tokens, 0

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self):
        token = self.peek()
        if token is None:
            fail(self.text, len(self.text), len(self.text) + 1, "the formula ends too early")
        self.at += 1
        return token

    def expression(self, binding=0):
        left = self.leaf()
        while (token := self.peek()) is not None and token.text != ")":
            power = _BINDING.get(token.text) if token.kind == "op" else None
            if power is None:
                fail(self.text, token.start, token.end, _missing_operator(self.tokens[self.at - 1], token))
            if power <= binding:
                break
            self.take()
            right = self.expression(power - 1 if token.text in ("^", "**") else power)
            left = Node("op", token.text, (left, right), left.start, right.end)
        return left

    def leaf(self):
        token = self.take()
        if token.text in ("+", "-"):
            child = self.expression(_UNARY)
            return Node("unary", token.text, (child,), token.start, child.end)
        if token.text == "(":
            inside = self.expression()
            closing = self.peek()
            if closing is None:
                fail(self.text, token.start, token.end, "this parenthesis is not closed")
            self.take()
            return Node("paren", "(", (inside,), token.start, closing.end)
        if token.kind == "number":
            return Node("number", token.text, (), token.start, token.end)
        if token.kind == "quoted":
            return Node("column", token.text[1:-1], (), token.start, token.end)
        if token.kind == "name":
            following = self.peek()
            if following is not None and following.text == "(" and following.start == token.end:
                return self.call(token)
            return Node("column", token.text, (), token.start, token.end)
        fail(self.text, token.start, token.end, self.misplaced(token))

    def misplaced(self, token):
        """What to say of a lexeme where a term must stand."""
        before = self.tokens[self.at - 2].text if self.at > 1 else ""
        if before in ("|", "||") and token.text == ")":
            return f"the grouping factor is missing after '{before}': write (1 | group)"
        if token.text in ("|", "||"):
            return f"the terms are missing before '{token.text}': an intercept per group is (1 | group)"
        if token.kind == "string":
            return (
                f"quotes mark text: a column's name goes without them, or in backticks: `{token.text[1:-1]}`"
            )
        return f"{token.text!r} cannot stand here: a term is missing before it"

    def call(self, name):
        first, depth = self.at - 1, 0
        while True:
            token = self.peek()
            if token is None:
                fail(self.text, name.start, len(self.text), f"the parenthesis of {name.text}( is not closed")
            self.take()
            depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "op" else 0
            if depth == 0:
                break
        body = self.tokens[first : self.at]
        return Node("call", python_text(body, self.text), (), name.start, body[-1].end)


def summands(node, sign=1):
    """The (sign, node) that are added up, in order; a long sum is a deep tree, hence no recursion."""
    parts, waiting = [], [(sign, node)]
    while waiting:
        sign, node = waiting.pop()
        if node.kind in ("op", "unary") and node.text in ("+", "-"):
            waiting.append((sign if node.text == "+" else -sign, node.children[-1]))
            waiting += [(sign, child) for child in node.children[:-1]]  # read before the last
        else:
            parts.append((sign, node))
    return parts


def walk(node):
    """A node and all below it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def read(text, tokens):
    """The syntax tree of one side of a formula; ``text`` is the whole formula."""
    reader = _Reader(text, tokens)
    tree = reader.expression()
    rest = reader.peek()
    if rest is not None:
        fail(text, rest.start, rest.end, f"{rest.text!r} closes nothing")
    return tree
