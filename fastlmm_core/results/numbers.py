"""Numbers as R prints them, so that tables read the same digit for digit.

`format_common` follows formatReal of R's C sources: the fewest significant
digits, at most ``digits``, that show every element of a column, fixed notation
unless the exponent notation is narrower.
"""

import math

import numpy as np


def _scientific(x: float, digits: int) -> tuple[int, int, bool]:
    """Exponent, significant digits after dropping zeros, and whether rounding widened x to the next power."""
    if x == 0:
        return 0, 1, False
    mantissa, exponent = f"{abs(x):.{digits - 1}e}".split("e")
    significant = len(mantissa.replace(".", "").rstrip("0")) or 1
    power = int(exponent)
    # 9.9996 to 4 digits is 1.000e1, yet "%.0f" of it still takes the digits of 10
    return power, significant, 0 < power <= 22 and abs(x) < 10.0**power


def format_common(values, digits: int = 7, nsmall: int = 0) -> list[str]:
    """Format to one number of decimals, as R's ``format(values, digits, nsmall)`` without padding."""
    values = [float(v) + 0.0 for v in np.ravel(values)]  # no signed zeros
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return [_not_finite(v) for v in values]
    negative = int(any(v < 0 for v in finite))
    right = widest = -1000
    powers, most = [], 1
    for v in finite:
        power, significant, widened = _scientific(v, digits)
        left = power + 1 - widened
        right = max(right, significant - power - 1)
        widest = max(widest, (v < 0) + max(left, 1))
        powers.append(power)
        most = max(most, significant)
    right = max(right, 0)
    fixed_width = widest + right + (right > 0)
    exponent_digits = 3 if max(powers) >= 100 or min(powers) <= -100 else 2
    exponent_width = negative + (most > 1) + most + 2 + exponent_digits
    if fixed_width <= exponent_width:
        decimals = max(right, nsmall)
        return [f"{v:.{decimals}f}" if math.isfinite(v) else _not_finite(v) for v in values]
    return [f"{v:.{most - 1}e}" if math.isfinite(v) else _not_finite(v) for v in values]


def _not_finite(v: float) -> str:
    return "NA" if math.isnan(v) else ("Inf" if v > 0 else "-Inf")


def format_one(value: float, digits: int = 4) -> str:
    """One number to ``digits`` significant digits without trailing zeros."""
    return format_common([value], digits)[0]


def rounded(values: list[float], decimals: float) -> list[float]:
    """``round`` with a possibly fractional or negative number of decimals, as R rounds it."""
    places = math.floor(decimals + 0.5)
    if places > 300:
        return values
    scale = 10.0 ** abs(places)
    if places < 0:
        return [round(v / scale) * scale if math.isfinite(v) else v for v in values]
    return [round(v * scale) / scale if math.isfinite(v * scale) else v for v in values]


def zapsmall(x, digits: int) -> list[float]:
    """Round to ``digits`` significant digits of the largest element (R's ``zapsmall``)."""
    values = [float(v) for v in x]
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return rounded(values, max(0.0, digits - math.log10(largest)) if largest > 0 else digits)


def format_pvalues(p, digits: int = 3, eps: float = float(np.finfo(float).eps)) -> list[str]:
    """P values, tiny ones as ``< 2e-16`` (R's ``format.pval``)."""
    values = [float(v) for v in p]
    text = ["NA"] * len(values)
    fixed, scientific, tiny = [], [], []
    for i, v in enumerate(values):
        if v < eps:
            tiny.append(i)
        elif v == v:
            exponent = math.floor(math.log10(v))
            (fixed if exponent >= -3 or (exponent == -4 and digits > 1) else scientific).append(i)
    for part in (fixed, scientific):
        if part:
            for i, cell in zip(part, pad(format_common([values[i] for i in part], digits)), strict=True):
                text[i] = cell
    if tiny:
        small = max(1, digits - 2)
        separator = "" if small == 1 else " "
        if shown := fixed + scientific:
            widest = max(len(text[i]) for i in shown)
            if small > 1 and small + 6 > widest:
                small = max(1, widest - 7)
            separator = "" if small == 1 and widest <= 6 else " "
        below = "<" + separator + format_common([eps], small)[0]
        for i in tiny:
            text[i] = below
    return text


def stars(p) -> list[str]:
    """Significance marks at 0.001, 0.01, 0.05 and 0.1."""
    cuts = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
    return [next((mark for cut, mark in cuts if v <= cut), "") for v in np.asarray(p, float)]


def pad(cells: list[str], right: bool = True) -> list[str]:
    """Cells of equal width."""
    width = max((len(c) for c in cells), default=0)
    return [c.rjust(width) if right else c.ljust(width) for c in cells]


def abbreviate(names: list[str], minlength: int) -> list[str]:
    """Shorten names to ``minlength``, keeping them distinct (R's ``abbreviate``)."""
    short = [_strip_characters(name, minlength) for name in names]
    while len(set(short)) < len(set(names)) and minlength < max(map(len, names)):
        minlength += 1
        repeated = {s for s in short if short.count(s) > 1}
        short = [
            _strip_characters(n, minlength) if s in repeated else s for n, s in zip(names, short, strict=True)
        ]
    return short


def _strip_characters(name: str, minlength: int) -> str:
    """Drop lower-case vowels, then lower-case letters, then anything, from the end of the name."""
    text = name.lstrip(" ")
    rules = (
        lambda t, i: t[i] in "aeiou" and _ends_word(t, i),
        lambda t, i: t[i] in "aeiou" and t[i - 1] != " ",
        lambda t, i: t[i].islower() and _ends_word(t, i),
        lambda t, i: t[i].islower() and t[i - 1] != " ",
        lambda t, i: t[i] != " " and t[i - 1] != " ",
    )
    for rule in rules:
        for i in range(len(text) - 1, 0, -1):
            if len(text.replace(" ", "")) <= minlength:
                break
            if i < len(text) and rule(text, i):
                text = text[:i] + text[i + 1 :]
    return text.replace(" ", "") if len(text) > minlength else text


def _ends_word(text: str, i: int) -> bool:
    return text[i - 1] != " " and (i + 1 == len(text) or text[i + 1] == " ")
