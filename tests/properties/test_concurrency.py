"""Fits in threads, in forked and spawned processes, and many after one another."""

import os
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

SLOPE, CROSSED = "y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | h)"


def crossed_frame(n=60000, seed=0):
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, n // 100, n), rng.integers(0, n // 200, n)
    x = rng.normal(size=n)
    y = x + rng.normal(size=g.max() + 1)[g] + rng.normal(size=h.max() + 1)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


FRAME = crossed_frame()


def fits(n_threads=2):
    return [flm.lmer(formula, FRAME, n_threads=n_threads).llf for formula in (SLOPE, CROSSED)]


def test_threads_give_the_fits_of_one():
    alone = fits()
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(fits, [2, 1, 2]):
            assert found == alone


PROCESSES = """
    import multiprocessing, sys
    from properties.test_concurrency import fits

    if __name__ == "__main__":
        alone = fits()
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            assert pool.map_async(fits, [2, 1, 2]).get(60) == [alone] * 3
        print("the same")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_give_the_fits_of_one(tmp_path, method):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROCESSES))
    tests = os.path.dirname(os.path.dirname(__file__))
    paths = [tests, os.path.dirname(os.path.dirname(flm.__file__)), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ran = subprocess.run(
        [sys.executable, str(script), method], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.strip() == "the same", ran.stderr


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_many_fits_keep_no_memory():
    small = crossed_frame(4000)
    for _ in range(20):
        assert (flm.lmer(CROSSED, small).df > 0).all()
    before = resident()
    for _ in range(60):
        assert (flm.lmer(CROSSED, small).df > 0).all()
    assert resident() - before < 6e6


def test_interruption_of_the_rows_leaves_nothing_behind():
    def stop(stage, fraction):
        if stage == "optimise":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flm.lmer(CROSSED, FRAME, progress=stop)
    assert len(fits()) == 2


def test_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for formula in (SLOPE, CROSSED):
            fit = flm.lmer(formula, FRAME.iloc[:2000])
            str(fit.summary())
            fit.anova(), fit.conf_int(), fit.ranef(), fit.predict(FRAME.iloc[:5], se=True), fit.r2()
