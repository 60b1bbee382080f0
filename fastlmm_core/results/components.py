"""Principal components of the random effects, as lme4's rePCA."""

import numpy as np
import pandas as pd


def component_frames(fit) -> dict[str, pd.DataFrame]:
    """See `LMMResults.re_pca`."""
    facts, theta = fit._facts, fit._estimates.theta
    roots: dict[int, list[np.ndarray]] = {f: [] for f in range(len(facts.factors))}
    start = 0
    for term in facts.terms:
        q = len(term.names)
        L = np.zeros((q, q))
        for b in range(q):  # theta has the columns of the lower triangle
            L[b:, b] = theta[start : start + q - b]
            start += q - b
        roots[term.factor].append(np.linalg.svd(L, compute_uv=False))
    return {group: _frame(np.concatenate(roots[f])) for f, group in enumerate(facts.factors)}


def _frame(sdev: np.ndarray) -> pd.DataFrame:
    sdev = np.sort(sdev)[::-1]
    total = float((sdev**2).sum())
    share = sdev**2 / total if total > 0 else np.full(len(sdev), np.nan)
    values = {"sdev": sdev, "proportion": share, "cumulative": np.cumsum(share)}
    return pd.DataFrame(values, index=[f"PC{j + 1}" for j in range(len(sdev))])
