"""The first pass: every value is checked once, ids and labels are kept, and what needs all rows is summed up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from attar import chance
from attar.errors import DataError
from attar.scale.arrow import column, numbers
from attar.scale.work import SURVEY, Work


def survey(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """One piece: ids, labels (as numbers of ``values``), scores, sums, and a hash of all that was read."""
    job = work.job
    kept: dict[str, list[np.ndarray]] = {"id": [], "label": [], "score": []}
    values: dict[Any, int] = {}
    total = np.zeros(job.width)
    products = np.zeros((job.width, job.width)) if job.moments else np.zeros((0, 0))
    digest = hashlib.blake2b(digest_size=16)
    for block in work.blocks(unit, job.columns):
        if block.x is not None:
            digest.update(block.x.data)
            x = block.x.astype(np.float64)  # [B, D]
            total += x.sum(0)
            if job.moments:
                products += x.T @ x
        if block.id is not None:
            kept["id"].append(block.id)
        if block.label is not None:
            kept["label"].append(coded(block.label, values))
        if block.score is not None:
            kept["score"].append(block.score)
        for name in kept:
            if kept[name]:
                digest.update(kept[name][-1].data)
    arrays = {name: np.concatenate(found) for name, found in kept.items() if found}
    facts = {"digest": digest.hexdigest(), "values": list(values)}
    return {**arrays, "sum": total, "products": products}, facts


def coded(label: pa.Array, values: dict[Any, int]) -> np.ndarray:
    """Labels as numbers in the order in which they were first met: [B] -> int32 [B]; adds new ones to ``values``."""
    found = label.dictionary_encode() if not isinstance(label, pa.DictionaryArray) else label
    there, where = np.unique(numbers(found.indices), return_inverse=True)  # a dictionary may hold what no row has
    names = found.dictionary.take(column(there)).to_pylist()
    if None in names:
        raise DataError("a category of the labels is missing in their dictionary; name it or drop its rows")
    return np.array([values.setdefault(v, len(values)) for v in names], np.int32)[where]


def classes(work: Work) -> tuple[list[Any], list[int]]:
    """All labels that occur, sorted, and how many rows each has."""
    sizes: dict[Any, int] = {}
    for unit in range(len(work.job.pieces)):
        values = work.parts.facts(SURVEY, unit)["values"]
        counts = np.bincount(work.parts.one(SURVEY, unit, "label"), minlength=len(values))
        for value, count in zip(values, counts.tolist()):
            sizes[value] = sizes.get(value, 0) + count
    names = sorted(sizes)
    return names, [sizes[name] for name in names]


def unique(work: Work, room: int) -> None:
    """Makes sure that no id occurs twice, in as many passes over the ids as ``room`` of them in memory take.

    Raises:
        DataError: names both rows.
    """
    if work.job.columns.id is None:
        return
    passes = -(-work.job.rows // room)
    for number in range(passes):
        share = np.sort(np.concatenate([ids[own(ids, passes) == number] for ids in _ids(work)]))
        twice = share[1:][share[1:] == share[:-1]]
        if len(twice):
            first, second = _where(work, int(twice[0]))
            raise DataError(f"id {twice[0]} stands in {first} and in {second}; make ids unique or use --id-column none")


def own(ids: np.ndarray, passes: int) -> np.ndarray:
    """The pass that looks at each id."""
    return chance.keys(ids, 0) % np.uint64(passes)  # by hash: ids may all be even


def _ids(work: Work) -> Iterator[np.ndarray]:
    yield from (work.ids(unit) for unit in range(len(work.job.pieces)))


def _where(work: Work, wanted: int) -> list[str]:
    """The first two rows with an id, in words."""
    found = []
    for piece, ids in zip(work.job.pieces, _ids(work)):
        rows = np.flatnonzero(ids == wanted).tolist()
        found += [f"{work.job.shards[piece.shard].name}, row {piece.first + r}" for r in rows]
    return found[:2]


def sums(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Sums of features [D] and of their products [D, D] (or empty) over all pieces, in their order."""
    total: np.ndarray | float = 0.0
    products: np.ndarray | float = 0.0
    for unit in range(len(work.job.pieces)):
        part = work.parts.read(SURVEY, unit, "sum", "products")
        total, products = total + part["sum"], products + part["products"]
    return np.asarray(total), np.asarray(products)


def digests(work: Work) -> list[str]:
    """A hash of what was read of each shard."""
    found: list[list[str]] = [[] for _ in work.job.shards]
    for unit, piece in enumerate(work.job.pieces):
        found[piece.shard].append(work.parts.facts(SURVEY, unit)["digest"])
    return [digest(f) for f in found]


def digest(pieces: list[str]) -> str:
    """A hash of what was read of a shard, from those of its pieces."""
    return hashlib.blake2b("".join(pieces).encode(), digest_size=16).hexdigest()
