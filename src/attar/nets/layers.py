"""What the networks share: normalisation, activation and pooling by name, and the shape of a classifier."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import pad

from attar.errors import UsageError

Norm = Literal["none", "batch", "layer", "instance", "group"]
Act = Literal["relu", "sigmoid", "leaky", "swish"]
Pool = Literal["none", "max", "avg"]

BORDER = 2
"""Zeros on every side of an image of one channel."""
GROUPS = 4
"""Groups of the norm ``group``."""
ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.LeakyReLU, nn.SiLU)
"""What :func:`activation` makes."""


class Classifier(nn.Module):
    """Features, then one linear layer named ``classifier``."""

    classifier: nn.Linear

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> what the classifier sees, [B, D]."""
        raise NotImplementedError(f"{type(self).__name__} has no features")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> logits [B, K]."""
        return self.classifier(self.features(x))


class Chain(Classifier):
    """A classifier whose body is one chain of convolutions, norms, activations and poolings."""

    body: nn.Sequential

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the last map flattened, [B, D]."""
        return self.body(x).flatten(1)

    def layers(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """[B, C, H, W] -> the map after every activation [B, C', H', W'], and the features [B, D]."""
        maps = []
        for part in self.body:
            x = part(x)
            if isinstance(part, ACTIVATIONS):
                maps.append(x)
        return maps, x.flatten(1)


class Bordered(nn.Conv2d):
    """A convolution of images of one channel with a border of zeros around them; its own padding is half its kernel.

    The sum is that of a convolution with so much more padding. But oneDNN takes ten times as long for the weight gradient
    where the padding is more than half the kernel (bfloat16, 25 images of 28 x 28, padding 3: 7.5 ms, with a border 0.7).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[B, 1, H, W] -> [B, C', H + 2 BORDER, W + 2 BORDER]."""
        x = pad(input, (BORDER,) * 4)
        if not torch.compiler.is_compiling():
            return super().forward(x)
        # One channel tells nobody that channels come last; an empty second one does, which spares copies of what follows.
        x, weight = pad(x, (0,) * 4 + (0, 1)), pad(self.weight, (0,) * 4 + (0, 1))
        return self._conv_forward(x.contiguous(memory_format=torch.channels_last), weight, self.bias)


class ChannelsLast(nn.Conv2d):
    """A convolution that tells compiled code that channels come last, which spares copies of all that follows."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        if torch.compiler.is_compiling():
            input = input.contiguous(memory_format=torch.channels_last)
        return super().forward(input)


class Choice(nn.ReLU):
    """A ReLU for derivatives of derivatives; NaN stays NaN.

    Compiled for a CPU, those of a maximum keep which values are positive as booleans, and to store them takes longer than
    norm, activation and pooling together (torch 2.13, AVX-512: 18 of 20 ms of a block). A choice is worked out again.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        if torch.compiler.is_compiling() and torch.is_grad_enabled() and input.device.type == "cpu":
            return torch.where(input <= 0, 0.0, input)
        return super().forward(input)


def first_convolution(channels: int, filters: int, kernel: int) -> nn.Conv2d:
    """The first layer of the dataset-condensation networks: images of one channel get a border, which makes 28 pixels 32."""
    kind = Bordered if channels == 1 else ChannelsLast
    return kind(channels, filters, kernel, padding=kernel // 2)


def grown(channels: int, size: tuple[int, int]) -> tuple[int, int]:
    """The sides after :func:`first_convolution`."""
    extra = 2 * BORDER if channels == 1 else 0
    return size[0] + extra, size[1] + extra


def norm_layer(name: Norm, shape: tuple[int, int, int]) -> list[nn.Module]:
    """The normalisation of maps of ``shape`` (C, H, W), as a list of no or one layer.

    ``instance`` is a group norm of C groups with scale and shift, as in the dataset-condensation literature: it has no
    running statistics, so that every image is processed alone and training and evaluation are the same function.
    """
    width = shape[0]
    if name == "none":
        return []
    if name == "batch":
        return [nn.BatchNorm2d(width)]
    if name == "layer":
        return [nn.LayerNorm(list(shape))]
    if name == "instance":
        return [nn.GroupNorm(width, width)]
    if width % GROUPS:
        raise UsageError(
            f"width {width} cannot be cut into the {GROUPS} groups of norm=group; take a multiple of {GROUPS}"
        )
    return [nn.GroupNorm(GROUPS, width)]


def activation(name: Act) -> nn.Module:
    """The activation by name; ``leaky`` has slope 0.01, ``swish`` is x times sigmoid(x)."""
    if name == "sigmoid":
        return nn.Sigmoid()
    if name == "leaky":
        return nn.LeakyReLU(0.01)
    return nn.SiLU() if name == "swish" else nn.ReLU()


def pooling(name: Pool) -> list[nn.Module]:
    """Pooling that halves both sides, rounding down, as a list of no or one layer."""
    if name == "none":
        return []
    return [nn.MaxPool2d(2) if name == "max" else nn.AvgPool2d(2)]


def too_small(net: str, size: tuple[int, int], smallest: int, remedy: str = "") -> UsageError:
    """The error for images whose map would vanish."""
    fix = f"; {remedy}" if remedy else "; use larger images or another network"
    return UsageError(
        f"{net} needs images of at least {smallest}x{smallest} pixels but these are {size[0]}x{size[1]}{fix}"
    )
