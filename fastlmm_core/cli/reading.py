"""Names on the command line -> tables, and errors -> lines."""

from pathlib import Path

import pandas as pd

import fastlmm_core as flm

SHIPPED = "dataset:"

IN_MEMORY, MOST_ROWS = 256 * 2**20, 5_000_000
"""Files up to these bytes and rows are read whole, which lets a report draw them; larger ones in batches."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}
ARROW = (".parquet", ".pq", ".arrow", ".feather", ".ipc")


def read(source: str):
    """The table that a name stands for.

    Parameters
    ----------
    source : ``dataset:NAME``, or whatever path `lmer` takes: a file, glob or folder.

    Returns
    -------
    DataFrame, or the path itself for data that are better read in batches.
    """
    if source.startswith(SHIPPED):
        name = source[len(SHIPPED) :]
        frame = flm.load_dataset(name)
        frame.attrs["name"] = name
        return frame
    path = Path(source)
    if not path.is_file():
        if path.is_dir() or any(mark in source for mark in "*?["):
            return source
        if "~" in source:
            raise flm.DataError(f"there is no file {source!r}: the formula comes first, then the data")
        raise flm.DataError(f"there is no file {source!r}; shipped data are named {SHIPPED}sleepstudy")
    if path.stat().st_size > IN_MEMORY:
        return source
    try:
        frame = _frame(path)
    except UnicodeDecodeError as error:
        raise flm.DataError(f"{path.name} cannot be read: it is not in UTF-8 ({error})") from error
    except flm.FastLMMError:
        raise
    except (ValueError, OSError) as error:  # what readers of CSV and of Arrow files raise
        raise flm.DataError(f"{path.name} cannot be read: {error}") from error
    if frame is None:
        return source
    frame.attrs["name"] = path.name
    return frame


def _frame(path: Path):
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == ".gz"
    kind = suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    if kind in SEPARATORS:
        return pd.read_csv(path, sep=SEPARATORS[kind])
    if kind not in ARROW or packed:
        return None
    try:
        import pyarrow.feather
        import pyarrow.parquet
    except ImportError:
        raise flm.DataError(
            f"reading {path.name} needs pyarrow: pip install 'fastlmm_core[io]', or use CSV"
        ) from None
    if kind in (".parquet", ".pq"):
        if pyarrow.parquet.read_metadata(path).num_rows > MOST_ROWS:
            return None
        return pyarrow.parquet.read_table(path).to_pandas()
    return pyarrow.feather.read_table(path).to_pandas()


def one_line(error) -> str:
    """An error's message on one line; drawings of the place in a formula are left out."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line.strip("^~ ")) or type(error).__name__
