"""Parquet, Arrow IPC and CSV files, one or many, as a `Source`.

Each file is read by itself, so that a fault is reported with its file and row
group and a run can go on after the last file that was complete.
"""

import glob
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from ..crossprod.threads import resolve_threads
from ..data.arrow import pa
from ..errors import DataError, MissingDependencyError
from .sources import Batch, Source, arrow_widths, coalesce

MAPPED_BYTES = 512 << 20  # larger files are read piece by piece
FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".parq": "parquet",
    ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc",
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file, its format, the columns that its folders' names give (``year=2024/``), and the row groups
    of a Parquet file that are meant (None for all)."""

    path: str
    format: str
    partition: tuple[tuple[str, object], ...] = ()
    groups: tuple[int, ...] | None = None

    def identity(self) -> tuple:
        """Whole path, size and time of the last change; -1 where there is no file."""
        path = os.path.abspath(self.path)
        if not os.path.exists(path):
            return path, -1, -1
        found = os.stat(path)
        return path, found.st_size, found.st_mtime_ns


def open_files(where) -> Source:
    """The `Source` of a path, a glob, a folder or a list of them.

    Raises
    ------
    DataError
        Nothing there, or files of no known format.
    """
    if pa is None:
        raise MissingDependencyError("reading files needs pyarrow: pip install pyarrow")
    return source_of_files(_find(where), _shown(where))


def source_of_files(found: list[File], shown: str, schema=None, threads: bool | None = None) -> Source:
    """The `Source` of these files, in this order.

    ``schema`` is what they must agree with, by default that of the first one; ``threads`` lets Arrow decode
    columns in parallel, by default where that leaves a processor to the sums.
    """
    if threads is None:
        threads = resolve_threads(None) > 2
    schema = _schema(found[0]) if schema is None else schema
    names = [*schema.names, *(name for name, _ in found[0].partition if name not in schema.names)]
    rows = _count(found) if all(file.format == "parquet" for file in found) else None

    def read(columns, batch_rows, skip):
        kinds = {name: _kind(schema.field(name).type) for name in columns if name in schema.names}
        some = [(file, identity) for file in found if (identity := file.identity()) not in skip]
        for file, identity in some:
            ends = file is some[-1][0]
            for batch in _read(file, columns, kinds, batch_rows, identity, threads):
                yield replace(batch, last=True) if ends and batch.completes is not None else batch

    mapped = max((_size(f.path) for f in found if f.format != "csv" and _mapped(f.path)), default=0)
    return Source(
        f"files {shown}", names, rows, read, True, arrow_widths(schema), tuple(found), schema,
        lambda name: _span(found, name), mapped,
    )  # fmt: skip


def open_dataset(dataset) -> Source:
    """The `Source` of a ``pyarrow.dataset.Dataset``; local Parquet and Arrow files are read as such."""
    schema, widths = dataset.schema, arrow_widths(dataset.schema)
    try:
        fragments = list(dataset.get_fragments())
    except ValueError:  # of a filtered dataset Arrow tells no fragments
        fragments = None
    found = None if fragments is None else _local_files(dataset, fragments)
    if found:
        keys = {name for file in found for name, _ in file.partition}
        inside = pa.schema([field for field in schema if field.name not in keys])
        return source_of_files(found, f"of a dataset, {found[0].path}, ...", inside)

    def read(columns, rows, skip):
        narrow = pa.schema([schema.field(name) for name in columns])
        options = {"columns": columns, "batch_size": min(rows, 1 << 20), "batch_readahead": 2}
        for where, scanner in _scanners(dataset, fragments, columns, rows, options):
            with _faults(where):
                for table in coalesce(scanner().to_batches(), narrow, rows):
                    yield Batch(table, where)

    return Source("dataset", list(schema.names), dataset.count_rows(), read, True, widths)


def _local_files(dataset, fragments):
    """The files of a dataset where they are local ones in formats that say their types, else None."""
    import pyarrow.dataset as ds
    from pyarrow import fs

    if not isinstance(getattr(dataset, "filesystem", None), fs.LocalFileSystem):
        return None
    kind = {ds.ParquetFileFormat: "parquet", ds.IpcFileFormat: "ipc"}.get(type(dataset.format))
    if kind is None:
        return None
    keys = [ds.get_partition_keys(fragment.partition_expression) for fragment in fragments]
    return [
        File(fragment.path, kind, tuple(key.items())) for fragment, key in zip(fragments, keys, strict=True)
    ]


def _scanners(dataset, fragments, columns, rows, options):
    """What is read at once, with its name: some row groups of a Parquet file, another file, or all."""
    if fragments is None:
        yield "the filtered dataset", partial(dataset.scanner, **options)
        return
    for fragment in fragments:
        where = getattr(fragment, "path", "fragment")
        with _faults(where):
            _check_columns(where, fragment.physical_schema, columns, dataset.schema, fragment)
            parts = _row_groups(fragment, rows)
        for place, part in parts:
            yield f"{where}{place}", partial(part.scanner, schema=dataset.schema, **options)


def _row_groups(fragment, rows):
    if not hasattr(fragment, "row_groups"):
        return [("", fragment)]
    runs = _runs({group.id: group.num_rows for group in fragment.row_groups}, rows)
    return [(_place(groups), fragment.subset(row_group_ids=groups)) for groups in runs]


def _place(groups):
    first, last = groups[0], groups[-1]
    return f", row group {first}" if first == last else f", row groups {first} to {last}"


def _check_columns(where, physical, columns, schema, fragment):
    import pyarrow.dataset as ds

    keys = ds.get_partition_keys(fragment.partition_expression)
    kinds = {name: _kind(schema.field(name).type) for name in columns if name not in keys}
    _check(where, physical, [name for name in columns if name not in keys], kinds)


def _find(where):
    places = [where] if isinstance(where, (str, os.PathLike)) else list(where)
    found = []
    for place in places:
        place = os.fspath(place)
        if os.path.isdir(place):
            inside = sorted(p for p in Path(place).rglob("*") if p.is_file() and not _hidden(p, place))
            found += [(str(p), place) for p in inside]
        elif os.path.exists(place):
            found.append((place, None))
        else:
            matches = sorted(glob.glob(place, recursive=True))
            if not matches:
                raise DataError(f"there is no file {place}")
            found += [(p, None) for p in matches if os.path.isfile(p)]
    files = [File(path, _format(path), _partition(path, root)) for path, root in found]
    if not files:
        raise DataError(f"{_shown(where)} holds no files")
    return _typed(files)


def _hidden(path, root):
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _shown(where):
    return str(where) if isinstance(where, (str, os.PathLike)) else f"{where[0]}, ..."


def _format(path):
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    while suffixes and suffixes[-1] in (".gz", ".bz2", ".zst"):
        suffixes.pop()
    found = FORMATS.get(suffixes[-1] if suffixes else "")
    if found is None:
        raise DataError(f"{path} is no file of a known kind: {', '.join(FORMATS)}")
    return found


def _partition(path, root):
    """``a=1/b=x/`` below the root, as pairs of text."""
    if root is None:
        parts = Path(path).parent.parts
    else:
        parts = Path(path).relative_to(root).parent.parts
    pairs = [part.partition("=") for part in parts if "=" in part]
    return tuple(
        (key, None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)) for key, _, value in pairs
    )


def _typed(files):
    """Partition values as whole numbers where all of a key's values are."""
    values = {}
    for file in files:
        for key, value in file.partition:
            values.setdefault(key, []).append(value)
    whole = {key for key, found in values.items() if all(v is None or v.lstrip("-").isdigit() for v in found)}
    return [
        File(
            file.path,
            file.format,
            tuple((k, int(v) if k in whole and v is not None else v) for k, v in file.partition),
        )
        for file in files
    ]


