"""Columns of text of every kind, against pandas."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core._kernels import _encode
from fastlmm_core.data import arrow, factors, texts
from fastlmm_core.data.factors import encode, match
from fastlmm_core.data.table import Table
from fastlmm_core.stream import levels as levels_of_streams
from fastlmm_core.stream.level_sets import Levels
from fastlmm_core.stream.levels import LevelTable, sorted_order

pa = pytest.importorskip("pyarrow")

POOL = [
    "",
    "a",
    "a\x00",
    "\x00",
    "Z",
    "z",
    "é",
    "日本語",
    "😀",
    "ﬀ",
    "id10",
    "id9",
    "eleven byte",
    "twelve bytes",
]
POOL += ["twelve byt\x00\x01", "x" * 400, "x" * 399 + "y", "Москва", "customer 00000001", "customer 00000002"]

TEXT = pd.Index(["a"]).dtype  # what pandas makes of text
KINDS = {
    "string": lambda values: pa.array(values, pa.string()),
    "large_string": lambda values: pa.array(values, pa.large_string()),
    "string_view": lambda values: pa.array(values, pa.string_view()),
    "slice": lambda values: pa.array(["cut", None, "off", *values, "too"], pa.string()).slice(3, len(values)),
    "chunks": lambda values: pa.chunked_array(
        [pa.array(values[:5], pa.string()), pa.array([], pa.string()), pa.array(values[5:], pa.string())],
        pa.string(),
    ),
    "no chunk": lambda values: pa.chunked_array(
        [pa.array(values, pa.large_string())] if values else [], pa.large_string()
    ),
    "dictionary": lambda values: pa.array(values, pa.string()).dictionary_encode(),
    "pandas": lambda values: pd.Series(values, dtype=TEXT),
    "objects": lambda values: pd.Series(values, dtype=object),
    "python": lambda values: pd.Series(values, dtype=pd.StringDtype("python")),
    "list": list,
}
if not hasattr(pa, "string_view"):
    del KINDS["string_view"]
OBJECTS = ["objects", "list"] + ["pandas"] * (str(TEXT) == "object")


def draw(rng, n, missing):
    values = [POOL[place] for place in rng.integers(0, len(POOL), n)]
    return [None if gone else value for value, gone in zip(values, rng.random(n) < missing, strict=True)]


def column(values, kind):
    return Table({"g": KINDS[kind](values)}).column("g")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n, missing", [(1, 0), (9, 0.3), (3000, 0), (3000, 0.2)])
def test_in_memory(kind, n, missing):
    values = draw(np.random.default_rng(n), n, missing)
    found = column(values, kind)
    present = np.array([value is not None for value in values])
    rows = None if present.all() else present
    if found.missing is None:
        assert present.all()
    else:
        np.testing.assert_array_equal(found.missing, ~present)
    codes, levels = encode(found, rows)
    kept = [value for value in values if value is not None]
    assert sorted(levels) == sorted(set(kept)) and (kind == "dictionary" or levels.is_monotonic_increasing)
    assert levels[codes].tolist() == kept
    assert levels.dtype == TEXT
    if rows is not None and present.any():
        with pytest.raises(flm.DataError, match="missing"):
            encode(found)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OBJECTS])
def test_all_missing_and_empty(kind):
    found = column([None, None], kind)
    assert found.missing.all() and found.values.tolist() == [-1, -1] and len(found.levels) == 0
    codes, levels = encode(found, np.zeros(2, bool))
    assert len(codes) == len(levels) == 0
    empty = column([], kind)
    assert len(empty.values) == 0 and empty.missing is None
    assert len(LevelTable("g").encode(empty)) == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 20_000, 200_000).astype(str)
    codes, levels = encode(Table(pa.table({"g": values})).column("g"), n_threads=threads)
    expected, inverse = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(codes, inverse)
    assert levels.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_batches_of_any_kind(seed):
    """The same column as text, as a dictionary and as a categorical, with rows left out."""
    rng = np.random.default_rng(seed)
    table, known = LevelTable("g"), {}
    kinds = [*KINDS, "categorical"]
    seen, codes = [], []
    for place in rng.permutation(len(kinds)):
        values = draw(rng, int(rng.integers(1, 400)), 0.1)
        present = np.array([value is not None for value in values])
        if kinds[place] == "categorical":
            values = [
                value and value.replace("\0", "?") for value in values
            ]  # which old pandas ends a text at
            found = Table({"g": pd.Categorical(values)}).column("g")
        else:
            found = column(values, kinds[place])
        rows = None if present.all() else present & (rng.random(len(values)) < 0.8)
        found = table.encode(found, rows)
        used = [value for value, one in zip(values, present if rows is None else rows, strict=True) if one]
        for code, value in zip(found.tolist(), used, strict=True):
            assert known.setdefault(value, code) == code
        codes.append(found)
        seen += used
    assert len(set(known.values())) == len(known) <= len(table)
    codes = np.concatenate(codes)
    assert table.levels(codes).tolist() == seen
    levels, places = Levels.of_table(table, codes)
    assert levels.index.tolist() == sorted(known) and levels.index[places].tolist() == seen


def test_levels_in_order_of_first_appearance():
    rng = np.random.default_rng(3)
    values = draw(rng, 2000, 0.1)
    table = LevelTable("g")
    parts = [values[:7], values[7:500], values[500:]]
    codes = np.concatenate([table.encode(column(part, "chunks")) for part in parts])
    expected, uniques = pd.factorize(np.array(values, object))
    np.testing.assert_array_equal(codes, expected)
    assert table.levels().tolist() == uniques.tolist() and len(table) == len(uniques)


def test_a_dictionary_goes_through_the_table_once(monkeypatch):
    table, calls = LevelTable("g"), []
    count = texts.TextKeys.encode
    monkeypatch.setattr(texts.TextKeys, "encode", lambda *args: calls.append(1) or count(*args))
    for values in (["b", "a", "b"], ["a", "b"], ["a", "c"]):
        batch = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(sorted(set(values))))
        table.encode(Table({"g": batch}).column("g"))
    assert len(calls) == 2 and table.levels().tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("first", [True, False])
def test_categories_that_are_no_text(first):
    numbers = Table({"g": pd.Categorical([3, 1, 3])}).column("g")
    halves = Table({"g": pd.Categorical(pd.Index(["\ud800", "a"], dtype=object))}).column("g")
    words = column(["a", "3", "b"], "string")
    table = LevelTable("g")
    batches = [numbers, words, halves] if first else [words, halves, numbers]
    codes = np.concatenate([table.encode(batch) for batch in batches])
    parts = [[3, 1, 3], ["a", "3", "b"], ["\ud800", "a"]]
    expected = sum(parts if first else [parts[1], parts[2], parts[0]], [])
    assert table.levels(codes).tolist() == expected


def test_order_of_levels():
    rng = np.random.default_rng(5)
    index = pd.Index([POOL[place] for place in rng.permutation(len(POOL))])
    for kind in (
        index.dtype,
        object,
        pd.StringDtype("python"),
        pd.StringDtype("pyarrow"),
        pd.ArrowDtype(pa.string()),
    ):
        some = index.astype(kind)
        assert some[sorted_order(some)].tolist() == sorted(POOL)
    assert pd.Index(["b", 1, "a"])[sorted_order(pd.Index(["b", 1, "a"]))].tolist() == [1, "a", "b"]
    lone = pd.Index(["b", "\udcff", "a"], dtype=object)
    assert lone[sorted_order(lone)].tolist() == ["a", "b", "\udcff"]
    assert sorted_order(pd.Index([], dtype=object)).tolist() == sorted_order(index[:0]).tolist() == []


def test_new_data_are_matched():
    codes, unseen = match(column(["b", None, "é", "a"], "slice"), pd.Index(["a", "b"]))
    assert codes.tolist() == [1, -1, -1, 0] and unseen == ["é"]


def test_buffers_between_words():
    """As other processes may leave them."""
    array = pa.array(["b", None, "ab", ""], pa.large_string())
    moved = [pa.py_buffer(b"?" + buffer.to_pybytes()).slice(1) for buffer in array.buffers()]
    again = pa.Array.from_buffers(array.type, len(array), moved, 1)
    found = Table({"g": again}).column("g")
    assert found.values.tolist() == [2, -1, 1, 0] and found.levels.tolist() == ["", "ab", "b"]


def test_without_pyarrow(monkeypatch):
    monkeypatch.setattr(arrow, "pa", None)
    assert texts.texts_of(pd.Index(["a"])) is None
    assert sorted_order(pd.Index(["b", "a", "ä"])).tolist() == [1, 0, 2]
    table = LevelTable("g")
    codes = [
        table.encode(Table({"g": pd.Categorical(values)}).column("g")) for values in (["b", "a"], ["c", "b"])
    ]
    assert table.levels(np.concatenate(codes)).tolist() == ["b", "a", "c", "b"]


def test_too_many_levels_name_the_column(monkeypatch):
    near = 2**31 - 5
    text = pa.array(["a", "b", "c", "d"])
    for module in (factors, levels_of_streams):
        monkeypatch.setattr(module, "KeyTable", partial(_encode.KeyTable, near))
    monkeypatch.setattr(texts, "TextTable", partial(_encode.TextTable, near))
    for values in (np.array([0, 5, -9, 7]) * 2**50, text):
        found = Table({"unit": values}).column("unit")
        for work in (encode, LevelTable("unit").encode):
            with pytest.raises(flm.DataError, match="'unit' has more than 2\\^31"):
                work(found)
    parts = [(np.array([0, 5, 9, 7], np.int32) * 1000, pd.RangeIndex(2**20))] * 2
    with pytest.raises(flm.DataError, match="interaction of factors .* more than 2\\^31"):
        factors.cross(parts)
