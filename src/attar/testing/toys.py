"""Small real sets that a network can learn: one smooth pattern a class under noise, equal on every machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch

from attar.real import statistics
from attar.real.realset import RealSet, fingerprint
from attar.seeds import Seeds

NAMES = ("apple", "bread", "chair", "drum", "eagle", "fern", "glove", "house")


@lru_cache(maxsize=64)
def toy(
    counts: tuple[int, ...] = (14, 14, 14),
    *,
    channels: int = 1,
    size: tuple[int, int] = (8, 8),
    noise: float = 45.0,
    draw: int = 0,
) -> RealSet:
    """Images of K classes in shuffled order, with ids that are not their positions.

    pixel = 128 + 50 pattern_k + noise * normal, in 0 to 255

    Args:
        counts: real examples of each class; 0 leaves a class without any.
        channels, size: C and (H, W).
        noise: standard deviation of the noise in 8-bit steps.
        draw: another draw of the noise, of the same patterns.

    Returns:
        The same object for equal arguments.
    """
    k, n, (h, w) = len(counts), sum(counts), size
    random = Seeds(draw).numpy("toy", channels, h, w, *counts)
    order = random.permutation(n)
    labels = np.repeat(np.arange(k), counts)[order]
    mean = 128 + 50 * patterns(k, channels, size)[labels]  # [N, C, H, W]
    images = torch.from_numpy((mean + noise * random.standard_normal(mean.shape)).round().clip(0, 255).astype(np.uint8))
    table = pa.table({"label": labels, "note": [f"row {i}" for i in order]})
    middle, spread = statistics.moments(statistics.image_sums(images), (channels, h, w))
    names = NAMES[:k]
    return RealSet(
        name="toy",
        table=table,
        images=images,
        rows=torch.arange(n),
        ids=3 * torch.arange(n) + 5,
        class_names=names,
        mean=middle,
        std=spread,
        source={"reader": "toy"},
        fingerprint=fingerprint(images, table, names),
    )


def patterns(k: int, channels: int, size: tuple[int, int]) -> np.ndarray:
    """One smooth picture a class, between -1 and 1: float64 [K, C, H, W]; class k's does not depend on K."""
    h, w = size
    y, x = np.meshgrid(np.linspace(0, np.pi, h), np.linspace(0, np.pi, w), indexing="ij")  # [H, W] each
    waves = [[np.sin((1 + i % 3) * x + (1 + i // 3) * y + 2.1 * i + c) for c in range(channels)] for i in range(k)]
    return np.asarray(waves)


def unlabelled(n: int = 20) -> RealSet:
    """A set without classes."""
    some = toy((n,))
    return dataclasses.replace(some, table=some.table.drop(["label"]), class_names=())


@dataclass(frozen=True, eq=False, kw_only=True)
class Broken(RealSet):
    """A set whose images become NaN.

    Args:
        good: calls of ``draw`` that are still answered well; counted down.
    """

    good: list[int]

    def draw(self, index: torch.Tensor) -> torch.Tensor:
        """Images in the normalised space, or NaN: int64 [B] -> float32 [B, C, H, W]."""
        x = super().draw(index)
        self.good[0] -= 1
        return x if self.good[0] >= 0 else torch.full_like(x, torch.nan)


def broken(real: RealSet, *, good: int) -> Broken:
    """``real``, whose images are NaN after ``good`` calls of ``draw``."""
    return Broken(**{f.name: getattr(real, f.name) for f in dataclasses.fields(real)}, good=[good])
