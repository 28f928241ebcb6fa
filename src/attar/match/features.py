"""Features of many images, and their means by class."""

from __future__ import annotations

import torch

from attar.execute.compile import fast
from attar.nets.net import Net

CHUNK = 64
"""Images of one no-gradient forward: activations that fit the cache are faster than one large batch."""


@torch.no_grad()
def features(net: Net, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Pre-classifier features without a graph: [B, C, H, W] -> [B, D], float32 at least.

    In chunks, which is exact where images do not see each other; a network with batch statistics sees all at once.
    """
    forward = fast(net.features)
    return torch.cat([widened(forward(params, part)) for part in x.split(at_once(net, len(x)))])


def at_once(net: Net, images: int) -> int:
    """How many of some images :func:`features` sends through the network together."""
    return images if net.has_batch_statistics else min(images, CHUNK)


def class_means(f: torch.Tensor, label: torch.Tensor, classes: int) -> torch.Tensor:
    """Means by class: f [B, D], label int64 [B] -> [K, D]; a class without examples gives zeros.

    Autocast would round the means to half precision, and what is matched is the small difference of two of them.
    """
    one_hot = torch.nn.functional.one_hot(label, classes).to(f.dtype)  # [B, K]
    with torch.autocast(f.device.type, enabled=False):
        return (one_hot.T @ f) / one_hot.sum(0).clamp(min=1)[:, None]


def widened(x: torch.Tensor) -> torch.Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
