"""First passes, shares of files, progress and faults on the workers of a cluster of processes."""

import os

import numpy as np
import pytest
from stream.stream_data import assert_same_fit, without_bars

import fastlmm_core as flm
from fastlmm_core.stream import look
from fastlmm_core.stream.files import open_files, shared_out, source_of_files

FORMULA = "y ~ poly(x, 2) + f + (1 | g)"


pq = pytest.importorskip("pyarrow.parquet")
dask = pytest.importorskip("dask", reason="Dask is not installed")
dataframe = pytest.importorskip("dask.dataframe", reason="dask.dataframe is not installed")
distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")


def test_levels_and_transforms_are_learned_on_the_workers(client, data, expected, folder, monkeypatch):
    def elsewhere(self, *_):
        raise AssertionError("a look at the rows in this process")

    monkeypatch.setattr(look.Look, "add", elsewhere)
    assert_same_fit(flm.lmer(FORMULA, dataframe.from_pandas(data, npartitions=5), client=client), expected)
    assert_same_fit(flm.lmer(FORMULA, folder, client=client), expected)


def test_a_worker_that_dies_while_levels_are_learned(client, data, expected, tmp_path):
    def die_once(frame, mark):
        if not os.path.exists(mark):
            with open(mark, "w"):
                pass
            os._exit(1)
        return frame

    frames = dataframe.from_pandas(data, npartitions=6)
    dying = frames.map_partitions(die_once, str(tmp_path / "mark"), meta=frames._meta)
    from fastlmm_core.formula.parse import parse_formula
    from fastlmm_core.stream.cluster import looker
    from fastlmm_core.stream.learn import learn
    from fastlmm_core.stream.sources import open_source

    parsed, source = parse_formula(FORMULA), open_source(dying)
    found = learn(parsed, source, data.head(500), look_at=looker(dying, source, client))
    alone = learn(parsed, open_source(data), data.head(500))
    assert (tmp_path / "mark").exists()
    assert [None if a is None else list(a) for a in found.levels] == [
        None if a is None else list(a) for a in alone.levels
    ]
    assert repr(found.states) == repr(alone.states)


def test_progress_of_the_workers(client, data, folder, capsys, monkeypatch):
    without_bars(monkeypatch)
    seen = []
    flm.lmer(FORMULA, folder, client=client, progress=lambda *what: seen.append(what))
    assert ("design", 0.4) in seen and ("cross-products", 0.6) in seen
    plan, counted = flm.plan("y ~ x + (1 | g)", folder), []
    plan.accumulate(folder, client=client, progress=lambda *what: counted.append(what))
    assert len(counted) > 1 and counted[-1] == (2400, 2400)
    rows = dataframe.from_pandas(data, npartitions=3)
    flm.lmer("y ~ x + (1 | g)", rows, client=client, progress=True)
    assert "3 partitions" in capsys.readouterr().err


def test_faults_on_workers_name_the_file(client, data, folder):
    data.iloc[:800].drop(columns="x").to_parquet(folder / "1.parquet")
    with pytest.raises(flm.DataError, match=r"1\.parquet lacks the column 'x'"):
        flm.lmer("y ~ x + (1 | g)", folder, client=client)
    data.iloc[:800].assign(x="text").to_parquet(folder / "1.parquet")
    with pytest.raises(flm.DataError, match=r"1\.parquet: column 'x' is of type .*string"):
        flm.lmer("y ~ x + (1 | g)", folder, client=client)
    data.iloc[:800].assign(x=np.inf).to_parquet(folder / "1.parquet")
    with pytest.raises(flm.DataError, match=r"1\.parquet, row group 0: .*infinite"):
        flm.lmer("y ~ x + (1 | g)", folder, client=client, progress=lambda *_: None)


@pytest.mark.parametrize("parts", [1, 2, 5, 12, 100])
def test_shares_of_files_hold_every_row_once(data, folder, parts):
    source = open_files(folder)
    shares = shared_out(source.files, parts)
    assert 1 <= len(shares) <= parts
    assert len(shares) == min(parts, 12)
    read = [
        batch.data.to_pandas()["y"]
        for share in shares for batch in source_of_files(share, "share").batches(["y"])
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(read), data["y"])
    assert sum(source_of_files(share, "share").rows for share in shares) == len(data)


def test_a_dask_frame_takes_no_checkpoint(data, tmp_path):
    with pytest.raises(flm.DataError, match="files read by one process"):
        flm.lmer(FORMULA, dataframe.from_pandas(data, npartitions=2), checkpoint=tmp_path / "sums")
