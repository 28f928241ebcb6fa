"""Means by class of what a network's layers hold: what layer-wise matching compares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import one_hot

from attar.execute.compile import fast
from attar.execute.pieces import FORWARD, piece_size, split, widened
from attar.nets.net import Net, Params

View = Callable[..., list[torch.Tensor]]
"""What is compared of the maps [B, C, H, W] and the features [B, D], and of what is given besides: tensors with B rows."""


def shares(label: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """What each example is of its class: int64 [B] -> [B, K], 1 / count in the column of its class, else 0."""
    member = one_hot(label, classes).to(dtype)  # [B, K]
    return member / member.sum(0).clamp(min=1)


def layer_means(
    net: Net, params: Params, x: torch.Tensor, share: torch.Tensor, view: View, *given: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Means by class of what ``view`` sees of the layers of all images at once; differentiable.

    Batch norms are in training mode and keep nothing of the images.

    Args:
        x: [B, C, H, W]. share: [B, K], from :func:`shares`. given: tensors that ``view`` takes besides.

    Returns:
        A tensor [K, D] for each that ``view`` gives, flattened, and the features [B, D] of the images; float32 at least.
    """
    maps, features = net.layers(params, x, update=False)
    seen = view(maps, features, *given)
    with torch.autocast(x.device.type, enabled=False):  # the small difference of two means is what is matched
        return [share.T @ widened(v).flatten(1) for v in seen], widened(features)


@torch.no_grad()
def real_means(
    net: Net,
    params: Params,
    x: torch.Tensor,
    share: torch.Tensor,
    view: View,
    *given: torch.Tensor,
    size: int | None = None,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """As :func:`layer_means` without a graph, a few images at a time: the maps of all real images need not be held.

    Args:
        size: images of one piece; None for what suits the device.
    """
    size = size or piece_size(net, len(x), x.device, most=FORWARD)
    total: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    for images, part in split(size, x, share):
        means, last = fast(layer_means)(net, params, images, part, view, *given)
        total = [a + b for a, b in zip(total, means)] if total else means
        features.append(last)
    return total, torch.cat(features)[: len(x)]
