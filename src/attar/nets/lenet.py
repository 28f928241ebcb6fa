"""LeNet: LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.

The form of the dataset-condensation tables: ReLU and max pooling; images of one channel get padding 2 in the first
convolution, which gives 28 pixels the maps of 32.
"""

from __future__ import annotations

import torch
from torch import nn

from attar.nets.layers import Classifier, too_small


class LeNet(Classifier):
    """Convolutions of 6 and 16 filters, then 120 and 84 units, then the classifier.

    Args:
        channels, size, classes: C, (H, W) and K.

    Raises:
        UsageError: images below 16 pixels a side (12 with one channel).
    """

    def __init__(self, *, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        pad = 2 if channels == 1 else 0
        h, w = (((side + 2 * pad - 4) // 2 - 4) // 2 for side in size)
        if min(h, w) < 1:
            raise too_small("LeNet", size, 16 - 2 * pad)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=pad),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * h * w, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(84, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, 84]."""
        return self.body(x)
