"""Unions of increasing keys, and sums over two sets of levels, against numpy."""

import numpy as np
import pytest

from fastlmm_core._kernels._merge import add_counts, add_rows, order_codes, union_keys

LARGE = 150_000  # entries above which threads share the work


def some(rng, n, among):
    return np.sort(rng.choice(among, n, replace=False)).astype(np.int64)


def cases():
    rng = np.random.default_rng(1)
    ends = np.array([-(2**63), -1, 0, 2**63 - 1])
    return {
        "overlap": (some(rng, 700, 1000), some(rng, 400, 1000)),
        "large overlap": (some(rng, LARGE, 3 * LARGE), some(rng, LARGE // 2, 3 * LARGE)),
        "small in large": (np.arange(LARGE), some(rng, 900, LARGE)),
        "all in one gap": (np.append(np.arange(LARGE), 10**9), LARGE + some(rng, 5000, 10**6)),
        "equal": (np.arange(LARGE), np.arange(LARGE)),
        "apart": (np.arange(50), np.arange(80, 90)),
        "ends of the type": (ends, ends[1:]),
        "ends alone": (ends[3:], ends[:1]),
        "none": (np.arange(4), np.zeros(0, np.int64)),
        "none at all": (np.zeros(0, np.int64), np.zeros(0, np.int64)),
    }


CASES = cases()


def origin(keys, source):
    place = np.searchsorted(source, keys)
    there = np.isin(keys, source)
    return np.where(there, place, -1)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("swapped", [False, True])
def test_unions(case, threads, swapped):
    a, b = CASES[case][::-1] if swapped else CASES[case]
    keys, from_a, from_b = union_keys(a, b, threads)
    expected = np.union1d(a, b)
    np.testing.assert_array_equal(keys, expected)
    for found, source in ((from_a, a), (from_b, b)):
        assert (found is None) == (len(source) == len(expected))
        if found is not None:
            np.testing.assert_array_equal(found, origin(expected, source))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 33])
@pytest.mark.parametrize("case", ["overlap", "small in large", "equal", "none"])
def test_sums(case, width):
    rng = np.random.default_rng(width)
    a, b = CASES[case]
    A, B = rng.normal(size=(len(a), width)), rng.normal(size=(len(b), width))
    keys, from_a, from_b = union_keys(a, b)
    expected = np.zeros((len(keys), width))
    expected[np.searchsorted(keys, a)] = A
    expected[np.searchsorted(keys, b)] += B
    for threads in (1, 3):
        np.testing.assert_array_equal(add_rows(A, from_a, B, from_b, threads), expected)
        np.testing.assert_array_equal(add_rows(B, from_b, A, from_a, threads), expected)
    n_a, n_b = rng.integers(0, 2**40, len(a)), rng.integers(0, 2**40, len(b))
    counts = np.zeros(len(keys), np.int64)
    counts[np.searchsorted(keys, a)] = n_a
    counts[np.searchsorted(keys, b)] += n_b
    for threads in (1, 3):
        np.testing.assert_array_equal(add_counts(n_a, from_a, n_b, from_b, threads), counts)


def test_places_in_any_order():
    A, B = np.arange(6.0).reshape(3, 2), np.array([[10.0, 20.0]])
    found = add_rows(A, np.array([2, 0, -1, 1]), B, np.array([-1, 0, 0, -1]))
    np.testing.assert_array_equal(found, [[4, 5], [10, 21], [10, 20], [2, 3]])
    assert add_counts(np.array([5, 6]), np.array([1, 0]), np.array([1]), np.array([-1, 0])).tolist() == [6, 6]


@pytest.mark.parametrize("place", [-2, 3, 2**40])
@pytest.mark.parametrize("n", [4, LARGE])
def test_places_outside(place, n):
    A, B = np.zeros((n, 2)), np.zeros((3, 2))
    places = np.zeros(n, np.int64)
    places[n - 2] = place
    with pytest.raises(IndexError, match="outside"):
        add_rows(A, None, B, places, 3)
    with pytest.raises(IndexError, match="outside"):
        add_counts(np.zeros(3, np.int64), places, np.zeros(n, np.int64), None, 3)


def test_sizes_are_checked():
    A, B, places = np.zeros((4, 2)), np.zeros((3, 2)), np.zeros(4, np.int64)
    for wrong in (
        lambda: add_rows(A, None, B, None),
        lambda: add_rows(A, None, np.zeros((3, 1)), places),
        lambda: add_rows(A, places[:3], B, places),
        lambda: add_rows(A, None, B, places, 0),
        lambda: add_counts(places, None, places[:3], None),
        lambda: union_keys(places[:1], places[:1], 0),
        lambda: union_keys(places[:2], places[:1]),  # keys must increase
        lambda: union_keys(places[:1], np.array([3, 5, 4])),
    ):
        with pytest.raises(ValueError):
            wrong()
    assert add_rows(np.zeros((0, 3)), None, np.zeros((0, 3)), None).shape == (0, 3)
    assert add_rows(np.zeros((2, 0)), None, np.zeros((2, 0)), None).shape == (2, 0)


@pytest.mark.parametrize("levels", [1, 7, 5000])
def test_order_of_codes(levels):
    codes = np.random.default_rng(levels).integers(0, levels, 20_000).astype(np.int32)
    np.testing.assert_array_equal(order_codes(codes, levels), np.argsort(codes, kind="stable"))
    assert len(order_codes(codes[:0], levels)) == 0
    for wrong in (-1, levels):
        codes[9] = wrong
        with pytest.raises(IndexError):
            order_codes(codes, levels)
