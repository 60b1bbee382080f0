"""Tables of levels that grow over batches."""

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core._kernels._encode import shifted_codes
from fastlmm_core.data.table import Table
from fastlmm_core.stream.level_sets import Levels
from fastlmm_core.stream.levels import IntegerKeys, LevelTable

KEYS = {
    "dense": lambda rng, n: rng.integers(-50, 5000, n),
    "small type": lambda rng, n: rng.integers(0, 900, n).astype(np.int32),
    "scattered": lambda rng, n: rng.integers(-(2**62), 2**62, 3000)[rng.integers(0, 3000, n)],
    "ends": lambda rng, n: np.where(rng.random(n) < 0.5, -(2**63), 2**63 - 1),
    "far apart": lambda rng, n: np.where(rng.random(n) < 0.5, rng.integers(0, 9, n), 2**40),
}


@pytest.mark.parametrize("kind", KEYS)
def test_codes_over_batches(kind):
    rng = np.random.default_rng(4)
    keys = KEYS[kind](rng, 20_000)
    table = IntegerKeys()
    cuts = [0, 10, 10, 700, 9000, 20_000]
    codes = np.concatenate([table.encode(keys[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)])
    np.testing.assert_array_equal(table.keys()[codes], keys)
    assert table.n == len(np.unique(table.keys()))
    assert len(np.unique(keys)) <= table.n <= max(8 * len(np.unique(keys)), 1024)


def test_keys_below_the_first_ones():
    table = IntegerKeys()
    codes = [table.encode(np.array(keys)) for keys in ([500, 501], [3, 500], [-9, 501, 3])]
    np.testing.assert_array_equal(table.keys()[np.concatenate(codes)], [500, 501, 3, 500, -9, 501, 3])


def test_a_dense_start_may_be_scattered_later():
    table = IntegerKeys()
    first = table.encode(np.arange(100))
    later = table.encode(np.array([5, 2**50, -(2**50), 99]))
    np.testing.assert_array_equal(first[[5, 99]], later[[0, 3]])
    np.testing.assert_array_equal(table.keys()[later], [5, 2**50, -(2**50), 99])


@pytest.mark.parametrize(
    "values",
    [
        [3.5, -0.0, 0.0, 1e9],
        [True, False, True, True],
        ["b", "a", "ä", "Z"],
        list(pd.to_datetime(["2024-01-02", "2023-05-01", "2024-01-02", "1960-01-01"])),
        [2, 1, 2**40, -7],
    ],
    ids=["float", "bool", "text", "time", "int"],
)
def test_levels_are_those_of_one_look(values):
    whole = pd.DataFrame({"g": values * 3})
    table = LevelTable("g")
    codes = np.concatenate([table.encode(Table(whole.iloc[a : a + 5]).column("g")) for a in (0, 5, 10)])
    levels, places = Levels.of_table(table, codes)
    expected = sorted(set(values))
    assert levels.index.tolist() == expected
    assert levels.index[places].tolist() == whole["g"].tolist()


def test_whole_numbers_may_become_floats_and_not_text():
    table = LevelTable("g")
    first = table.encode(Table({"g": np.array([2, 1])}).column("g"))
    second = table.encode(Table({"g": np.array([1.0, 2.5])}).column("g"))
    third = table.encode(Table({"g": np.array([2])}).column("g"))
    assert first[0] == third[0] and first[1] == second[0] != second[1]
    with pytest.raises(flm.DataError, match="'g' holds text"):
        table.encode(Table({"g": ["a"]}).column("g"))


def test_unions_do_not_depend_on_who_comes_first():
    a, b = Levels(pd.Index(["a", "c"])), Levels(pd.Index(["b", "c"]))
    union, origin = a.merge(b)
    at_a, at_b = origin.places()
    assert union.index.tolist() == b.merge(a)[0].index.tolist() == ["a", "b", "c"]
    assert (at_a.tolist(), at_b.tolist()) == ([0, 2], [1, 2])
    mine = Levels(pd.Index(["z", "a"]), pd.Index(["z", "a"]))
    longer = Levels(pd.Index(["m"]), pd.Index(["z", "a", "m"]))
    other = Levels(pd.Index(["m", "z"]), pd.Index(["m", "z"]))
    assert mine.merge(longer)[0].index.tolist() == longer.merge(mine)[0].index.tolist() == ["z", "a", "m"]
    assert mine.merge(other)[0].index.tolist() == other.merge(mine)[0].index.tolist() == ["a", "m", "z"]
    with pytest.raises(flm.DataError, match="different types"):
        a.merge(Levels(pd.Index([1, 2])))


def test_sums_are_put_in_order_where_they_are(monkeypatch):
    from fastlmm_core.stream import accumulator

    monkeypatch.setattr(accumulator, "MOVED_LEVELS", 7)
    rng = np.random.default_rng(2)
    sums = rng.normal(size=(100, 2, 3))
    few = np.sort(rng.permutation(100)[:60])
    few_gaps = np.delete(np.arange(100), [0, 40, 41])
    for codes in (few, few_gaps, np.arange(100), np.arange(0)):
        for in_place in (False, True):
            found = accumulator._packed(sums.copy(), codes, in_place)
            np.testing.assert_array_equal(found, sums[codes])


def test_levels_that_have_rows():
    from fastlmm_core._kernels._pass import occurring

    R = np.random.default_rng(5).normal(size=(300, 2, 3))
    R[:, 1, 2] = np.random.default_rng(6).integers(0, 3, 300)
    codes, counts = occurring(R, 1, 2)
    np.testing.assert_array_equal(codes, np.flatnonzero(R[:, 1, 2]))
    np.testing.assert_array_equal(counts, R[codes, 1, 2])
    assert codes.dtype == counts.dtype == np.int64
    assert [len(found) for found in occurring(R[:0], 0, 0)] == [0, 0]
    for place in ((2, 0), (0, 3), (-1, 0)):
        with pytest.raises(IndexError):
            occurring(R, *place)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("threads", [1, 3])
def test_shifted_codes(dtype, threads):
    rng = np.random.default_rng(3)
    keys = rng.integers(-5000, 70_000, 200_000).astype(dtype)
    codes, low, high = shifted_codes(keys, -6000, threads)
    assert codes.dtype == np.int32 and (low, high) == (keys.min(), keys.max())
    np.testing.assert_array_equal(codes, keys.astype(np.int64) + 6000)
    ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    assert shifted_codes(ends, 7)[1:] == (ends[0], ends[1])  # too far apart: the range says so


@pytest.mark.parametrize(
    "batches",
    [([10**12, 10**12 + 5], [10**12 - 1]), ([0, 5], [2**31]), ([3], [1100]), (range(2000), [-1], [5])],
    ids=["below", "far above", "near", "negative"],
)
def test_keys_outside_the_first_range(batches):
    keys = IntegerKeys()
    codes = [keys.encode(np.array(batch, np.int64)) for batch in batches]
    for batch, found in zip(batches, codes, strict=True):
        np.testing.assert_array_equal(keys.keys()[found], list(batch))
    again = keys.encode(np.array(batches[0], np.int64))
    np.testing.assert_array_equal(again, codes[0])


@pytest.mark.parametrize("density", [1, 2, 5, 12, 100])
@pytest.mark.parametrize("levels", [2000, 200_000])
def test_dense_keys_are_their_own_codes(levels, density):
    """Also where the first rows show few of them; keys that are rarer than one in eight are numbered."""
    rng = np.random.default_rng(levels + density)
    values = rng.permutation(levels * density)[:levels]
    draw = values[rng.integers(0, levels, 30_000)]
    keys = IntegerKeys()
    codes = keys.encode(draw)
    np.testing.assert_array_equal(keys.keys(codes), draw)
    assert (keys.n == draw.max() + 1) == (density < 8 and (levels < 30_000 or density < 5))


def test_more_combinations_than_can_be_numbered_are_named(data, monkeypatch):
    from fastlmm_core.stream import accumulator

    def full(keys, found, n_threads=1):
        raise OverflowError

    plan = flm.plan("y ~ x + (1 | h:f)", data)
    monkeypatch.setattr(accumulator.IntegerKeys, "encode", full)
    with pytest.raises(flm.DataError, match="'h:f' has more than"):
        plan.accumulate(data)
