"""The real images of a step as siamese methods see them: a batch of each class, under one transform of that class."""

from __future__ import annotations

import torch

from attar.augment.siamese import augment_by_class, draw
from attar.augment.strategy import strategy_for
from attar.real.realset import RealSet
from attar.seeds import Seeds


def seen(real: RealSet, seeds: Seeds, *, batch: int, augment: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Real images, and the transforms that the kept ones shall pass too.

    Args:
        batch: B images of every class. augment: siamese operations, ``none`` or ``auto``.

    Returns:
        [K, B, C, H, W] after the transforms, and their parameters, K rows.
    """
    ops = draw(
        strategy_for(augment, real), real.n_classes, seeds.generator("augment"), size=real.shape[1:], one_op=False
    )
    ops = {name: value.to(real.device) for name, value in ops.items()}
    index = real.sample(batch, seeds.generator("real"))  # [K, B]
    return augment_by_class(real.draw(index.flatten()).unflatten(0, index.shape), ops), ops
