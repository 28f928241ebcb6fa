"""MLP: the multilayer perceptron of the cross-architecture tables (Zhao, Mopuri and Bilen, ICLR 2021)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from attar.errors import UsageError
from attar.nets.layers import Classifier


class MLP(Classifier):
    """Two hidden layers of 128 with ReLU, then the classifier.

    Args:
        channels, size, classes: C, (H, W) and K.
        width: units of a hidden layer.
        depth: hidden layers.
    """

    def __init__(self, *, channels: int, size: tuple[int, int], classes: int, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        if depth < 1 or width < 1:
            raise UsageError(f"an MLP of depth {depth} and width {width} is empty; both must be at least 1")
        sides = [channels * size[0] * size[1], *[width] * depth]
        layers = [layer for i, o in pairwise(sides) for layer in (nn.Linear(i, o), nn.ReLU())]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, width]."""
        return self.body(x.flatten(1))
