"""The table of `LMMResults.drop_terms`: what the likelihood loses with each term."""

import numpy as np
import pandas as pd

from fastlmm_core.inference.lrt import naive_p
from fastlmm_core.inference.nested import RandomPart, SmallerModel
from fastlmm_core.inference.ranova import sum_to_one

COLUMNS = ["part", "npar", "llf", "aic", "LRT", "df", "p", "p_mixture"]


def drop_table(ml) -> pd.DataFrame:
    """Of a fit by maximum likelihood: itself, without each fixed term, with each smaller random term."""
    solved, facts, full = ml._solved, ml._facts, ml._solved.estimates.objective
    columns = tuple(facts.factor_columns(f) for f in range(len(facts.factors)))
    random = RandomPart(facts.factors, columns, solved.theta_map)
    rows, labels = [("", ml.df_modelwc, ml.llf, ml.aic, *[np.nan] * 4)], ["<none>"]
    for name, basis in _without_terms(ml):
        smaller = SmallerModel(solved, np.linalg.solve(solved.fixed.A, basis), random, random)
        value = smaller.solve(False, solved.estimates.theta).point.value
        x, df = max(0.0, value - solved.point.value), basis.shape[0] - basis.shape[1]
        npar, minus2 = ml.df_modelwc - df, full + x
        p = naive_p(x, df)
        rows.append(("fixed", npar, -0.5 * minus2, minus2 + 2.0 * npar, x, df, p, p))
        labels.append(name)
    table = ml.ranova()
    for label, row in table.iloc[1:].iterrows():
        rows.append(("random", *row[COLUMNS[1:]]))
        labels.append(label)
    frame = pd.DataFrame(rows, columns=COLUMNS, index=pd.Index(labels, name="without"))
    return frame.astype({"npar": int})


def _without_terms(fit):
    """Per term that is in no higher one its name, and M (r, r0) with ``X0 = X M`` of the columns left.

    Without an intercept a factor whose columns are all its levels stands for the constant, which stays
    when another factor does: R codes that one by all its levels then.
    """
    spec, kept = fit._spec, fit._kept
    place = {int(j): i for i, j in enumerate(kept)}
    terms = [term for term in spec.fixed_terms if term.pieces]
    has_intercept = any(not term.pieces for term in spec.fixed_terms)
    for term in terms:
        if any(set(term.pieces) < set(other.pieces) for other in terms):
            continue
        gone = {place[j] for j in term.columns if j in place}
        if not gone:
            continue
        left = [i for i in range(len(kept)) if i not in gone]
        M = np.eye(len(kept))[:, left]
        others = [spec.fixed[kept[i]] for i in left]
        coded = any(spec.atoms[a].table is not None for column in others for a in column.atoms)
        own = [spec.fixed[j] for j in term.columns]
        if not has_intercept and coded and len(own) == len(gone) and sum_to_one(spec, own):
            M = np.column_stack([M, np.isin(range(len(kept)), list(gone)) * 1.0])
        yield term.name, M
