"""One model over every kind of table: the same criterion."""

import numpy as np
import pandas as pd
import pytest
from stream.stream_data import assert_same_fit

import fastlmm_core as flm
from fastlmm_core.stream.ahead import ahead
from fastlmm_core.stream.sources import is_stream, open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FORMULA = "y ~ x + f + (1 + x | g) + (1 | h)"


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """A folder with the data as Parquet (in parts, and partitioned by h), CSV and Arrow."""
    root = tmp_path_factory.mktemp("files")
    table = pa.Table.from_pandas(data)
    (root / "parts").mkdir()
    for part in range(3):
        pq.write_table(table.slice(part * 800, 800), root / "parts" / f"{part}.parquet", row_group_size=300)
    data.to_csv(root / "data.csv", index=False)
    with pa.ipc.new_file(root / "data.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=500)
    with pa.ipc.new_stream(root / "stream.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=500)
    whole = table.filter(pa.compute.is_valid(table["h"]))
    dataset = pytest.importorskip("pyarrow.dataset")
    keys = dataset.partitioning(pa.schema([("h", pa.string())]), flavor="hive")
    dataset.write_dataset(whole, root / "by_h", format="parquet", partitioning=keys)
    return root


@pytest.mark.parametrize(
    "where", ["parts", "parts/*.parquet", "parts/?.parquet", "data.csv", "data.arrow", "stream.arrow"]
)
def test_files(files, expected, where):
    assert_same_fit(flm.lmer(FORMULA, str(files / where)), expected)


def test_a_list_of_files_and_a_path(files, expected):
    paths = sorted((files / "parts").iterdir())
    assert_same_fit(flm.lmer(FORMULA, paths), expected)
    assert_same_fit(flm.lmer(FORMULA, files / "data.csv"), expected)


def test_partitioned_folders(files, data):
    expected = flm.lmer(FORMULA, data.dropna(subset="h"))
    dataset = pytest.importorskip("pyarrow.dataset")
    assert_same_fit(flm.lmer(FORMULA, files / "by_h"), expected)
    assert_same_fit(flm.lmer(FORMULA, dataset.dataset(files / "by_h", partitioning="hive")), expected)


def test_whole_numbers_in_folder_names_are_numbers(data, tmp_path):
    for s, rows in data.groupby("s"):
        (tmp_path / f"s={s}").mkdir()
        rows.drop(columns="s").to_parquet(tmp_path / f"s={s}" / "rows.parquet")
    found = flm.lmer("y ~ x + s + (1 | g)", tmp_path)
    assert found.llf == pytest.approx(flm.lmer("y ~ x + s + (1 | g)", data).llf, rel=1e-10)


@pytest.mark.parametrize("kind", ["table", "reader", "dictionary", "dataset"])
def test_arrow(data, expected, kind):
    table = pa.Table.from_pandas(data)
    if kind == "reader":  # read once, so without text to learn
        found = flm.lmer("y ~ x + (1 + x | g) + (1 | h)", table.to_reader(500))
        return assert_same_fit(found, flm.lmer("y ~ x + (1 + x | g) + (1 | h)", data))
    if kind == "dictionary":
        for name in "fh":
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(pa.string()).dictionary_encode())
        again = flm.lmer(FORMULA, lambda: iter(table.to_batches(600)))
        return assert_same_fit(again, flm.lmer(FORMULA, table))
    if kind == "dataset":
        return assert_same_fit(
            flm.lmer(FORMULA, pytest.importorskip("pyarrow.dataset").dataset(table)), expected
        )
    return assert_same_fit(flm.fit(flm.plan(FORMULA, table).accumulate(table)), expected)


def test_polars(data, expected, files):
    pl = pytest.importorskip("polars")
    eager = pl.from_pandas(data)
    assert not is_stream(eager) and is_stream(eager.lazy())
    assert_same_fit(flm.fit(flm.plan(FORMULA, eager).accumulate(eager)), expected)
    assert_same_fit(flm.lmer(FORMULA, eager.lazy()), expected)
    assert_same_fit(flm.lmer(FORMULA, pl.scan_parquet(files / "parts" / "*.parquet")), expected)


def test_duckdb(expected, files, data):
    duckdb = pytest.importorskip("duckdb")
    assert_same_fit(flm.lmer(FORMULA, duckdb.read_parquet(str(files / "parts" / "*.parquet"))), expected)
    with duckdb.connect() as connection:
        connection.register("rows", data)
        assert_same_fit(flm.lmer(FORMULA, connection.sql('select *, 1 as "odd "" name" from rows')), expected)


def test_dicts_and_lists_of_frames(data, expected):
    columns = {name: data[name].to_numpy() for name in data}
    assert_same_fit(flm.fit(flm.plan(FORMULA, data).accumulate(columns)), expected)
    assert_same_fit(flm.lmer(FORMULA, [data.iloc[:1000], data.iloc[1000:]]), expected)


def test_only_the_columns_needed_are_read(data):
    asked = []
    source = open_source(data)
    read = source.read
    source.read = lambda columns, rows, skip: asked.append(columns) or read(columns, rows, skip)
    flm.plan("y ~ log(x) + (1 | g)", source).accumulate(source)
    assert {tuple(sorted(columns)) for columns in asked} == {("g", "x", "y")}


def test_batches_are_sized_by_bytes(data, monkeypatch):
    from fastlmm_core.stream import sources

    monkeypatch.setattr(sources, "BATCH_BYTES", 8 * 3 * 500)
    monkeypatch.setattr(sources, "MIN_ROWS", 10)
    source = open_source(data)
    assert [len(batch.data) for batch in source.batches(["y", "x", "g"])] == [500] * 4 + [400]


def test_row_groups_are_joined_and_cut(files, monkeypatch):
    source = open_source(files / "parts" / "0.parquet")
    assert [b.data.num_rows for b in source.batches(["y"], batch_rows=600)] == [600, 200]
    assert [b.data.num_rows for b in source.batches(["y"], batch_rows=100)] == [100] * 6 + [200]
    labels = [batch.label for batch in source.batches(["y"], batch_rows=600)]
    assert labels[0].endswith("row groups 0 to 1") and labels[1].endswith("row group 2")


def test_what_is_no_table():
    for wrong in (17, None, object()):
        with pytest.raises((flm.FastLMMError, TypeError)):
            flm.lmer(FORMULA, wrong)
    with pytest.raises(flm.DataError, match="no table"):
        flm.lmer(FORMULA, iter([]))
    with pytest.raises(flm.DataError, match="int, a table"):
        flm.lmer(FORMULA, iter([3]))


def test_predictions_to_files(data, expected, files, tmp_path):
    fit = flm.lmer(FORMULA, files / "parts")
    whole = expected.predict(data, new_levels="population").to_numpy()
    for name, read in (("s.parquet", pd.read_parquet), ("s.csv", pd.read_csv), ("s.arrow", pd.read_feather)):
        assert fit.predict(files / "parts", out=tmp_path / name) == tmp_path / name
        np.testing.assert_allclose(read(tmp_path / name)["predicted"], whole, atol=1e-6)
    fit.predict(out=tmp_path / "t.parquet", re="none", se=True)
    table = pd.read_parquet(tmp_path / "t.parquet")
    np.testing.assert_allclose(table["se"], expected.predict(data, re="none", se=True)["se"], rtol=1e-5)
    gathered = fit.predict(files / "data.csv")
    np.testing.assert_allclose(gathered, whole, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.arrow", "s.csv", "s.parquet", "t.parquet"]


def test_reading_ahead_says_when_everything_is_read():
    read, ended = [], []

    def batches():
        for number in range(5):
            read.append(number)
            yield number

    assert list(ahead(batches(), ended=lambda: ended.append(len(read)))) == list(range(5))
    assert ended == [5]
    for _ in ahead(batches(), ended=lambda: ended.append("stopped early")):
        break
    assert ended == [5]
