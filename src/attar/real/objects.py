"""Objects in images: the typed column of a detection set, where its boxes lie in resized images, and objects as images.

objects: list of struct(bbox [x, y, w, h] in pixels of the ``image`` column, category (a class number), iscrowd,
         area and id as in the source, annotation: the source's own record as JSON)
width, height: of the original image; ``coco``: the source's own record of the image
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import affine_grid, grid_sample

from attar.errors import DataError
from attar.io import atomic
from attar.real.realset import RealSet

DETECTION = "detection"
"""The task of sets whose images hold objects."""

KIND = pa.list_(
    pa.struct(
        [
            ("bbox", pa.list_(pa.float64(), 4)),
            ("category", pa.int64()),
            ("iscrowd", pa.bool_()),
            ("area", pa.float64()),
            ("id", pa.int64()),
            ("annotation", pa.string()),
        ]
    )
)
"""The type of the column ``objects``."""

ORIGINAL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The type of the column ``original``: an image file as it was found."""

COLOURS = ((214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 127, 14), (148, 103, 189), (23, 190, 207))
"""Of the boxes of class 0, 1 ... in pictures; then again from the first."""

CROP = 32
"""Pixels of the side that an object is resized to where it is looked at alone."""


class Objects(NamedTuple):
    """O objects of N images, crowds left out.

    Args:
        image: int64 [O], the position of the image, ascending.
        box: float64 [O, 4], x, y, w, h in its pixels.
        category: int64 [O], a class number.
    """

    image: torch.Tensor
    box: torch.Tensor
    category: torch.Tensor


def objects_of(table: pa.Table, *, crowds: bool = False) -> Objects:
    """The objects of a table with the column ``objects``; a crowd is no object and is left out, or asked for alone."""
    column = table["objects"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    flat = column.flatten()
    image = np.repeat(np.arange(len(column)), np.diff(column.offsets.to_numpy()))
    box = flat.field("bbox").flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)  # [O*4] -> [O, 4]
    wanted = flat.field("iscrowd").to_numpy(zero_copy_only=False).astype(bool) == crowds
    category = flat.field("category").to_numpy(zero_copy_only=False).astype(np.int64)
    return Objects(*(torch.from_numpy(np.ascontiguousarray(a[wanted])) for a in (image, box, category)))


def fitted(table: pa.Table, size: tuple[int, int], resize: str) -> pa.Table:
    """The table with its boxes where :func:`attar.io.images.fit` put them.

    Args:
        table: N rows with boxes in original pixels, ``width`` and ``height``.
        size: (H, W) of the decoded images.
        resize: ``squash`` or ``pad``; a crop would cut boxes off.
    """
    rows = zip(table["objects"].to_pylist(), table["width"].to_pylist(), table["height"].to_pylist())
    moved = [[{**o, "bbox": _moved(o["bbox"], (h, w), size, resize)} for o in objects] for objects, w, h in rows]
    return _with(table, moved)


def _moved(box: Sequence[float], old: tuple[int, int], new: tuple[int, int], resize: str) -> list[float]:
    """A box [x, y, w, h] after its image went from (H, W) to another size."""
    if old == new:
        return list(box)
    (h, w), (nh, nw) = old, new
    ih, iw = nh, nw
    if resize == "pad":  # the rounding of images.fit
        scale = min(nw / w, nh / h)
        iw, ih = min(nw, max(1, round(w * scale))), min(nh, max(1, round(h * scale)))
    sx, sy, left, top = iw / w, ih / h, (nw - iw) // 2, (nh - ih) // 2
    return [box[0] * sx + left, box[1] * sy + top, box[2] * sx, box[3] * sy]


def renamed(
    table: pa.Table, own: Sequence[str], known: Sequence[str] | None, where: Sequence[str]
) -> tuple[pa.Table, tuple[str, ...]]:
    """Class numbers among ``own`` names as numbers among those of the training split, and these names.

    Raises:
        DataError: an object of a class that the training split lacks.
    """
    if known is None or tuple(own) == tuple(known):
        return table, tuple(own)
    place = {name: k for k, name in enumerate(known)}
    rows: list[list[dict[str, Any]]] = table["objects"].to_pylist()
    for i, objects in enumerate(rows):
        for o in objects:
            name = own[int(o["category"])]
            if name not in place:
                raise DataError(
                    f"{where[i]} holds an object of the category '{name}', which the training split lacks "
                    f"(it has {', '.join(known[:5])}); name it alike in both files, or delete the object"
                )
            o["category"] = place[name]
    return _with(table, rows), tuple(known)


