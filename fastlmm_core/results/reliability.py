"""Tables of random effects with their errors."""

import numpy as np
import pandas as pd

from fastlmm_core.inference.distributions import t_quantile
from fastlmm_core.inference.reliability import (
    error_variances,
    factor_variances,
    joint_covariance,
    reliabilities,
)
from fastlmm_core.results.rowblocks import equations


def reliability_frames(fit) -> dict[str, pd.DataFrame]:
    """Group -> DataFrame levels x columns, as `LMMResults.ranef`."""
    facts, solved = fit._facts, equations(fit)
    variances = factor_variances(solved.theta_map, fit._estimates.terms, fit.scale)
    out = {}
    for f, (group, pev) in enumerate(zip(facts.factors, error_variances(solved))):
        values = reliabilities(pev, variances[f])
        out[group] = pd.DataFrame(
            values, index=pd.Index(facts.levels[f], name=group), columns=list(facts.factor_columns(f))
        )
    return out


def ranef_long(fit, level: float) -> pd.DataFrame:
    """See `LMMResults.ranef_table`."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, found {level!r}")
    facts, solved = fit._facts, equations(fit)
    reach, parts = float(t_quantile(0.5 + level / 2.0, np.inf)), []
    for f, (group, pev) in enumerate(zip(facts.factors, error_variances(solved))):
        modes, columns = solved.random_effects[f], facts.factor_columns(f)
        conditional = np.diagonal(solved.conditional_covariance(f), axis1=1, axis2=2)
        own = np.diagonal(pev, axis1=1, axis2=2)
        for j, term in enumerate(columns):
            half = reach * np.sqrt(own[:, j])
            parts.append(
                pd.DataFrame(
                    {
                        "group": group,
                        "term": term,
                        "level": np.asarray(facts.levels[f], object),
                        "value": modes[:, j],
                        "cond_sd": np.sqrt(conditional[:, j]),
                        "pev": own[:, j],
                        "lower": modes[:, j] - half,
                        "upper": modes[:, j] + half,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def joint_frame(fit) -> pd.DataFrame:
    """See `LMMResults.joint_cov`."""
    facts, solved = fit._facts, equations(fit)
    labels = [("fixed", "", fit._names[j]) for j in fit._kept]
    for f, group in enumerate(facts.factors):
        labels += [(group, level, term) for level in facts.levels[f] for term in facts.factor_columns(f)]
    values = joint_covariance(solved)
    index = pd.MultiIndex.from_tuples(labels, names=["group", "level", "term"])
    return pd.DataFrame(values, index=index, columns=index)
