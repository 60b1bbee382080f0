"""Codes and levels against numpy's sorted unique."""

import numpy as np
import pandas as pd
import pytest

from fastlmm_core._kernels import _encode
from fastlmm_core.data.factors import cross, cross_keys, encode, encode_integers, labels, match
from fastlmm_core.data.table import Table
from fastlmm_core.errors import DataError


def check(values, dtype=None):
    column = Table({"g": values}).column("g")
    codes, levels = encode(column)
    expected, inverse = np.unique(np.asarray(values), return_inverse=True)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, inverse)
    assert levels.tolist() == expected.tolist()
    if dtype is not None:
        assert levels.dtype == dtype


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
)
@pytest.mark.parametrize("n", [1, 2, 31, 5000])
def test_integer_types(dtype, n):
    rng = np.random.default_rng(n)
    values = rng.integers(0, 2 if dtype == "bool" else 100, n).astype(dtype)
    check(values)
    kind = Table({"g": values}).column("g").values.dtype.kind
    assert kind == ("b" if dtype == "bool" else "u" if dtype == "uint8" else "i")


@pytest.mark.parametrize("low", [0, -50, 10**12, -(2**63), 2**63 - 3000])
def test_dense_range_anywhere(low):
    rng = np.random.default_rng(1)
    check((low + rng.integers(0, 2999, 4000)).astype(np.int64), np.int64)


@pytest.mark.parametrize("levels", [1, 3, 2000, 50_000])
def test_scattered_keys(levels):
    rng = np.random.default_rng(levels)
    pool = rng.integers(-(2**63), 2**63 - 1, levels, dtype=np.int64)
    pool[0] = -(2**63)
    check(pool[rng.integers(0, levels, 100_000)], np.int64)


@pytest.mark.parametrize(
    "later", [(0, 4000), (-9, 4000), (0, 300_000), (-(2**40), 0), (2**31, 2**33), (-(2**63), 2**63 - 1)]
)
@pytest.mark.parametrize("step", [1, 3, 1000, 2**40])
def test_later_keys_may_lie_elsewhere(later, step):
    """The range of the first rows is what the way is chosen by."""
    rng = np.random.default_rng(step % 97)
    keys = np.append(rng.integers(0, 4000, 66_000) * step, rng.integers(*later, 5000))
    for some in (keys, keys.astype(np.int32)):
        for threads in (1, 2):
            codes, used = encode_integers(some, threads)
            expected, inverse = np.unique(some, return_inverse=True)
            assert (codes.dtype, used.dtype) == (np.int32, np.int64)
            np.testing.assert_array_equal(codes, inverse)
            np.testing.assert_array_equal(used, expected)


def test_extreme_span_does_not_overflow():
    check(np.array([-(2**63), 2**63 - 1, 0, -(2**63), 5]), np.int64)


def test_floats():
    rng = np.random.default_rng(2)
    check(rng.normal(size=300).repeat(3), np.float64)
    check(rng.integers(-5, 5, 300).astype(float), np.float64)
    check(rng.normal(size=300).astype(np.float32).repeat(3))
    codes, levels = encode(Table({"g": np.array([0.0, -0.0, 0.5, 0.0])}).column("g"))
    assert codes.tolist() == [0, 0, 1, 0] and levels.tolist() == [0.0, 0.5]


def test_text_sorts_by_code_point():
    check(np.array(["b", "B", "a", "é", "Z", "z", "10", "9", "", "日本", "a"], object))
    rng = np.random.default_rng(0)
    check(np.array([f"id{i}" for i in rng.integers(0, 9000, 20_000)], object))


def test_categories_keep_their_order_and_lose_unused_levels():
    values = pd.Categorical(["lo", "hi", "lo", "mid"], ["hi", "never", "mid", "lo"])
    codes, levels = encode(Table({"g": values}).column("g"))
    assert codes.tolist() == [2, 0, 2, 1] and levels.tolist() == ["hi", "mid", "lo"]


def test_rows_are_chosen_before_levels():
    column = Table({"g": np.array([5, 7, 9, 7])}).column("g")
    codes, levels = encode(column, np.array([False, True, True, True]))
    assert codes.tolist() == [0, 1, 0] and levels.tolist() == [7, 9]


def test_missing_codes_are_refused():
    column = Table({"g": pd.Categorical(["a", None])}).column("g")
    with pytest.raises(DataError, match="missing"):
        encode(column)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    rng = np.random.default_rng(4)
    for keys in (
        rng.integers(0, 30_000, 100_000),
        rng.integers(0, 2**62, 5_000)[rng.integers(0, 5_000, 100_000)],
    ):
        codes, used = encode_integers(keys, threads)
        expected, inverse = np.unique(keys, return_inverse=True)
        np.testing.assert_array_equal(codes, inverse)
        np.testing.assert_array_equal(used, expected)


