"""Distributions of maxima and ranges against R's ptukey and qtukey, and p.adjust."""

import numpy as np
import pytest

from fastlmm_core.inference.adjust import adjusted_p, critical_values, studentized_range
from fastlmm_core.inference.emmeans import polynomials

# ptukey(q, k, df) of R 4.2
PTUKEY = [
    (3.5, 3, 10, 0.92289668916134),
    (3.5, 3, 2, 0.770528479305729),
    (5, 10, 4.3, 0.812042440237927),
    (12, 4, 3, 0.989587936493999),
    (3.3, 5, np.inf, 0.865678522559707),
    (8, 5, 50, 0.999992793627964),
    (4, 3.37, 7, 0.928426211918629),
]


@pytest.mark.parametrize("q, k, df, expected", PTUKEY)
def test_studentized_range(q, k, df, expected):
    assert studentized_range(float(q), float(k), float(df)) == pytest.approx(expected, abs=1e-8)


def test_two_means_are_a_t_test():
    t, df = np.array([0.3, 2.1, 5.0]), np.array([1.5, 7.0, 400.0])
    three = [1 - studentized_range(float(np.sqrt(2) * x), 2.0, float(d)) for x, d in zip(t, df)]
    np.testing.assert_allclose(three, adjusted_p(t, df, "none", 2), rtol=1e-6)


def test_critical_values():
    df = np.array([10.0, 42.0, np.nan])
    np.testing.assert_allclose(
        np.sqrt(2) * critical_values(df, 0.95, "tukey", 3), [3.876776749, 3.435823021, np.nan], rtol=1e-6
    )
    for method in ("tukey", "dunnett", "sidak", "bonferroni"):
        reach = critical_values(df[:2], 0.9, method, 3)
        p = adjusted_p(reach, df[:2], method, 3)
        np.testing.assert_allclose(p, 0.1, rtol=1e-6)


def test_p_values_step_by_step():
    # p.adjust(c(.01, .02, .03, NA), "holm"): NA is not counted
    from scipy import stats

    p = np.array([0.03, 0.01, np.nan, 0.02])
    t, df = stats.t.isf(p / 2, 20), np.full(4, 20.0)
    np.testing.assert_allclose(adjusted_p(t, df, "holm", 3), [0.04, 0.03, np.nan, 0.04], rtol=1e-9)
    np.testing.assert_allclose(adjusted_p(t, df, "bonferroni", 3), [0.09, 0.03, np.nan, 0.06], rtol=1e-9)
    np.testing.assert_allclose(adjusted_p(t, df, "sidak", 3), 1 - (1 - p) ** 4, rtol=1e-9)
    assert adjusted_p(t[:1], df[:1], "tukey", 2) == pytest.approx(0.03)


def test_polynomials_are_whole_numbers():
    np.testing.assert_array_equal(polynomials(4), [[-3, -1, 1, 3], [1, -1, -1, 1], [-1, 3, -3, 1]])
    np.testing.assert_array_equal(polynomials(3), [[-1, 0, 1], [1, -2, 1]])
    np.testing.assert_array_equal(polynomials(6)[0], [-5, -3, -1, 1, 3, 5])
