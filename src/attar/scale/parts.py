"""Finished work on disk: one file for each step and unit, there whole or not at all, so that a restart redoes nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from attar.errors import DataError
from attar.io import atomic

SHARED = -1
"""The unit of what all units of a step read."""


@dataclass(frozen=True)
class Parts:
    """Arrays and facts by step and unit.

    Args:
        folder: of one job.
    """

    folder: Path

    def path(self, step: str, unit: int, ending: str = "part") -> Path:
        """Where a part is, or will be."""
        return self.folder / step / (f"shared.{ending}" if unit == SHARED else f"{unit:06d}.{ending}")

    def has(self, step: str, unit: int) -> bool:
        """Whether a part is finished."""
        return self.path(step, unit).is_file()

    def missing(self, step: str, units: int) -> list[int]:
        """The units of a step that are still to be done."""
        with contextlib.suppress(FileNotFoundError):
            there = {p.name for p in os.scandir(self.folder / step)}
            return [u for u in range(units) if f"{u:06d}.part" not in there]
        return list(range(units))

    def write(self, step: str, unit: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] = {}) -> None:
        """Puts a part in its place, durably and in one step."""
        path = self.path(step, unit)
        with atomic.named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        flat = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
        atomic.write_bytes(path, save(flat, metadata={"facts": json.dumps(facts)}))

    def read(self, step: str, unit: int, *names: str) -> dict[str, np.ndarray]:
        """Some arrays of a part."""
        with self.opened(step, unit) as file:
            return {name: file.get_tensor(name) for name in names}

    def one(self, step: str, unit: int, name: str) -> np.ndarray:
        """One array of a part."""
        return self.read(step, unit, name)[name]

    def facts(self, step: str, unit: int) -> dict[str, Any]:
        """What was noted beside the arrays."""
        with self.opened(step, unit) as file:
            return json.loads(file.metadata()["facts"])

    @contextmanager
    def opened(self, step: str, unit: int) -> Iterator[Any]:
        """A part, for several looks at it: ``get_tensor(name)`` and ``get_slice(name)[...]``."""
        path = self.path(step, unit)
        try:
            with atomic.named(path, "reading"), safe_open(path, framework="np") as file:
                yield file
        except SafetensorError as e:
            raise DataError(f"{path} is damaged ({e}); remove it and run the same command again") from e

    @contextmanager
    def stream(self, step: str, unit: int, ending: str) -> Iterator[BinaryIO]:
        """A file beside a part, filled piece by piece; there whole or not at all, and to be written before the part."""
        path = self.path(step, unit, ending)
        tmp = atomic.temporary(path)
        atomic.sweep(path.parent, path.name + atomic.TEMPORARY)
        try:
            with atomic.new_file(tmp) as file:
                yield file
            with atomic.named(path):
                atomic.point("rename", path)
                os.replace(tmp, path)
                atomic.sync_folder(path.parent)
        except BaseException:
            tmp.unlink(missing_ok=True)
            raise

    def drop(self, step: str) -> None:
        """Deletes a step that is no longer needed."""
        atomic.remove(self.folder / step)
