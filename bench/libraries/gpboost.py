"""GPBoost's grouped random effects: independent scalar terms, maximum likelihood only."""

import numpy as np

from . import Stages, ids


def load():
    from importlib.metadata import version

    import gpboost  # noqa: F401

    return {"gpboost": version("gpboost")}


def refuses(model):
    return "" if all(term.columns == ("1",) for term in model.terms) else "random slopes only uncorrelated"


def prepare(frame, model):
    names = [name.strip() for name in model.fixed.split("+")]
    columns = [np.ones(len(frame))]
    for name in names:
        values = frame[name]
        if values.dtype.kind in "if":
            columns.append(values.to_numpy(dtype=np.float64))
        else:
            columns += [(values == level).to_numpy(dtype=np.float64) for level in values.cat.categories[1:]]
    groups = np.column_stack([ids(frame, term.group) for term in model.terms])
    return frame[model.response].to_numpy(dtype=np.float64), np.column_stack(columns), groups


def fit(prepared, model, settings):
    import gpboost

    y, X, groups = prepared
    stages = Stages()
    with stages("build"):
        built = gpboost.GPModel(
            group_data=groups, likelihood="gaussian", num_parallel_threads=settings["threads"]
        )
    with stages("fit"):
        built.fit(y=y, X=X)
    with stages("summary"):
        built.get_coef(std_err=True)
        built.get_cov_pars(std_err=True)
    criterion = 2 * float(built.get_current_neg_log_likelihood())
    return {"criterion": criterion, "kind": "ML", "stages": stages.seconds}
