"""Rows appended to statistics, and the fit from there: as a fit of all rows, whatever the levels do."""

import numpy as np
import pandas as pd
import pytest
from stream.stream_data import assert_same_fit

import fastlmm_core as flm
from fastlmm_core.stream.level_sets import Levels

MODELS = {
    "one factor": ("y ~ x + (1 + x | g)", None),
    "weights": ("y ~ x + f + (1 + x | g)", "w"),
    "text": ("y ~ x + (1 | h)", None),
    "nested": ("y ~ x + (1 | s) + (1 + x | g)", None),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", None),
    "crossed slopes": ("y ~ x + (1 + x | g) + (1 + x | h)", "w"),
    "crossed, the smaller first": ("y ~ x + (1 + x | h) + (1 | g)", None),
    "interaction": ("y ~ x + (1 | h) + (1 | h:f)", None),
    "crossed interactions": ("y ~ x + (1 | g) + (1 | h:f)", None),
}


def same_bits(a, b):
    assert a.n == b.n and a.ngroups == b.ngroups
    np.testing.assert_array_equal(a.C, b.C)
    for f in range(len(a.R)):
        assert list(a.levels[f].labels()) == list(b.levels[f].labels())
        np.testing.assert_array_equal(a.R[f], b.R[f])
        np.testing.assert_array_equal(a.counts[f], b.counts[f])
    for key, pairs in a.pairs.items():
        np.testing.assert_array_equal(pairs.keys, b.pairs[key].keys)
        np.testing.assert_array_equal(pairs.blocks, b.pairs[key].blocks)


def splits(data):
    """Old and new rows: new ones of known levels, of levels below, between and above, of new levels alone."""
    g, h = data["g"], data["h"]
    yield "few known", data.index >= 2300
    yield "half", data.index % 2 == 1
    yield "between", g.isin(g.unique()[::7]) | (h == "k5")
    yield "ends", (g == g.min()) | (g == g.max()) | (h == "k0") | (h == "k9")


@pytest.mark.parametrize("model", MODELS)
def test_appended_rows_are_as_rows_that_were_always_there(data, model):
    formula, weights = MODELS[model]
    expected = flm.lmer(formula, data, weights=weights)
    plan = flm.plan(formula, data, weights=weights)
    for name, new in splits(data):
        old, late = plan.accumulate(data[~new]), plan.accumulate(data[new])
        both = old.merge(late)
        same_bits(both, late.merge(old))
        same_bits(both, old.merge(late))
        start = flm.fit(old).theta if name == "few known" else None
        assert_same_fit(flm.fit(both, start=start), expected)
    again = [flm.fit(both, n_threads=threads) for threads in (1, 1, 3)]
    assert len({fit.llf for fit in again}) == 1


def test_adding_no_rows_changes_nothing(data):
    plan = flm.plan("y ~ x + (1 | g) + (1 | h:f)", data)
    stats, none = plan.accumulate(data), plan.accumulate(data.iloc[:0])
    same_bits(stats.merge(none), stats)
    same_bits(none.merge(stats), stats)
    assert none.merge(none).n == 0


def test_merged_statistics_share_no_memory_that_changes(data):
    """Fits keep what they were made of."""
    plan = flm.plan("y ~ x + (1 + x | g)", data)
    old, new = plan.accumulate(data.iloc[:2000]), plan.accumulate(data.iloc[2000:])
    before = old.R[0].copy(), new.R[0].copy(), old.C.copy()
    both = old.merge(new)
    assert not np.shares_memory(both.R[0], old.R[0]) and not np.shares_memory(both.R[0], new.R[0])
    assert not np.shares_memory(both.counts[0], old.counts[0])
    for then, now in zip(before, (old.R[0], new.R[0], old.C), strict=True):
        np.testing.assert_array_equal(then, now)


def test_interactions_of_categories_in_two_orders(data):
    """Neither order begins the other: the union is sorted, which puts the combinations in disorder."""
    formula = "y ~ x + (1 | h:f)"
    one = data.iloc[:1200].assign(h=lambda d: pd.Categorical(d["h"], sorted(d["h"].dropna().unique())[::-1]))
    two = data.iloc[1200:].assign(h=lambda d: pd.Categorical(d["h"], sorted(d["h"].dropna().unique())))
    plan = flm.plan(formula, data)
    a, b = plan.accumulate(one), plan.accumulate(two)
    same_bits(a.merge(b), b.merge(a))
    assert_same_fit(flm.fit(a.merge(b)), flm.lmer(formula, data))


@pytest.mark.parametrize(
    "whole",
    [["a", "b", "d"], [0.5, 1.0, 7.5], pd.date_range("2024-01-01", periods=3), [True, False][::-1]],
    ids=["text", "float", "time", "bool"],
)
def test_levels_that_are_all_known(whole):
    """The union is the larger set itself; numbers and categories as well."""
    whole, part = Levels(pd.Index(whole)), Levels(pd.Index(whole)[1:])
    for found, union in (whole.merge(part), part.merge(whole)):
        assert found is whole and union.size == len(whole.index)
    union = whole.merge(part)[1]
    assert union.mine is None and union.theirs.tolist() == [-1, *range(len(part.index))]
    union = part.merge(whole)[1]
    assert union.theirs is None and union.places()[0].tolist() == list(range(1, len(whole.index)))


def test_known_levels_of_categories():
    short = Levels(pd.Index(["z", "a"]), pd.Index(["z", "a"]))
    longer = Levels(pd.Index(["z"]), pd.Index(["z", "a", "m"]))
    for found, _ in (short.merge(longer), longer.merge(short)):
        assert found.index.tolist() == ["z", "a"] and found.categories.tolist() == ["z", "a", "m"]
    plain = Levels(pd.Index(["a"]))
    for found, _ in (short.merge(plain), plain.merge(short)):  # no common order: sorted
        assert found.index.tolist() == ["a", "z"] and found.categories is None
    numbers = Levels(pd.Index([9, 2]), pd.Index([9, 2]))
    for found, _ in (numbers.merge(Levels(pd.Index([2, 3]))), Levels(pd.Index([2, 3])).merge(numbers)):
        assert found.index.tolist() == [2, 3, 9]
