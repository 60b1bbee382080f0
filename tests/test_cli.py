"""The command line: what it prints, what it writes, how it exits."""

import functools
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import fastlmm_core as flm
from fastlmm_core.cli import main
from fastlmm_core.cli.reading import read

pytest.importorskip("click")

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture
def run(capsys):
    """Call the command line; returns the exit code, stdout and stderr."""

    def call(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def sleep():
    return flm.load_dataset("sleepstudy")


def test_fit_prints_the_summary(run, sleep):
    code, out, err = run("fit", FORMULA, "dataset:sleepstudy")
    assert (code, err) == (0, "")
    sleep.attrs["name"] = "sleepstudy"
    assert out.rstrip("\n") == str(flm.lmer(FORMULA, sleep).summary())


def test_fit_json_is_the_documented_dict(run, sleep):
    code, out, _ = run("fit", FORMULA, "dataset:sleepstudy", "--ml", "--json")
    expected = flm.lmer(FORMULA, sleep, reml=False).summary().to_dict()
    found = json.loads(out)
    found.pop("seconds"), expected.pop("seconds")
    assert code == 0 and found == expected and found["schema"] == 1


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "feather", "arrow"])
def test_files_of_every_kind(run, sleep, tmp_path, ending):
    path = tmp_path / f"sleep.{ending}"
    table = sleep.assign(Subject="s" + sleep["Subject"].astype(str))
    if ending in ("csv", "tsv"):
        table.to_csv(path, sep="," if ending == "csv" else "\t", index=False)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet(path) if ending == "parquet" else table.to_feather(path)
    code, out, _ = run("fit", FORMULA, path, "--json")
    found = {row["term"]: row["estimate"] for row in json.loads(out)["fixed_effects"]}
    assert code == 0 and found["Days"] == pytest.approx(10.467286, abs=1e-5)
    assert list(tmp_path.iterdir()) == [path]


def test_predict_with_corrected_errors(run, sleep, tmp_path):
    model, new = tmp_path / "m.flm", tmp_path / "new.csv"
    assert run("fit", FORMULA, "dataset:sleepstudy", "--save", model)[0] == 0
    sleep.head(3).assign(Subject=["308", "nobody", "308"]).to_csv(new, index=False)
    options = ("--se", "--new-levels", "missing", "--correction", "prasad-rao")
    code, out, err = run("predict", model, new, *options)
    found = pd.read_csv(io.StringIO(out))
    assert (code, err) == (0, "") and found["se"].isna().tolist() == [False, True, False]
    fit = flm.lmer(FORMULA, sleep)
    expected = fit.predict(sleep.head(3), se=True, correction="prasad-rao")["se"]
    np.testing.assert_allclose(found["se"][[0, 2]], expected[[0, 2]], rtol=1e-9)
    code, _, err = run("predict", model, new, "--correction", "prasad-rao")
    assert code == 2 and "--se" in err


def test_plan_as_json(run, tmp_path):
    formula = "y ~ service + (1 | s) + (1 | d)"
    code, out, err = run("plan", formula, "dataset:InstEval", "--ml", "--json")
    found, planned = json.loads(out), flm.plan(formula, flm.load_dataset("InstEval"), reml=False)
    assert (code, err, found["schema"], found["method"], found["formula"]) == (0, "", 1, "ML", formula)
    assert found["fixed"] == ["Intercept", "service[T.1]"]
    assert [(r["group"], r["terms"]) for r in found["random"]] == [("s", ["Intercept"]), ("d", ["Intercept"])]
    levels = {name: expected.levels for name, expected in planned.expected.items()}
    assert {group["name"]: group["levels"] for group in found["groups"]} == levels
    assert found["factors"] == [{"name": "service", "levels": ["0", "1"]}]
    assert found["data"]["rows"] == 73421 and found["weights"] is None
    assert found["bytes"]["peak"] == planned.forecast().peak
    assert found["engine"] == {"name": planned.engines.engine, "reason": planned.engines.reason}
    assert [row["engine"] for row in found["engines"]] == [row.engine for row in planned.engines.rows]
    flm.load_dataset("sleepstudy").to_csv(tmp_path / "part.csv", index=False)
    files = str(tmp_path / "*.csv")
    code, out, _ = run("plan", FORMULA, files, "--json")
    assert code == 0 and json.loads(out)["data"]["source"] == flm.plan(FORMULA, files).source


