"""What takes a first pass, what does not, and that it is said."""

import numpy as np
import pandas as pd
import pytest
from stream.stream_data import assert_same_fit, batches, without_bars

import fastlmm_core as flm
from fastlmm_core.stream.ahead import ahead
from fastlmm_core.stream.look import look_through
from fastlmm_core.stream.sources import open_source
from fastlmm_core.streaming import fit_stream

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def watched(data):
    """A source, and the columns of each reading of it to the end."""
    source, passes = open_source(data), []
    read = source.read

    def counted(columns, rows, skip):
        yield from read(columns, rows, skip)
        passes.append(tuple(sorted(columns)))

    source.read = counted
    return source, passes


def stream(formula, source, progress=None):
    """As `lmer` fits data in batches."""
    defaults = {"reml": True, "weights": None, "contrasts": None, "na_action": "drop", "start": None}
    options = dict.fromkeys(("control", "n_threads", "checkpoint", "client"))
    return fit_stream(formula, source, progress=progress, **defaults, **options)


def test_numbers_and_known_categories_take_one_pass(data):
    source, passes = watched(batches(data))
    stream("y ~ x + (1 | g)", source)
    assert passes == [("g", "x", "y")]
    known = data.assign(f=pd.Categorical(data["f"]))
    source, passes = watched(batches(known))
    assert_same_fit(stream("y ~ x + f + (1 | g)", source), flm.lmer("y ~ x + f + (1 | g)", data))
    assert passes == [("f", "g", "x", "y")]


def test_text_and_transforms_take_a_pass_over_their_columns(data):
    source, passes = watched(batches(data))
    stream("y ~ poly(x, 2) + f + (1 | g)", source)
    assert passes == [("f", "x"), ("f", "g", "x", "y")]


def test_plans_and_progress_say_what_was_learned(data, capsys, monkeypatch):
    without_bars(monkeypatch)
    plan = flm.plan("y ~ poly(x, 2) + f + (1 | g)", data)
    assert set(plan.learned) == {"poly(x, 2)", "f"}
    assert "first pass" in str(plan) and "poly(x, 2)" in str(plan).partition("first pass")[2]
    assert flm.plan("y ~ x + (1 | g)", data).learned == ()
    assert "first pass" not in str(flm.plan("y ~ x + (1 | g)", data))
    again = type(plan).from_json(plan.to_json())
    assert (again.learned, again.expected) == (plan.learned, plan.expected)
    flm.lmer("y ~ poly(x, 2) + (1 | g)", batches(data), progress=True)
    told = capsys.readouterr().err
    assert "first pass, poly(x, 2): 2,400 rows" in told and "rows/s" in told
    seen = []
    stream("y ~ f + (1 | g)", open_source(data), progress=lambda *what: seen.append(what))
    assert ("design", 0.4) in seen and ("cross-products", 0.6) in seen


def test_categories_that_later_files_add(data, tmp_path):
    """Dictionaries of the first row group need not be complete: then all are learned after all."""
    order = data.sort_values("f", kind="stable").reset_index(drop=True)
    for part in range(3):
        rows = order.iloc[part * 800 : part * 800 + 800]
        rows = rows.assign(f=pd.Categorical(rows["f"]))
        rows.to_parquet(tmp_path / f"{part}.parquet")
    found = flm.lmer("y ~ x + f + (1 | g)", tmp_path)
    assert_same_fit(found, flm.lmer("y ~ x + f + (1 | g)", order))


@pytest.mark.parametrize("threads", [1, 3])
def test_looks_in_threads_add_up_in_order(data, threads, monkeypatch):
    """Categories get the order of their first appearance, moments the same bits."""
    parts = [data.iloc[at : at + 300] for at in range(0, len(data), 300)]
    parts = [
        part.assign(f=pd.Categorical(part["f"], ["c", "a", "b", f"only {i}"])) for i, part in enumerate(parts)
    ]
    monkeypatch.setattr("fastlmm_core.stream.look.WHOLE_BYTES", 1000)
    from fastlmm_core.formula.parse import parse_formula
    from fastlmm_core.stream.learn import learn

    def look_at(look, source):
        return look_through(look, source, n_threads=threads)

    parsed = parse_formula("y ~ f + poly(x, 2) + (1 | g)")
    found = learn(parsed, open_source(lambda: iter(parts)), parts[0], look_at=look_at)
    alone = learn(parsed, open_source(lambda: iter(parts)), parts[0])
    assert list(found.levels[0]) == ["c", "a", "b"]
    assert repr(found.states) == repr(alone.states)


def test_an_error_in_a_look_names_the_batch_and_stops(data):
    parts = [data.iloc[:1200], data.iloc[1200:].assign(x="text")]
    with pytest.raises(flm.FastLMMError, match="table 2"):
        flm.lmer("y ~ poly(x, 2) + (1 | g)", lambda: iter(parts))


def test_batches_come_in_order():
    assert [batch for batch in ahead(iter(range(20)))] == list(range(20))


def test_moments_of_parts_are_those_of_all():
    from fastlmm_core.formula.algebra import Piece
    from fastlmm_core.stream.moments import Moments, center_and_scale, recipe

    rng = np.random.default_rng(1)
    x, how = rng.normal(1e3, 5, 900), recipe(Piece("poly(x, 3)", False))
    about = center_and_scale(x[:100])
    whole, parts = Moments(how, *about), Moments(how, *about)
    whole.add(x)
    for part in np.split(x, 3):
        one = Moments(how, *about)
        one.add(part)
        parts.merge(one)
    for a, b in zip(whole._recurrence(), parts._recurrence(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
