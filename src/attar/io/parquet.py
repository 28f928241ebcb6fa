"""Safe reading of parquet tables: any damage becomes one sentence that names the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from attar.errors import DataError


@contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Names ``path`` in whatever pyarrow raises."""
    try:
        yield
    except PermissionError as e:
        raise DataError(f"{path} cannot be read: permission is denied; change its mode or choose another file") from e
    except (pa.ArrowException, OSError, ValueError, MemoryError) as e:
        detail = str(e).split("\n", 1)[0].rstrip(".")
        raise DataError(f"{path} is not a readable parquet file ({detail}); restore it from a copy") from e


def schema(path: Path) -> pa.Schema:
    """The columns of a file and its metadata."""
    with readable(path):
        return pq.read_schema(path)


def length(path: Path) -> int:
    """The rows of a file, from its footer."""
    with readable(path):
        return pq.read_metadata(path).num_rows


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Some columns of a file, or all, checked to be valid (offsets, UTF-8)."""
    with readable(path), pq.ParquetFile(path) as file:
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
        _as_many(table.num_rows, file)
        return table


def batches(path: Path, column: str, size: int) -> Iterator[pa.Array]:
    """One column in pieces of at most ``size`` rows, in order; a row group at most is in memory."""
    with readable(path), pq.ParquetFile(path) as file:
        rows = 0
        for batch in file.iter_batches(batch_size=size, columns=[column]):
            batch.validate(full=True)
            rows += len(batch)
            yield batch.column(0)
        _as_many(rows, file)


def _as_many(rows: int, file: pq.ParquetFile) -> None:
    """Refuses a damaged footer, which can make pyarrow give fewer rows than it announced."""
    if rows != file.metadata.num_rows:
        raise ValueError(f"it announces {file.metadata.num_rows} rows and has {rows}")
