"""The commands: they call the public names of the package and print."""

import json
import re
import sys
import warnings
from pathlib import Path

import click
import pandas as pd

import fastlmm_core as flm

from . import NOT_CONVERGED, OK
from .bench import measure
from .planned import plan_values
from .reading import SHIPPED, one_line, read
from .show import in_colours, show_summary, show_table, stages

WARNINGS = (
    flm.RankWarning, flm.ConvergenceWarning, flm.MonteCarloWarning,
    flm.errors.DataWarning, flm.errors.ModelWarning,
)  # fmt: skip
HELP = {"help_option_names": ["-h", "--help"]}


EXIT = """\b
Exit codes:
  0    done
  1    the model, the data or a file is at fault; one line on stderr says how
  2    the command was called wrongly
  3    the fit did not converge; its results are printed all the same
  130  interrupted
"""


@click.group(context_settings=HELP, epilog=EXIT)
@click.version_option(flm.__version__, "-V", "--version", prog_name="fastlmm")
def commands():
    """Linear mixed models: lme4's formulas, Satterthwaite tests, certified optima.

    DATA is a path (CSV, Parquet, Arrow, Feather; also globs and folders) or a shipped data set,
    as dataset:sleepstudy.
    """


@commands.command(epilog=EXIT)
@click.argument("formula")
@click.argument("data")
@click.option("--ml", is_flag=True, help="Maximum likelihood in place of REML.")
@click.option("--weights", metavar="COLUMN", help="Column of prior weights.")
@click.option("--save", type=click.Path(dir_okay=False), help="Write the fit to this file, for predict.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write a page about the fit (HTML).")
@click.option(
    "--json", "as_json", is_flag=True, help="Print plain values (schema 1) in place of the summary."
)
@click.option(
    "--progress/--no-progress", default=None, help="Show progress on stderr; by default in terminals."
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False),
    help="Save sums here after each complete file of DATA, and go on from there when run again.",
)
def fit(formula, data, ml, weights, save, report, as_json, progress, checkpoint):
    """Fit FORMULA to DATA; without random terms, by least squares.

    --json prints what summary().to_dict() documents: formula, rows, fixed_effects, random_effects, criteria,
    convergence, seconds; numbers that are missing are null.
    """
    for path in (save, report, checkpoint):
        if path and not Path(path).absolute().parent.is_dir():
            raise flm.DataError(f"there is no folder {Path(path).parent} to write {Path(path).name} in")
    table = data if checkpoint and not data.startswith(SHIPPED) else read(data)
    result = _told(_fitted, formula, table, ml, weights, progress, checkpoint)
    if save:
        flm.save(result, save)
    if report:
        result.report(report)
    summary = result.summary()
    if as_json:
        click.echo(json.dumps(summary.to_dict(), indent=2, allow_nan=False))
    else:
        show_summary(summary)
    return OK if getattr(result, "converged", True) else NOT_CONVERGED


def _fitted(formula, table, ml, weights, progress, checkpoint):
    if not _has_bars(formula):
        if ml:
            raise flm.FormulaError("--ml is for models with random terms like (1 | group)")
        if isinstance(table, str):
            raise flm.DataError("models without random terms are fitted to one file that fits in memory")
        return flm.lm(formula, table, weights=weights)
    if isinstance(table, str):  # in batches: rows, rows per second and the time left
        shown = sys.stderr.isatty() if progress is None else progress
        return flm.lmer(
            formula, table, reml=not ml, weights=weights, progress=shown or None, checkpoint=checkpoint
        )
    with stages(progress) as told:
        return flm.lmer(formula, table, reml=not ml, weights=weights, progress=told, checkpoint=checkpoint)


def _has_bars(formula: str) -> bool:
    return "|" in re.sub(r"`[^`]*`", "", formula)


