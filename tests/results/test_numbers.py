"""Number formats against what R 4.2 prints for the same input."""

import numpy as np
import pytest

from fastlmm_core.results.numbers import abbreviate, format_common, format_pvalues, stars, zapsmall

NAN = float("nan")

FORMAT = [  # values, digits, R's format(values, digits=)
    ([22.976, 0.703, 161.6442, -0.401, 0.1222, 299], 3, "22.976|0.703|161.644|-0.401|0.122|299.000"),
    ([22.976, 0.703, 161.6442, -0.401, 0.1222, 299], 4, "22.9760|0.7030|161.6442|-0.4010|0.1222|299.0000"),
    ([1e-5, 123456], 4, "1.000e-05|1.235e+05"),
    ([9.9996, 1], 4, "10|1"),
    ([9.9996, 1], 7, "9.9996|1.0000"),
    ([2.514e8, 9.747e6, 22.87], 3, "2.51e+08|9.75e+06|2.29e+01"),
    ([0.1 + 0.2, NAN], 7, "0.3|NA"),
    ([-2.6337, 0.0601], 3, "-2.6337|0.0601"),
    ([123456789, 1], 3, "1.23e+08|1.00e+00"),
    ([123456789, 1], 7, "123456789|1"),
    ([0, 0], 4, "0|0"),
    ([1e15, 9.605e14], 4, "1.000e+15|9.605e+14"),
    ([37123827, 30991234], 4, "37123827|30991234"),
    ([1234.5678, 0.1], 7, "1234.568|0.100"),
]

PVALUES = [
    ([1e-20, 0.00116], "< 2e-16|0.00116"),
    ([1e-20, 0.0168], "<2e-16|0.0168"),
    ([6.4e-7, 0.021695, 0.000277], "6.4e-07|0.021695|0.000277"),
    ([3e-5], "3e-05"),
    ([0.5, NAN], "0.5|NA"),
]


@pytest.mark.parametrize("values, digits, expected", FORMAT)
def test_format(values, digits, expected):
    assert "|".join(format_common(values, digits)) == expected


@pytest.mark.parametrize("values, expected", PVALUES)
def test_p_values(values, expected):
    assert "|".join(text.strip() for text in format_pvalues(values, 3)) == expected


def test_stars():
    assert stars([0.0005, 0.001, 0.005, 0.03, 0.07, 0.5, NAN]) == ["***", "***", "**", "*", ".", "", ""]


def test_zapsmall_rounds_to_the_digits_of_the_largest():
    np.testing.assert_array_equal(zapsmall([123.456, 1e-9], 5), [123.456, 0])
    np.testing.assert_array_equal(zapsmall([0.0, 0.0], 5), [0, 0])


def test_abbreviations():
    names = [
        "(Intercept)",
        "treatmentsuccimer",
        "week:treatment[T.succimer]",
        "Intercept",
        "recipe[T.B]:temp",
    ]
    assert abbreviate(names, 11) == ["(Intercept)", "trtmntsccmr", "wk:trtm[T.]", "Intercept", "rcp[T.B]:tm"]
    assert abbreviate(names, 6) == ["(Intr)", "trtmnt", "w:[T.]", "Intrcp", "r[T.B]"]


def test_abbreviations_stay_distinct():
    short = abbreviate(["conditionalpha", "conditionbravo", "conditioncharl"], 4)
    assert len(set(short)) == 3