class _faults:
    """Errors of the reader as a `DataError` that names the file and, where known, the row group."""

    def __init__(self, path, place=""):
        self.path, self.place = path, place

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, FileNotFoundError):
            raise DataError(f"there is no file {self.path} any more") from error
        if isinstance(error, (pa.ArrowException, OSError)):
            text = str(error).strip().partition("\n")[0]
            raise DataError(
                f"{self.path}{self.place} cannot be read (truncated, damaged or of another kind): {text}"
            ) from error


def _schema(file):
    with _faults(file.path):
        if file.format == "parquet":
            import pyarrow.parquet as pq

            return pq.read_schema(file.path)
        if file.format == "ipc":
            return _ipc(file.path).schema
        with _csv(file.path, None) as reader:
            return reader.schema


def _count(files):
    import pyarrow.parquet as pq

    total = 0
    for file in files:
        try:
            metadata = pq.read_metadata(file.path)
            chosen = range(metadata.num_row_groups) if file.groups is None else file.groups
            total += sum(metadata.row_group(group).num_rows for group in chosen)
        except (pa.ArrowException, OSError):
            return None  # reading it will say what is wrong
    return total


def _span(files, name):
    """Range of a column of whole numbers by the statistics of Parquet files; None where one has none."""
    import pyarrow.parquet as pq

    low, high = [], []
    for file in files:
        try:
            metadata = pq.read_metadata(file.path) if file.format == "parquet" else None
        except (pa.ArrowException, OSError):
            return None
        if metadata is None or name not in metadata.schema.names:
            return None
        at = metadata.schema.names.index(name)
        for group in range(metadata.num_row_groups):
            found = metadata.row_group(group).column(at).statistics
            if found is None or not found.has_min_max or not isinstance(found.min, int):
                return None
            low.append(found.min)
            high.append(found.max)
    return max(high) - min(low) + 1 if low else None


