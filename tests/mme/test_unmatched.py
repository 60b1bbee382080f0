"""What the means of random effects explain, against least squares on the rows."""

import numpy as np
import pytest
from oracle.dense import statistics

from fastlmm_core.mme.unmatched import unmatched_means


def data(seed=0, n=90):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(3.0, 1.0, n), rng.normal(size=n)
    return np.ones(n), x, z, x + 0.5 * z + rng.normal(size=n), np.arange(n) % 9, rng.uniform(0.5, 2, n)


def squares(design, values, w):
    """Residual sum of squares of ``values`` on ``design``, weighted, and the residuals."""
    root = np.sqrt(w)
    rest = values * root - design * root[:, None] @ np.linalg.lstsq(design * root[:, None], values * root)[0]
    return rest @ rest, rest


@pytest.mark.parametrize("weighted", [False, True])
def test_partial_correlations(weighted):
    one, x, z, y, codes, w = data()
    w = w if weighted else np.ones(len(y))
    X = np.column_stack([one, x])
    Z = np.column_stack([one, x - 2.0 * one, z])
    found = unmatched_means(statistics(X, y, [(codes, Z), (codes % 3, Z[:, :1])], w), [0, 1])
    _, zr = squares(X, z, w)
    before, yr = squares(X, y, w)
    after, _ = squares(np.column_stack([X, z]), y, w)
    assert [len(gains) for gains in found] == [3, 1]
    np.testing.assert_array_equal(found[0][:2], 0.0)
    np.testing.assert_array_equal(found[1], 0.0)
    assert found[0][2] == pytest.approx(len(y) * (1 - after / before), rel=1e-9)
    assert found[0][2] == pytest.approx(len(y) * (zr @ yr) ** 2 / (zr @ zr * (yr @ yr)), rel=1e-9)


def test_dropped_and_missing_columns():
    one, x, z, y, codes, w = data(1)
    products = statistics(np.column_stack([x, z]), y, [(codes, np.column_stack([one, z]))])
    both, without_z = unmatched_means(products, [0, 1])[0], unmatched_means(products, [0])[0]
    assert both[0] > 0 and both[1] == 0.0 and without_z.min() > 0
    assert unmatched_means(products, [])[0].min() > 0
    still = statistics(x[:, None], x, [(codes, one[:, None])])  # nothing is left of y to explain
    assert unmatched_means(still, [0])[0][0] > 0
