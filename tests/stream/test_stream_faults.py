"""Files that are missing, damaged or different; interrupted runs; full disks."""

import errno
import os

import numpy as np
import pytest
from stream.stream_data import assert_same_fit, batches

import fastlmm_core as flm
from fastlmm_core.stream import files as files_room
from fastlmm_core.stream.pipeline import ahead
from fastlmm_core.stream.sources import Batch

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
FORMULA = "y ~ x + f + (1 | g) + (1 | h)"


def refused(data, *parts, formula=FORMULA, **options):
    with pytest.raises(flm.DataError) as caught:
        flm.lmer(formula, data, **options)
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, str(caught.value)


def test_missing_files(folder, tmp_path):
    refused(tmp_path / "absent.parquet", "no file", "absent.parquet")
    refused(str(tmp_path / "*.pq"), "no file", "*.pq")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no files")
    (tmp_path / "rows.xlsx").write_bytes(b"")
    refused(tmp_path / "rows.xlsx", "known kind")
    refused([], "empty list")


def test_a_file_that_vanishes(folder):
    plan = flm.plan("y ~ x + (1 | g)", folder)
    from fastlmm_core.stream.sources import open_source

    source = open_source(folder)
    (folder / "2.parquet").unlink()
    with pytest.raises(flm.DataError, match="2.parquet any more"):
        plan.accumulate(source)


