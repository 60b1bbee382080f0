"""R's names of coefficients, groups and levels in this package's spelling."""

import re

import pandas as pd


def plain(name):
    """A coefficient name without what is a matter of spelling: blanks, ``T.``, ``^``."""
    return re.sub(r"\s+", "", str(name)).replace("[T.", "[").replace("**", "^")


def coefficient(name, data):
    """R's ``treatmentsuccimer`` as ``treatment[succimer]``, in the spelling of `plain`."""
    return ":".join(_piece(piece, data) for piece in _split(name))


def _piece(piece, data):
    if piece == "(Intercept)":
        return "Intercept"
    wrapped = re.fullmatch(r"factor\((\w+)\)(.*)", piece)
    if wrapped:
        return f"factor({wrapped[1]})[{wrapped[2]}]"
    for column in sorted(data.columns, key=len, reverse=True):
        if isinstance(data[column].dtype, pd.CategoricalDtype) and piece.startswith(column):
            if piece[len(column) :] in set(data[column].cat.categories):
                return plain(f"{column}[{piece[len(column) :]}]")
    return plain(piece)


def _split(name):
    """Split at the colons outside parentheses."""
    return re.split(r":(?![^()]*\))", name)


def group(name, ours):
    """R's group name in ours, with a function for its levels.

    For ``a/b`` lme4 1.1-31 says ``b:a``, this package ``a:b``.
    """
    if name in ours:
        return name, str
    turned = ":".join(reversed(name.split(":")))
    assert turned in ours, f"no group {name} or {turned} among {list(ours)}"
    return turned, lambda level: ":".join(reversed(level.split(":")))
