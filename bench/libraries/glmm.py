"""glmm: R-style formulas, Rust kernels, Satterthwaite degrees of freedom."""

from . import Stages


def load():
    from importlib.metadata import version

    import glmm  # noqa: F401

    return {"glmm": version("glmm")}


def refuses(model):
    return ""


def prepare(frame, model):
    return frame


def fit(frame, model, settings):
    import glmm

    stages = Stages()
    with stages("fit"):
        fitted = glmm.fit(frame, model.formula, reml=settings["reml"])
    with stages("summary"):
        fitted.summary_object().text()
    kind = "REML" if settings["reml"] else "ML"
    return {"criterion": float(-2 * fitted.loglik), "kind": kind, "stages": stages.seconds,
            "evaluations": int(fitted.n_eval), "converged": bool(fitted.converged)}