def test_files_by_pattern_are_read_in_batches(run, sleep, tmp_path):
    for part in range(3):
        sleep.iloc[part * 60 : part * 60 + 60].to_csv(tmp_path / f"p{part}.csv", index=False)
    code, out, err = run("fit", FORMULA, tmp_path / "p*.csv", "--json")
    assert code == 0 and json.loads(out)["rows"]["used"] == 180, err


def test_save_predict_and_report(run, sleep, tmp_path):
    model, page, output = tmp_path / "m.flm", tmp_path / "r.html", tmp_path / "p.csv"
    assert run("fit", FORMULA, "dataset:sleepstudy", "--save", model, "--report", page)[0] == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert run("predict", model, "dataset:sleepstudy", "-o", output)[:2] == (0, "")
    fit = flm.lmer(FORMULA, sleep)
    np.testing.assert_allclose(pd.read_csv(output).iloc[:, 0], fit.fittedvalues)
    code, out, _ = run("predict", model, "dataset:sleepstudy", "--re", "none", "--interval", "mean")
    assert code == 0 and out.splitlines()[0] == "mean,se,lower,upper" and len(out.splitlines()) == 181
    expected = fit.predict(sleep, re="none", interval="mean")
    np.testing.assert_allclose([float(v) for v in out.splitlines()[1].split(",")], expected.iloc[0])


def test_predict_writes_parquet(run, sleep, tmp_path):
    pytest.importorskip("pyarrow")
    model, output = tmp_path / "m.flm", tmp_path / "p.parquet"
    run("fit", FORMULA, "dataset:sleepstudy", "--save", model)
    assert run("predict", model, "dataset:sleepstudy", "-o", output)[0] == 0
    assert len(pd.read_parquet(output)) == 180


def test_without_random_terms(run, tmp_path):
    model = tmp_path / "m.flm"
    code, out, _ = run("fit", "Reaction ~ Days", "dataset:sleepstudy", "--save", model)
    assert code == 0 and "least squares" in out
    code, out, _ = run("predict", model, "dataset:sleepstudy")
    assert code == 0 and float(out.splitlines()[1]) == pytest.approx(251.405105)


def test_not_converged(run, monkeypatch):
    short = functools.partial(flm.lmer, control=flm.Control(max_iter=1))
    monkeypatch.setattr(flm, "lmer", short)
    data, formula = "dataset:InstEval", "y ~ (1 | s) + (1 | d)"
    code, out, err = run("fit", formula, data)
    assert code == 3 and "NOT converged" in out and err.startswith("warning: NOT converged")


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["fit", "Reaction ~ Dayz + (1 | Subject)", "dataset:sleepstudy"], 1, "did you mean 'Days'"),
        (["fit", "Reaction ~ Days + (Days | Subject", "dataset:sleepstudy"], 1, "not closed"),
        (["fit", "Reaction ~ Days", "dataset:sleepstudy", "--ml"], 1, "--ml is for models with random terms"),
        (["fit", FORMULA, "nowhere.csv"], 1, "no file 'nowhere.csv'"),
        (["fit", FORMULA, "dataset:slepstudy"], 1, "did you mean 'sleepstudy'"),
        (["fit", FORMULA, "dataset:sleepstudy", "--save", "no/where/m"], 1, "no folder no/where"),
        (["predict", __file__, "dataset:sleepstudy"], 1, "cannot be read as a saved fit"),
        (["predict", "nowhere.flm", "dataset:sleepstudy"], 1, "nowhere.flm"),
        (["predict", "m", "dataset:sleepstudy", "-o", "x.docx"], 1, "written as .csv"),
        (["fit", FORMULA], 2, "Missing argument 'DATA'"),
        (["fit", "--nonsense"], 2, "--nonsense"),
        (["nonsense"], 2, "nonsense"),
        (["predict", "m", "d", "--level", "2"], 2, "--level"),
    ],
)
def test_errors_are_one_line(run, arguments, code, words):
    found, out, err = run(*arguments)
    assert (found, out) == (code, "") and words in err
    assert err.count("\n") == 1 and err.startswith("fastlmm") and "Traceback" not in err


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", b"", "a.csv cannot be read: No columns"),
        ("a.csv", b"Reaction,Days,Subject\n1,2,a\n1,2,a,b\n", "a.csv cannot be read"),
        ("a.csv", b"Reaction,Days,Subject\n1,2,M\xfcller\n", "a.csv cannot be read: it is not in UTF-8"),
        ("a.csv", b"Reaction;Days;Subject\n1;2;a\n", "a file separated by ';' is read by"),
        ("a.csv", b"Reaction,Days,Subject\n", "the data have no rows"),
        ("a.parquet", b"nonsense", "a.parquet cannot be read"),
        ("a.feather", b"nonsense", "a.feather cannot be read"),
        ("a.xlsx", b"PK", "a.xlsx is no file of a known kind"),
    ],
)
def test_files_that_cannot_be_read_are_named(run, tmp_path, name, content, words):
    if name.endswith(("parquet", "feather")):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    code, out, err = run("fit", "Reaction ~ Days + (1 | Subject)", tmp_path / name)
    assert (code, out) == (1, "") and words in err and err.count("\n") == 1


