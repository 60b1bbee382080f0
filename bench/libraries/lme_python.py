"""lme-python: bindings of the lme-rs crate, lme4's formulas, polars frames."""

from . import Stages


def load():
    from importlib.metadata import version

    import lme_python  # noqa: F401
    import polars  # noqa: F401

    return {"lme-python": version("lme-python")}


def refuses(model):
    return ""


def prepare(frame, model):
    import polars

    plain = frame.assign(**{n: frame[n].astype(str) for n in frame if frame[n].dtype.name == "category"})
    return polars.from_pandas(plain)


def fit(frame, model, settings):
    import lme_python

    stages = Stages()
    with stages("fit"):
        fitted = lme_python.lmer(model.formula, data=frame, reml=settings["reml"])
    with stages("summary"):
        str(fitted.summary())
    kind = "REML" if settings["reml"] else "ML"
    criterion = fitted.reml_criterion if settings["reml"] else -2 * fitted.log_likelihood
    return {"criterion": float(criterion), "kind": kind, "stages": stages.seconds,
            "converged": bool(fitted.converged)}
