"""Mean and standard deviation per channel: published constants where the protocols use them, else exact sums."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""(mean, std) of pixels in [0, 1], C numbers each."""

_IMAGENET: Moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10: Moments = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100: Moments = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
_SVHN: Moments = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))

PUBLISHED: dict[tuple[str, tuple[int, int, int], int], Moments] = {
    ("mnist", (1, 28, 28), 10): ((0.1307,), (0.3081,)),
    ("fashionmnist", (1, 28, 28), 10): ((0.2861,), (0.3530,)),
    ("svhn", (3, 32, 32), 10): _SVHN,
    ("cifar10", (3, 32, 32), 10): _CIFAR10,
    ("cifar100", (3, 32, 32), 100): _CIFAR100,
    ("tinyimagenet", (3, 64, 64), 200): _IMAGENET,
    ("imagenette", (3, 128, 128), 10): _IMAGENET,
    ("imagewoof", (3, 128, 128), 10): _IMAGENET,
    ("imagenet", (3, 64, 64), 1000): _IMAGENET,
    ("imagenet", (3, 224, 224), 1000): _IMAGENET,
}
"""(name, (C, H, W), K) -> the constants of the published protocols.

Source: the data loading of Zhao and Bilen, Dataset Condensation (2021), that later papers share. The shape and the class
count keep a folder that only happens to be called ``mnist`` from getting them.
"""


def published(name: str, shape: tuple[int, int, int], n_classes: int) -> Moments | None:
    """The constants of a well-known set, or None; case, spaces, dots, hyphens and underscores in the name do not matter."""
    return PUBLISHED.get((re.sub(r"[\s._-]", "", name.lower()), shape, n_classes))


def image_sums(x: torch.Tensor) -> torch.Tensor:
    """Sum and sum of squares of every image: uint8 [B, C, H, W] -> int64 [B, 2, C]."""
    flat = x.flatten(2).to(torch.int32)  # [B, C, H*W]; a square is at most 65,025 and sums are made in int64
    return torch.stack([flat.sum(2), (flat * flat).sum(2)], 1)


def moments(sums: torch.Tensor, shape: Sequence[int]) -> Moments:
    """Mean and standard deviation from image sums; exact up to the last float64 operations.

    mean = S1 / (255 n), std = sqrt(n S2 - S1^2) / (255 n), n = N H W. A constant channel gets std 1.

    Args:
        sums: int64 [N, 2, C] of :func:`image_sums`.
        shape: (C, H, W).
    """
    n = len(sums) * shape[1] * shape[2]
    first, second = sums.sum(0).tolist()  # C whole numbers each; Python's have no largest value
    spread = [n * b - a * a for a, b in zip(first, second)]
    return tuple(a / (255 * n) for a in first), tuple(s**0.5 / (255 * n) if s else 1.0 for s in spread)
