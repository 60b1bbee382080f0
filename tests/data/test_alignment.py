"""Arrays that do not start on a word, as buffers received from another process may not."""

import numpy as np
import pytest

from fastlmm_core.data.table import factor_column, numeric_column


def shifted(values):
    """The same values one byte off."""
    buffer = np.empty(values.nbytes + 1, np.uint8)
    moved = buffer[1:].view(values.dtype)
    moved[:] = values
    assert not moved.flags.aligned
    return moved


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_columns_lie_on_words(dtype):
    values = np.arange(20).astype(dtype)
    column = numeric_column("x", shifted(values))
    assert column.values.flags.aligned
    np.testing.assert_array_equal(column.values, values)


def test_codes_lie_on_words():
    codes = np.arange(20, dtype=np.int32)
    assert factor_column("f", shifted(codes), list(range(20))).values.flags.aligned


def test_aligned_columns_are_not_copied():
    values = np.arange(20.0)
    assert numeric_column("x", values).values is values
