"""The bars that show a pass, with whatever is installed to draw them."""

import sys

import pytest
from stream.stream_data import batches, frame, without_bars

import fastlmm_core as flm


@pytest.mark.parametrize("drawn_by", ["tqdm", "rich", None])
def test_rows_speed_and_time_left(drawn_by, monkeypatch, capsys):
    if drawn_by is not None:
        pytest.importorskip(drawn_by)
    without_bars(monkeypatch, drawn_by)
    data = frame()
    flm.plan("y ~ x + (1 | g)", data).accumulate(data, progress=True)
    flm.lmer("y ~ scale(x) + (1 | g)", batches(data), progress=True)
    shown = capsys.readouterr().err
    assert "rows/s" in shown and "first pass" in shown
    assert ("2.40k/2.40k" if drawn_by == "tqdm" else "2,400 rows") in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_the_line_without_them(terminal, monkeypatch, capsys):
    from fastlmm_core.stream import progress

    clock = iter(range(0, 10_000, 11))
    monkeypatch.setattr(progress, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    without_bars(monkeypatch)
    with progress.reporter(True, 4000, done=1000) as add:
        add(1000)
        add(500)
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    assert "fastlmm_core: 2,000 rows, 45 rows/s, 50%, 44 s left" in lines[1 if terminal else 0]
    assert ("2,500 rows" in lines[-2]) and lines[-1] == ""


def test_an_error_leaves_the_line(monkeypatch, capsys):
    without_bars(monkeypatch)

    def broken():
        yield frame().iloc[:100]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        flm.lmer("y ~ x + (1 | g)", broken(), progress=True)
    assert capsys.readouterr().err.endswith("\n")
