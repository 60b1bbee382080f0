"""Rows, files and a cluster of processes for the tests of this room."""

import pytest
from stream.stream_data import frame

import fastlmm_core as flm


@pytest.fixture(scope="module")
def data():
    return frame()


@pytest.fixture(scope="module")
def expected(request, data):
    """The fit in memory of the formula of the module."""
    return flm.lmer(request.module.FORMULA, data)


@pytest.fixture
def folder(data, tmp_path):
    """Four Parquet files of three row groups."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for part in range(4):
        data.iloc[part * 600 : part * 600 + 600].to_parquet(folder / f"{part}.parquet", row_group_size=200)
    return folder


@pytest.fixture(scope="session")
def client():
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client
