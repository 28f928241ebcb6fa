"""Store: results of single networks on disk, so that an interrupted evaluation goes on and baselines are shared.

A result is kept as ``ROOT/scores/KEY-TEST.json``: KEY is a hash of everything that the trained network depends on, and
TEST of the test split. The two stand apart so that a look into the store needs the test split only where the network is
trained already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from attar.execute import compile as compiling
from attar.io import atomic, tensors

SCHEMA = 1
"""Raised when a change of the training changes its results."""


class Result(TypedDict):
    """One network: accuracy after the last epoch, the best seen (None where nobody looked), and seconds of training."""

    accuracy: float
    best: float | None
    seconds: float


@dataclass(frozen=True)
class Store:
    """Results by what they depend on.

    Args:
        root: the folder, None to keep nothing.
    """

    root: Path | None

    def get(self, facts: Mapping[str, Any], test: Callable[[], str]) -> Result | None:
        """The result of a network, or None.

        Args:
            facts: what the network depends on.
            test: opens the test split for its fingerprint; called only where a network of these facts was trained.
        """
        if self.root is None:
            return None
        key = _key(facts)
        if not any((self.root / "scores").glob(f"{key}-*.json")):
            return None
        return _read(self._path(key, test()))

    def put(self, facts: Mapping[str, Any], test: str, result: Result) -> None:
        """Keeps a result durably, with its facts beside it for people."""
        if self.root is not None:
            atomic.write_json(self._path(_key(facts), test), {**result, "facts": {**facts, "test": test}})

    def _path(self, key: str, test: str) -> Path:
        assert self.root is not None
        return self.root / "scores" / f"{key}-{tensors.digest(test.encode())[:16]}.json"


def circumstances(device: torch.device) -> dict[str, Any]:
    """What the bits of a training depend on besides its inputs."""
    half = torch.is_autocast_enabled(device.type)
    return {
        "schema": SCHEMA,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "compiled": compiling.on(),
        "dtype": str(torch.get_autocast_dtype(device.type) if half else torch.get_default_dtype()),
    }


def content(*values: torch.Tensor | None) -> str:
    """Hash of some tensors' shapes, dtypes and bytes; None counts too."""
    return tensors.digest(tensors.encode({str(i): v for i, v in enumerate(values) if v is not None}))


def _key(facts: Mapping[str, Any]) -> str:
    return tensors.digest(json.dumps(facts, sort_keys=True, allow_nan=False).encode())[:32]


def _read(path: Path) -> Result | None:
    """A kept result; a missing or damaged file is none."""
    try:
        kept = json.loads(path.read_bytes())
        accuracy, best, seconds = kept["accuracy"], kept["best"], kept["seconds"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    numbers = [accuracy, seconds, *([] if best is None else [best])]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers):
        return None
    return Result(accuracy=accuracy, best=best, seconds=seconds)
