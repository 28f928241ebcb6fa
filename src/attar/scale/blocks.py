"""Reading a piece block by block: checked features, labels, ids and scores, never a whole column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attar.errors import DataError
from attar.scale.arrow import numbers
from attar.scale.shards import Columns, Piece, Shard, opened

BLOCK = 2**20
"""Numbers of one block of features: 4 MB. Sums are taken block by block, so this is part of what is computed."""


@dataclass(frozen=True, eq=False)
class Block:
    """B consecutive rows; what was not asked for is None.

    Args:
        start: first row in the piece. x: float32 [B, D]. label: the labels as an arrow array. id: int64 [B].
        score: float64 [B].
    """

    start: int
    x: np.ndarray | None
    label: pa.Array | None
    id: np.ndarray | None
    score: np.ndarray | None


def blocks(shard: Shard, piece: Piece, columns: Columns, width: int) -> Iterator[Block]:
    """The blocks of a piece, in order.

    Raises:
        DataError: damage, a value that is missing or not finite, or a vector of another length; names shard and row.
    """
    size = height(width)
    done = 0
    with opened(shard.name) as file:
        batches = file.iter_batches(
            batch_size=size, row_groups=list(range(*piece.groups)), columns=columns.names(), use_threads=False
        )
        for batch in batches:
            batch.validate(full=True)
            at = Place(shard.name, piece.first + done)
            part = {k: batch.column(n) for k, n in vars(columns).items() if n is not None}
            for k, values in part.items():
                if values.null_count:
                    raise DataError(f"{at.row(first(values.is_null()))} has no {k}; fill it in or drop the row")
            x, ids, score = part.get("features"), part.get("id"), part.get("score")
            yield Block(
                start=done,
                x=None if x is None else features(x, width, at),
                label=part.get("label"),
                id=None if ids is None else whole(ids, at),
                score=None if score is None else scores(score, at),
            )
            done += len(batch)
        if done != piece.rows:
            raise ValueError(f"it announces {piece.rows} rows and has {done}")


def height(width: int) -> int:
    """Rows of a block."""
    return max(64, BLOCK // max(16, width))


@dataclass(frozen=True)
class Place:
    """Where a batch begins, for messages."""

    shard: str
    first: int

    def row(self, i: int) -> str:
        """``a.parquet, row 17``."""
        return f"{self.shard}, row {self.first + i}"


def first(mask: pa.Array) -> int:
    """The first place that is true."""
    return int(pc.index(mask, pa.scalar(True)).as_py())


def features(values: pa.Array, width: int, at: Place) -> np.ndarray:
    """A list column as float32 [B, D].

    Raises:
        DataError: a vector of another length; a number that is missing, NaN, infinite or with an infinite square.
    """
    if not isinstance(values, pa.FixedSizeListArray):
        other = np.diff(numbers(values.offsets)) != width
        if other.any():
            i = int(other.argmax())
            raise DataError(
                f"{at.row(i)} has {len(values[i].as_py())} features where the first row has {width}; mend or drop it"
            )
    flat = values.flatten()
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.ascontiguousarray(numbers(flat), dtype=np.float32).reshape(-1, width)  # [B, D]
        bad = ~np.isfinite(np.einsum("ij,ij->i", x, x))
    if flat.null_count:
        bad[first(flat.is_null()) // width] = True
    if bad.any():
        i = int(bad.argmax())
        raise DataError(f"{at.row(i)} has features that are NaN, infinite or too large; mend or drop the row")
    return x


def whole(values: pa.Array, at: Place) -> np.ndarray:
    """A column of ids as int64 [B].

    Raises:
        DataError: an id beyond 2^63 - 1, which no signed number of 64 bits holds.
    """
    if pa.types.is_uint64(values.type):
        large = numbers(values) > np.uint64(np.iinfo(np.int64).max)
        if large.any():
            i = int(large.argmax())
            raise DataError(f"{at.row(i)} has the id {values[i]}, beyond 2^63 - 1; use --id-column none")
    return numbers(values.cast(pa.int64()))


def scores(values: pa.Array, at: Place) -> np.ndarray:
    """A score column as float64 [B].

    Raises:
        DataError: a score that is NaN or infinite.
    """
    score = numbers(values).astype(np.float64)
    bad = ~np.isfinite(score)
    if bad.any():
        i = int(bad.argmax())
        raise DataError(f"{at.row(i)} has the score {score[i]}; mend or drop the row")
    return score
