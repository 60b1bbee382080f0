"""Predicted random effects (BLUPs, conditional modes) as tables."""

import numpy as np
import pandas as pd


def ranef_frames(groups, levels, columns, modes) -> dict[str, pd.DataFrame]:
    """One frame levels x columns per grouping factor, from ``modes[f]`` (levels, k)."""
    return {
        group: pd.DataFrame(b.copy(), index=pd.Index(index, name=group), columns=list(names))
        for group, index, names, b in zip(groups, levels, columns, modes, strict=True)
    }


def coefficient_frames(frames: dict[str, pd.DataFrame], params: pd.Series) -> dict[str, pd.DataFrame]:
    """Fixed plus random coefficients per level (lme4's ``coef``).

    Random columns without a fixed counterpart come first, with fixed part 0;
    aliased fixed effects are left out.
    """
    fixed = params.dropna()
    extra = [c for frame in frames.values() for c in frame.columns if c not in fixed.index]
    columns = [*dict.fromkeys(extra), *fixed.index]
    base = fixed.reindex(columns).fillna(0.0).to_numpy()
    result = {}
    for group, frame in frames.items():
        values = np.repeat(base[None, :], len(frame), axis=0)
        for j, name in enumerate(frame.columns):
            values[:, columns.index(name)] += frame.to_numpy()[:, j]
        result[group] = pd.DataFrame(values, index=frame.index, columns=columns)
    return result
