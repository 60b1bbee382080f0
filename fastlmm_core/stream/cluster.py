"""Passes on a Dask cluster: one task per partition or share of the files, results added up in a tree.

Workers need this package; what travels is the plan and sums, not rows.  A task uses one
thread, decoding included, so that a cluster's own count of threads holds.
"""

from functools import partial

from ..data.arrow import pa
from ..errors import DataError, MissingDependencyError
from .accumulator import Accumulator
from .files import shared_out, source_of_files
from .look import look_through
from .pipeline import accumulate
from .plan import Plan
from .progress import reporter
from .sources import Source
from .statistics import CrossProducts

FAULTS = (OSError,) if pa is None else (OSError, pa.ArrowException)
FAN_IN = 4  # results merged by one task
PER_THREAD = 2  # shares of files per thread: fewer have less to merge, more lose less with a worker


def is_dask(data) -> bool:
    """Whether ``data`` is a Dask collection."""
    return type(data).__module__.partition(".")[0] == "dask"


def accumulate_anywhere(
    plan: Plan, data, source: Source, client=None, *, onto=None, checkpoint=None, progress=None,
    n_threads=None,
) -> CrossProducts:  # fmt: skip
    """The pass where it belongs: on Dask for its frames and with a client, else in this process."""
    elsewhere = client is not None or is_dask(data)
    if not isinstance(onto, CrossProducts | None):
        raise TypeError(f"onto takes CrossProducts, found {type(onto).__name__}")
    if checkpoint is not None and onto is not None:
        raise DataError(
            "a checkpoint holds all rows of a run: leave it out where rows are added onto other statistics"
        )
    if checkpoint is not None and elsewhere:
        raise DataError(
            "a checkpoint is for files read by one process: leave it out, since Dask does again what a lost "
            "worker had done, or leave client out"
        )
    if checkpoint is not None and not source.files:
        raise DataError(
            f"a checkpoint is for files, after each of which it is saved, and the data are a {source.kind}: "
            "leave checkpoint out, or write the data to Parquet files"
        )
    if not elsewhere:
        return accumulate(
            plan, source, onto=onto, n_threads=n_threads, progress=progress, checkpoint=checkpoint
        )
    found = accumulate_on_cluster(plan, data, source, client, progress)
    return found if onto is None else onto.merge(found)


def looker(data, source: Source, client=None, progress=None, n_threads=None):
    """What reads the source for a `Look`: the workers of a cluster, or threads of this process."""
    if client is None and not is_dask(data):
        return partial(look_through, progress=progress, n_threads=n_threads)

    def look_at(look, source):
        what = f"first pass, {', '.join(look.pieces)}"
        return _on_cluster(_look, _later, look, look.columns, data, source, client, progress, what)

    return look_at


def accumulate_on_cluster(plan: Plan, data, source: Source, client=None, progress=None) -> CrossProducts:
    """Statistics of a Dask DataFrame or of files, by the workers of ``client``.

    Parameters
    ----------
    client : dask.distributed.Client or None
        None for Dask's own scheduler, or the client that Dask uses by default.

    Raises
    ------
    DataError
        Data that Dask cannot share out, or rows that cannot be used.
    """
    return _on_cluster(
        _sums, CrossProducts.merge, plan, list(plan.columns), data, source, client, progress, "fastlmm_core"
    )


def _on_cluster(work, merge, shared, columns, data, source, client, progress, what):
    """``work(shared, batches)`` over all shares of the data, merged in their order."""
    try:
        import dask
    except ImportError:
        raise MissingDependencyError('client= needs Dask: pip install "dask[distributed]"') from None
    client = client or _default_client()
    if is_dask(data):
        parts = [(_partition, (part, at)) for at, part in enumerate(data[columns].to_delayed())]
    elif source.files:
        shares = shared_out(source.files, max(2, PER_THREAD * _threads(client)))
        parts = [(_files, (share, source.schema, columns)) for share in shares]
    else:
        raise DataError(
            f"client= shares out a Dask DataFrame or files, and the data are a {source.kind}: "
            "write them to Parquet files, or leave client out"
        )
    # each task brings ``shared`` along: as a task of its own it would keep them all on the worker that has it
    leaves = [dask.delayed(partial(_leaf, work, shared, read), pure=False)(*given) for read, given in parts]
    tasks = leaves
    while len(tasks) > 1:
        groups = [tasks[at : at + FAN_IN] for at in range(0, len(tasks), FAN_IN)]
        tasks = [dask.delayed(_merge, pure=False)(merge, group) for group in groups]
    try:
        if client is None:
            return dask.compute(tasks[0])[0]
        if not progress:
            return client.compute(tasks[0]).result()
        return _watched(client, tasks[0], leaves, source.rows, progress, what)
    except FAULTS as error:  # of Dask's own readers
        raise DataError(f"a partition cannot be read: {error}") from error


def _default_client():
    """The client that Dask would use."""
    try:
        from distributed import get_client
    except ImportError:
        return None
    try:
        return get_client()
    except ValueError:
        return None


def _threads(client):
    return sum(client.nthreads().values()) if client is not None else 4


def _watched(client, task, leaves, rows, progress, what):
    """The result of a task, reporting its leaves as they are done; equal shares of the rows are assumed."""
    from distributed import as_completed

    futures = client.compute([task, *leaves])
    result, waiting = futures[0], futures[1:]
    total, unit = (rows, "rows") if rows else (len(leaves), "partitions")
    share = total // len(leaves)
    del futures
    try:
        with reporter(progress, total, what=what, unit=unit) as report:
            done = as_completed(waiting)
            waiting.clear()  # a result that was merged need not be kept
            for count, future in enumerate(done, 1):
                if future.status == "error":
                    break
                report(share if count < len(leaves) else total - share * (len(leaves) - 1))
                del future
        return result.result()
    except BaseException:
        result.cancel()
        raise


def _leaf(work, shared, read, *given):
    return work(shared, read(*given))


def _partition(frame, at):
    yield frame, f"partition {at}"


def _files(files, schema, columns):
    source = source_of_files(files, files[0].path, schema, threads=False)
    for batch in source.batches(columns):
        yield batch.data, batch.label


def _sums(plan, batches):
    total = Accumulator(plan, 1)
    for data, label in batches:
        total.add(data, label)
    return total.finish(last=True)


def _look(look, batches):
    look = look.fresh()
    for data, label in batches:
        look.add(data, label)
    return look


def _later(first, second):
    return first.fresh().merge(first).merge(second)


def _merge(merge, parts):
    total = parts[0]
    for part in parts[1:]:
        total = merge(total, part)
    return total
