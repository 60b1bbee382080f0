"""What a plan says of every engine, and the refusal of what does not fit in memory."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.errors import FormulaError, ModelError
from fastlmm_core.mme import choose, crossed_arrays, schur_counts
from fastlmm_core.mme.costs import sizes_of
from fastlmm_core.mme.iterative import IterativeEngine
from fastlmm_core.mme.moment_start import moment_ratios
from fastlmm_core.stream.assemble import assemble

FORMULA = "y ~ x + (1 | a) + (1 | b)"


def crossed(n=6000, a=900, b=400, slope=False, seed=1):
    rng = np.random.default_rng(seed)
    f, g, x = rng.integers(0, a, n), rng.integers(0, b, n), rng.normal(size=n)
    y = 1 + x + rng.normal(size=a)[f] * 0.8 + 0.5 * rng.normal(size=b)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "a": f, "b": g})


@pytest.mark.parametrize("frame", [crossed(), crossed(n=1500, b=350)])
def test_a_plan_states_every_engine_and_the_fit_takes_the_one_it_names(frame):
    planned = flm.plan(FORMULA, frame)
    table = planned.engines
    assert [row.engine for row in table.rows] == ["dense", "sparse", "iterative"]
    for row in table.rows:
        assert min(row.nonzeros, row.flops, row.bytes, row.step_seconds) > 0
        assert row.fits and row.fit_seconds > row.step_seconds
    m = frame["b"].nunique()
    assert table.m == m and table.row("dense").nonzeros == m * (m + 1) // 2
    assert table.pairs == len(frame[["a", "b"]].drop_duplicates())
    fit = flm.lmer(FORMULA, frame)
    assert {"crossed": "dense"}.get(fit.engine, fit.engine) == table.engine
    assert fit.engine_reason.startswith(table.reason)
    text = str(planned)
    for column in ("nonzeros", "flops/step", "memory", "s/step", "s/fit", "* taken"):
        assert column in text


def test_the_counts_of_the_sparse_row_are_those_of_the_factor():
    frame = crossed(n=1200, b=350)
    row = flm.plan(FORMULA, frame).engines.row("sparse")
    fit = flm.lmer(FORMULA, frame, control=flm.Control(engine="sparse"))
    engine = fit._solved.objective.engine
    assert (row.nonzeros, row.bytes) == (engine.counts.nnz_L, engine.counts.sparse_bytes)
    assert fit.engine_reason.startswith("asked for; ")


def test_forced_and_nested_engines_and_statistics():
    frame = crossed()
    assert flm.plan(FORMULA, frame, control=flm.Control(engine="iterative")).engines.engine == "iterative"
    planned = flm.plan(FORMULA, frame)
    stats = planned.accumulate(frame)
    assert flm.plan(FORMULA, stats).engines == planned.engines
    with pytest.raises(FormulaError, match="these statistics are of"):
        flm.plan("y ~ x + (1 | a)", stats)
    one = flm.plan("y ~ x + (1 | a)", frame).engines
    assert one.engine == "collapsed" and [row.engine for row in one.rows] == ["collapsed", "tree"]
    assert flm.plan("y ~ x + (x | a)", frame).engines.engine == "tree"
    back = type(planned).from_json(planned.to_json())
    assert back.engines is None and back.key == planned.key
    assert "engines" not in json.loads(planned.to_json())


def test_what_does_not_fit_is_refused_with_the_figures_of_all_engines_before_it_exists(monkeypatch):
    frame = crossed()
    monkeypatch.setattr(schur_counts, "available_bytes", lambda: 30_000)
    monkeypatch.setattr(crossed_arrays, "available_bytes", lambda: 30_000)

    def made(*arguments, **settings):
        raise AssertionError("an engine was made")

    for name in ("iterative_arrays.iterative_arrays", "crossed.CrossedEngine", "iterative.IterativeEngine"):
        monkeypatch.setattr(f"fastlmm_core.mme.{name}", made)
    table = flm.plan(FORMULA, frame).engines
    assert table.engine == "iterative" and not any(row.fits for row in table.rows)
    assert str(table).count("does not fit in memory") == 3
    with pytest.raises(ModelError, match=r"need .* GB iteratively") as refusal:
        flm.lmer(FORMULA, frame)
    for row in table.rows:
        assert re.search(rf"{row.engine}\b.*does not fit", str(refusal.value))


def test_the_engine_that_fits_is_taken_where_another_does_not(monkeypatch):
    frame = crossed(n=1500, b=390)
    dense = flm.plan(FORMULA, frame).engines.row("dense").bytes
    row = flm.plan(FORMULA, frame).engines.row("iterative")
    assert row.bytes < dense
    for room in (schur_counts, crossed_arrays):
        monkeypatch.setattr(room, "available_bytes", lambda: row.bytes + 1)
    monkeypatch.setattr(schur_counts, "sparse_bytes", lambda cp, symbolic: row.bytes + 2)
    fit = flm.lmer(FORMULA, frame, control=flm.Control(probes=20))
    assert fit.engine == "iterative" and "no factor fits in memory" in fit.engine_reason


def test_engine_and_reason_are_kept_in_files_and_shown(tmp_path):
    fit = flm.lmer(FORMULA, crossed())
    flm.save(fit, tmp_path / "fit.flm")
    again = flm.load(tmp_path / "fit.flm")
    assert (again.engine, again.engine_reason) == (fit.engine, fit.engine_reason)
    assert fit.engine_reason in fit.check().frame["message"].iloc[0]


def test_sizes_are_counts():
    frame = crossed(n=500, a=60, b=30)
    frame["c"] = np.random.default_rng(0).integers(0, 12, len(frame))
    products = assemble(flm.plan("y ~ (x | a) + (1 | b) + (1 | c)", frame).accumulate(frame)).products
    sizes = sizes_of(products)
    b = frame.groupby("a")["b"].nunique() + frame.groupby("a")["c"].nunique()
    assert (sizes.m, sizes.k, sizes.levels, sizes.sets) == (42, 2, 60, 2)
    assert sizes.entries == b.sum() and sizes.work == 0.5 * (b**2).sum()
    assert sizes.own == 2 * len(frame[["b", "c"]].drop_duplicates())


def test_moments_start_near_the_optimum_and_are_their_expectations():
    frame = crossed(n=40_000, a=2000, b=500)
    fit = flm.lmer(FORMULA, frame)
    solved = fit._solved
    ratios = moment_ratios(solved.products, solved.fixed.kept)
    np.testing.assert_allclose(np.sqrt(ratios), fit.theta, rtol=0.1)
    assert fit.convergence.n_values <= 5


def test_probes_that_only_start_a_search_are_predicted_to_cost_less(monkeypatch):
    monkeypatch.setattr(choose, "SCOUT_SECONDS", 0.0)
    frame = crossed(n=60_000, a=4000, b=1200)
    fit = flm.lmer(FORMULA, frame)
    assert "started from probes" in fit.engine_reason
    plain = flm.lmer(FORMULA, frame, control=flm.Control(engine="dense"))
    np.testing.assert_allclose(fit.theta, plain.theta, rtol=1e-6)
    assert isinstance(fit._solved.objective.engine.scout(), IterativeEngine)
