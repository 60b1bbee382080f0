"""Text and numbers -> HTML; everything that comes from data is escaped here."""

import html
import math

STYLE = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5b6570;--line:#dfe3e8;--page:#f6f7f9;--card:#fff;
--good:#00694b;--bad:#b3400a;--accent:#0b5f94}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#a3adb8;--line:#343b43;--page:#14171a;--card:#1d2125;
--good:#4fc79d;--bad:#ff9a62;--accent:#6fbdf0}
figure img{filter:invert(.9) hue-rotate(180deg)}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);line-height:1.5;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1rem}
h1{font-size:1.35rem;line-height:1.25;margin:.6rem 0;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:0 0 .6rem}
h3{font-size:.95rem;margin:1rem 0 .3rem;color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;margin:0 0 1rem}
p{margin:.4rem 0;overflow-wrap:anywhere}
.soft{color:var(--soft);font-size:.88rem}
.facts{display:flex;flex-wrap:wrap;gap:.4rem;margin:.6rem 0 1rem;padding:0;list-style:none}
.facts li{border:1px solid var(--line);background:var(--card);border-radius:1rem;padding:.1rem .7rem;
font-size:.85rem;max-width:100%;overflow-wrap:anywhere}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
thead th{color:var(--soft);font-weight:600}
tbody th{font-weight:500;white-space:normal;overflow-wrap:anywhere;min-width:8rem}
.left td,.left th{text-align:left}
figure{margin:.6rem 0}
figure img{max-width:100%;height:auto;display:block}
figcaption{color:var(--soft);font-size:.85rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em}
math{font-size:1.05rem;margin:.6rem 0}
mtd{padding:.2rem .25rem}
.bar{display:inline-block;height:.6rem;background:var(--accent);border-radius:.2rem;vertical-align:middle}
@media print{body{background:#fff}section{break-inside:avoid}}
@media(max-width:30rem){main{padding:.6rem}section{padding:.8rem}table{font-size:.8rem}
th,td{padding:.2rem .35rem}thead th{white-space:normal}tbody th{min-width:4.5rem}}
"""


def escape(text) -> str:
    return html.escape(str(text))


def number(value, digits: int = 4) -> str:
    """``digits`` significant digits; a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, (int,)) and not isinstance(value, bool):
        return f"{value:,}"
    value = float(value)
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        return f"{value:,.{min(decimals, 8)}f}".replace("-", "−")
    return f"{value:.{digits - 1}e}".replace("-", "−")


def p_value(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "< 2e−16" if value < 2.2e-16 else number(value, 3)


def table(header, rows, left: bool = False) -> str:
    """Rows of text under a header; the first cell of a row is its name."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in rest) + "</tr>"
        for first, *rest in rows
    )
    kind = ' class="left"' if left else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def section(title: str, *parts: str) -> str:
    """A section of the page; without content there is none."""
    body = "".join(parts)
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{escape(text)}</p>"


POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="'
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    '">'
)
"""Nothing is fetched and no script runs, whatever a label holds."""


def page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{POLICY}<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )
