"""Columns of every kind of frame."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fastlmm_core.data import arrow
from fastlmm_core.data.table import Table
from fastlmm_core.errors import DataError


def test_float_columns_are_not_copied():
    x = np.arange(10.0)
    frame = pd.DataFrame({"x": x}, copy=False)
    assert np.shares_memory(Table(frame).column("x").values, frame["x"].to_numpy())
    assert np.shares_memory(Table({"x": x}).column("x").values, x)
    arrow = pa.table({"x": pa.array(x)})
    assert np.shares_memory(Table(arrow).column("x").values, arrow["x"].chunk(0).to_numpy())
    series = pl.Series("x", x)
    assert np.shares_memory(Table(pl.DataFrame([series])).column("x").values, series.to_numpy())


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.0, np.nan, 3.0]),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, None, 3], dtype="Float64"),
        pd.Series([1, None, 3], dtype="int32[pyarrow]"),
        pd.Series([1.0, None, 3.0], dtype="double[pyarrow]"),
        pd.Series([1, None, 3], dtype=object),
        pd.Series([1, pd.NA, 3], dtype=object),
        pl.Series([1, None, 3]),
        pl.Series([1.0, None, 3.0]),
        pl.Series([1.0, float("nan"), 3.0]),
        pa.chunked_array([[1], [None, 3]]),
        pa.array([1.0, None, 3.0]),
        [1, None, 3],
        [1.0, float("nan"), 3.0],
        np.array([1.0, np.nan, 3.0], ">f8"),
        np.array([1.0, np.nan, 3.0], np.float16),
        np.arange(6.0).reshape(3, 2)[:, 0] * [0.5, np.nan, 0.75] + [1, 0, 0],
    ],
    ids=str,
)
def test_numbers(values):
    column = Table({"x": values}).column("x")
    assert column.kind == "numeric" and column.values.flags.c_contiguous
    assert column.missing.tolist() == [False, True, False] and column.n_missing() == 1
    assert column.values[[0, 2]].tolist() == [1, 3]
    assert column.infinite is None


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["b", None, "a"]),
        pd.Series(["b", None, "a"], dtype=object),
        pd.Series(["b", np.nan, "a"], dtype=object),
        pd.Series(["b", None, "a"], dtype="string"),
        pd.Series(["b", None, "a"], dtype="string[python]"),
        pd.Series(["b", None, "a"], dtype="string[pyarrow]"),
        pd.Series(["b", None, "a"], dtype=pd.ArrowDtype(pa.string())),
        pd.Series(["b", None, "a"], dtype="category"),
        pl.Series(["b", None, "a"]),
        pl.Series(["b", None, "a"], dtype=pl.Categorical),
        pl.Series(["b", None, "a"], dtype=pl.Enum(["a", "b"])),
        pa.array(["b", None, "a"]),
        pa.array(["b", None, "a"], pa.large_string()),
        pa.chunked_array([["b"], [None, "a"]]),
        pa.chunked_array([["b"], [None, "a"]]).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 2, 1], pa.uint8()), ["b", "a", None]),
        ["b", None, "a"],
    ],
    ids=str,
)
def test_text(values):
    column = Table({"g": values}).column("g")
    assert column.kind == "factor" and column.values.dtype in (np.int8, np.int32)
    assert column.missing.tolist() == [False, True, False]
    assert column.values[1] == -1
    assert [column.levels[code] for code in column.values[[0, 2]]] == ["b", "a"]


@pytest.mark.parametrize(
    "values",
    [
        pd.Categorical(["x", "y"], ["z", "y", "x"]),
        pl.Series(["x", "y"], dtype=pl.Enum(["z", "y", "x"])),
        pa.DictionaryArray.from_arrays(pa.array([2, 1]), ["z", "y", "x"]),
    ],
    ids=str,
)
def test_category_order(values):
    column = Table({"g": values}).column("g")
    assert column.levels.tolist() == ["z", "y", "x"] and column.values.tolist() == [2, 1]
    assert column.missing is None


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False]),
        pd.Series([True, False]),
        pd.array([True, False], dtype="boolean"),
        pl.Series([True, False]),
        pa.array([True, False]),
        [True, False],
        pd.Series([True, False], dtype=object),
    ],
    ids=str,
)
def test_booleans(values):
    column = Table({"b": values}).column("b")
    assert (
        column.kind == "numeric" and column.values.dtype == bool and column.values.tolist() == [True, False]
    )


@pytest.mark.parametrize(
    "values",
    [
        pd.to_datetime(["2024-01-02", None, "2024-01-01"]),
        pd.to_datetime(["2024-01-02", None, "2024-01-01"]).tz_localize("UTC"),
        [datetime.date(2024, 1, 2), None, datetime.date(2024, 1, 1)],
        pa.array([datetime.date(2024, 1, 2), None, datetime.date(2024, 1, 1)]),
        pl.Series([datetime.date(2024, 1, 2), None, datetime.date(2024, 1, 1)]),
        pl.Series([datetime.datetime(2024, 1, 2), None, datetime.datetime(2024, 1, 1)]),
    ],
    ids=str,
)
def test_times(values):
    column = Table({"t": values}).column("t")
    assert column.kind == "time" and column.missing.tolist() == [False, True, False]
    assert column.values.view(column.dtype)[0] == np.datetime64("2024-01-02")


def test_infinite_values_are_marked():
    column = Table({"x": np.array([1.0, np.inf, np.nan, -np.inf])}).column("x")
    assert column.infinite.tolist() == [False, True, False, True]
    assert column.missing.tolist() == [False, False, True, False]


def test_index_and_names():
    frame = pd.DataFrame({"x": [1.0, 2.0], 3: [1, 2]}, index=["r1", "r2"])
    table = Table(frame)
    assert (
        table.index.tolist() == ["r1", "r2"]
        and table.names == ("x", "3")
        and "3" in table
        and len(table) == 2
    )
    assert Table(pl.DataFrame({"x": [1.0]})).index is None
    assert Table(pl.DataFrame({"x": [1.0]})).row_labels().tolist() == [0]


def test_refusals():
    with pytest.raises(DataError, match="ndarray"):
        Table(np.ones((2, 2)))
    with pytest.raises(DataError, match="differ in length"):
        Table({"x": [1, 2], "y": [1]})
    with pytest.raises(DataError, match="single value"):
        Table({"x": 1})
    with pytest.raises(DataError, match="no columns"):
        Table({})
    with pytest.raises(DataError, match="2 times"):
        Table(pd.DataFrame(np.ones((2, 2)), columns=["x", "x"])).column("x")
    with pytest.raises(DataError, match="cannot use"):
        Table({"x": [1, "a"]}).column("x")
    with pytest.raises(DataError, match="cannot use"):
        Table({"x": np.array([1j, 2j])}).column("x")
    with pytest.raises(DataError, match="cannot use"):
        Table(pl.DataFrame({"x": [[1], [2]]})).column("x")
    with pytest.raises(DataError, match="dimensions"):
        Table({"x": np.ones((2, 2))}).column("x")
    with pytest.raises(KeyError):
        Table({"x": [1.0]}).column("y")


@pytest.mark.parametrize("levels", [3, 5000])
def test_text_without_pyarrow(monkeypatch, levels):
    """pyarrow is an accelerator: the same codes come out without it."""
    rng = np.random.default_rng(1)
    names = [f"id{i}" for i in rng.integers(0, levels, 2 * levels)]
    names[1] = None
    frames = [
        pd.DataFrame({"g": names}),
        pd.DataFrame({"g": np.array(names, object)}),
        pl.DataFrame({"g": names}),
    ]
    frames += [{"g": names}, pd.DataFrame({"g": pd.array(names, dtype="string[python]")})]
    expected = Table(frames[0]).column("g")
    values, known, missing = expected.values, expected.levels.tolist(), expected.missing.tolist()
    monkeypatch.setattr(arrow, "pa", None)
    for frame in frames:
        column = Table(frame).column("g")
        np.testing.assert_array_equal(column.values, values)
        assert column.levels.tolist() == known
        assert column.missing.tolist() == missing
