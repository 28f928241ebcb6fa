"""The run's record as JSON lines, without doubles after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attar.io import atomic


class Log:
    """Appends to ``log.jsonl`` in a folder, or keeps the lines in memory where there is none.

    Args:
        folder: the run's folder.
        step: lines of later steps, left by a process that died after its last save, are dropped.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self.path = folder / "log.jsonl" if folder is not None else None
        self.lines = [x for x in read(self.path) if x["step"] <= step] if self.path else []
        if self.path is not None:
            atomic.write_bytes(self.path, self.content())

    def write(self, **facts: Any) -> None:
        """One line."""
        self.lines.append(facts)
        if self.path is not None:
            atomic.append(self.path, _line(facts))

    def content(self) -> bytes:
        """All lines."""
        return b"".join(_line(x) for x in self.lines)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a torn last line is left out."""
    if not path.is_file():
        return []
    with atomic.named(path, "reading"):
        return parse(path.read_bytes())


def parse(data: bytes) -> list[dict[str, Any]]:
    """JSON lines -> records; a torn last line is left out."""
    records = []
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records


def of_budget(data: bytes, index: int) -> bytes:
    """The log of one of several budgets: its own losses alone."""
    return b"".join(_line({**x, "loss": x["loss"][index : index + 1]}) for x in parse(data))


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"
