"""Every engine: fits in threads and processes, one fit asked by several threads, many fits."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm

CROSSED = "y ~ x + (1 | g) + (1 | h)"
ENGINES = {
    "collapsed": "y ~ x + (1 | g)",
    "tree": "y ~ x + (x | g)",
    "chain": "y ~ x + (x | s / g)",
    "dense": CROSSED,
    "sparse": CROSSED,
    "iterative": CROSSED,
}
FITS, ALLOWED = 150, 2e6  # a kilobyte kept of each fit is no leak of arrays: the smallest has some 10 kB


def frame(n, seed=3):
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, n // 50, n), rng.integers(0, n // 100, n)
    x = rng.normal(size=n)
    y = x + rng.normal(size=n // 50)[g] + rng.normal(size=n // 100)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h, "s": g // 8})


LARGE, SMALL = frame(80000), frame(4000)

pytestmark = pytest.mark.filterwarnings("ignore::fastlmm_core.MonteCarloWarning")


def fit(name, data, n_threads=2):
    engine = name if ENGINES[name] == CROSSED else "auto"
    return flm.lmer(ENGINES[name], data, control=flm.Control(engine=engine), n_threads=n_threads)


def test_the_engines_are_the_ones_meant():
    found = [fit(name, SMALL).engine for name in ENGINES]
    assert found == ["collapsed", "tree", "tree", "crossed", "sparse", "iterative"]


def numbers(name, n_threads=2):
    found = fit(name, LARGE, n_threads)
    return [found.llf, *found.params, *found.theta, *np.asarray(found.df)]


@pytest.mark.threads
@pytest.mark.parametrize("name", ENGINES)
def test_fits_in_threads_have_the_bits_of_one_alone(name):
    alone = numbers(name)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(numbers, [name] * 3, [2, 1, 2]):
            assert found == alone


PROCESSES = """
    import multiprocessing, sys
    from properties.test_engines_side_by_side import ENGINES, numbers

    if __name__ == "__main__":
        alone = [numbers(name) for name in ENGINES]
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            assert pool.map_async(numbers, ENGINES).get(60) == alone
        print("the same")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_fits_in_processes_have_the_bits_of_one_alone(tmp_path, method):
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


def answers(model):
    return [*np.asarray(model.df), *np.ravel(model.conf_int(method="profile")), *model.predict(SMALL[:9])]


@pytest.mark.threads
@pytest.mark.parametrize("name", ["tree", "chain", "dense", "sparse"])
def test_one_fit_answers_several_threads(name):
    alone = answers(fit(name, SMALL, 1))
    shared = fit(name, SMALL, 1)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(answers, [shared] * 3):
            np.testing.assert_array_equal(found, alone)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
@pytest.mark.parametrize("name", ENGINES)
def test_many_fits_keep_no_memory(name):
    for _ in range(20):
        assert (fit(name, SMALL, 1).df > 0).all()
    before = resident()
    for _ in range(FITS):
        assert (fit(name, SMALL, 1).df > 0).all()
    assert resident() - before < ALLOWED
