"""Variance inflation of the terms of the fixed part."""

import numpy as np
import pandas as pd

from fastlmm_core.errors import ModelError


def inflation(fit) -> pd.DataFrame:
    """See `LMMResults.vif`."""
    place = {int(j): i for i, j in enumerate(fit._kept)}
    terms = [
        (term.name, [place[j] for j in term.columns if j in place])
        for term in fit._spec.fixed_terms
        if term.pieces
    ]
    terms = [(name, at) for name, at in terms if at]
    if len(terms) < 2:
        raise ModelError(
            "a term is collinear with others: the fixed part needs two terms besides the intercept"
        )
    used = np.concatenate([at for _, at in terms])
    V = fit._vcov[np.ix_(used, used)]
    sd = np.sqrt(np.diag(V))
    R = V / np.outer(sd, sd)
    rows, start = [], 0
    for name, at in terms:
        own = np.arange(start, start + len(at))
        start += len(at)
        others = np.setdiff1d(np.arange(len(used)), own)
        log = sum(np.linalg.slogdet(R[np.ix_(part, part)])[1] for part in (own, others))
        gvif = float(np.exp(log - np.linalg.slogdet(R)[1]))
        rows.append((name, gvif, len(at), gvif ** (0.5 / len(at))))
    return pd.DataFrame(rows, columns=["term", "gvif", "df", "scaled"]).set_index("term")
