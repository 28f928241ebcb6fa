"""Features of many images, and their means by class."""

from __future__ import annotations

import torch

from attar.execute.compile import fast
from attar.nets.net import Net

CHUNK = 128
"""Images of one no-gradient forward: activations that fit the cache are faster than one large batch."""


@torch.no_grad()
def features(net: Net, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Pre-classifier features without a graph: [B, C, H, W] -> float32 [B, D].

    In chunks, which is exact where images do not see each other; a network with batch statistics sees all at once.
    """
    forward = fast(net.features)
    size = len(x) if net.has_batch_statistics else CHUNK
    return torch.cat([forward(params, part).float() for part in x.split(size)])


def class_means(f: torch.Tensor, label: torch.Tensor, classes: int) -> torch.Tensor:
    """Means by class: f [B, D], label int64 [B] -> [K, D]; a class without examples gives zeros."""
    one_hot = torch.nn.functional.one_hot(label, classes).to(f.dtype)  # [B, K]
    return (one_hot.T @ f) / one_hot.sum(0).clamp(min=1)[:, None]
