"""PNG in and out, byte for byte repeatable, and picture grids."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from attar.io import images


def encode(image: torch.Tensor) -> bytes:
    """uint8 [C, H, W] with C 1 or 3 -> PNG bytes."""
    array = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=False, compress_level=6)
    return out.getvalue()


def decode(data: bytes, where: str = "a picture") -> torch.Tensor:
    """PNG bytes -> uint8 [C, H, W]; they may come from a stranger's folder.

    Raises:
        DataError: not an image, damaged, or too large.
    """
    array = np.asarray(images.decode(data, where))
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def grid(rows: list[torch.Tensor], *, scale: int = 1, gap: int = 1) -> torch.Tensor:
    """Lays out rows of pictures: R tensors uint8 [n_r, C, H, W] -> one uint8 [C, H', W'] on a white ground.

    Args:
        scale: each pixel becomes ``scale`` x ``scale``.
        gap: white pixels between pictures.
    """
    c, h, w = rows[0].shape[1:]
    h, w = h * scale, w * scale
    wide = max(len(r) for r in rows)
    sheet = torch.full((c, len(rows) * (h + gap) + gap, wide * (w + gap) + gap), 255, dtype=torch.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            big = picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            top, left = gap + i * (h + gap), gap + j * (w + gap)
            sheet[:, top : top + h, left : left + w] = big
    return sheet
