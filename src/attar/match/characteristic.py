"""Characteristic functions of what a network's layers hold: what NCFM matches."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import avg_pool2d

from attar.errors import UsageError
from attar.execute.pieces import widened
from attar.nets.net import Net
from attar.seeds import Seeds


def characteristic(f: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """exp(i <t, f>) as cosine and sine: f [..., B, D], t [F, D] -> [2, ..., B, F]."""
    with torch.autocast(f.device.type, enabled=False):  # the small difference of two means of these is what is matched
        angle = f @ t.T
    return torch.stack([angle.cos(), angle.sin()])


def paired(means: list[torch.Tensor]) -> list[torch.Tensor]:
    """[K, 2 F] each -> [2, K, F]."""
    return [m.unflatten(1, (2, -1)).movedim(1, 0) for m in means]


def outputs(maps: list[torch.Tensor], features: torch.Tensor, blocks: tuple[int, ...]) -> list[torch.Tensor]:
    """What the blocks give, [B, D] each: maps after the activation averaged over 2 x 2 pixels, the features for the last."""
    if max(blocks) > len(maps):
        raise UsageError(
            f"layers={'_'.join(map(str, blocks))} name block {max(blocks)}, but the network has {len(maps)}; take blocks "
            f"from 1 to {len(maps)}, or last"
        )
    given = [features if n == len(maps) else maps[n - 1] for n in blocks]
    return [widened(avg_pool2d(v, 2) if v.ndim == 4 and min(v.shape[2:]) > 1 else v).flatten(1) for v in given]


@lru_cache(maxsize=64)
def output_widths(net: Net, blocks: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of what each of the blocks gives for an image."""
    with torch.no_grad():
        maps, features = net.layers(net.init(Seeds()), torch.zeros(1, net.channels, *net.size), train=False)
    return tuple(v.shape[1] for v in outputs(maps, features, blocks))