@pytest.mark.parametrize("name", ["0.parquet", "2.parquet"])
def test_truncated_files(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    refused(folder, name, "truncated")


def test_a_damaged_row_group_is_named(folder):
    path = folder / "1.parquet"
    column = pq.read_metadata(path).row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    raw = bytearray(path.read_bytes())
    raw[start : start + 24] = b"\xff" * 24
    path.write_bytes(bytes(raw))
    with pytest.raises(flm.DataError, match=r"1\.parquet, row groups? "):
        flm.lmer(FORMULA, folder)


def test_text_that_is_no_csv(tmp_path, data):
    (tmp_path / "a.csv").write_text("y,x,g\n1,2,3\n1,2\n")
    refused(tmp_path / "a.csv", "a.csv", formula="y ~ x + (1 | g)")


def test_a_column_that_one_file_lacks(folder, data):
    data.iloc[:600].drop(columns="x").to_parquet(folder / "2.parquet")
    refused(folder, "2.parquet", "'x'", "other files")


def test_a_column_of_another_type(folder, data):
    data.iloc[:600].assign(x="text").to_parquet(folder / "3.parquet")
    refused(folder, "3.parquet", "'x'", "text")


def test_whole_numbers_in_one_file_are_fine(folder, data):
    data = data.assign(x=np.where(data["x"].isna(), np.nan, data["x"].round()))
    for part in range(4):
        rows = data.iloc[part * 600 : part * 600 + 600]
        rows = rows.astype({"x": "Int32"}) if part % 2 else rows.astype({"x": "float32"})
        rows.to_parquet(folder / f"{part}.parquet")
    assert_same_fit(flm.lmer(FORMULA, folder), flm.lmer(FORMULA, data))


def test_a_level_that_the_first_look_did_not_see(data):
    looks = []

    def rows():
        looks.append(1)
        return iter([data if len(looks) < 3 else data.assign(f="new")])

    refused(rows, "'new'", "not known")


def test_values_that_are_refused_name_the_file(folder, data):
    data.iloc[:600].assign(x=np.inf).to_parquet(folder / "2.parquet")
    refused(folder, "2.parquet", "infinite")
    data.iloc[:600].assign(x=np.nan).to_parquet(folder / "2.parquet")
    refused(folder, "parquet", "missing", na_action="raise")


def test_a_run_goes_on_after_the_last_complete_file(folder, data, tmp_path, monkeypatch):
    checkpoint = tmp_path / "sums"
    good = (folder / "2.parquet").read_bytes()
    (folder / "2.parquet").write_bytes(good[:100])
    options = {"checkpoint": checkpoint}
    refused(folder, "2.parquet", formula="y ~ x + (1 | g) + (1 | h)", **options)
    assert flm.CrossProducts.load(checkpoint).n_total == 1200
    (folder / "2.parquet").write_bytes(good)
    read = []
    parquet = files_room._parquet
    monkeypatch.setattr(files_room, "_parquet", lambda path, *rest: read.append(path) or parquet(path, *rest))
    found = flm.lmer("y ~ x + (1 | g) + (1 | h)", folder, checkpoint=checkpoint)
    assert_same_fit(found, flm.lmer("y ~ x + (1 | g) + (1 | h)", data))
    assert [os.path.basename(path) for path in read][-2:] == ["2.parquet", "3.parquet"]
    assert not any(path.endswith("1.parquet") for path in read)
    read.clear()
    again = flm.lmer("y ~ x + (1 | g) + (1 | h)", folder, checkpoint=checkpoint)
    assert again.llf == pytest.approx(found.llf, rel=1e-12) and len(read) <= 1
    refused(folder, "another model", formula="y ~ 1 + (1 | g)", checkpoint=checkpoint)
    data.iloc[:900].assign(x=lambda rows: rows["x"] + 3).to_parquet(folder / "-1.parquet")
    more = flm.lmer("y ~ x + (1 | g) + (1 | h)", folder, checkpoint=checkpoint)
    assert_same_fit(more, flm.lmer("y ~ x + (1 | g) + (1 | h)", folder))
    assert more.n_dropped > found.n_dropped


def test_a_full_disk_leaves_nothing_behind(folder, data, tmp_path, monkeypatch):
    fit = flm.lmer(FORMULA, folder)
    stats = flm.plan(FORMULA, data).accumulate(data)
    out = tmp_path / "out"
    out.mkdir()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(flm.DataError, match="s.parquet cannot be written: .*No space"):
        fit.predict(folder, out=out / "s.parquet")
    monkeypatch.setattr("fastlmm_core.archive.zipfile.ZipFile.writestr", full)
    with pytest.raises(flm.DataError, match="No space"):
        stats.save(out / "stats")
    assert not list(out.iterdir())


def test_predictions_that_fail_leave_nothing_behind(folder, data, tmp_path):
    fit = flm.lmer(FORMULA, folder)
    data.iloc[:600].assign(g=-1).to_parquet(folder / "3.parquet")
    (tmp_path / "out").mkdir()
    with pytest.raises(flm.DataError, match=r"3\.parquet.*did not see"):
        fit.predict(folder, out=tmp_path / "out" / "s.parquet")
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(flm.DataError, match="no folder"):
        fit.predict(folder, out=tmp_path / "nowhere" / "s.parquet")
    with pytest.raises(flm.DataError, match="written as"):
        fit.predict(folder, out=tmp_path / "s.xlsx")


def test_an_interruption_stops_the_reader(data):
    seen, closed = [], []

    def source():
        try:
            for at in range(100):
                seen.append(at)
                yield Batch(None, str(at))
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        for batch in ahead(source()):
            if batch.label == "3":
                raise KeyboardInterrupt
    assert closed and len(seen) < 10


def test_an_interruption_during_a_pass(data):
    def stop(rows, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flm.plan("y ~ x + (1 | g)", data).accumulate(batches(data), progress=stop)


def test_saves_that_take_long_wait(folder, data, tmp_path, monkeypatch):
    kept, formula = tmp_path / "sums", "y ~ x + (1 | g)"
    saved = []
    save = flm.CrossProducts.save
    monkeypatch.setattr(
        flm.CrossProducts, "save", lambda found, path: saved.append(len(found.files)) or save(found, path)
    )
    monkeypatch.setattr("fastlmm_core.stream.pipeline.SHORT_SAVE", 0.0)
    monkeypatch.setattr("fastlmm_core.stream.pipeline.READING_PER_SAVE", 1e9)
    flm.lmer(formula, folder, checkpoint=kept)
    assert saved == [1, 4] and len(flm.CrossProducts.load(kept).files) == 4
    kept.unlink()
    saved.clear()
    (folder / "3.parquet").write_bytes((folder / "3.parquet").read_bytes()[:100])
    refused(folder, "3.parquet", formula=formula, checkpoint=kept)
    assert saved == [1, 3]  # the files that were complete are kept when a later one is at fault
    assert flm.CrossProducts.load(kept).n_total == 1800


def test_a_checkpoint_is_of_the_same_files(folder, data, tmp_path, monkeypatch):
    kept, formula = tmp_path / "sums", "y ~ x + (1 | g)"
    first = [folder / "0.parquet", folder / "1.parquet"]
    flm.lmer(formula, first, checkpoint=kept)
    monkeypatch.chdir(folder)
    found = flm.lmer(formula, "*.parquet", checkpoint=kept)  # the same files by another name
    assert found.nobs == flm.lmer(formula, folder).nobs
    refused(first, "2.parquet", "not among the files", formula=formula, checkpoint=kept)
    data.iloc[:700].to_parquet(folder / "1.parquet")
    refused(folder, "1.parquet", "has changed since", "remove it", formula=formula, checkpoint=kept)