def test_interactions():
    rng = np.random.default_rng(6)
    n = 500
    a, b, c = rng.integers(0, 7, n), rng.integers(0, 4, n), rng.integers(0, 3, n)
    frame = pd.DataFrame({"a": a, "b": pd.Categorical.from_codes(b, list("zyxw")), "c": c / 2})
    table = Table(frame)
    parts = [encode(table.column(name)) for name in "abc"]
    codes, levels, keys = cross(parts)
    number = (a * 4 + b) * 3 + c
    expected, inverse = np.unique(number, return_inverse=True)
    np.testing.assert_array_equal(codes, inverse)
    np.testing.assert_array_equal(keys, expected)
    shown = [f"{k // 12}:{'zyxw'[k // 3 % 4]}:{k % 3 / 2:g}" for k in expected]
    assert levels.tolist() == shown


def test_interactions_of_many_levels_keep_labels():
    n = 6000
    a = np.arange(n) % 3000
    codes, levels, _ = cross(
        [
            (a.astype(np.int32), pd.Index(np.arange(3000))),
            ((np.arange(n) // 3000).astype(np.int32), pd.Index(["u", "v"])),
        ]
    )
    assert levels.dtype == pd.Index(["u"]).dtype
    assert len(levels) == n and levels[0] == "0:u" and levels[-1] == "2999:v"


def test_cross_keys_mark_unseen_levels_and_refuse_overflow():
    assert cross_keys([np.array([0, -1, 1]), np.array([2, 0, -1])], [2, 3]).tolist() == [2, -1, -1]
    with pytest.raises(DataError, match="too many"):
        cross_keys([np.zeros(1, np.int32)] * 4, [2**16] * 4)


def test_match():
    levels = pd.Index(["a", "b", "c"])
    codes, unseen = match(Table({"g": ["c", None, "zz", "a", "yy"]}).column("g"), levels)
    assert codes.tolist() == [2, -1, -1, 0, -1] and unseen == ["yy", "zz"]
    codes, unseen = match(Table({"g": np.array([3.0, np.nan, 1.5])}).column("g"), pd.Index([1, 2, 3]))
    assert codes.tolist() == [2, -1, -1] and unseen == [1.5]
    codes, unseen = match(Table({"g": ["2", "x"]}).column("g"), pd.Index([1, 2, 3]))
    assert codes.tolist() == [1, -1] and unseen == ["x"]


def test_labels():
    assert labels(pd.Index([1.0, 0.1, 1e20])).tolist() == ["1", "0.1", "1e+20"]
    assert labels(pd.Index([True, False])).tolist() == ["True", "False"]


@pytest.mark.parametrize("n", [1, 7, 4095, 4096, 4097, 70_000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_nonfinite(n, bad):
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    x[: n // 2] *= 1e300
    x[n // 3] = 5e-324
    for threads in (1, 2):
        assert _encode.first_nonfinite(x, threads) == n
        for place in {0, n // 2, n - 1}:
            y = x.copy()
            y[place] = bad
            y[-1] = bad
            assert _encode.first_nonfinite(y, threads) == place


def test_kernels_take_read_only_and_empty_arrays():
    keys = np.arange(5)
    keys.flags.writeable = False
    assert _encode.key_range(keys) == (0, 4)
    assert _encode.dense_codes(keys, 0, 5)[0].tolist() == [0, 1, 2, 3, 4]
    empty = np.empty(0, np.int64)
    assert _encode.KeyTable().encode(empty).dtype == np.int32 and _encode.first_nonfinite(np.empty(0)) == 0
    keys = keys * 2**40 - 2
    keys.flags.writeable = False
    assert _encode.KeyTable().encode(keys).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no keys"):
        _encode.key_range(empty)
    assert len(encode_integers(empty)[0]) == 0


@pytest.mark.parametrize("levels, dtype", [(3, np.int8), (300, np.int16), (40_000, np.int32)])
def test_codes_of_a_categorical_are_not_copied(levels, dtype):
    rng = np.random.default_rng(levels)
    codes = np.append(np.arange(levels), rng.integers(0, levels, 70_000)).astype(dtype)
    series = pd.Series(pd.Categorical.from_codes(codes, [f"level{i}" for i in range(levels)]))
    frame = pd.DataFrame({"g": series})
    found, names = encode(Table(frame).column("g"), n_threads=2)
    assert found.dtype == dtype and len(names) == levels
    assert np.shares_memory(found, frame["g"].array.codes)
    np.testing.assert_array_equal(found, codes)
    rest = series[codes != 1]
    found, names = encode(Table(pd.DataFrame({"g": rest})).column("g"))
    assert found.dtype == np.int32 and len(names) == levels - 1
    assert (names.to_numpy()[found] == rest.astype(str).to_numpy()).all()


def test_used_levels():
    codes = np.array([2, 0, 2], np.int8)
    assert _encode.used_levels(codes, 3).tolist() == [True, False, True]
    assert _encode.used_levels(codes, 2) is None and _encode.used_levels(-codes, 3) is None
    assert _encode.used_levels(codes, 0) is None and not _encode.used_levels(codes[:0], 2).any()
