"""The side that calls: maps steps over units, whoever does them, and keeps to the memory bound."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from attar.execute.progress import Progress
from attar.scale import memory
from attar.scale.blocks import BLOCK
from attar.scale.parts import SHARED
from attar.scale.shards import BUFFER
from attar.scale.spent import Spent
from attar.scale.work import Work

RESERVE = 24 * 10**6
"""Bytes for what no formula sees: buffers of readers and writers, fragments."""
ROW = 64
"""Bytes of a row of a piece: ids, labels, scores, keys and masks of it, together."""


class Executor(Protocol):
    """Who does the units."""

    workers: int

    def first(self) -> int:
        """Bytes that one worker holds before any work."""
        ...

    def run(self, step: str, units: Sequence[int]) -> Iterator[int]:
        """Does units of a step and gives each when it is done."""
        ...


class Stage:
    """One job, those who work for it, and its memory.

    Args:
        work: the job. executor: who does the units. bound: bytes in all. workers: most of them. progress, spent: are told.
    """

    def __init__(
        self, work: Work, executor: Executor, bound: int, workers: int, progress: Progress, spent: Spent
    ) -> None:
        self.work, self.executor, self.bound, self.asked = work, executor, bound, workers
        self.progress, self.spent = progress, spent
        self.base, self.own = executor.first(), memory.resident(os.getpid())
        self.room(0, 0)

    def more(self, worker: float) -> None:
        """Chooses again, given how much more each worker needs than was known before.

        Raises:
            ResourceError: not even one fits.
        """
        if worker > 0:
            self.room(self.needs[0] + worker, self.needs[1])

    def room(self, worker: float, parent: float) -> None:
        """Chooses how many workers may run at once, given what each and this process need beside the reading.

        Raises:
            ResourceError: not even one fits.
        """
        job, self.needs = self.work.job, (worker, parent)
        rows = max(p.rows for p in job.pieces)
        reading = RESERVE + 4 * 4 * BLOCK + BUFFER * len(job.columns.names()) + ROW * rows
        self.executor.workers = memory.fitting(
            self.bound,
            parent=int(self.own + RESERVE + ROW * rows + parent),
            worker=int(self.base + reading + worker),
            asked=self.asked,
        )

    def free(self) -> int:
        """Bytes that this process may take for a while between steps."""
        return max(RESERVE, self.bound - self.own - self.base * self.executor.workers - 2 * RESERVE)

    def share(self, step: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] = {}) -> None:
        """Writes what all units of a step read."""
        if not self.work.parts.has(step, SHARED):
            self.work.parts.write(step, SHARED, arrays, facts)

    def map(self, step: str, units: int, label: str) -> None:
        """Does the units of a step that are not done."""
        missing = self.work.parts.missing(step, units)
        if not missing:
            return
        self.progress.start(label, units, units - len(missing))
        began = time.monotonic()
        for _ in self.executor.run(step, missing):
            self.progress.advance()
            now = time.monotonic()
            self.spent.note(now - began)
            began = now
        self.progress.stop()

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return len(self.work.job.pieces)
