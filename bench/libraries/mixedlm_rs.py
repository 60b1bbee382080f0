"""mixedlm-rs: statsmodels' interface, one grouping factor, Rust kernels."""

from . import Stages, single_group


def load():
    from importlib.metadata import version

    import mixedlm_rs  # noqa: F401

    return {"mixedlm-rs": version("mixedlm-rs")}


def refuses(model):
    return "" if single_group(model) else "one grouping factor only"


def prepare(frame, model):
    return frame


def fit(frame, model, settings):
    import mixedlm_rs

    columns = " + ".join(model.terms[0].columns)
    stages = Stages()
    with stages("build"):
        fixed = f"{model.response} ~ {model.fixed}"
        built = mixedlm_rs.mixedlm(fixed, frame, groups=single_group(model), re_formula=f"~ {columns}")
    with stages("fit"):
        fitted = built.fit(reml=settings["reml"])
    with stages("summary"):
        str(fitted.summary())
    kind = "REML" if settings["reml"] else "ML"
    return {"criterion": float(-2 * fitted.llf), "kind": kind, "stages": stages.seconds,
            "converged": bool(fitted.converged)}
