"""The networks on one page."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from attar.nets.convnet import ConvNet

TABLE: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "convnet": (ConvNet, "blocks of 3x3 convolution, norm, activation, pooling: the reference network of the field"),
}
"""Name -> constructor and one line; the constructor's further keywords are the settings of a spec string."""


def names() -> list[tuple[str, str]]:
    """(name, one line) of every built-in network."""
    return [(name, line) for name, (_, line) in TABLE.items()]
