"""The page: its sections in order, written to one file."""

from pathlib import Path

from . import sections
from .figures import Figures
from .markup import escape, page


def write_report(fit, path=None, *, plots: bool = True, title: str | None = None) -> str:
    """The report of a fit as HTML, and written to ``path`` if there is one.

    Parameters
    ----------
    fit : LMMResults or LMResults
    path : str or path-like, optional
    plots : whether to draw figures.
    title : of the page; by default the formula.

    Returns
    -------
    str
    """
    figures = Figures(fit, plots)
    title = fit.formula if title is None else title
    shown = escape(title) if title != fit.formula else f"<code>{escape(title)}</code>"
    under = "" if title == fit.formula else f"<p><code>{escape(fit.formula)}</code></p>"
    parts = [
        f"<h1>{shown}</h1>{under}",
        sections.facts(fit),
        figures.note,
        sections.model(fit),
        sections.data(fit),
        sections.certificate(fit),
        sections.coefficients(fit),
        sections.variances(fit),
        sections.random_effects(fit, figures),
        sections.diagnostics(fit, figures),
        sections.influential(fit),
        sections.lines(fit, figures),
        sections.timing(fit),
        '<p class="soft">Made by fastlmm_core.</p>',
    ]
    text = page(title, "\n".join(part for part in parts if part))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
