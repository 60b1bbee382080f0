"""Repeated rows and integer weights have the same cross-products; only the counts differ."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core.crossprod.gram import accumulate
from fastlmm_core.crossprod.layout import build_layout
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.formula.terms import Atom, Column, Design, GroupingFactor, RandomTerm

ROWS, LEVELS = 200, 9


def design(rows, weights):
    """y ~ x + (x | g) + (1 | h) on the given rows of one simulated data set."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(3, 1, ROWS), rng.normal(50, 4, ROWS)
    g = np.concatenate([np.arange(LEVELS), rng.integers(0, LEVELS, ROWS - LEVELS)]).astype(np.int32)
    h = np.concatenate([np.arange(4), rng.integers(0, 4, ROWS - 4)]).astype(np.int32)
    one, slope = Column("Intercept"), Column("x", (0,))
    return Design(
        n=len(rows),
        atoms=(Atom("x", np.ascontiguousarray(x[rows])),),
        fixed=(one, slope),
        ones=np.array([1.0, 0.0]),
        terms=(RandomTerm(0, (one, slope)), RandomTerm(1, (one,))),
        factors=(
            GroupingFactor("g", np.ascontiguousarray(g[rows]), pd.RangeIndex(LEVELS)),
            GroupingFactor("h", np.ascontiguousarray(h[rows]), pd.RangeIndex(4)),
        ),
        response=np.ascontiguousarray(y[rows]),
        response_name="y",
        offset=None,
        weights=weights,
    )


def test_repeated_rows_are_integer_weights():
    times = np.random.default_rng(1).integers(1, 5, ROWS)
    once = design(np.arange(ROWS), times.astype(float))
    repeated = design(np.repeat(np.arange(ROWS), times), None)
    scales = standardize(once)
    a, b = (accumulate(d, build_layout(d, scales)) for d in (once, repeated))
    assert (a.n, b.n) == (ROWS, times.sum())
    assert a.sum_log_weights == pytest.approx(np.log(times).sum()) and b.sum_log_weights == 0
    np.testing.assert_allclose(a.C, b.C, rtol=1e-11, atol=1e-9)
    for f in range(2):
        np.testing.assert_allclose(a.R[f], b.R[f], rtol=1e-11, atol=1e-9)
        assert a.counts[f].sum() == ROWS and b.counts[f].sum() == times.sum()
    assert a.pairs.keys() == b.pairs.keys() and len(a.pairs) == 1
    for key in a.pairs:
        np.testing.assert_array_equal(a.pairs[key].indices, b.pairs[key].indices)
        np.testing.assert_allclose(a.pairs[key].blocks, b.pairs[key].blocks, rtol=1e-11, atol=1e-9)


@pytest.mark.threads
@pytest.mark.parametrize("threads", [2, 5])
def test_bits_do_not_depend_on_threads(threads):
    one = design(np.arange(ROWS), None)
    layout = build_layout(one, standardize(one))
    a, b = accumulate(one, layout, n_threads=1), accumulate(one, layout, n_threads=threads)
    np.testing.assert_array_equal(a.C, b.C)
    for f in range(2):
        np.testing.assert_array_equal(a.R[f], b.R[f])
