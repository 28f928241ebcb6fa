"""The folder of a finished selection: kept rows, all scores, and the manifest that is written last.

``data/part-NNNNNN.parquet`` the kept rows with all their columns, piece by piece; ``scores.parquet`` id, score and kept of
every row (and rank, where picks have an order); ``manifest.json`` what was done, with the length and hash of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attar.errors import DataError, UsageError
from attar.io import atomic
from attar.scale import rules
from attar.scale.arrow import column
from attar.scale.blocks import BLOCK
from attar.scale.parts import SHARED
from attar.scale.shards import Piece, Shard, opened, unchanged
from attar.scale.work import Work

KEEP, CHOICE = "keep", "choice"
MANIFEST, SCORES, KIND = "manifest.json", "scores.parquet", "attar shards"
GROUP = 16 * 2**20
"""Bytes of rows that are written at once."""

Score = Callable[[Work, int], np.ndarray | None]


def keep(work: Work, unit: int, score: Score) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Writes the kept rows of a piece beside its part, which says which they are."""
    numbers = _numbers(work)
    value = score(work, unit)
    mask = rules.kept(work, unit, numbers, value)
    labels = np.bincount(work.labels(unit)[mask], minlength=max(1, len(work.classes)))
    facts: dict[str, Any] = {"rows": int(mask.sum()), "per_class": labels.tolist()}
    if mask.any():
        with work.parts.stream(KEEP, unit, "parquet") as file:
            written(work, unit, mask, file)
        facts |= checksum(work.parts.path(KEEP, unit, "parquet"))
    return {"kept": mask} | ({} if value is None else {"score": value.astype(np.float32)}), facts


def _numbers(work: Work) -> rules.Arrays:
    names = work.parts.facts(CHOICE, SHARED)["names"]
    return work.parts.read(CHOICE, SHARED, *names)


