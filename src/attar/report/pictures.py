"""The picture of a set: the kept examples of each class, beside real ones, small enough to be carried in a page."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch.nn.functional import interpolate

from attar.condensed import Condensed
from attar.errors import UsageError
from attar.io import png
from attar.real.objects import DETECTION, outlined
from attar.real.realset import RealSet
from attar.report.classes import class_name, members
from attar.report.facts import items
from attar.seeds import Seeds

CLASSES, KEPT, REAL = 20, 10, 4
"""At most so many classes, and of each so many kept and real examples."""

SIDE = 96
"""Pixels of the longer side; larger pictures are averaged down for the page."""

BYTES = 2_500_000
"""Pixels of the whole page, one byte each, before they are packed as PNG."""

TILE = 64
"""About how wide a picture is shown."""


@dataclass(frozen=True)
class Tile:
    """One picture.

    Args:
        src: a data URI.
        alt: what it shows, in words.
        pick: its place in the order of picking, from 1.
        gain: what the pick added.
        hint: all that is known of the row.
    """

    src: str
    alt: str
    pick: int | None = None
    gain: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """A class: how many examples of it there are, and the first of them."""

    name: str
    n_kept: int
    n_real: int | None
    kept: tuple[Tile, ...]
    real: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The rows of the picture.

    Args:
        width, height: of a picture on the page, whole multiples of its pixels where there is room.
        left_out: classes that are not shown.
        shrunk: the true size (H, W) where pictures were averaged down.
    """

    rows: tuple[Row, ...]
    width: int
    height: int
    left_out: int = 0
    shrunk: tuple[int, int] | None = None

    @property
    def n_real(self) -> int:
        """The most real examples that a class shows; 0 where none were given."""
        return max(len(row.real) for row in self.rows)

    @property
    def mosaic(self) -> bool:
        """Whether classes are so short that they stand side by side."""
        return not self.n_real and all(row.n_kept <= 2 for row in self.rows)

    @property
    def most(self) -> int:
        """The most kept examples that a class shows."""
        return max(len(row.kept) for row in self.rows)

    @property
    def cut(self) -> bool:
        """Whether a class has more than it shows."""
        return any(row.n_kept > len(row.kept) for row in self.rows)

    @property
    def noted(self) -> bool:
        """Whether pictures have notes below them."""
        return any(tile.pick for row in self.rows for tile in row.kept)

    @property
    def gains(self) -> bool:
        """Whether the notes tell gains."""
        return any(tile.gain for row in self.rows for tile in row.kept)


def gallery(condensed: Condensed, real: RealSet | None = None) -> Gallery | None:
    """The picture of a set; None where it has no image column.

    Args:
        real: where given, a few real examples of each class (seeded) stand before the kept ones.

    Raises:
        UsageError: ``real`` has other classes.
    """
    if condensed.bytes8 is None or not len(condensed.bytes8):
        return None
    real = _fitting(condensed, real)
    if condensed.task == DETECTION:
        condensed = dataclasses.replace(condensed, bytes8=outlined(condensed.bytes8, condensed.table))
    assert condensed.bytes8 is not None
    c, h, w = condensed.bytes8.shape[1:]
    width, height = tile_size(condensed)
    groups = members(condensed)
    shown = groups[:CLASSES]
    n_kept, n_real = _share(shown, c * min(h, SIDE) * min(w, SIDE), with_real=real is not None)
    rows = tuple(_row(condensed, real, k, index, n_kept, n_real) for k, index in shown)
    return Gallery(
        rows=rows,
        width=width,
        height=height,
        left_out=len(groups) - len(shown),
        shrunk=(h, w) if max(h, w) > SIDE else None,
    )


