"""Parquet shards of feature vectors: finding them, and cutting them into pieces of work.

A piece is a run of row groups of one shard. Where it is cut depends on the shards alone, not on memory or workers, so that
everything that is computed piece by piece is the same however many workers there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from attar.errors import DataError, UsageError, missing_extra
from attar.io.parquet import readable

PIECE = 2**24
"""Numbers (rows times features) that a piece holds at least, where its shard has as many: 64 MB."""
THIN = 16
"""Numbers a row that a piece reckons with at least: without features it holds a million rows."""
BUFFER = 2**20
"""Bytes of one read."""


@dataclass(frozen=True)
class Shard:
    """One parquet file.

    Args:
        name: path or address. bytes: its length. rows: of it. footer: hash of its footer, which holds sizes, places and
            statistics of all columns. changed: when, in nanoseconds, 0 where the system does not tell.
    """

    name: str
    bytes: int
    rows: int
    footer: str
    changed: int


@dataclass(frozen=True)
class Piece:
    """Some row groups of a shard.

    Args:
        shard: its number. groups: first and last but one. first: row of the shard. start: row among those of all shards.
        rows: how many. row_bytes: of one row with all columns, uncompressed.
    """

    shard: int
    groups: tuple[int, int]
    first: int
    start: int
    rows: int
    row_bytes: int


@dataclass(frozen=True)
class Columns:
    """Names of the columns; None for those that are absent or not needed."""

    features: str | None = None
    label: str | None = None
    id: str | None = None
    score: str | None = None

    def names(self) -> list[str]:
        """Those there are."""
        return [n for n in vars(self).values() if n is not None]


def found(source: str) -> list[str]:
    """The shards of a folder, a bucket or a single file, sorted by name.

    Raises:
        UsageError: nothing is there. DataError: a folder without shards.
    """
    files, path = place(source)
    try:
        here = files.get_file_info(path)
        if here.type == pafs.FileType.NotFound:
            raise UsageError(f"there is nothing at {source}; give a folder of parquet shards")
        if here.type == pafs.FileType.File:
            return [source]
        inside = files.get_file_info(pafs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowException) as e:
        raise DataError(
            f"{source} cannot be listed ({str(e).splitlines()[0]}); check the address and its rights"
        ) from e
    names = sorted(f.path for f in inside if f.type == pafs.FileType.File and is_shard(f.path, path))
    if not names:
        raise DataError(f"{source} holds no parquet shard; give a folder of files that end in .parquet")
    return [files.handler.fs.unstrip_protocol(name) for name in names] if "://" in source else names


def is_shard(path: str, root: str) -> bool:
    """Whether a file below ``root`` is meant as data: ``*.parquet``, and nothing hidden on the way."""
    parts = path[len(root) :].strip("/").split("/")
    return path.endswith((".parquet", ".pq")) and not any(part.startswith((".", "_")) for part in parts)


def place(name: str) -> tuple[Any, str]:
    """File system and path of a local path or of an address as ``s3://bucket/folder``."""
    if "://" not in name:
        return pafs.LocalFileSystem(), str(Path(name).expanduser().absolute())
    try:
        import fsspec
    except ImportError as e:
        raise missing_extra("fsspec", "buckets", f"reading {name.partition('://')[0]} addresses") from e
    try:
        files, path = fsspec.core.url_to_fs(name)
    except (ValueError, ImportError) as e:
        raise UsageError(f"{name} cannot be opened ({e}); check the address, or install what it needs") from e
    return pafs.PyFileSystem(pafs.FSSpecHandler(files)), path


@contextmanager
def opened(name: str) -> Iterator[pq.ParquetFile]:
    """A shard, read in buffers of :data:`BUFFER`; damage becomes a sentence that names it."""
    files, path = place(name)
    with (
        readable(name),
        files.open_input_file(path) as raw,
        pq.ParquetFile(raw, buffer_size=BUFFER, pre_buffer=False) as file,
    ):
        yield file


