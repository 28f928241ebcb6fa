"""Augmentation: random transformations of batches, drawn as tensors and applied as pure functions."""

from attar.augment.named import Augment, by_name

__all__ = ["Augment", "by_name"]
