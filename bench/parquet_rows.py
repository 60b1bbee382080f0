"""Clustered rows as Parquet files, drawn and written in a stream, some gigabytes without the memory.

y = level of f + 0.5 x - 0.25 x2 + b_g [+ c_g x] + e,   b_g, c_g ~ N(0, 1/2),   e ~ N(0, 1)
"""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

CHUNK = 1 << 20  # rows drawn at once, and rows of a row group
COLUMNS = ["y", "f", "x", "x2", "g"]


def generate(folder, rows, groups, files, slope, seed=1, processes=1, plain=False, first=0):
    """Write ``files`` Parquet files of a random-intercept (or slope) model, keys in random order.

    The rows depend on ``seed`` and the numbers alone.  The groups' effects depend on ``seed``: files numbered
    from ``first`` on hold other rows of the same groups.  ``plain`` writes numbers neither packed nor as
    dictionaries, which is fast.
    """
    bounds = np.arange(files + 1) * rows // files
    tasks = [
        (Path(folder, f"{at:04d}.parquet"), int(hi - lo), groups, slope, seed, at, plain)
        for at, (lo, hi) in enumerate(zip(bounds, bounds[1:], strict=False), first)
    ]
    if processes == 1:
        for task in tasks:
            _file(task)
        return
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_file, tasks))


def _file(task):
    import pyarrow.parquet as pq

    path, rows, groups, slope, seed, at, plain = task
    rng = np.random.default_rng([seed, at])
    options = {"use_dictionary": ["f"], "compression": "none"} if plain else {}
    b = np.random.default_rng(seed).standard_normal((groups, 2 if slope else 1)) * np.sqrt(0.5)
    writer = None
    for start in range(0, rows, CHUNK):
        table = chunk(rng, min(CHUNK, rows - start), b, groups)
        writer = writer or pq.ParquetWriter(path, table.schema, **options)
        writer.write_table(table)
    writer.close()


def chunk(rng, n, b, groups):
    """``n`` rows as a pyarrow Table; ``b`` (groups, 1 or 2) are the effects of the groups."""
    import pyarrow as pa

    level = rng.integers(0, 3, n)
    x, x2, y = rng.standard_normal((3, n))
    g = rng.integers(0, groups, n)
    y += np.array([1.0, 1.3, 0.8])[level] + 0.5 * x - 0.25 * x2
    for column in range(b.shape[1]):
        y += b[:, column].take(g) * (x if column else 1.0)
    f = pa.DictionaryArray.from_arrays(pa.array(level, pa.int8()), ["a", "b", "c"])
    return pa.table({"y": y, "f": f, "x": x, "x2": x2, "g": g + 1})