def survey(names: Sequence[str], columns: Columns) -> tuple[list[Shard], list[Piece], int, pa.Schema]:
    """Shards and pieces from the footers, the width of the features (0 without), and the schema that all share.

    Raises:
        DataError: a shard that cannot be read, lacks a column, or has another schema or dimension than the first.
    """
    shards: list[Shard] = []
    pieces: list[Piece] = []
    first: pa.Schema | None = None
    width, start = 0, 0
    for number, name in enumerate(names):
        with opened(name) as file:
            meta, schema = file.metadata, file.schema_arrow
            if first is None:
                first, width = schema, width_of(file, columns, name)
            elif not schema.remove_metadata().equals(first.remove_metadata()):
                raise DataError(
                    f"{name} has other columns than {names[0]}: {difference(schema, first)}; mend or remove it"
                )
            groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
            footer = hashlib.blake2b(_footer(name, meta), digest_size=16).hexdigest()
        shards.append(Shard(name, **_facts(name), rows=meta.num_rows, footer=footer))
        sizes = [(g.num_rows, g.total_byte_size) for g in groups]
        if not width and columns.features is not None and meta.num_rows:  # the shards before had no row to tell it
            with opened(name) as file:
                width = width_of(file, columns, name)
        pieces += cut(number, sizes, start, max(1, PIECE // max(THIN, width)))
        start += meta.num_rows
    assert first is not None
    if not start:
        raise DataError(f"{names[0]} and the other shards have no rows; give shards with examples")
    return shards, pieces, width, first


def unchanged(shard: Shard) -> None:
    """Makes sure that a shard is still the file that was surveyed.

    Raises:
        DataError: it has another length or time of change.
    """
    with readable(shard.name):
        found = _facts(shard.name)
    if found != {"bytes": shard.bytes, "changed": shard.changed}:
        raise DataError(f"{shard.name} was changed while it was read; run the same command again")


def _facts(name: str) -> dict[str, int]:
    """Length of a file, and when it was changed."""
    files, path = place(name)
    info = files.get_file_info(path)
    return {"bytes": int(info.size or 0), "changed": int(info.mtime_ns or 0)}


def _footer(name: str, meta: pq.FileMetaData) -> bytes:
    """The last bytes of a file, where parquet keeps the description of all the rest."""
    files, path = place(name)
    with files.open_input_file(path) as raw:
        size = min(raw.size(), meta.serialized_size + 8)
        raw.seek(raw.size() - size)
        return raw.read(size)


def cut(shard: int, groups: Sequence[tuple[int, int]], start: int, least: int) -> list[Piece]:
    """Row groups (rows, bytes) of a shard in pieces of at least ``least`` rows, the last one of what is left."""
    pieces, a, first = [], 0, 0
    while a < len(groups):
        b, rows, size = a, 0, 0
        while b < len(groups) and rows < least:
            rows, size, b = rows + groups[b][0], size + groups[b][1], b + 1
        if rows:
            pieces.append(Piece(shard, (a, b), first, start + first, rows, -(-size // rows)))
        a, first = b, first + rows
    return pieces


def width_of(file: pq.ParquetFile, columns: Columns, name: str) -> int:
    """Features of a row, after a check of the columns of the first shard.

    Raises:
        DataError: a column is missing or of a wrong type.
    """
    schema = file.schema_arrow
    twice = next((n for n in columns.names() if schema.names.count(n) > 1), None)
    if twice is not None:
        raise DataError(f"{name} has two columns '{twice}'; rename one of them")
    for kind, column in vars(columns).items():
        if column is not None and column not in schema.names:
            raise DataError(
                f"{name} has no column '{column}' but {', '.join(schema.names)}; name the {kind} with --{kind}-column"
            )
    if columns.id is not None and not pa.types.is_integer(schema.field(columns.id).type):
        kind = schema.field(columns.id).type
        raise DataError(f"column '{columns.id}' of {name} is of type {kind}, not whole numbers; use --id-column none")
    if columns.label is not None and not _is_label(schema.field(columns.label).type):
        kind = schema.field(columns.label).type
        raise DataError(
            f"column '{columns.label}' of {name} is of type {kind}, not whole numbers, text or truth values; name the "
            "labels with --label-column, or use --label-column none"
        )
    if columns.score is not None and not _is_number(schema.field(columns.score).type):
        raise DataError(
            f"column '{columns.score}' of {name} is of type {schema.field(columns.score).type}, not numbers"
        )
    if columns.features is None:
        return 0
    kind = schema.field(columns.features).type
    lists = (pa.FixedSizeListType, pa.ListType, pa.LargeListType)
    if not isinstance(kind, lists) or not _is_number(kind.value_type):
        raise DataError(
            f"column '{columns.features}' of {name} is of type {kind}, not a list of floats; "
            "name the features with --features-column"
        )
    if isinstance(kind, pa.FixedSizeListType):
        return kind.list_size
    for batch in file.iter_batches(batch_size=1, columns=[columns.features]):
        value = batch.column(0)[0]
        return len(value.as_py()) if value.is_valid else 0
    return 0


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_label(kind: pa.DataType) -> bool:
    """Whether values of a type, or of a dictionary of them, can name classes."""
    if pa.types.is_dictionary(kind):
        return _is_label(kind.value_type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def difference(found: pa.Schema, wanted: pa.Schema) -> str:
    """The first difference of two schemas, in words."""
    for name in [*wanted.names, *found.names]:
        here, there = (str(s.field(name).type) if name in s.names else "absent" for s in (found, wanted))
        if here != there:
            return f"'{name}' is {here} here, {there} there"
    return "they stand in another order"
