"""VGG: Simonyan, Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015.

VGG11 in the small form of the dataset-condensation tables: a norm after every convolution and one linear layer; images
of one channel get padding 3 in the first convolution, which makes 28 pixels 32.
"""

from __future__ import annotations

from torch import nn

from attar.nets.layers import Chain, Norm, first_convolution, grown, norm_layer, too_small

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Filters of the convolutions between two poolings."""


class VGG11(Chain):
    """Eight 3x3 convolutions in five stages, each ended by max pooling.

    Args:
        channels, size, classes: C, (H, W) and K.
        norm: instance (the tables' default), batch, group, layer or none.

    Raises:
        UsageError: images below 32 pixels a side (28 with one channel).
    """

    def __init__(self, *, channels: int, size: tuple[int, int], classes: int, norm: Norm = "instance") -> None:
        super().__init__()
        h, w = grown(channels, size)
        if min(h, w) < 2 ** len(STAGES):
            raise too_small("VGG11", size, 2 ** len(STAGES) - (h - size[0]))
        layers: list[nn.Module] = []
        width = channels
        for stage in STAGES:
            for filters in stage:
                conv = nn.Conv2d(width, filters, 3, padding=1) if layers else first_convolution(channels, filters, 3)
                layers += [conv, *norm_layer(norm, (filters, h, w)), nn.ReLU()]
                width = filters
            layers.append(nn.MaxPool2d(2))
            h, w = h // 2, w // 2
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * h * w, classes)