def _kind(kind):
    """Types that a column may have in different files without being another column."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return "text"
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "null" if pa.types.is_null(kind) else str(kind)


def _check(path, schema, columns, kinds):
    absent = [name for name in columns if name not in schema.names]
    if absent:
        raise DataError(f"{path} lacks the column {', '.join(map(repr, absent))}, which other files have")
    for name in columns:
        kind = _kind(schema.field(name).type)
        if "null" not in (kind, kinds[name]) and kind != kinds[name]:
            raise DataError(
                f"{path}: column {name!r} is of type {schema.field(name).type}, a {kind}, "
                f"and a {kinds[name]} in other files"
            )


def _read(file, columns, kinds, rows, identity, threads):
    """Batches of one file; the last one says that the file is complete."""
    given = dict(file.partition)
    inside = [name for name in columns if name in kinds]
    for table, place, ends in _tables(file, inside, kinds, rows, threads):
        for name in columns:
            if name not in kinds:
                table = table.append_column(name, _constant(given.get(name), table.num_rows))
        yield Batch(table, f"{file.path}{place}", identity if ends else None)


def _constant(value, n):
    kind = pa.int64() if isinstance(value, int) else pa.string()
    return pa.array([value], kind).take(pa.array([0] * 1)) if n == 1 else pa.repeat(pa.scalar(value, kind), n)


def _tables(file, columns, kinds, rows, threads):
    """Tables of one file, what part of it they are, and whether they are the last."""
    if file.format == "parquet":
        yield from _parquet(file.path, file.groups, columns, kinds, rows, threads)
    elif file.format == "ipc":
        with _faults(file.path):
            reader = _ipc(file.path)
            _check(file.path, reader.schema, columns, kinds)
            batches = reader if hasattr(reader, "read_next_batch") else _numbered(reader)
            for table, ends in _ending(coalesce(batches, reader.schema, rows)):
                yield table.select(columns), "", ends
    else:
        with _faults(file.path), _csv(file.path, None) as reader:
            _check(file.path, reader.schema, columns, kinds)
        with _faults(file.path), _csv(file.path, columns) as reader:
            for table, ends in _ending(coalesce(reader, reader.schema, rows)):
                yield table, "", ends


def _ending(tables):
    """Each, and whether it is the last, for which one more is read first."""
    waiting = None
    for table in tables:
        if waiting is not None:
            yield waiting, False
        waiting = table
    if waiting is not None:
        yield waiting, True


def _numbered(reader):
    for at in range(reader.num_record_batches):
        yield reader.get_batch(at)


def _mapped(path):
    """Whether a file is small enough to be seen as memory: its pages count as memory of the process."""
    return _size(path) <= MAPPED_BYTES


def _size(path):
    return os.stat(path).st_size if os.path.exists(path) else 0


def _ipc(path):
    stream = pa.memory_map(path) if _mapped(path) else pa.OSFile(path)
    try:
        return pa.ipc.open_file(stream)
    except pa.ArrowInvalid:
        stream.seek(0)
        return pa.ipc.open_stream(stream)


def _csv(path, columns):
    from pyarrow import csv

    delimiter = "\t" if Path(path).name.lower().split(".")[1:2] == ["tsv"] else ","
    convert = csv.ConvertOptions(include_columns=columns, strings_can_be_null=True)
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=8 << 20),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=convert,
    )


def _parquet(path, chosen, columns, kinds, rows, threads):
    import pyarrow.parquet as pq

    with _faults(path):
        file = pq.ParquetFile(path, memory_map=_mapped(path))
    with file:
        _check(path, file.schema_arrow, columns, kinds)
        chosen = range(file.num_row_groups) if chosen is None else chosen
        sizes = {group: file.metadata.row_group(group).num_rows for group in chosen}
        for groups in _runs(sizes, rows):
            n = sum(sizes[group] for group in groups)
            place, ends = _place(groups), groups[-1] == [*sizes][-1]
            with _faults(path, place):
                if n > 2 * rows:
                    even = -(-n // -(-n // rows))
                    batches = file.iter_batches(even, row_groups=groups, columns=columns, use_threads=threads)
                    for batch in batches:
                        n -= batch.num_rows
                        yield pa.Table.from_batches([batch]), place, ends and n == 0
                else:
                    yield file.read_row_groups(groups, columns=columns, use_threads=threads), place, ends


def _runs(sizes, rows):
    """Consecutive row groups of these sizes, joined up to about ``rows`` rows."""
    run, n = [], 0
    for group, size in sizes.items():
        if run and n + size > rows:
            yield run
            run, n = [], 0
        run.append(group)
        n += size
    if run:
        yield run


def shared_out(files, parts: int) -> list[list[File]]:
    """About ``parts`` lists of files, or of parts of Parquet files, of nearly equal size, in their order."""
    import pyarrow.parquet as pq

    pieces = []
    for file in files:
        if file.format != "parquet" or len(files) >= parts:
            with _faults(file.path):
                pieces.append((file, os.stat(file.path).st_size))
            continue
        with _faults(file.path):
            metadata = pq.read_metadata(file.path)
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).total_byte_size
            pieces.append((File(file.path, file.format, file.partition, (group,)), size))
    total, done, shares = max(1, sum(size for _, size in pieces)), 0, [[] for _ in range(parts)]
    for piece, size in pieces:
        shares[min(parts - 1, parts * (2 * done + size) // (2 * total))].append(piece)
        done += size
    return [_joined(share) for share in shares if share]


def _joined(pieces):
    """Row groups of one file together again."""
    found: list[File] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last is not None and last.path == piece.path and None not in (last.groups, piece.groups):
            found[-1] = File(last.path, last.format, last.partition, (*last.groups, *piece.groups))
        else:
            found.append(piece)
    return found