def _with(table: pa.Table, rows: list[list[dict[str, Any]]]) -> pa.Table:
    return table.set_column(table.column_names.index("objects"), "objects", pa.array(rows, KIND))


def with_originals(table: pa.Table, folder: str | Path) -> pa.Table:
    """The table of kept rows with the image files themselves as the column ``original``.

    Raises:
        DataError, ResourceError: a file that was there before is gone or cannot be read.
    """
    cells = []
    for name in table["file"].to_pylist():
        path = Path(folder) / name
        with atomic.named(path, "reading"):
            if not path.is_file():
                raise DataError(f"{path} is no longer there though it was read before; put it back and select again")
            cells.append({"bytes": path.read_bytes(), "path": name})
    return table.append_column(pa.field("original", ORIGINAL), pa.array(cells, ORIGINAL))


def outlined(images: torch.Tensor, table: pa.Table) -> torch.Tensor:
    """The images with their boxes drawn, a colour a class: uint8 [M, C, H, W] of M rows -> uint8 [M, 3, H, W]."""
    m, c, h, w = images.shape
    drawn = images.expand(m, 3, h, w).clone() if c == 1 else images.clone()
    thick = max(1, -(-max(h, w) // 128))  # still seen where the picture is shown small
    found = objects_of(table)
    for i, (x, y, bw, bh), k in zip(found.image.tolist(), found.box.tolist(), found.category.tolist()):
        left, top = min(w - 1, max(0, round(x))), min(h - 1, max(0, round(y)))
        right, bottom = min(w, max(left + 1, round(x + bw))), min(h, max(top + 1, round(y + bh)))
        colour = torch.tensor(COLOURS[k % len(COLOURS)], dtype=torch.uint8)[:, None, None]
        part = drawn[i, :3, top:bottom, left:right]
        for edge in (part[:, :thick], part[:, -thick:], part[:, :, :thick], part[:, :, -thick:]):
            edge[:] = colour
    return drawn


@lru_cache(maxsize=4)
def as_images(real: RealSet, side: int = CROP) -> RealSet:
    """The objects of a detection set as a set of its own: O images with one class each, ids 0 to O - 1.

    Every ground-truth box is cut out of the decoded image and resized to ``side`` x ``side`` (bilinear, a sample a pixel
    or more). A set without objects is returned as it is: each of its images is one object that fills it.

    Cost: one pass over the images; O C side^2 bytes.
    """
    if real.task != DETECTION:
        return real
    found = objects_of(real.table)
    images = torch.empty(len(found.image), real.shape[0], side, side, dtype=torch.uint8)
    counts = found.image.bincount(minlength=len(real)).tolist()
    start = 0
    for i, n in enumerate(counts):
        if n:
            images[start : start + n] = cut(real.raw(torch.tensor([i]))[0], found.box[start : start + n], side)
            start += n
    n = len(images)
    return dataclasses.replace(
        real,
        name=f"objects of {real.name}",
        task="image-classification",
        table=pa.table({"label": found.category.numpy()}),
        images=images,
        rows=torch.arange(n),
        ids=torch.arange(n),
        source={**real.source, "objects": side},
        fingerprint=f"{real.fingerprint}-objects{side}",
    )


def cut(image: torch.Tensor, boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Boxes of an image at one size, averaged where they shrink: uint8 [C, H, W], [n, 4] -> uint8 [n, C, side, side]."""
    h, w = image.shape[1:]
    longest = float(boxes[:, 2:].max())
    over = max(1, min(8, round(longest / side)))  # samples a pixel and axis, so that a large box is not aliased
    x, y, bw, bh = boxes.to(torch.float32).unbind(1)
    zero = torch.zeros_like(x)
    rows = [torch.stack([bw / w, zero, (2 * x + bw) / w - 1], 1), torch.stack([zero, bh / h, (2 * y + bh) / h - 1], 1)]
    grid = affine_grid(torch.stack(rows, 1), [len(boxes), 1, side * over, side * over], align_corners=False)
    batch = image.to(torch.float32)[None].expand(len(boxes), -1, -1, -1)  # [n, C, H, W]
    seen = grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)
    mean = torch.nn.functional.avg_pool2d(seen, over)  # [n, C, side, side]
    return mean.round().clamp(0, 255).to(torch.uint8)
