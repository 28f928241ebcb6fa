"""Bringing together rows that belong together, in bounded memory: each piece is written once, sorted by where its rows belong.

A piece is written in chunks of at most :data:`CHUNK` numbers, each sorted by part, with an index; the rows of a part, or of
several that follow each other, are then one run in every chunk. Nothing is appended to, so that work that was cut short is
simply done again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from attar.errors import DataError
from attar.scale.blocks import height
from attar.scale.stage import Stage
from attar.scale.work import Work

CHUNK = 2**22
"""Numbers of features that are sorted at once, and of which a group is made: 16 MB."""

Belongs = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(features [B, D], first row in the piece) -> part int64 [B], a number to keep beside float32 [B], features to write [B, D]."""
Only = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(numbers beside [n], ids [n]) -> which rows are wanted, bool [n]."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """Rows of some parts: features float32 [n, D], ids, rows among those of all shards, parts int64 [n], numbers kept [n]."""

    x: np.ndarray
    id: np.ndarray
    at: np.ndarray
    part: np.ndarray
    beside: np.ndarray


def chunk_rows(width: int) -> int:
    """Rows of a chunk."""
    return max(height(width), CHUNK // width)


def scatter(
    work: Work, step: str, unit: int, parts: int, belongs: Belongs
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Writes a piece sorted by part; the arrays of its part tell where everything is.

    ``index`` int64 [chunks, parts + 1]: where each part begins in each chunk; ``at``, ``beside``: of the rows as written.
    """
    piece, ids = work.job.pieces[unit], work.ids(unit)
    found: list[tuple[np.ndarray, ...]] = []
    done: dict[str, list[np.ndarray]] = {"index": [], "at": [], "id": [], "beside": []}
    with work.parts.stream(step, unit, "f32") as file:

        def flush() -> None:
            part, beside, x, row = (np.concatenate(f) for f in zip(*found))
            found.clear()
            order = np.argsort(part, kind="stable")
            file.write(np.ascontiguousarray(x[order], dtype="<f4").data)
            done["index"].append(np.searchsorted(part[order], np.arange(parts + 1)))
            done["at"].append(piece.start + row[order])
            done["id"].append(ids[row[order]])
            done["beside"].append(beside[order].astype(np.float32))

        for block in work.blocks(unit):
            assert block.x is not None
            if found and sum(len(f[0]) for f in found) + len(block.x) > chunk_rows(work.job.width):
                flush()
            found.append((*belongs(block.x, block.start), np.arange(block.start, block.start + len(block.x))))
        flush()
    arrays = {name: np.stack(values) if name == "index" else np.concatenate(values) for name, values in done.items()}
    return {**arrays, "rows": np.array([len(a) for a in done["at"]])}, {}


def sizes(stage: Stage, step: str, parts: int) -> np.ndarray:
    """Rows of every part: int64 [parts]."""
    found = np.zeros(parts, np.int64)
    for unit in range(stage.pieces):
        found += np.diff(stage.work.parts.one(step, unit, "index"), axis=1).sum(0)
    return found


def gathered(work: Work, step: str, low: int, high: int, only: Only | None = None) -> Gathered:
    """The rows of parts ``low`` to ``high`` - 1, in the order of part and id; there may be none.

    Args:
        only: chooses among all of them before any features are read.
    """
    stretches = [s for unit in range(len(work.job.pieces)) for s in _stretches(work, step, unit, low, high)]
    beside, ids, at = (
        np.concatenate([np.zeros(0, kind), *(s.facts[name] for s in stretches)])
        for name, kind in (("beside", np.float32), ("id", np.int64), ("at", np.int64))
    )
    part = np.concatenate([np.zeros(0, np.int64), *(np.repeat(np.arange(low, high), s.sizes) for s in stretches)])
    mask = np.ones(len(ids), bool) if only is None else only(beside, ids)
    found, done = [np.zeros((0, work.job.width), np.float32)], 0
    for unit, group in itertools.groupby(stretches, lambda s: s.unit):
        own = list(group)
        rows = sum(len(s) for s in own)
        found += _read(work, step, unit, own, mask[done : done + rows])
        done += rows
    order = np.lexsort((ids[mask], part[mask]))
    x = np.concatenate(found)
    found.clear()
    return Gathered(x[order], *(values[mask][order] for values in (ids, at, part, beside)))


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A run of rows in the file of a piece, how many of them each part has, and what is known of them beside the features."""

    unit: int
    first: int
    last: int
    sizes: np.ndarray
    facts: dict[str, np.ndarray]

    def __len__(self) -> int:
        return self.last - self.first


def _stretches(work: Work, step: str, unit: int, low: int, high: int) -> list[_Stretch]:
    """Where a piece has rows of some parts, chunk by chunk; its file is opened once."""
    found = []
    with work.parts.opened(step, unit) as file:
        index = file.get_slice("index")[:, low : high + 1]  # [chunks, high - low + 1]
        starts = np.concatenate([[0], file.get_tensor("rows").cumsum()]).tolist()
        for start, own in zip(starts, index):
            a, b = start + int(own[0]), start + int(own[-1])
            if a < b:
                facts = {name: file.get_slice(name)[a:b] for name in ("beside", "id", "at")}
                found.append(_Stretch(unit, a, b, np.diff(own), facts))
    return found


def _read(work: Work, step: str, unit: int, stretches: list[_Stretch], mask: np.ndarray) -> Iterator[np.ndarray]:
    """The features of some rows of a piece's stretches, read block by block.

    Args:
        mask: bool, of the rows of all the stretches, which of them are wanted.
    """
    width, size, done = work.job.width, height(work.job.width), 0
    with open(work.parts.path(step, unit, "f32"), "rb") as file:
        for s in stretches:
            file.seek(s.first * width * 4)
            for a in range(done, done + len(s), size):
                own = mask[a : min(a + size, done + len(s))]
                data = file.read(len(own) * width * 4)
                if len(data) != len(own) * width * 4:
                    raise DataError(f"{file.name} is damaged; remove the folder {work.folder} and select again")
                yield np.frombuffer(data, "<f4").reshape(-1, width)[own]
            done += len(s)


def runs(sizes: np.ndarray, most: int) -> np.ndarray:
    """Parts that follow each other in groups of at most ``most`` rows, or of one part: int64 [groups, 2], low and high."""
    found, low, held = [], 0, 0
    for part, size in enumerate(sizes.tolist()):
        if held and held + size > most:
            found.append((low, part))
            low, held = part, 0
        held += size
    if held:
        found.append((low, len(sizes)))
    return np.array(found, np.int64).reshape(-1, 2)


def by_position(work: Work, found: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
    """Values of rows in the order of the rows, and where each piece begins among them: see :func:`of_piece`."""
    order = np.argsort(at)
    starts = np.array([p.start for p in work.job.pieces] + [work.job.rows])
    return {"at": at[order], "value": found[order], "bounds": np.searchsorted(at[order], starts)}


def of_piece(work: Work, step: str, groups: int, unit: int) -> np.ndarray:
    """The values that the units of a step found for the rows of a piece: [rows]."""
    piece = work.job.pieces[unit]
    values = np.full(piece.rows, np.nan, np.float32)
    for group in range(groups):
        with work.parts.opened(step, group) as file:
            a, b = file.get_slice("bounds")[unit : unit + 2].tolist()
            if a < b:
                values[file.get_slice("at")[a:b] - piece.start] = file.get_slice("value")[a:b]
    return values