def _told(work, *arguments):
    """Call, with its warnings as lines on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        for kind in WARNINGS:
            warnings.simplefilter("always", kind)
        result = work(*arguments)
    for warning in caught:
        click.echo(f"warning: {one_line(warning.message)}", err=True)
    return result


@commands.command()
@click.argument("model", type=click.Path())
@click.argument("data")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help=".csv, .parquet or .arrow; CSV to stdout."
)
@click.option("--re", "effects", default="all", show_default=True, help="all, none, or groups: a,b.")
@click.option(
    "--new-levels", type=click.Choice(["error", "population", "missing"]), default="error", show_default=True
)
@click.option("--se", is_flag=True, help="Also standard errors.")
@click.option("--interval", type=click.Choice(["mean", "observation", "new_cluster"]))
@click.option("--level", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True)
@click.option(
    "--correction", type=click.Choice(["kackar-harville", "prasad-rao"]),
    help="Of the errors, for variance parameters that are estimated.",
)
def predict(model, data, output, effects, new_levels, se, interval, level, correction):
    """Predict the rows of DATA with the fit in the file MODEL (made by fit --save).

    Writes a row for each row of DATA, in its order: predicted, or mean, se, lower, upper.
    """
    if output and Path(output).suffix.lower() not in (".csv", ".parquet", ".arrow", ".feather"):
        raise flm.DataError(f"{output}: predictions are written as .csv, .parquet or .arrow")
    fitted = flm.load(model)
    options = {"re": effects if effects in ("all", "none") else effects.split(",")}
    options |= {"new_levels": new_levels, "se": se, "interval": interval, "level": level}
    options |= {"correction": correction}
    if correction and not (se or interval):
        raise click.UsageError("--correction is of errors: ask for --se or --interval")
    if isinstance(fitted, flm.LMResults):
        if se or interval:
            raise flm.ModelError("standard errors and intervals are for models with random terms")
        options = {}
    table = read(data)
    if output and options:
        fitted.predict(table, out=output, **options)
        return OK
    found = fitted.predict(table, **options)
    _write(found.to_frame() if isinstance(found, pd.Series) else found, output)
    return OK


def _write(frame: pd.DataFrame, output) -> None:
    kind = Path(output).suffix.lower() if output else ""
    if not output:
        click.echo(frame.to_csv(index=False), nl=False)
    elif kind == ".csv":
        frame.to_csv(output, index=False)
    elif kind == ".parquet":
        frame.to_parquet(output, index=False)
    else:
        frame.reset_index(drop=True).to_feather(output)


@commands.command()
@click.argument("formula")
@click.argument("data")
@click.option("--ml", is_flag=True, help="Maximum likelihood in place of REML.")
@click.option("--weights", metavar="COLUMN", help="Column of prior weights.")
@click.option("--json", "as_json", is_flag=True, help="Print plain values (schema 1) in place of text.")
def plan(formula, data, ml, weights, as_json):
    """Say what a fit of FORMULA to DATA would do: terms, levels, sizes, engine; without fitting.

    --json prints formula, method, fixed, random, factors, groups, weights, data, bytes, engine, engines and
    seconds; numbers that are not known are null.
    """
    planned = _told(lambda: flm.plan(formula, read(data), reml=not ml, weights=weights))
    click.echo(json.dumps(plan_values(planned), indent=2, allow_nan=False) if as_json else str(planned))


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def datasets(as_json):
    """List the data sets that ship with the package."""
    table = flm.list_datasets()
    if as_json:
        records = [{"name": name, **row} for name, row in zip(table.index, table.to_dict("records"))]
        click.echo(json.dumps(records, indent=2))
        return
    if in_colours():
        rows = [[name, row["rows"], row["description"]] for name, row in table.iterrows()]
        show_table("Data sets", ["name", "rows", "description"], rows, left=(0, 2))
        return
    width = max(map(len, table.index))
    for name, row in table.iterrows():
        click.echo(f"{name:<{width}}  {row['rows']:>6}  {row['description']}")


@commands.command()
def demo():
    """Fit two classic data sets and show what a fit says."""
    from fastlmm_core.demo import main

    main()


@commands.command()
@click.option("--rows", type=click.IntRange(1_000, 100_000_000), default=200_000, show_default=True)
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def bench(rows, repeats, as_json):
    """Measure how long fits take on this machine: a classic data set, and simulated ones of --rows rows.

    The last column says how many standard errors the slope is from the one that was simulated.
    """
    records = measure(rows, repeats)
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    header = ["model", "formula", "rows", "seconds", "rows/s", "error in se"]
    cells = [
        [
            one["model"], one["formula"], f"{one['rows']:,}", f"{one['seconds']:.4f}",
            f"{one['rows_per_second']:,.0f}",
            "" if one["error_in_se"] is None else f"{one['error_in_se']:.2f}",
        ]
        for one in records
    ]  # fmt: skip
    show_table(f"Median of {repeats} fits", header, cells, left=(0, 1))
