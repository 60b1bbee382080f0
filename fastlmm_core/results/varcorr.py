"""Variances and covariances of the random effects as tables."""

import numpy as np
import pandas as pd


def unique_keys(groups: list[str]) -> list[str]:
    """lme4's names of terms: ``id``, ``id.1`` when a grouping factor appears again."""
    seen: dict[str, int] = {}
    keys = []
    for group in groups:
        count = seen.get(group, 0)
        keys.append(group if count == 0 else f"{group}.{count}")
        seen[group] = count + 1
    return keys


def varcorr_frame(blocks, sigma: float) -> pd.DataFrame:
    """lme4's ``as.data.frame(VarCorr(fit))``: of each term variances, then covariances; the residual last.

    ``blocks``: list of (key, names, covariance k x k).  ``sdcor`` holds standard
    deviations and correlations.
    """
    rows = []
    for key, names, cov in blocks:
        sd = np.sqrt(np.diag(cov))
        rows += [(key, name, None, cov[a, a], sd[a]) for a, name in enumerate(names)]
        for b in range(len(names)):
            for a in range(b + 1, len(names)):
                product = sd[a] * sd[b]
                correlation = cov[a, b] / product if product > 0 else np.nan
                rows.append((key, names[b], names[a], cov[a, b], correlation))
    rows.append(("Residual", None, None, sigma**2, sigma))
    frame = pd.DataFrame(rows, columns=["group", "var1", "var2", "vcov", "sdcor"])
    return frame.astype({"vcov": float, "sdcor": float})


def group_covariances(terms, factor_names) -> dict[str, pd.DataFrame]:
    """Per grouping factor the covariance of all its random effects, block diagonal over its terms.

    ``terms``: list of (factor index, names, covariance k x k).
    """
    result = {}
    for f, group in enumerate(factor_names):
        mine = [(names, cov) for g, names, cov in terms if g == f]
        names = [name for block, _ in mine for name in block]
        full, at = np.zeros((len(names), len(names))), 0
        for block, cov in mine:
            full[at : at + len(block), at : at + len(block)] = cov
            at += len(block)
        result[group] = pd.DataFrame(full, index=names, columns=names)
    return result
