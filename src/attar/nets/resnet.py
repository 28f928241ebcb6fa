"""ResNet: He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016.

The form for small images of the dataset-condensation tables: a 3x3 stem without pooling, four stages of 64, 128, 256 and
512 filters that halve the maps three times, and a mean over the last map. With ``shrink=avg`` (ResNet-AP) the strided
convolutions become convolutions of stride one followed by 2x2 average pooling, and the last map is flattened whole.

``resnet8`` is the paper's own form for CIFAR, 6 n + 2 layers with n = 1: three stages of 16, 32 and 64 filters, and shortcuts
that skip every second pixel and fill new channels with zeros (its option A), so that they have no weights.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from attar.errors import UsageError
from attar.nets.layers import Classifier, Norm, norm_layer, too_small

Shrink = Literal["stride", "avg"]
Shortcut = Literal["projection", "pad"]
Shape = tuple[int, int, int]


class Pad(nn.Module):
    """The shortcut without weights: every second pixel where the maps are halved, zeros in the new channels.

    Args:
        before, after: (C, H, W) of the maps that come in and go out.
    """

    def __init__(self, before: Shape, after: Shape) -> None:
        super().__init__()
        self.step = 2 if after[1:] != before[1:] else 1
        self.more = after[0] - before[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, *before] -> [B, *after]."""
        return F.pad(x[:, :, :: self.step, :: self.step], (0, 0, 0, 0, 0, self.more))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        before, after: (C, H, W) of the maps that come in and go out.
        norm: after every convolution.
        shrink: how the maps are halved where they are.
        shortcut: past maps of another shape: a 1x1 convolution, or padding (with ``shrink=stride``).
    """

    def __init__(self, before: Shape, after: Shape, norm: Norm, shrink: Shrink, shortcut: Shortcut) -> None:
        super().__init__()
        halves = after[1:] != before[1:]
        stride = 2 if halves and shrink == "stride" else 1
        pool: list[nn.Module] = [nn.AvgPool2d(2)] if halves and shrink == "avg" else []
        full = (after[0], *before[1:]) if pool else after
        bias = norm == "none"
        self.body = nn.Sequential(
            nn.Conv2d(before[0], after[0], 3, stride=stride, padding=1, bias=bias),
            *norm_layer(norm, full),
            nn.ReLU(),
            *pool,
            nn.Conv2d(after[0], after[0], 3, padding=1, bias=bias),
            *norm_layer(norm, after),
        )
        beside: list[nn.Module] = []
        if before != after and shortcut == "pad":
            beside = [Pad(before, after)]
        elif before != after:
            projection = nn.Conv2d(before[0], after[0], 1, stride=stride, bias=bias)
            beside = [projection, *pool, *norm_layer(norm, after)]
        self.shortcut = nn.Sequential(*beside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, *before] -> [B, *after]."""
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet(Classifier):
    """Stages of basic blocks.

    Args:
        channels, size, classes: C, (H, W) and K.
        blocks: blocks of each stage.
        width: filters of the first stage; every further stage has twice as many.
        norm: instance (the tables' default), batch, group, layer or none.
        shrink: stride, or avg for the AP form.
        shortcut: past maps of another shape, projection or pad.

    Raises:
        UsageError: images whose last map would vanish, or hold one pixel under an instance norm.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: tuple[int, int],
        classes: int,
        blocks: tuple[int, ...],
        width: int = 64,
        norm: Norm = "instance",
        shrink: Shrink = "stride",
        shortcut: Shortcut = "projection",
    ) -> None:
        super().__init__()
        if width < 1:
            raise UsageError(f"a ResNet of width {width} is empty; width must be at least 1")
        if min(size) < smallest_side(len(blocks), norm, shrink):
            raise too_small(f"a ResNet of norm={norm}", size, smallest_side(len(blocks), norm, shrink))
        self.whole = shrink == "avg"
        shape: Shape = (width, *size)
        stem = nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none")
        layers: list[nn.Module] = [stem, *norm_layer(norm, shape), nn.ReLU()]
        for stage, count in enumerate(blocks):
            for block in range(count):
                after = halved(shape, width * 2**stage, shrink) if stage and not block else shape
                layers.append(Block(shape, after, norm, shrink, shortcut))
                shape = after
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(shape[0] * shape[1] * shape[2] if self.whole else shape[0], classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the mean of the last map, [B, D], or all of it in the AP form."""
        maps = self.body(x)
        return maps.flatten(1) if self.whole else maps.mean((2, 3))


def halved(shape: Shape, width: int, shrink: Shrink) -> Shape:
    """The maps of a stage's first block: a strided convolution rounds sides up, pooling rounds them down."""
    extra = 1 if shrink == "stride" else 0
    return width, (shape[1] + extra) // 2, (shape[2] + extra) // 2


def smallest_side(stages: int, norm: Norm, shrink: Shrink) -> int:
    """The smallest side of an image. An instance norm would make a map of one pixel zero, whatever the image."""
    factor = 2 ** (stages - 1)
    if norm != "instance":
        return factor if shrink == "avg" else 1
    return 2 * factor if shrink == "avg" else factor + 1


def resnet18(
    *,
    channels: int,
    size: tuple[int, int],
    classes: int,
    width: int = 64,
    norm: Norm = "instance",
    shrink: Shrink = "stride",
) -> ResNet:
    """Two blocks a stage."""
    blocks = (2, 2, 2, 2)
    return ResNet(channels=channels, size=size, classes=classes, blocks=blocks, width=width, norm=norm, shrink=shrink)


def resnet10(
    *,
    channels: int,
    size: tuple[int, int],
    classes: int,
    width: int = 64,
    norm: Norm = "instance",
    shrink: Shrink = "stride",
) -> ResNet:
    """One block a stage."""
    blocks = (1, 1, 1, 1)
    return ResNet(channels=channels, size=size, classes=classes, blocks=blocks, width=width, norm=norm, shrink=shrink)


def resnet8(*, channels: int, size: tuple[int, int], classes: int, width: int = 16, norm: Norm = "batch") -> ResNet:
    """One block in each of three stages, shortcuts without weights."""
    blocks = (1, 1, 1)
    return ResNet(channels=channels, size=size, classes=classes, blocks=blocks, width=width, norm=norm, shortcut="pad")
