"""Distributions of maxima and ranges against R's ptukey and qtukey, and p.adjust."""

import numpy as np
import pytest

from fastlmm_core.inference.adjust import Family, studentized_range
from fastlmm_core.inference.emmeans import polynomials
from fastlmm_core.inference.maxima import LargestT

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


def adjusted_p(t, df, method, means):
    return Family(df, method, means).p_values(t)


def critical_values(df, level, method, means):
    return Family(df, method, means).critical_values(level)


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


# 1 - pmvt(-x, x, df) of mvtnorm 1.1-3 at an error of 2e-7, correlations 0.6^|i - j| with a sign turned
PMVT = [
    (1.5, 5, 0.5060186029), (1.5, 30, 0.4468835444), (1.5, np.inf, 0.4311225436),
    (2.5, 5, 0.1692708849), (2.5, 30, 0.07236949979), (2.5, np.inf, 0.05259132551),
    (4.0, 5, 0.03497797468), (4.0, 30, 0.001745461862), (4.0, np.inf, 0.0003069942538),
]  # fmt: skip


def test_multivariate_t():
    places = np.arange(5)
    corr = 0.6 ** np.abs(places[:, None] - places)
    corr[0] *= -1.0
    corr[:, 0] *= -1.0
    largest = LargestT(corr)
    for x, df, expected in PMVT:
        assert largest.upper(x, df) == pytest.approx(expected, rel=1e-3)
    x = largest.quantile(0.95, 7.5)
    assert largest.upper(x, 7.5) == pytest.approx(0.05, rel=1e-8)
    assert LargestT(corr).upper(2.5, 5.0) == largest.upper(2.5, 5.0)


def test_multivariate_t_of_all_pairs_is_the_studentized_range():
    pairs = [(i, j) for i in range(5) for j in range(i)]
    C = np.array([np.eye(5)[i] - np.eye(5)[j] for i, j in pairs]) / np.sqrt(2)
    t, df = np.linspace(0.3, 6.0, 10), np.array([4.5] * 5 + [np.inf] * 5)
    mvt = Family(df, "mvt", covariance=3.0 * C @ C.T).p_values(t)
    np.testing.assert_allclose(mvt, Family(df, "tukey", 5).p_values(t), rtol=2e-3, atol=1e-9)


def test_one_direction_needs_no_adjustment():
    t, df = np.array([0.5, 2.0]), np.array([9.0, 9.0])
    same = Family(df, "mvt", covariance=np.array([[1.0, -2.0], [-2.0, 4.0]]))
    np.testing.assert_allclose(same.p_values(t), Family(df, "none").p_values(t), rtol=1e-12)
    scheffe = Family(df, "scheffe", covariance=np.eye(2))
    np.testing.assert_allclose(scheffe.critical_values(0.9), np.sqrt(2 * 3.006452), rtol=1e-6)  # qf(.9, 2, 9)


def test_not_estimable_comparisons_leave_the_family():
    df = np.array([5.0, np.nan, 5.0])
    covariance = np.array([[1.0, np.nan, 0.5], [np.nan, np.nan, np.nan], [0.5, np.nan, 1.0]])
    p = Family(df, "mvt", covariance=covariance).p_values(np.array([2.0, np.nan, 1.0]))
    two = Family(df[[0, 2]], "mvt", covariance=covariance[np.ix_([0, 2], [0, 2])])
    np.testing.assert_array_equal(p[[0, 2]], two.p_values(np.array([2.0, 1.0])))
    assert np.isnan(p[1])
