"""mixedlm: lme4's formulas, Rust kernels."""

from . import Stages


def load():
    from importlib.metadata import version

    import mixedlm

    mixedlm.lmer  # noqa: B018  loaded on demand
    return {"mixedlm": version("mixedlm")}


def refuses(model):
    return ""


def prepare(frame, model):
    return frame


def fit(frame, model, settings):
    import mixedlm

    stages = Stages()
    with stages("fit"):
        fitted = mixedlm.lmer(model.formula, frame, REML=settings["reml"])
    with stages("summary"):
        str(fitted.summary())
    kind = "REML" if settings["reml"] else "ML"
    criterion = fitted.REMLcrit() if settings["reml"] else fitted.get_deviance()
    return {"criterion": float(criterion), "kind": kind, "stages": stages.seconds,
            "evaluations": int(fitted.function_evals), "converged": bool(fitted.converged)}
