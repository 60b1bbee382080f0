"""Tables -> text and HTML.  Nothing here computes a statistic.

The text follows R's print methods (``printCoefmat``, lme4's ``formatVC``), so
that a page printed by R and one printed here can be laid side by side.
"""

import html
import math

import numpy as np

from fastlmm_core.results.numbers import (
    abbreviate,
    format_common,
    format_pvalues,
    pad,
    rounded,
    stars,
    zapsmall,
)

LEGEND = "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"


def coefficient_cells(values: np.ndarray, digits: int = 4) -> tuple[list[list[str]], bool]:
    """Columns of strings for a coefficient table, and whether it carries stars (R's ``printCoefmat``).

    ``values`` (p, c): estimates, standard errors, possibly df, then t and p.
    Aliased rows are NaN.
    """
    rows = np.asarray(values, float).tolist()
    c = np.shape(values)[1]
    test_digits = max(1, min(5, digits - 1))
    head = [v for row in rows for v in row[: c - 2]]
    size = min((abs(v) for v in head if v and math.isfinite(v)), default=0.0)
    lowest = 1 + (math.floor(math.log10(size)) if size else 0)
    text = format_common(rounded(head, max(1, digits - lowest)), digits)
    columns = [text[j :: c - 2] for j in range(c - 2)]
    columns.append(format_common(rounded([row[-2] for row in rows], test_digits), digits))
    _restore_vanished(columns[: c - 2], rows, digits)
    p_values = [row[-1] for row in rows]
    columns.append(format_pvalues(p_values, test_digits))
    for i, row in enumerate(rows):
        for j, v in enumerate(row):
            if v != v:
                columns[j][i] = "NA"
    marked = any(v < 0.1 for v in p_values)
    if marked:
        columns.append(pad(stars(p_values), right=False))
    return columns, marked


def _restore_vanished(columns: list[list[str]], rows: list[list[float]], digits: int) -> None:
    """Cells that rounding turned into 0 are shown in their own right."""
    lost = [
        (j, i)
        for j, column in enumerate(columns)
        for i, cell in enumerate(column)
        if cell != "NA" and rows[i][j] != 0 and float(cell) == 0
    ]
    if lost:
        shown = format_common([rows[i][j] for j, i in lost], max(1, digits - 1))
        for (j, i), cell in zip(lost, shown, strict=True):
            columns[j][i] = cell


def random_effect_cells(blocks, sigma: float, digits: int = 4) -> tuple[list[str], list[list[str]]]:
    """Header and columns of the random-effects table (lme4's ``formatVC``).

    ``blocks`` is a list of (key, names, covariance k x k) with the residual left out.
    """
    keys, names, variances, correlations = [], [], [], []
    widest = max((len(block[1]) for block in blocks), default=0)
    for key, terms, cov in blocks:
        correlation = _correlations(cov)
        squares = cov.diagonal().tolist()
        for a, term in enumerate(terms):
            keys.append(key if a == 0 else "")
            names.append(term)
            variances.append(squares[a])
            correlations.append(correlation[a])
    keys.append("Residual")
    names.append("")
    variances.append(sigma**2)
    correlations.append([])
    header = ["Groups", "Name", "Variance", "Std.Dev."]
    columns = [
        keys,
        names,
        pad(format_common(variances, digits)),
        pad(format_common([math.sqrt(v) if v >= 0 else math.nan for v in variances], digits)),
    ]
    for b in range(widest - 1):
        header.append("Corr" if b == 0 else "")
        columns.append([row[b] if b < len(row) else "" for row in correlations])
    return header, columns


def _correlations(cov: np.ndarray) -> list[list[str]]:
    """Rows below the diagonal to two decimals, one width for the matrix."""
    sd = [math.sqrt(v) if v > 0 else math.nan for v in cov.diagonal().tolist()]
    cells = [
        [_two_decimals(v / (sd[a] * sd[b])) for b, v in enumerate(row)] for a, row in enumerate(cov.tolist())
    ]
    width = max(len(cell) for row in cells for cell in row)
    return [[cell.rjust(width) for cell in row[:a]] for a, row in enumerate(cells)]


def _two_decimals(r: float) -> str:
    return f"{rounded([r], 2)[0] + 0.0:.2f}" if r == r else "NaN"


def text_table(header: list[str], columns: list[list[str]], row_names=None, right: bool = True) -> str:
    """Columns side by side, headers aligned with their cells."""
    lead = pad(["", *row_names], right=False) if row_names is not None else [""] * (len(columns[0]) + 1)
    body = [pad([head, *cells], right) for head, cells in zip(header, columns, strict=True)]
    return "\n".join(" ".join([lead[i], *(column[i] for column in body)]).rstrip() for i in range(len(lead)))


def coefficient_text(names, header, values, digits: int = 4) -> str:
    """The fixed-effects block with its legend."""
    columns, marked = coefficient_cells(values, digits)
    table = text_table([*header, ""] if marked else list(header), columns, list(names))
    return f"{table}\n---\n{LEGEND}" if marked else table


def quantile_text(quantiles, digits: int = 4) -> str:
    """Min 1Q Median 3Q Max on two lines."""
    cells = format_common(zapsmall(quantiles, digits + 1), digits)
    return named_text(["Min", "1Q", "Median", "3Q", "Max"], cells)


def named_text(names: list[str], cells: list[str]) -> str:
    """A named vector as R prints it: one common width."""
    width = max(len(t) for t in [*names, *cells])
    return "\n".join(" ".join(t.rjust(width) for t in line) for line in (names, cells))


def correlation_text(names, correlation: np.ndarray) -> str:
    """Lower triangle of the correlation of the fixed effects, with shortened names."""
    names = list(names)
    rows, heads = abbreviate(names, 11), abbreviate(names, 6)
    p = len(names)
    cells = pad([f"{r:.3f}" if np.isfinite(r) else "NaN" for r in np.round(correlation, 3).ravel() + 0.0])
    columns = [[cells[i * p + j] if j < i else "" for i in range(1, p)] for j in range(p - 1)]
    return text_table(heads[:-1], columns, rows[1:], right=False)


def html_table(caption: str, header: list[str], columns: list[list[str]], row_names=None) -> str:
    """One table, every cell escaped."""
    escape = html.escape
    lead = [] if row_names is None else [""]
    head = "".join(f"<th>{escape(t)}</th>" for t in [*lead, *header])
    rows = []
    for i in range(len(columns[0])):
        first = "" if row_names is None else f"<th>{escape(str(row_names[i]))}</th>"
        rows.append(f"<tr>{first}" + "".join(f"<td>{escape(c[i].strip())}</td>" for c in columns) + "</tr>")
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def html_lines(lines: list[str]) -> str:
    """Lines of text as one paragraph each."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)
