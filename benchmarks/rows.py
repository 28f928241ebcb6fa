"""Rows of measurements: JSON lines that are written one by one, so that a benchmark that was killed goes on where it was."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy.special import stdtrit

from attar.errors import AttarError
from attar.evaluate.scores import LEVEL
from attar.execute import plan
from attar.io import atomic
from attar.io.lock import lock

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


class Rows:
    """The rows of one benchmark.

    Args:
        path: a file of JSON lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._read()

    def _read(self) -> None:
        if self.path.exists():
            self.rows = [json.loads(line) for line in self.path.read_text().splitlines()]

    def find(self, **key: Any) -> dict[str, Any] | None:
        """The row that has these values."""
        return next((r for r in self.rows if all(r.get(k) == v for k, v in key.items())), None)

    def put(self, row: dict[str, Any], **key: Any) -> None:
        """Adds a row in place of one with the same key, durably, beside those that other processes put there meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with lock(self.path.with_suffix(".lock"), self.path.name, wait=True):
            self._read()
            self.rows = [r for r in self.rows if not all(r.get(k) == v for k, v in key.items())]
            self.rows.append({**key, **row})
            text = "".join(json.dumps(r) + "\n" for r in self.rows)
            atomic.write_bytes(self.path, text.encode())


def environment(device: str = "cpu", *, threads: int | None = None) -> dict[str, Any]:
    """What figures depend on: versions, processor, cores, commit and day.

    Args:
        threads: that the work took by its plan; those of this process where left out.
    """
    facts: dict[str, Any] = {
        **plan.environment(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads or torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return {**facts, "commit": commit(), "date": datetime.date.today().isoformat()}


def brief(values: list[float]) -> dict[str, Any]:
    """Mean and 95 % interval by Student's t, not cut off: differences may be negative."""
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return {"mean": mean, "interval": None}
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * statistics.stdev(values) / n**0.5
    return {"mean": mean, "interval": [mean - half, mean + half]}


def command() -> str:
    """The command line that is running, with the path of this folder in the repository."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def commit() -> str:
    """What was measured."""
    asked = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return asked.stdout.strip() or "unknown"


def ended(main: Callable[[], None]) -> None:
    """Runs a benchmark; where it was stopped or refused, leaves with one sentence and the exit code."""
    try:
        main()
    except AttarError as e:
        print(e, file=sys.stderr)
        sys.exit(e.exit_code)
