"""The fuzz targets without end: ``python tests/fuzz/run.py formula|loader [--seconds S] [--seed N]``.

Inputs follow from the seed, by default the clock's.  The first that ends in anything but an answer or a
`FastLMMError` is printed, kept in ``fuzz-formula.txt`` or ``fuzz-loader.flm``, and ends the run with 1.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import test_formula_fuzz as formula  # noqa: E402
import test_loader_fuzz as loader  # noqa: E402

import fastlmm_core as flm  # noqa: E402


def formulas(source):
    """Endless trials: what to keep, its name, and the call that must not fail."""
    while True:
        text = formula.random_text(source)
        yield text.encode(), "fuzz-formula.txt", lambda text=text: formula.check(text)


def files(source):
    fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fit.flm")
        flm.save(fit, path)
        saved = path.read_bytes()
        while True:
            data = loader.damaged(saved, source)
            path.write_bytes(data)
            yield data, "fuzz-loader.flm", lambda: loader.is_refused(path, fit)


def main():
    parser = argparse.ArgumentParser(description="random inputs until the time is up")
    parser.add_argument("target", choices=["formula", "loader"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    wanted = parser.parse_args()
    trials = (formulas if wanted.target == "formula" else files)(random.Random(wanted.seed))
    end, done = time.monotonic() + wanted.seconds, 0
    for data, name, call in trials:
        try:
            call()
        except Exception:
            Path(name).write_bytes(data)
            traceback.print_exc()
            print(f"seed {wanted.seed}, trial {done}: kept in {name}: {data[:200]!r}")
            return 1
        done += 1
        if time.monotonic() > end:
            print(f"{wanted.target}: {done} trials, seed {wanted.seed}, none failed")
            return 0


if __name__ == "__main__":
    sys.exit(main())
