"""What the tests of the verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from attar.condensed import Condensed
from attar.io import png

TINY: dict[str, Any] = {"ipc": 1, "steps": 3, "batch": 4, "net": "convnet:width=8:depth=1"}
"""A distillation that takes a moment."""


def pictures(folder: Path, names: tuple[str, ...], n: int, seed: int) -> None:
    """Class folders of n random pictures each, 8x8 in colour."""
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        g = torch.Generator().manual_seed(1000 * seed + k)
        for i in range(n):
            picture = torch.randint(0, 256, (3, 8, 8), generator=g, dtype=torch.uint8)
            (folder / name / f"{i}.png").write_bytes(png.encode(picture))


def same(a: Condensed, b: Condensed) -> bool:
    """Whether two sets hold equal rows and tensors, bit by bit."""
    tensors = a.exact.keys() == b.exact.keys() and all(torch.equal(a.exact[k], b.exact[k]) for k in a.exact)
    return tensors and a.table.equals(b.table) and torch.equal(a.images8, b.images8)
