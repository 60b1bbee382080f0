"""Large crossed models: ``python -m bench.crossed_large W7 --csv bench/results/crossed_large.csv``.

M1 is 1M rows of 50k x 5k levels, WF workers x firms (200k x 20k, 2 percent of rows away from home), W7 10M
rows of 200k x 20k, ML1 and ML32 ratings like MovieLens.

Each case runs in a process of its own, which draws the data, forgets its peak
memory and fits; printed are the seconds of each stage, the peak of memory
beyond the frame, and the Monte Carlo errors the fit states.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bench import memory
from bench.simulate import crossed, effects
from bench.sparse_factor import workers_and_firms

FORMULA = "y ~ f + x + x2 + (1 | user) + (1 | item)"
FIRMS = "y ~ x1 + x2 + x3 + (1 | worker) + (1 | firm)"
RATINGS = "rating ~ x + (1 | user) + (1 | movie)"

CASES = {
    "M1": (FORMULA, lambda rng: crossed(rng, 10**6, 50_000, 5_000, 0.5, 0.3)),
    "WF": (FIRMS, lambda rng: workers_and_firms()),
    "W7": (FORMULA, lambda rng: crossed(rng, 10**7, 200_000, 20_000, 0.5, 0.3)),
    "ML32": (RATINGS, lambda rng: ratings(rng, 32_000_000, 200_948, 84_432)),
    "ML1": (RATINGS, lambda rng: ratings(rng, 1_000_000, 6_280, 2_640)),
}


def ratings(rng, n, users, movies, least=20):
    """Ratings like MovieLens: every user has at least ``least``, activity is log-normal, and the
    popularity of movies falls so fast that thousands of them have a single rating.

    A frame with ``rating``, ``x`` and int32 keys ``user`` and ``movie``; pairs are distinct up to chance.
    """
    activity = np.exp(1.25 * rng.standard_normal(users))
    counts = least + rng.multinomial(n - users * least, activity / activity.sum())
    user = np.repeat(np.arange(users, dtype=np.int32), counts)
    rank = np.arange(1, movies + 1)
    weight = 1.0 / (rank + 60.0) * np.exp(-rank / (0.15 * movies))
    ends = np.cumsum(weight / weight.sum())
    movie = np.empty(n, np.int32)
    for first in range(0, n, 1 << 20):
        draws = rng.random(min(n - first, 1 << 20))
        movie[first : first + len(draws)] = np.minimum(np.searchsorted(ends, draws), movies - 1)
    movie[rng.choice(n, movies, replace=False)] = rng.permutation(movies).astype(np.int32)
    movie = rng.permutation(movies).astype(np.int32)[movie]
    x = rng.standard_normal(n)
    y = 3.5 + 0.1 * x + 0.85 * rng.standard_normal(n)
    y += effects(rng, users, 0.19)[:, 0][user]
    y += effects(rng, movies, 0.22)[:, 0][movie]
    order = rng.permutation(n)
    return pd.DataFrame(
        {"rating": y[order], "x": x[order], "user": user[order] + 1, "movie": movie[order] + 1}
    )


def measure(name, draw_seed=1, **control):
    """Fit one case; a dict of seconds, bytes and estimates."""
    import fastlmm_core as flm

    formula, draw = CASES[name]
    frame = draw(np.random.default_rng(draw_seed))
    ready = memory.resident()
    memory.reset_peak()
    started, cpu = time.perf_counter(), time.process_time()
    fit = flm.lmer(formula, frame, control=flm.Control(**control))
    fitted = time.perf_counter() - started
    text = str(fit.summary())
    seconds = time.perf_counter() - started
    errors = fit.convergence.monte_carlo
    return {
        "case": name,
        "rows": len(frame),
        "levels": dict(fit.ngroups),
        "seconds": round(seconds, 2),
        "fit": round(fitted, 2),
        "cpu": round(time.process_time() - cpu, 2),
        "stages": {stage: round(value, 2) for stage, value in fit.timings.items()},
        "gb_beyond_frame": round((memory.peak() - ready) / 1e9, 2),
        "engine": fit.engine,
        "reason": fit.engine_reason,
        "theta": fit.theta.tolist(),
        "theta_se": np.sqrt(np.diag(fit._solved.calculus.covariance)[: len(fit.theta)]).tolist(),
        "criterion": fit._estimates.objective,
        "df": fit._df.tolist(),
        "evaluations": fit.convergence.n_gradients,
        "ending": text.splitlines()[-4:],
        "probes": None if errors is None else errors.probes,
        "mc_error_se": None if errors is None else list(errors.theta),
        "loglik_sd": None if errors is None else errors.loglik_sd,
    }


def run(argument):
    """One case, with its settings, in a process of its own: its facts, or RuntimeError with the reason."""
    command = [sys.executable, "-m", "bench.crossed_large", "--measure", argument]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(answer.stderr[-2000:])
    return json.loads(answer.stdout)


def write_csv(path, rows):
    """Rows with equal keys; lists as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            plain = {k: json.dumps(v) if isinstance(v, (list, dict)) else v for k, v in row.items()}
            writer.writerow(plain)


def value(text):
    """A setting of `Control` typed on the command line."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    settings = "settings may follow, M1:engine=iterative,seed=2"
    parser.add_argument("cases", nargs="+", help=f"{', '.join(CASES)}; {settings}")
    parser.add_argument("--csv", type=Path, help="also write a row per case here")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options, rows = parser.parse_args(argv), []
    for argument in options.cases:
        name, _, settings = argument.partition(":")
        if name not in CASES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
        if options.measure:
            control = dict(item.split("=") for item in settings.split(",")) if settings else {}
            print(json.dumps(measure(name, **{key: value(text) for key, text in control.items()})))
            continue
        try:
            rows.append({"argument": argument, **run(argument)})
        except RuntimeError as error:
            sys.stdout.write(f"{argument}: {error}\n")
            continue
        sys.stdout.write(json.dumps(rows[-1], indent=2) + "\n")
    if options.csv and rows:
        write_csv(options.csv, rows)


if __name__ == "__main__":
    main()
