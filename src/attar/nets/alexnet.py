"""AlexNet: Krizhevsky, Sutskever, Hinton. ImageNet Classification with Deep Convolutional Neural Networks. NeurIPS 2012.

The small form of the dataset-condensation tables: five convolutions at full resolution, three max poolings, one linear
layer; images of one channel get padding 4 in the first convolution, which makes 28 pixels 32.
"""

from __future__ import annotations

from torch import nn

from attar.nets.layers import Chain, Norm, first_convolution, grown, norm_layer, too_small

# filters, kernel, whether a pooling follows
BLOCKS = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))


class AlexNet(Chain):
    """Convolutions of 128, 192, 256, 192 and 192 filters.

    Args:
        channels, size, classes: C, (H, W) and K.
        norm: after every convolution; the tables use none, or batch.

    Raises:
        UsageError: images below 8 pixels a side (4 with one channel).
    """

    def __init__(self, *, channels: int, size: tuple[int, int], classes: int, norm: Norm = "none") -> None:
        super().__init__()
        h, w = grown(channels, size)
        if min(h, w) < 8:
            raise too_small("AlexNet", size, 8 - (h - size[0]))
        layers: list[nn.Module] = []
        width = channels
        for filters, kernel, pooled in BLOCKS:
            layers += [
                nn.Conv2d(width, filters, kernel, padding=kernel // 2)
                if layers
                else first_convolution(width, filters, kernel),
                *norm_layer(norm, (filters, h, w)),
                nn.ReLU(),
            ]
            if pooled:
                layers.append(nn.MaxPool2d(2))
                h, w = h // 2, w // 2
            width = filters
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * h * w, classes)
