"""The pass on Dask: its own scheduler, a cluster of processes, a worker that dies."""

import os

import pytest
from stream.stream_data import assert_same_fit

import fastlmm_core as flm

FORMULA = "y ~ x + f + (1 + x | g) + (1 | h)"


dask = pytest.importorskip("dask", reason="Dask is not installed")
dataframe = pytest.importorskip("dask.dataframe", reason="dask.dataframe is not installed")
distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")


def test_a_dask_frame_without_a_cluster(data, expected):
    with dask.config.set(scheduler="synchronous"):
        assert_same_fit(flm.lmer(FORMULA, dataframe.from_pandas(data, npartitions=11)), expected)


def test_workers_add_up_partitions_and_files(client, data, expected, tmp_path):
    assert_same_fit(flm.lmer(FORMULA, dataframe.from_pandas(data, npartitions=10), client=client), expected)
    for part in range(3):
        data.iloc[part * 800 : part * 800 + 800].to_parquet(tmp_path / f"{part}.parquet")
    assert_same_fit(flm.lmer(FORMULA, tmp_path, client=client), expected)
    plan = flm.plan(FORMULA, tmp_path)
    assert_same_fit(flm.fit(plan.accumulate(tmp_path, client=client)), expected)
    with pytest.raises(flm.DataError, match="one process"):
        flm.lmer(FORMULA, tmp_path, client=client, checkpoint=tmp_path / "sums")
    with pytest.raises(flm.DataError, match="iterator of tables"):
        flm.lmer(FORMULA, lambda: iter([data]), client=client)


def test_a_worker_that_dies_changes_nothing(client, data, expected, tmp_path):
    def die_once(frame, mark):
        """A partition whose first reader is killed."""
        if not os.path.exists(mark):
            with open(mark, "w"):
                pass
            os._exit(1)
        return frame

    plan = flm.plan(FORMULA, data)
    frames = dataframe.from_pandas(data, npartitions=6)
    dying = frames.map_partitions(die_once, str(tmp_path / "mark"), meta=frames._meta)
    from fastlmm_core.stream.cluster import accumulate_on_cluster

    stats = accumulate_on_cluster(plan, dying, None, client)
    assert (tmp_path / "mark").exists()
    assert_same_fit(flm.fit(stats), expected)
