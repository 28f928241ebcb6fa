"""Tiles decoded as the papers describe it: one stored image, one tile, one pixel at a time."""

from __future__ import annotations

import math

import torch


def enlarged(tile: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Bilinear, pixel centres at halves, written out pixel by pixel: [C, s, t] -> [C, h, w]."""
    out = torch.zeros(len(tile), h, w, dtype=tile.dtype)
    for i in range(h):
        for j in range(w):
            near = []
            for at, n, m in ((i, h, tile.shape[1]), (j, w, tile.shape[2])):
                place = max(0.0, (at + 0.5) * m / n - 0.5)
                low = min(int(place), m - 1)
                near.append((low, min(low + 1, m - 1), place - low))
            (a, b, p), (c, d, q) = near
            top, bottom = (tile[:, r, c] * (1 - q) + tile[:, r, d] * q for r in (a, b))
            out[:, i, j] = top * (1 - p) + bottom * p
    return out


def plain_decode(image: torch.Tensor, factor: int, fill: float) -> torch.Tensor:
    """One stored image, one tile, one pixel at a time."""
    found = []
    for stored in image:
        c, h, w = stored.shape
        side, width = math.ceil(h / factor), math.ceil(w / factor)
        for row in range(factor):
            for column in range(factor):
                tile = torch.full((c, side, width), fill, dtype=stored.dtype)
                for i in range(side):
                    for j in range(width):
                        y, x = row * side + i, column * width + j
                        if y < h and x < w:
                            tile[:, i, j] = stored[:, y, x]
                found.append(enlarged(tile, h, w))
    return torch.stack(found)
