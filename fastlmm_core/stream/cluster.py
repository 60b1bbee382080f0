"""The pass on a Dask cluster: one task per partition or file, statistics added up in a tree.

Workers need this package; what travels is the plan and statistics, not rows.
"""

from ..errors import DataError, MissingDependencyError
from .accumulator import Accumulator
from .files import source_of_files
from .pipeline import accumulate
from .plan import Plan
from .sources import Source
from .statistics import CrossProducts

FAN_IN = 8  # statistics merged by one task


def accumulate_anywhere(plan: Plan, data, source: Source, client, **options) -> CrossProducts:
    """The pass where it belongs: on Dask for its frames and with a client, else in this process."""
    if client is None and type(data).__module__.partition(".")[0] != "dask":
        return accumulate(plan, source, **options)
    if options.get("checkpoint") is not None:
        raise DataError("a checkpoint is for files read by one process: leave out checkpoint or client")
    return accumulate_on_cluster(plan, data, source, client)


def accumulate_on_cluster(plan: Plan, data, source: Source, client=None) -> CrossProducts:
    """Statistics of a Dask DataFrame or of files, by the workers of ``client``.

    Parameters
    ----------
    client : dask.distributed.Client or None
        None for Dask's own scheduler.

    Raises
    ------
    DataError
        Data that Dask cannot share out, or rows that cannot be used.
    """
    try:
        import dask
    except ImportError:
        raise MissingDependencyError('client= needs Dask: pip install "dask[distributed]"') from None
    shared = dask.delayed(plan, pure=False)
    if type(data).__module__.partition(".")[0] == "dask":
        parts = data[list(plan.columns)].to_delayed()
        tasks = [dask.delayed(_partition, pure=False)(shared, part, at) for at, part in enumerate(parts)]
    elif source.files:
        tasks = [dask.delayed(_file, pure=False)(shared, file) for file in source.files]
    else:
        raise DataError(
            f"client= shares out a Dask DataFrame or files, and the data are a {source.kind}: "
            "write them to Parquet files, or leave client out"
        )
    while len(tasks) > 1:
        groups = [tasks[at : at + FAN_IN] for at in range(0, len(tasks), FAN_IN)]
        tasks = [dask.delayed(_merge, pure=False)(group) for group in groups]
    if client is None:
        return dask.compute(tasks[0])[0]
    return client.compute(tasks[0]).result()


def _partition(plan, frame, at):
    total = Accumulator(plan, 1)
    total.add(frame, f"partition {at}")
    return total.finish(last=True)


def _file(plan, file):
    return accumulate(plan, source_of_files([file], file.path), n_threads=1)


def _merge(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total