def written(work: Work, unit: int, mask: np.ndarray, file: Any) -> None:
    """The kept rows of a piece as parquet, read and written in small groups."""
    piece = work.job.pieces[unit]
    shard = work.job.shards[piece.shard]
    size = int(np.clip(GROUP // max(1, piece.row_bytes), 1, BLOCK // 16))
    with opened(shard.name) as found:
        schema = found.schema_arrow
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in wanted(shard, piece, mask, size):
            waiting += [rows] if len(rows) else []
            if sum(len(w) for w in waiting) >= size:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def wanted(shard: Shard, piece: Piece, mask: np.ndarray, size: int) -> Iterator[pa.RecordBatch]:
    """The kept rows of a piece with all columns, read ``size`` rows at a time.

    A generator, so that what goes wrong where they are written is not taken for damage of the shard.

    Raises:
        DataError: a shard that is not the one of which ``mask`` was computed.
    """
    done = 0
    unchanged(shard)
    with opened(shard.name) as file:
        for batch in file.iter_batches(batch_size=size, row_groups=list(range(*piece.groups)), use_threads=False):
            if done + len(batch) > len(mask):
                break
            yield batch.filter(column(mask[done : done + len(batch)]))
            done += len(batch)
    unchanged(shard)
    if done != len(mask):
        raise DataError(f"{shard.name} has other rows than when it was surveyed; run the same command again")


def assemble(work: Work, out: Path, manifest: dict[str, Any]) -> None:
    """Builds the folder beside its place and puts it there in one step, the manifest last.

    Raises:
        ResourceError: disk full, no permission.
    """
    units = range(len(work.job.pieces))
    with atomic.folder(out.resolve()) as tmp:
        (tmp / "data").mkdir()
        files: dict[str, Any] = {}
        for unit in units:
            facts = work.parts.facts(KEEP, unit)
            if "sha256" in facts:
                name = f"data/part-{unit:06d}.parquet"
                _linked(work.parts.path(KEEP, unit, "parquet"), tmp / name)
                files[name] = {k: facts[k] for k in ("bytes", "sha256", "rows")}
        with atomic.new_file(tmp / SCORES) as file:
            _scores(work, file)
        files[SCORES] = checksum(tmp / SCORES) | {"rows": work.job.rows}
        atomic.write_new(tmp / MANIFEST, encoded({**manifest, "files": files}))


def _linked(source: Path, target: Path) -> None:
    """A second name for a finished file, or a copy where the file system has no such thing."""
    with atomic.named(target):
        try:
            os.link(source, target)
        except OSError:
            with atomic.new_file(target) as file, open(source, "rb") as found:
                shutil.copyfileobj(found, file)


def _scores(work: Work, file: Any) -> None:
    """``scores.parquet``, a row group for each piece."""
    ranked = "ids" in work.parts.facts(CHOICE, SHARED)["names"]
    fields = [("id", pa.int64()), ("score", pa.float32()), ("kept", pa.bool_())]
    schema = pa.schema(fields + ([("rank", pa.int64())] if ranked else []))
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for unit in range(len(work.job.pieces)):
            part = work.parts.read(KEEP, unit, "kept", "score")
            ids, score = work.ids(unit), part["score"]
            columns = [column(ids), column(score, ~np.isnan(score)), column(part["kept"])]
            if ranked:
                rank = ranks(work, ids)
                columns.append(column(rank, rank >= 0))
            writer.write_table(pa.table(columns, schema=schema))


def ranks(work: Work, ids: np.ndarray) -> np.ndarray:
    """The place of each row in the order of the picks, -1 where it is none: int64 [rows]."""
    found = work.parts.read(CHOICE, SHARED, "ids", "rank")
    place = np.searchsorted(found["ids"], ids).clip(max=len(found["ids"]) - 1)
    return np.where(found["ids"][place] == ids, found["rank"][place], -1)


def checksum(path: Path) -> dict[str, Any]:
    """Length and hash of a file, read in small pieces."""
    digest = hashlib.sha256()
    with atomic.named(path, "reading"), open(path, "rb") as file:
        while data := file.read(2**20):
            digest.update(data)
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def encoded(manifest: dict[str, Any]) -> bytes:
    """The manifest's bytes; the last entry is the hash of all others."""
    body = {k: v for k, v in manifest.items() if k != "checksum"}
    return atomic.json_bytes({**body, "checksum": hashlib.sha256(atomic.json_bytes(body)).hexdigest()})


def is_kept(folder: Path | str) -> bool:
    """Whether a folder has the manifest of a selection from shards."""
    return (Path(folder) / MANIFEST).is_file()


def read(folder: Path | str) -> dict[str, Any]:
    """Reads and checks the manifest.

    Raises:
        UsageError: nothing is there. DataError: not such a folder, or a changed manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UsageError(f"{folder} is no selection from shards: it has no {MANIFEST}")
    with atomic.named(path, "reading"):
        text = path.read_bytes()
    try:
        manifest = json.loads(text)
        whole = manifest["kind"] == KIND and text == encoded(manifest)
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise DataError(f"{path} is damaged ({type(e).__name__}); select again") from e
    if not whole:
        raise DataError(f"{path} was changed after it was written; restore the folder from a copy")
    return {k: v for k, v in manifest.items() if k != "checksum"}


def verify(folder: Path | str) -> dict[str, Any]:
    """Checks every file of a finished selection; gives its manifest.

    Raises:
        DataError: the first file that is missing or changed.
    """
    manifest = read(folder)
    for name, facts in manifest["files"].items():
        path = Path(folder) / name
        if not path.is_file():
            raise DataError(f"{folder} lacks {name}; restore the folder from a copy")
        if checksum(path) != {k: facts[k] for k in ("bytes", "sha256")}:
            raise DataError(f"{path} was changed after it was written; restore the folder from a copy")
    return manifest


def kept_rows(work: Work) -> tuple[int, list[int]]:
    """Kept rows of all pieces, in all and of each class."""
    total, each = 0, np.zeros(max(1, len(work.classes)), np.int64)
    for unit in range(len(work.job.pieces)):
        facts = work.parts.facts(KEEP, unit)
        total += facts["rows"]
        each += np.array(facts["per_class"])
    return total, each.tolist()
