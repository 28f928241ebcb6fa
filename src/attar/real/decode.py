"""Decoding: a stream of encoded images into one file of uint8 [N, C, H, W], in one pass and bounded memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from attar.errors import DataError
from attar.io import images
from attar.real.source import Part, Picture, Progress
from attar.real.statistics import image_sums

BLOCK = 64
"""Images in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How images become equal tensors.

    Args:
        size: (H, W) to resize to; None demands that all images have one size.
        resize: the policy of :func:`attar.io.images.fit`.
        on_bad: ``stop`` at the first unreadable image, or ``skip`` such images.
        shape: (C, H, W) of the training split, for the splits that must match it.
    """

    size: tuple[int, int] | None = None
    resize: str = "crop"
    on_bad: str = "stop"
    shape: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What went into the file.

    Args:
        shape: (C, H, W).
        rows: int64 [n], the rows that were readable.
        sums: int64 [n, 2, C] of :func:`attar.real.statistics.image_sums`.
        bad: (where, why) of the skipped rows.
    """

    shape: tuple[int, int, int]
    rows: torch.Tensor
    sums: torch.Tensor
    bad: tuple[tuple[str, str], ...]


def decode(
    part: Part, sink: BinaryIO, recipe: Recipe, *, name: str, workers: int | None, progress: Progress | None
) -> Decoded:
    """Decodes a split into ``sink``.

    Args:
        part: N images.
        sink: an empty file, readable and writable; gets n * C * H * W bytes.
        recipe: how.
        name: of set and split, for the progress display.
        workers: threads; Pillow decodes without the interpreter lock.

    Raises:
        DataError: an unreadable image (unless skipped), images of different sizes, no readable image at all.
    """
    pile, bad = _Pile(sink, recipe), []
    workers = workers or min(8, os.cpu_count() or 1)
    row = 0
    if progress:
        progress.start(f"decoding {name}", part.n)
    try:
        with images.quiet(), ThreadPoolExecutor(workers) as pool:
            for block in part.pictures(BLOCK):
                names = [part.where(row + i) for i in range(len(block))]
                for i, image in enumerate(_block(pool, workers, block, names, recipe)):
                    if not isinstance(image, DataError):
                        pile.add(image, row + i, names[i])
                    elif recipe.on_bad == "stop":
                        raise image
                    else:
                        bad.append((names[i], str(image)))
                pile.flush()
                row += len(block)
                if progress:
                    progress.advance(len(block))
    finally:
        if progress:
            progress.stop()
    if not pile.rows:
        raise DataError(f"none of the {part.n} images could be read; the first: {bad[0][1]}")
    return pile.decoded(tuple(bad))


def _block(
    pool: ThreadPoolExecutor, workers: int, block: Sequence[Picture], names: Sequence[str], recipe: Recipe
) -> list[np.ndarray | DataError]:
    """Some images in parallel, one run of neighbours per thread: tiny images cost less than a task."""
    step = -(-len(block) // workers)
    runs = [range(s, min(s + step, len(block))) for s in range(0, len(block), step)]

    def decode_run(run: range) -> list[np.ndarray | DataError]:
        return [_one(block[i], names[i], recipe) for i in run]

    return [image for done in pool.map(decode_run, runs) for image in done]


def _one(picture: Picture, where: str, recipe: Recipe) -> np.ndarray | DataError:
    """One image: uint8 [H, W] or [H, W, 3], or why not."""
    if isinstance(picture, DataError):
        return picture
    try:
        if isinstance(picture, (bytes, Path)):
            image = images.decode(picture, where)
        elif isinstance(picture, Image.Image):
            image = images.opened(picture, where)
        else:
            image = images.from_array(picture, where)
    except DataError as e:
        return e
    if recipe.size is not None:
        image = images.fit(image, recipe.size, recipe.resize)
    if recipe.shape is not None:
        image = image.convert("L" if recipe.shape[0] == 1 else "RGB")
    return np.asarray(image)


class _Pile:
    """Images piled up in a file: one channel until the first coloured image comes, three from then on."""

    def __init__(self, sink: BinaryIO, recipe: Recipe) -> None:
        self.sink, self.recipe = sink, recipe
        self.channels = recipe.shape[0] if recipe.shape else 1
        self.size: tuple[int, ...] | None = recipe.shape[1:] if recipe.shape else None
        self.first = "the training split" if recipe.shape else ""
        self.rows: list[int] = []
        self.sums: list[torch.Tensor] = []
        self.waiting: list[np.ndarray] = []

    def add(self, image: np.ndarray, row: int, where: str) -> None:
        """Takes uint8 [H, W] or [H, W, 3]."""
        if self.size is None:
            self.size, self.first = image.shape[:2], where
        if image.shape[:2] != self.size:
            a, b = (f"{s[1]}x{s[0]}" for s in (self.size, image.shape[:2]))
            raise DataError(
                f"images of different sizes: {self.first} has {a} pixels and {where} has {b}; "
                f"give one size for all, such as --size {min(self.size)}"
            )
        if image.ndim == 3 and self.channels == 1:
            self.flush()
            self._to_colour()
        self.waiting.append(image)
        self.rows.append(row)

    def flush(self) -> None:
        """Writes what waits: B images as uint8 [B, C, H, W]."""
        if not self.waiting:
            return
        assert self.size is not None
        block = np.empty((len(self.waiting), self.channels, *self.size), np.uint8)
        for planes, image in zip(block, self.waiting):
            planes[:] = image if image.ndim == 2 else image.transpose(2, 0, 1)  # [H, W] or [H, W, 3] -> [C, H, W]
        self.sink.write(block.data)
        self.sums.append(image_sums(torch.from_numpy(block)))
        self.waiting = []

    def _to_colour(self) -> None:
        """Triples the channel of every image in the file, from its end, where nothing unread is overwritten."""
        assert self.size is not None
        self.channels = 3
        self.sums = [s.expand(-1, -1, 3) for s in self.sums]
        each = self.size[0] * self.size[1]
        for start in reversed(range(0, len(self.rows), BLOCK)):
            n = min(BLOCK, len(self.rows) - start)
            self.sink.seek(start * each)
            grey = np.frombuffer(self.sink.read(n * each), np.uint8).reshape(n, 1, each)  # [B*H*W] -> [B, 1, H*W]
            self.sink.seek(start * each * 3)
            self.sink.write(np.repeat(grey, 3, axis=1).data)
        self.sink.seek(0, os.SEEK_END)

    def decoded(self, bad: tuple[tuple[str, str], ...]) -> Decoded:
        """The summary."""
        assert self.size is not None
        h, w = self.size
        return Decoded(shape=(self.channels, h, w), rows=torch.tensor(self.rows), sums=torch.cat(self.sums), bad=bad)
