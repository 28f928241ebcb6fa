"""ConvNet: the reference network of dataset condensation.

D blocks of 3x3 convolution, norm, activation and 2x2 pooling, then one linear layer (Gidaris and Komodakis, "Dynamic
Few-Shot Visual Learning without Forgetting", CVPR 2018; Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient
Matching", ICLR 2021). Images of one channel get padding 3 in the first convolution, which makes 28 pixels 32.
"""

from __future__ import annotations

from torch import nn

from attar.errors import UsageError
from attar.nets.layers import (
    Act,
    Chain,
    Norm,
    Pool,
    activation,
    first_convolution,
    grown,
    norm_layer,
    pooling,
    too_small,
)


def default_depth(channels: int, size: tuple[int, int]) -> int:
    """3 for sides up to 48, 4 to 96, 5 to 191, 6 above; never so deep that the pooled map vanishes."""
    side = max(size)
    wanted = 3 if side <= 48 else 4 if side <= 96 else 5 if side <= 191 else 6
    return min(wanted, max(1, min(grown(channels, size)).bit_length() - 1))


class ConvNet(Chain):
    """ConvNet of any depth and width.

    Args:
        channels, size, classes: C, (H, W) and K.
        depth: blocks; None takes :func:`default_depth`.
        width: filters of every block.
        norm: none, batch, layer (over C, H, W), instance (a group for every channel) or group (4 groups).
        act: relu, sigmoid, leaky or swish.
        pool: none, max or avg.

    Raises:
        UsageError: the maps of the last block would be empty.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: tuple[int, int],
        classes: int,
        depth: int | None = None,
        width: int = 128,
        norm: Norm = "instance",
        act: Act = "relu",
        pool: Pool = "avg",
    ) -> None:
        super().__init__()
        depth = default_depth(channels, size) if depth is None else depth
        if depth < 1 or width < 1:
            raise UsageError(f"a ConvNet of depth {depth} and width {width} is empty; both must be at least 1")
        h, w = grown(channels, size)
        if pool != "none" and min(h, w) < 2**depth:
            smallest = 2**depth - (h - size[0])
            raise too_small(f"a ConvNet of depth {depth}", size, smallest, "lower depth or set pool=none")
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [
                first_convolution(channels, width, 3) if block == 0 else nn.Conv2d(width, width, 3, padding=1),
                *norm_layer(norm, (width, h, w)),
                activation(act),
                *pooling(pool),
            ]
            h, w = (h, w) if pool == "none" else (h // 2, w // 2)
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * h * w, classes)
