"""interlace-lme: lme4-style crossed terms in Python with sparse matrices."""

from . import Stages


def load():
    from importlib.metadata import version

    import interlace  # noqa: F401

    return {"interlace-lme": version("interlace-lme")}


def refuses(model):
    return "" if all(len(term.group) == 1 for term in model.terms) else "no interaction of grouping columns"


def prepare(frame, model):
    return frame


def fit(frame, model, settings):
    import interlace

    stages = Stages()
    with stages("fit"):
        fitted = interlace.fit(
            f"{model.response} ~ {model.fixed}", frame, random=[term.text() for term in model.terms],
            method="REML" if settings["reml"] else "ML",
        )
    with stages("summary"):
        str(fitted.summary())
    kind = "REML" if settings["reml"] else "ML"
    return {"criterion": float(-2 * fitted.llf), "kind": kind, "stages": stages.seconds,
            "converged": bool(fitted.converged)}
