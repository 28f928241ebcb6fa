"""AlexNet: Krizhevsky, Sutskever, Hinton. ImageNet Classification with Deep Convolutional Neural Networks. NeurIPS 2012.

The small form of the dataset-condensation tables: five convolutions at full resolution, three max poolings, one linear
layer; images of one channel get padding 4 in the first convolution, which makes 28 pixels 32.
"""

from __future__ import annotations

from torch import nn

from attar.errors import UsageError
from attar.nets.layers import Chain, Norm, first_convolution, grown, norm_layer, too_small

# filters as multiples of half the width, kernel, whether a pooling follows
BLOCKS = ((2, 5, True), (3, 5, True), (4, 3, False), (3, 3, False), (3, 3, True))


class AlexNet(Chain):
    """Convolutions of 128, 192, 256, 192 and 192 filters, or of as many times ``width`` / 128.

    Args:
        channels, size, classes: C, (H, W) and K.
        width: filters of the first convolution, an even number.
        norm: after every convolution; the tables use none, or batch.

    Raises:
        UsageError: images below 8 pixels a side (4 with one channel); an odd width.
    """

    def __init__(
        self, *, channels: int, size: tuple[int, int], classes: int, width: int = 128, norm: Norm = "none"
    ) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise UsageError(
                f"an AlexNet of width {width} cannot have 3/2 times as many filters next; take an even width"
            )
        h, w = grown(channels, size)
        if min(h, w) < 8:
            raise too_small("AlexNet", size, 8 - (h - size[0]))
        layers: list[nn.Module] = []
        before = channels
        for times, kernel, pooled in BLOCKS:
            filters = times * width // 2
            layers += [
                nn.Conv2d(before, filters, kernel, padding=kernel // 2)
                if layers
                else first_convolution(before, filters, kernel),
                *norm_layer(norm, (filters, h, w)),
                nn.ReLU(),
            ]
            if pooled:
                layers.append(nn.MaxPool2d(2))
                h, w = h // 2, w // 2
            before = filters
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(before * h * w, classes)
