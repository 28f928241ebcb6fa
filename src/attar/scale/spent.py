"""What a job has taken so far, over all calls of its command: kept beside its parts, so that a kill forgets seconds alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import AttarError
from attar.io import atomic

EVERY = 10.0
"""Seconds between two notes."""
NOTHING = {"seconds": 0.0, "mapped": 0.0, "peak": 0.0}


class Spent:
    """Seconds, those of them in which workers worked (``mapped``), and most memory (``peak``, bytes).

    Args:
        folder: of the job. began: ``time.monotonic()`` of this call. peak: most memory that it has taken by now.
    """

    def __init__(self, folder: Path, began: float, peak: Callable[[], float]) -> None:
        self.path, self.began, self.peak, self.mapped, self.noted = folder / "spent.json", began, peak, 0.0, began
        self.before = {**NOTHING, **json.loads(self.path.read_text())} if self.path.is_file() else NOTHING

    def facts(self) -> dict[str, float]:
        """By now."""
        return {
            "seconds": self.before["seconds"] + time.monotonic() - self.began,
            "mapped": self.before["mapped"] + self.mapped,
            "peak": max(self.before["peak"], self.peak()),
        }

    def note(self, mapped: float) -> None:
        """Workers have worked for so many seconds more; written down from time to time."""
        self.mapped += mapped
        if time.monotonic() - self.noted >= EVERY:
            self._write()

    @contextmanager
    def whatever_happens(self) -> Iterator[None]:
        """Writes it down where the block ends by an error or an interrupt."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError, AttarError):
                self._write()
            raise

    def _write(self) -> None:
        atomic.write_json(self.path, self.facts())
        self.noted = time.monotonic()
