"""fastlmm_core: `lmer` and the printed summary with Satterthwaite's degrees of freedom."""

from . import Stages


def load():
    import numpy
    import scipy

    import fastlmm_core

    fastlmm_core.lmer  # noqa: B018  the public call must exist
    versions = {"numpy": numpy.__version__, "scipy": scipy.__version__}
    return {"fastlmm_core": getattr(fastlmm_core, "__version__", "source"), **versions}


def refuses(model):
    return ""


def prepare(frame, model):
    return frame


def fit(frame, model, settings):
    import fastlmm_core

    stages = Stages()
    with stages("lmer"):
        fitted = fastlmm_core.lmer(model.formula, frame, reml=settings["reml"], n_threads=settings["threads"])
    with stages("summary"):
        str(fitted.summary())
    found = {name: value for name, value in fitted.timings.items() if isinstance(value, float)}
    stages.seconds = found | {"summary": stages.seconds["summary"]} if found else stages.seconds
    kind = "REML" if settings["reml"] else "ML"
    return {"criterion": float(-2 * fitted.llf), "kind": kind, "stages": stages.seconds,
            "evaluations": int(fitted.convergence.n_values), "converged": bool(fitted.converged)}
