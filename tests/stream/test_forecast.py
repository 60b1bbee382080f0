"""The memory that a plan forecasts: levels to expect, and what processes really take."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.stream import files

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CHILD = """
import json, sys
import pyarrow.dataset, pyarrow.parquet
import fastlmm_core as flm

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

before = status("VmRSS")
plan = flm.plan(sys.argv[1], sys.argv[2])
fit = flm.lmer(sys.argv[1], sys.argv[2])
found = {"used": status("VmHWM") - before, "forecast": plan.forecast().peak, "levels": fit.ngroups}
print(json.dumps(found))
"""


def rows(n, groups, seed=1):
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal(n), rng.integers(0, groups, n)
    y = x + rng.standard_normal(groups)[g] + rng.standard_normal(n)
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("groups", [500, 400_000])
def test_a_fit_keeps_to_the_forecast(tmp_path, groups):
    rows(1_000_000, groups).to_parquet(tmp_path / "rows.parquet")
    command = [sys.executable, "-c", CHILD, "y ~ x + (1 + x | g)", str(tmp_path / "rows.parquet")]
    home = {"env": os.environ | {"PYTHONPATH": str(Path(flm.__file__).parents[1])}, "cwd": tmp_path}
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, **home).stdout)
    assert found["used"] < found["forecast"] < 4 * found["used"], found


def test_levels_to_expect(tmp_path):
    data = rows(200_000, 3_000)
    data["s"] = np.sort(data["g"].to_numpy()) * 10**9
    data["t"] = [f"k{level}" for level in data["g"] % 40]
    data["c"] = pd.Categorical(data["t"])
    data.to_parquet(tmp_path / "rows.parquet")
    formula = "y ~ x + (1 | g) + (1 | s) + (1 | t) + (1 | c) + (1 | t:c)"
    found = flm.plan(formula, tmp_path).expected
    assert found["g"].levels == 3_000 and "files" in found["g"].how
    assert 3_000 <= found["s"].levels <= 5_000  # runs of equal values: in proportion
    assert found["c"].levels == 40 and found["c"].how == "categories" and found["t"].text
    assert 40 <= found["t"].levels <= 50 and 40 <= found["t:c"].levels <= 50
    scattered = data.assign(g=data["g"] * 10**12).to_parquet(tmp_path / "rows.parquet")
    assert scattered is None
    found = flm.plan("y ~ x + (1 | g)", tmp_path).expected["g"]
    assert 3_000 <= found.levels <= 4_000 and "estimated" in found.how


def test_a_forecast_grows_with_the_levels_and_not_with_the_rows():
    plan = flm.plan("y ~ x + (1 | g)", rows(5_000, 100))
    small, large = plan.forecast({"g": 1000}), plan.forecast({"g": 10**6})
    assert large.peak > small.peak and large.batches == small.batches
    assert large.levels == {"g": 10**6}
    text = str(plan)
    assert "memory" in text and "100 expected" in text
    assert flm.plan("y ~ scale(x) + (1 | g)", rows(5_000, 100)).forecast().learning > small.learning == 0


def test_large_files_are_not_seen_as_memory(tmp_path, monkeypatch):
    data = rows(3_000, 50)
    data.to_parquet(tmp_path / "rows.parquet")
    with pa.ipc.new_file(tmp_path / "rows.arrow", pa.Table.from_pandas(data).schema) as sink:
        sink.write_table(pa.Table.from_pandas(data))
    mapped = [flm.lmer("y ~ x + (1 | g)", tmp_path / f"rows.{kind}").llf for kind in ("parquet", "arrow")]
    assert flm.plan("y ~ x + (1 | g)", tmp_path / "rows.parquet").mapped_bytes > 0
    monkeypatch.setattr(files, "MAPPED_BYTES", 0)
    assert flm.plan("y ~ x + (1 | g)", tmp_path / "rows.parquet").mapped_bytes == 0
    assert [
        flm.lmer("y ~ x + (1 | g)", tmp_path / f"rows.{kind}").llf for kind in ("parquet", "arrow")
    ] == mapped


def test_levels_to_expect_where_nearly_every_row_has_its_own(tmp_path):
    some = rows(120_000, 100_000)
    some["t"] = "user-" + some["g"].astype(str)
    some["own"] = np.random.default_rng(2).permutation(120_000).astype(str)
    some["pairs"] = "p" + (np.arange(120_000) // 2).astype(str)
    some.to_parquet(tmp_path / "rows.parquet", row_group_size=20_000)
    found = flm.plan("y ~ x + (1 | t) + (1 | own) + (1 | pairs)", tmp_path).expected
    assert 80_000 < found["t"].levels < 120_000
    assert found["own"].levels == 120_000
    assert 60_000 <= found["pairs"].levels < 75_001
