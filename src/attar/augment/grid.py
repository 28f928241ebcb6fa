"""Moving pixels: reading an image at whole positions, or between them on an affine grid."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def rows(values: torch.Tensor) -> torch.Tensor:
    """One number for every image, shaped to meet a batch: [B] -> [B, 1, 1, 1]."""
    return values[:, None, None, None]


def shifted(side: int, by: torch.Tensor) -> torch.Tensor:
    """Where to read ``side`` pixels that are shifted by ``by``: int64 [B] -> [B, side], may lie outside."""
    return torch.arange(side, device=by.device) + by[:, None]


def take(x: torch.Tensor, i: torch.Tensor, j: torch.Tensor, fill: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Output pixel (r, c) of image b is its pixel (i[b, r], j[b, c]), or ``fill`` where that lies outside.

    Args:
        x: [B, C, H, W].
        i, j: int64 [B, H'] and [B, W'].
        fill: a number, or a tensor that broadcasts to [B, C, H', W'].

    Returns:
        [B, C, H', W'].
    """
    h, w = x.shape[2:]
    index = i.clamp(0, h - 1)[:, :, None] * w + j.clamp(0, w - 1)[:, None, :]  # [B, H', W']
    found = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    inside = ((i >= 0) & (i < h))[:, :, None] & ((j >= 0) & (j < w))[:, None, :]  # [B, H', W']
    return torch.where(inside[:, None], found.unflatten(2, (i.shape[1], j.shape[1])), fill)


def warp(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Bilinear sampling at ``matrix`` times (x, y) about the centre, zeros outside.

    Coordinates run from edge to edge: the centre of pixel j of W lies at (2 j + 1) / W - 1.

    Args:
        x: [B, C, H, W].
        matrix: [B, 2, 2].

    Returns:
        [B, C, H, W].
    """
    wide = torch.promote_types(x.dtype, torch.float32)  # a grid in half precision would be off by parts of a pixel
    y_of, x_of = ((2 * torch.arange(n, device=x.device, dtype=wide) + 1) / n - 1 for n in x.shape[2:])
    at = torch.stack(torch.meshgrid(x_of, y_of, indexing="xy"), -1).flatten(0, 1)  # [H * W, 2]
    with torch.autocast(x.device.type, enabled=False):
        grid = (at @ matrix.to(wide).mT).unflatten(1, (len(y_of), len(x_of)))  # [B, H, W, 2]
    return F.grid_sample(x.to(wide), grid, padding_mode="zeros", align_corners=False).to(x.dtype)