def test_formula_and_data_the_wrong_way_round(run):
    code, _, err = run("fit", "a.csv", FORMULA)
    assert code == 1 and "the formula comes first, then the data" in err


def test_warnings_are_lines(run, sleep, tmp_path):
    path = tmp_path / "d.csv"
    sleep.assign(twice=2 * sleep["Days"]).to_csv(path, index=False)
    code, _, err = run("fit", "Reaction ~ Days + twice + (1 | Subject)", path)
    assert code == 0 and err.startswith("warning: ") and "twice" in err and err.count("\n") == 1


def test_numbers_kept_as_text_are_told(run, sleep, tmp_path):
    path = tmp_path / "d.csv"
    sleep.assign(Days="d" + sleep["Days"].astype(str)).to_csv(path, index=False)
    assert run("fit", "Reaction ~ Days + (1 | Subject)", path)[2] == ""
    code, _, err = run("fit", "Reaction ~ Subject^2 + (1 | Subject)", "dataset:sleepstudy")
    assert code == 0 and err.startswith("warning: Subject^2 is the term Subject") and err.count("\n") == 2


def test_files_of_many_rows_are_read_in_batches(run, sleep, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    path = tmp_path / "sleep.parquet"
    sleep.to_parquet(path)
    monkeypatch.setattr("fastlmm_core.cli.reading.MOST_ROWS", 100)
    assert read(str(path)) == str(path)
    code, out, err = run("fit", FORMULA, path, "--json", "--progress")
    assert code == 0 and json.loads(out)["rows"]["used"] == 180 and "180" in err


def test_bench(run):
    code, out, err = run("bench", "--rows", "2000", "--repeats", "1", "--json")
    records = json.loads(out)
    assert (code, err) == (0, "") and [one["model"] for one in records] == ["sleepstudy", "nested", "crossed"]
    assert all(one["converged"] and one["seconds"] > 0 for one in records)
    assert all(abs(one["error_in_se"]) < 4 for one in records[1:])
    code, out, _ = run("bench", "--rows", "2000", "--repeats", "1")
    assert code == 0 and len(out.splitlines()) == 4 and "y ~ x + (x | g)" in out


def test_exit_codes_are_in_the_help(run):
    for command in ([], ["fit"]):
        out = run(*command, "--help")[1]
        assert all(f"  {code} " in out for code in (0, 1, 2, 3, 130)), out


def test_tables_in_a_terminal(run, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setattr("fastlmm_core.cli.show.in_colours", lambda: True)
    monkeypatch.setattr("fastlmm_core.cli.commands.in_colours", lambda: True)
    code, out, _ = run("fit", FORMULA, "dataset:sleepstudy")
    assert code == 0 and "───" in out and "10.467" in out and "24.740" in out
    code, out, _ = run("datasets")
    assert code == 0 and "───" in out and "sleepstudy" in out


def test_progress_of_stages(run):
    code, _, err = run("fit", FORMULA, "dataset:sleepstudy", "--progress")
    assert code == 0 and "done" in err
    assert run("fit", FORMULA, "dataset:sleepstudy", "--no-progress")[2] == ""


def test_plan(run):
    code, out, _ = run("plan", FORMULA, "dataset:sleepstudy")
    assert code == 0 and out.startswith(f"Plan of {FORMULA}")


def test_datasets(run):
    code, out, _ = run("datasets")
    assert code == 0 and len(out.splitlines()) == len(flm.list_datasets())
    listed = json.loads(run("datasets", "--json")[1])
    assert listed[0].keys() == {"name", "rows", "description", "source"}


def test_help_and_version(run):
    assert run("--version") == (0, f"fastlmm, version {flm.__version__}\n", "")
    code, out, _ = run("fit", "--help")
    assert code == 0 and "--report" in out and "summary().to_dict()" in out
    assert run()[0] == 2


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fastlmm_core.cli", "datasets"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.startswith("sleepstudy")


def test_without_click(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "click", None)
    assert main(["datasets"]) == 1
    assert (
        capsys.readouterr().err == "fastlmm: the command line needs click: pip install 'fastlmm_core[cli]'\n"
    )
