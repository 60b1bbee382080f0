"""Seeded draws of unbalanced grouped data with known variances.

Every function takes its generator and sizes explicitly; rows come out in random order, and
grouping columns are int64 keys 1..G.
"""

import numpy as np
import pandas as pd

FIXED = {"Intercept": 1.0, "f[T.b]": 0.3, "f[T.c]": -0.2, "x": 0.5, "x2": -0.25}


def group_codes(rng, n, groups, power=0.0):
    """Codes (n,) int64 in [0, groups), each at least once, in random order.

    ``power`` > 0 gives level r a weight r^-power (few large levels, many small ones); 0 gives
    gamma weights, so sizes vary by a factor of a few around n / groups.
    """
    if power > 0:
        weight = np.arange(1, groups + 1, dtype=np.float64) ** -power
    else:
        weight = rng.gamma(4.0, size=groups)
    ends = np.cumsum(weight / weight.sum())
    more = np.minimum(np.searchsorted(ends, rng.random(n - groups)), groups - 1)
    return rng.permutation(np.concatenate([np.arange(groups), more]))


def fixed_part(rng, n, columns=2):
    """Frame with a three-level factor ``f`` and numeric ``x``, ``x2``, ...; and its mean (n,)."""
    level = rng.integers(0, 3, n).astype(np.int8)
    frame = {"f": pd.Categorical.from_codes(level, ["a", "b", "c"])}
    mean = np.array([1.0, 1.3, 0.8])[level]
    for j in range(columns):
        name = "x" if j == 0 else f"x{j + 1}"
        frame[name] = rng.standard_normal(n)
        mean = mean + 0.5 * (-0.5) ** j * frame[name]
    return frame, mean


def effects(rng, groups, cov):
    """(groups, q) normal effects with covariance ``cov``."""
    root = np.linalg.cholesky(np.atleast_2d(np.asarray(cov, dtype=np.float64)))
    return rng.standard_normal((groups, len(root))) @ root.T


def one_factor(rng, n, groups, cov, columns=2):
    """``y ~ f + x + x2 + (1 + x + x2 | g)`` with as many random columns as ``cov`` has."""
    frame, mean = fixed_part(rng, n, columns)
    g = group_codes(rng, n, groups)
    b = effects(rng, groups, cov)
    y = mean + b[g, 0] + rng.standard_normal(n)
    for j, name in zip(range(1, b.shape[1]), ("x", "x2"), strict=False):
        y = y + b[g, j] * frame[name]
    return pd.DataFrame({"y": y, **frame, "g": g + 1})


def nested(rng, n, schools, rooms, var_school, var_room):
    """Classrooms in schools, numbered within the school and, as ``classroom_id``, over all."""
    frame, mean = fixed_part(rng, n)
    school_of = np.concatenate([np.arange(schools), rng.integers(0, schools, rooms - schools)])
    school_of.sort()
    start = np.searchsorted(school_of, np.arange(schools))
    room = group_codes(rng, n, rooms)
    school = school_of[room]
    y = mean + rng.standard_normal(n)
    y += np.sqrt(var_school) * rng.standard_normal(schools)[school]
    y += np.sqrt(var_room) * rng.standard_normal(rooms)[room]
    keys = {"school": school + 1, "classroom": room - start[school] + 1, "classroom_id": room + 1}
    return pd.DataFrame({"y": y, **frame, **keys})


def crossed(rng, n, users, items, var_user, var_item, power=0.6):
    """Two crossed factors with power-law level weights, shuffled against each other."""
    frame, mean = fixed_part(rng, n)
    user, item = group_codes(rng, n, users, power), group_codes(rng, n, items, power)
    y = mean + rng.standard_normal(n)
    y += np.sqrt(var_user) * rng.standard_normal(users)[user]
    y += np.sqrt(var_item) * rng.standard_normal(items)[item]
    return pd.DataFrame({"y": y, **frame, "user": user + 1, "item": item + 1})


def factorial(rng, subjects, items, repeats, cov_subject, cov_item):
    """Two two-level treatments within subjects and items, 10 % of the rows lost at random."""
    cells = np.indices((subjects, items, repeats)).reshape(3, -1)
    keep = rng.random(cells.shape[1]) > 0.1
    subject, item, _ = cells[:, rng.permutation(cells.shape[1])[keep]]
    a, b = rng.choice([-0.5, 0.5], (2, len(subject)))
    Z = np.column_stack([np.ones(len(a)), a, b, a * b])
    y = Z @ np.array([2.0, 0.4, -0.3, 0.2]) + rng.standard_normal(len(a))
    y += np.einsum("nq,nq->n", Z, effects(rng, subjects, cov_subject)[subject])
    y += np.einsum("nq,nq->n", Z, effects(rng, items, cov_item)[item])
    return pd.DataFrame({"y": y, "a": a, "b": b, "ab": a * b, "subj": subject + 1, "item": item + 1})
