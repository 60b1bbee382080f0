"""Tails of t and F against R 4.2 and scipy.stats."""

import numpy as np
import pytest
from scipy import stats

from fastlmm_core.inference.distributions import f_upper, t_quantile, t_two_sided


def test_far_tails_of_t_as_in_r():
    found = t_two_sided([37.9, 36.838306438763, 6.77148476362694], [18, 17, 17])
    np.testing.assert_allclose(
        found, [1.27051089429462e-18, 1.17088754181253e-17, 3.26378807350883e-06], rtol=1e-12
    )


@pytest.mark.parametrize("df", [0.3, 1.0, 2.5, 17.0, 299.0, 1e6])
def test_t_against_scipy(df):
    t = np.array([-3.0, 0.0, 0.4, 12.0])
    np.testing.assert_allclose(t_two_sided(t, df), 2 * stats.t.sf(np.abs(t), df), rtol=1e-9)
    assert t_quantile(0.975, df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-8)


def test_infinite_and_missing_degrees_of_freedom():
    np.testing.assert_allclose(t_two_sided(2.0, np.inf), 2 * stats.norm.sf(2.0), rtol=1e-14)
    np.testing.assert_allclose(t_two_sided(2.0, 1e22), 2 * stats.norm.sf(2.0), rtol=1e-14)
    assert np.isnan(t_two_sided(np.nan, 5.0)) and np.isnan(t_two_sided(1.0, np.nan))
    np.testing.assert_allclose(t_quantile(0.975, np.array([np.inf, 1e22])), 1.959963984540054, rtol=1e-12)
    assert np.isnan(t_quantile(0.9, np.nan))


def test_f():
    assert f_upper(71.46, 1, 178) == pytest.approx(9.90992361606508e-15, rel=1e-12)
    assert f_upper(3, 2, np.inf) == pytest.approx(0.0497870683678639, rel=1e-13)
    assert f_upper(2.5, 3, 7.5) == pytest.approx(stats.f.sf(2.5, 3, 7.5), rel=1e-10)
