"""Figures of a fit as images inside the page."""

import base64
import io

from ..errors import FastLMMError
from .markup import escape, paragraph

MOST_VECTOR_ROWS = 3_000
"""Rows up to which a figure is drawn as SVG; points of more are smaller as pixels."""

MOST_PANELS = 3


class Figures:
    """Draws on matplotlib Figures of its own: no windows, no state of pyplot."""

    def __init__(self, fit, wanted: bool):
        self.fit, self.note, self.reasons = fit, "", set()
        self.available = wanted and hasattr(fit, "plot")
        if self.available:
            try:
                import matplotlib.figure  # noqa: F401
            except ImportError:
                self.available = False
                self.note = paragraph(
                    "Figures are left out: matplotlib is not installed (pip install 'fastlmm_core[plot]').",
                    "soft",
                )

    def draw(self, name: str, caption: str, size=(6.0, 4.0), **options) -> str:
        """``fit.plot.<name>`` as a figure element, or a line that says why there is none."""
        if not self.available or not hasattr(self.fit.plot, name):
            return ""
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        try:
            getattr(self.fit.plot, name)(ax=figure.add_subplot(), **options)
            image = self._image(figure)
        except (FastLMMError, ValueError) as error:
            reason = str(error).partition(": give ")[0]  # what a caller could give has no place on a page
            again = reason in self.reasons  # a reason that holds for several figures is given once
            self.reasons.add(reason)
            return paragraph(f"{caption}: not drawn" + ("." if again else f", {reason}"), "soft")
        caption = escape(caption)
        return f'<figure><img alt="{caption}" src="{image}"><figcaption>{caption}</figcaption></figure>'

    def _image(self, figure) -> str:
        vector = self.fit.nobs <= MOST_VECTOR_ROWS
        stream = io.BytesIO()
        if vector:
            from matplotlib import rc_context

            with rc_context({"svg.hashsalt": "report"}):
                nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                figure.savefig(stream, format="svg", metadata=nothing)
        else:
            figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
        kind = "svg+xml" if vector else "png"
        return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
