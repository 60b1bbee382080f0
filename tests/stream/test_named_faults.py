"""Faults of datasets, lazy frames and relations name their place; checkpoints say what they are for."""

import pytest
from stream.stream_data import assert_same_fit, batches

import fastlmm_core as flm
from fastlmm_core.stream.sources import open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ds = pytest.importorskip("pyarrow.dataset")
FORMULA = "y ~ x + (1 | g) + (1 | h)"


def damage(path, group):
    """Overwrite the pages of every column of a row group, but not the file's own description."""
    metadata, raw = pq.read_metadata(path).row_group(group), bytearray(path.read_bytes())
    for at in range(metadata.num_columns):
        column = metadata.column(at)
        start = column.dictionary_page_offset or column.data_page_offset
        raw[start : start + 24] = b"\xff" * 24
    path.write_bytes(bytes(raw))


def unlisted(folder):
    """A dataset whose files are not read as files, since it is of another file system."""
    from pyarrow import fs

    return ds.dataset(".", filesystem=fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()))


@pytest.mark.parametrize("make", [str, ds.dataset, unlisted, lambda folder: f"{folder}/*.parquet"])
def test_row_groups_are_named(folder, data, make):
    assert_same_fit(flm.lmer(FORMULA, make(folder)), flm.lmer(FORMULA, data))
    source = open_source(make(folder))
    damage(folder / "2.parquet", 1)
    with pytest.raises(flm.DataError, match=r"2\.parquet, row group 1 cannot be read"):
        list(source.batches(["y", "x"], batch_rows=200))
    with pytest.raises(flm.DataError, match=r"2\.parquet, row groups 0 to 2 cannot be read"):
        flm.lmer(FORMULA, make(folder))


def test_values_name_the_row_group_of_a_dataset(folder, data):
    rows = data.iloc[:600].reset_index(drop=True)
    rows.loc[450, "x"] = float("inf")
    rows.to_parquet(folder / "3.parquet", row_group_size=200)
    with pytest.raises(flm.DataError, match=r"3\.parquet, row groups 0 to 2: .*infinite"):
        flm.lmer(FORMULA, unlisted(folder))


def test_a_filtered_dataset(folder, data):
    kept = ds.dataset(folder).filter(ds.field("s") < 6)
    assert_same_fit(flm.lmer(FORMULA, kept), flm.lmer(FORMULA, data[data["s"] < 6]))


def test_a_column_missing_in_a_file_of_a_dataset(folder, data):
    data.iloc[:600].drop(columns="x").to_parquet(folder / "2.parquet")
    for make in (ds.dataset, unlisted):
        with pytest.raises(flm.DataError, match=r"2\.parquet lacks the column 'x'"):
            flm.lmer(FORMULA, make(folder))


def test_a_dataset_of_local_files_takes_a_checkpoint(folder, data, tmp_path):
    found = flm.lmer(FORMULA, ds.dataset(folder), checkpoint=tmp_path / "sums")
    assert_same_fit(found, flm.lmer(FORMULA, data))
    assert len(flm.CrossProducts.load(tmp_path / "sums").files) == 4


def test_checkpoints_of_what_has_no_files(folder, data, tmp_path):
    for rows in (data, batches(data), unlisted(folder)):
        with pytest.raises(flm.DataError, match="a checkpoint is for files"):
            flm.lmer(FORMULA, rows, checkpoint=tmp_path / "sums")
    assert not (tmp_path / "sums").exists()


def test_lazy_frames_and_relations(folder):
    pl, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    lazy = pl.scan_parquet(folder / "*.parquet")
    relation = duckdb.read_parquet(f"{folder}/*.parquet")
    damage(folder / "3.parquet", 2)
    with pytest.raises(flm.DataError, match="the lazy frame cannot be read after batch"):
        flm.lmer(FORMULA, lazy)
    with pytest.raises(flm.DataError, match="the DuckDB relation cannot be read after batch"):
        flm.lmer(FORMULA, relation)
