"""The classic data sets of the mixed-model literature, as pandas frames.

``index.json`` holds a description, the source and the level order of every
factor: ``"number"`` and ``"text"`` stand for the sorted values, a list for
an order of its own.
"""

import difflib
import json
from importlib import resources

import pandas as pd

from ..errors import DataError


def _index() -> dict:
    return json.loads(resources.files(__name__).joinpath("index.json").read_text(encoding="utf-8"))


def list_datasets() -> pd.DataFrame:
    """Return what ships with the package.

    Returns
    -------
    DataFrame
        One row per data set, indexed by the name that `load_dataset` takes,
        with columns ``rows``, ``description`` and ``source``.
    """
    columns = ["rows", "description", "source"]
    index = _index()
    rows = [[entry[column] for column in columns] for entry in index.values()]
    return pd.DataFrame(rows, index=list(index), columns=columns)


def load_dataset(name: str) -> pd.DataFrame:
    """Return a data set that ships with the package.

    Parameters
    ----------
    name : str
        One of the names in `list_datasets`, as R spells it.

    Returns
    -------
    DataFrame
        R's columns under R's names.  Factors are categoricals of strings with
        R's order of levels, so the first level is the reference of treatment
        contrasts; R's ordered factors come as plain categoricals.

    Raises
    ------
    DataError
        (a ValueError) if there is no such data set; the message names the nearest ones.
    """
    index = _index()
    if name not in index:
        names = {known.lower(): known for known in index}
        near = [names[match] for match in difflib.get_close_matches(str(name).lower(), names, n=3)]
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(index)}."
        raise DataError(f"no data set is called {name!r}: {hint}")
    factors = index[name]["factors"]
    folder = resources.files(__name__)
    file = next(f for f in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if f.is_file())
    compression = "gzip" if file.name.endswith(".gz") else None
    with file.open("rb") as stream:
        frame = pd.read_csv(stream, compression=compression, dtype=dict.fromkeys(factors, "category"))
    for column, order in factors.items():
        frame[column] = _in_order(frame[column], order)
    return frame


def _in_order(values: pd.Series, order: str | list[str]) -> pd.Series:
    """Give a categorical its levels, as strings in the order of the index file."""
    values = values.cat.rename_categories([str(level) for level in values.cat.categories])
    if isinstance(order, str):
        order = sorted(values.cat.categories, key=float if order == "number" else str)
    return values.cat.set_categories(order)
