"""The batches of an epoch: shuffled, augmented, mixed and labelled; pure functions of (seeds, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn.functional import one_hot

from attar.augment import Augment, cutmix
from attar.errors import DataError, UsageError
from attar.evaluate.protocol import Protocol
from attar.evaluate.teacher import Teacher
from attar.real.realset import RealSet
from attar.seeds import Seeds


class Batch(NamedTuple):
    """What one update sees.

    Args:
        x: [B, C, H, W]. y: int64 [B], or distributions [B, K]. w: weights [B].
        share: of the epoch that is over. plain: the images before they were mixed.
    """

    x: torch.Tensor
    y: torch.Tensor
    w: torch.Tensor
    share: float
    plain: torch.Tensor


def batches(
    images: torch.Tensor | RealSet,
    labels: torch.Tensor,
    w: torch.Tensor,
    *,
    protocol: Protocol,
    seeds: Seeds,
    epoch: int,
    teacher: Teacher | None = None,
) -> Iterator[Batch]:
    """One epoch.

    Args:
        images: [M, C, H, W] in the normalised space; or a real set.
        labels: as from :func:`targets`. w: [M].
        teacher: labels the images as the student sees them, in place of ``labels``.
    """
    augment, generator = Augment.parse(protocol.augment), seeds.generator("augment", epoch)
    mixing = seeds.generator("cutmix", epoch)
    order = torch.randperm(len(labels), generator=seeds.generator("order", epoch))
    for start in range(0, len(order), protocol.batch):
        index = order[start : start + protocol.batch]
        x = images.draw(index) if isinstance(images, RealSet) else images[index.to(images.device)]
        x = x.to(w.device, w.dtype)
        index = index.to(w.device)
        x = plain = augment(x, generator)
        y = labels[index]
        if protocol.cutmix:
            x, y = _mixed(x, y, mixing, protocol.cutmix)
        if teacher is not None:
            y = teacher(x, protocol.temperature).to(w.dtype)
        yield Batch(x, y, w[index], start / len(order), plain)


def _mixed(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, C, H, W] and distributions [B, K] after cutmix."""
    size = (x.shape[2], x.shape[3])
    params = {name: v.to(x.device) for name, v in cutmix.draw(len(x), generator, size=size, p=p).items()}
    return cutmix.mix(x, params), cutmix.mix_labels(y, params, size)


def targets(labels: torch.Tensor, protocol: Protocol, *, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Labels as the loss takes them: classes int64 [M], or distributions [M, K], which mixing needs."""
    if labels.is_floating_point():
        return labels.to(dtype)
    return one_hot(labels, classes).to(dtype) if protocol.cutmix else labels


def of_mean_one(weight: torch.Tensor | None, labels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Weights of a set: [M], >= 0 -> [M] of mean 1; ones for None.

    Raises:
        DataError: a NaN, a negative number, nothing but zeros.
    """
    if weight is None:
        return torch.ones(len(labels), dtype=dtype, device=labels.device)
    weight = weight.to(labels.device, dtype)
    if not torch.isfinite(weight).all() or (weight < 0).any() or weight.sum() <= 0:
        raise DataError("the weights of the set hold a NaN, a negative number or nothing but zeros; select it again")
    return weight / weight.mean()


def check_teacher(protocol: Protocol, teacher: Teacher | None) -> None:
    """Refuses labels of a teacher who is not there, and one whom nobody asks."""
    if (protocol.labels == "teacher") != (teacher is not None):
        asks = (
            "needs a teacher and none was given"
            if teacher is None
            else "takes no labels from the teacher that was given"
        )
        raise UsageError(f"protocol '{protocol.name}' with {protocol.labels} labels {asks}")
