"""statsmodels MixedLM: one grouping factor; nested and crossed terms only as dense variance components."""

from . import Stages, single_group


def load():
    import statsmodels
    import statsmodels.formula.api  # noqa: F401

    return {"statsmodels": statsmodels.__version__}


def refuses(model):
    return "" if single_group(model) else "more than one grouping factor needs dense matrices"


def prepare(frame, model):
    return frame


def fit(frame, model, settings):
    from statsmodels.formula.api import mixedlm

    columns = " + ".join(model.terms[0].columns)
    stages = Stages()
    with stages("build"):
        fixed = f"{model.response} ~ {model.fixed}"
        built = mixedlm(fixed, frame, groups=single_group(model), re_formula=f"~ {columns}")
    with stages("fit"):
        fitted = built.fit(reml=settings["reml"])
    with stages("summary"):
        str(fitted.summary())
    kind = "REML" if settings["reml"] else "ML"
    return {"criterion": float(-2 * fitted.llf), "kind": kind, "stages": stages.seconds,
            "converged": bool(fitted.converged)}
