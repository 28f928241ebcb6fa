"""What the tests of the command line share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TINY = ("--net", "convnet:width=8:depth=1", "--steps", "3", "--batch", "4")
"""Settings of a distillation that takes a moment."""
QUICK = ("--nets", "convnet:width=8:depth=1", "--epochs", "2", "--seeds", "2")
"""Settings of a score that takes a moment."""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
