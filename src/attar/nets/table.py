"""The networks on one page."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from attar.nets.alexnet import AlexNet
from attar.nets.convnet import ConvNet
from attar.nets.lenet import LeNet
from attar.nets.mlp import MLP
from attar.nets.resnet import resnet8, resnet10, resnet18
from attar.nets.vgg import VGG11
from attar.nets.vit import ViT

TABLE: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "convnet": (ConvNet, "blocks of 3x3 convolution, norm, activation, pooling: the reference network of the field"),
    "mlp": (MLP, "two hidden layers of 128"),
    "lenet": (LeNet, "two 5x5 convolutions and two hidden layers"),
    "alexnet": (AlexNet, "five convolutions, one linear layer"),
    "vgg11": (VGG11, "eight 3x3 convolutions, five poolings; from 32 pixels on"),
    "resnet8": (resnet8, "residual network of three narrow stages, the smallest of its paper for CIFAR"),
    "resnet10": (resnet10, "residual network for small images, one block a stage"),
    "resnet18": (resnet18, "residual network for small images, two blocks a stage"),
    "vit": (ViT, "small vision transformer, patches of 4 pixels"),
}
"""Name -> constructor and one line; the constructor's further keywords are the settings of a spec string."""


def names() -> list[tuple[str, str]]:
    """(name, one line) of every built-in network."""
    return [(name, line) for name, (_, line) in TABLE.items()]