def _fitting(condensed: Condensed, real: RealSet | None) -> RealSet | None:
    if real is None or real.images is None:
        return None
    names = [str(n) for n in items(condensed.manifest.get("class_names"))]
    if names and list(real.class_names) != names:
        raise UsageError(
            f"the real set {real.name} has the classes {_few(real.class_names)}, but the condensed set has {_few(names)}; "
            "give the real set that it was made from"
        )
    return real


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _share(shown: list[tuple[int | None, torch.Tensor]], pixels: int, *, with_real: bool) -> tuple[int, int]:
    """How many kept and real examples of a class fit the page."""
    fit = max(2 if with_real else 1, BYTES // max(1, pixels * len(shown)))
    n_real = min(REAL, max(1, fit // 3)) if with_real else 0
    return max(1, min(KEPT, fit - n_real)), n_real


def _row(
    condensed: Condensed, real: RealSet | None, k: int | None, index: torch.Tensor, n_kept: int, n_real: int
) -> Row:
    assert condensed.bytes8 is not None
    name, picked = class_name(condensed, k), condensed.manifest.get("kind") == "subset"
    kept = tuple(
        Tile(uri(condensed.bytes8[i]), f"{name}, kept example {j + 1}", **(_told(condensed, i) if picked else {}))
        for j, i in enumerate(index[:n_kept].tolist())
    )
    if real is None:
        return Row(name, len(index), None, kept, ())
    pool = _pool(real, k)
    some = pool[torch.randperm(len(pool), generator=Seeds(0).generator("report", -1 if k is None else k))[:n_real]]
    before = tuple(Tile(uri(x), f"{name}, real example {j + 1}") for j, x in enumerate(_seen(real, some)))
    return Row(name, len(index), len(pool), kept, before)


def _seen(real: RealSet, some: torch.Tensor) -> torch.Tensor:
    """Real examples as they are shown: int64 [n] -> uint8 [n, C, H, W]."""
    raw = real.raw(some).cpu()
    return outlined(raw, real.table.take(pa.array(some.numpy()))) if real.task == DETECTION else raw


def _pool(real: RealSet, k: int | None) -> torch.Tensor:
    """The real examples of a class: int64 [n]."""
    if k is None:
        return torch.arange(len(real))
    return real.classes[k] if k < real.n_classes else torch.empty(0, dtype=torch.int64)


def _told(condensed: Condensed, i: int) -> dict[str, Any]:
    """Pick, gain and hint of a picked row; rows are kept in pick order."""
    row = condensed.table.slice(i, 1).to_pylist()[0]
    gain, weight, source = (row.get(name) for name in ("gain", "weight", "source_id"))
    facts = [f"pick {i + 1}"]
    facts += [f"{what} {value:.4g}" for what, value in (("gain", gain), ("weight", weight)) if isinstance(value, float)]
    facts += [f"row {source} of the source"] if isinstance(source, int) else []
    return {"pick": i + 1, "gain": f"{gain:.3g}" if isinstance(gain, float) else "", "hint": ", ".join(facts)}


def tile_size(condensed: Condensed) -> tuple[int, int]:
    """Width and height at which a picture of a set is shown."""
    assert condensed.bytes8 is not None
    h, w = condensed.bytes8.shape[2:]
    width = _tile(w) if w >= h else max(8, round(_tile(h) * w / h))
    return width, max(8, round(width * h / w))


def uri(image: torch.Tensor, *, side: int = SIDE) -> str:
    """uint8 [C, H, W] -> a PNG as a data URI, averaged down where it is longer than ``side``."""
    c, h, w = image.shape
    if c not in (1, 3):
        image = image.to(torch.float32).mean(0, keepdim=True).round().to(torch.uint8)
    if max(h, w) > side:
        to = (max(1, round(h * side / max(h, w))), max(1, round(w * side / max(h, w))))
        small = interpolate(image[None].to(torch.float32), size=to, mode="area")[0]
        image = small.round().clamp(0, 255).to(torch.uint8)
    return "data:image/png;base64," + base64.b64encode(png.encode(image.contiguous())).decode()


def _tile(side: int) -> int:
    """How wide a picture of ``side`` pixels is shown: a whole multiple near TILE."""
    return min(SIDE, max(1, round(TILE / side)) * side)
