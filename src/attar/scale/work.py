"""One job as its workers see it: what was asked for, the pieces, and the parts that are finished."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attar import chance
from attar.io import atomic
from attar.scale.blocks import Block, blocks
from attar.scale.parts import SHARED, Parts
from attar.scale.shards import Columns, Piece, Shard

JOB = "job.json"
SURVEY = "survey"
"""The step that reads everything once: ids, labels, scores, sums."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done; workers read it from the job's folder.

    Args:
        method: name. settings: of the method. budget: as ``{"rows": 10}``; empty where a threshold decides.
        balanced: the same number of every class. seed: of the run. columns: that are read. shards, pieces, width: of
            :func:`attar.scale.shards.survey`. moments: whether sums of products of features are needed.
    """

    method: str
    settings: dict[str, Any]
    budget: dict[str, Any]
    balanced: bool
    seed: int
    columns: Columns
    shards: tuple[Shard, ...]
    pieces: tuple[Piece, ...]
    width: int
    moments: bool

    @cached_property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(s.rows for s in self.shards)

    def save(self, folder: Path) -> None:
        """Writes it for the workers."""
        atomic.write_json(folder / JOB, dataclasses.asdict(self))


def load(folder: Path) -> Job:
    """Reads what :meth:`Job.save` wrote."""
    with atomic.named(folder / JOB, "reading"):
        found = json.loads((folder / JOB).read_text())
    pieces = tuple(Piece(**{**p, "groups": tuple(p["groups"])}) for p in found["pieces"])
    shards = tuple(Shard(**s) for s in found["shards"])
    return Job(**{**found, "columns": Columns(**found["columns"]), "shards": shards, "pieces": pieces})


class Work:
    """A job and its folder.

    Args:
        folder: of this job alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = Parts(folder)

    @cached_property
    def job(self) -> Job:
        """What is to be done."""
        return load(self.folder)

    def blocks(self, unit: int, columns: Columns | None = None) -> Iterator[Block]:
        """The blocks of a piece; of its features alone unless said otherwise."""
        piece = self.job.pieces[unit]
        wanted = columns or Columns(features=self.job.columns.features)
        yield from blocks(self.job.shards[piece.shard], piece, wanted, self.job.width)

    def ids(self, unit: int) -> np.ndarray:
        """The ids of a piece: the id column, else the number of the row among those of all shards; int64 [rows]."""
        piece = self.job.pieces[unit]
        if self.job.columns.id is None:
            return np.arange(piece.start, piece.start + piece.rows, dtype=np.int64)
        return self.parts.one(SURVEY, unit, "id")

    @cached_property
    def classes(self) -> list[Any]:
        """The labels that occur, sorted; empty without a label column."""
        return self.parts.facts(SURVEY, SHARED)["classes"]

    def labels(self, unit: int) -> np.ndarray:
        """The class of every row of a piece, by its number among the classes; zeros without labels; int64 [rows]."""
        if self.job.columns.label is None:
            return np.zeros(self.job.pieces[unit].rows, np.int64)
        number = {value: k for k, value in enumerate(self.classes)}
        own = np.array([number[v] for v in self.parts.facts(SURVEY, unit)["values"]], np.int64)
        return own[self.parts.one(SURVEY, unit, "label")]

    def groups(self, unit: int) -> np.ndarray:
        """The classes where they are balanced, else zeros: int64 [rows]."""
        return self.labels(unit) if self.job.balanced else np.zeros(self.job.pieces[unit].rows, np.int64)

    def seed(self, *key: str | int) -> int:
        """A number for what is random about ``key``."""
        return chance.number(self.job.seed, *key)
