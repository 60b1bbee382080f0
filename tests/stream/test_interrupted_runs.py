"""Ctrl-C in a process of its own: it stops at once, says so, and the next run goes on."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from stream.stream_data import assert_same_fit, frame

import fastlmm_core as flm

pytest.importorskip("pyarrow")
pytest.importorskip("click")
pty = pytest.importorskip("pty")
FORMULA = "y ~ x + (1 | g) + (1 | h)"

PLAIN = """
import sys
sys.modules["tqdm"] = sys.modules["rich"] = None
from fastlmm_core.cli import main
sys.exit(main(sys.argv[1:]))
"""
SLOW = """
import sys, time
sys.modules["tqdm"] = sys.modules["rich"] = None
import fastlmm_core.stream.accumulator as room
from fastlmm_core.cli import main

add = room.Accumulator.add

def slowly(self, data, label=""):
    time.sleep(0.25)
    return add(self, data, label)

room.Accumulator.add = slowly
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path):
    folder, data = tmp_path / "rows", frame()
    folder.mkdir()
    for part in range(24):
        data.iloc[part * 100 : part * 100 + 100].to_parquet(folder / f"{part:02d}.parquet")
    return folder


def this_package():
    """Options of a process that imports the package that is under test."""
    home = Path(flm.__file__).parents[1]
    return {"env": os.environ | {"PYTHONPATH": str(home)}, "cwd": tempfile.gettempdir()}


def in_terminal(script, arguments, until, seconds=60):
    """Run Python in a terminal of its own; press Ctrl-C once when ``until()`` holds; output and exit code."""
    inside, outside = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=outside, stdout=outside, stderr=outside,
        start_new_session=True, close_fds=True, **this_package(),
    )  # fmt: skip
    os.close(outside)
    shown, pressed, end = b"", None, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if pressed is None and until():
                pressed = time.monotonic()
                os.killpg(child.pid, signal.SIGINT)
            if select.select([inside], [], [], 0.05)[0]:
                try:
                    shown += os.read(inside, 1 << 16)
                except OSError:
                    break
        code = child.wait(timeout=10)
    finally:
        child.kill()
        os.close(inside)
    return shown.decode(), code, 0.0 if pressed is None else time.monotonic() - pressed


def test_an_interrupted_run_is_resumed(folder, tmp_path):
    sums = tmp_path / "sums"
    arguments = ["fit", FORMULA, str(folder), "--progress", "--checkpoint", str(sums)]
    shown, code, took = in_terminal(SLOW, arguments, lambda: sums.exists())
    assert code == 130 and "fastlmm: interrupted" in shown and "Traceback" not in shown, shown
    assert took < 10
    assert "rows/s" in shown and "s left" in shown and "%" in shown
    done = flm.CrossProducts.load(sums)
    assert 0 < len(done.files) < 24 and done.n_total == 100 * len(done.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows", "sums"]
    quick = SLOW.replace("0.25", "0")
    shown, code, _ = in_terminal(quick, [*arguments, "--json"], lambda: False)
    assert code == 0, shown
    assert len(flm.CrossProducts.load(sums).files) == 24
    assert_same_fit(flm.lmer(FORMULA, folder, checkpoint=sums), flm.lmer(FORMULA, frame()))


def test_a_log_gets_lines_and_no_carriage_returns(folder):
    command = [sys.executable, "-c", PLAIN, "fit", FORMULA, str(folder), "--progress"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, **this_package()).stderr
    assert "\r" not in told and "2,400 rows" in told and told.endswith("\n")
