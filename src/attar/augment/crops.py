"""Random resized crops with a mirror, and patches put into another order: how networks are trained on distilled photographs.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, in torchvision's form: a box of the share U[low, 1] of the area
and of the ratio width / height exp(U[log 3/4, log 4/3]), rounded to pixels, is resized to the whole image (bilinear). Ten boxes
are drawn; the first that fits is taken, and where none does the largest central box of a ratio in the range. With low = 1 that
is nearly always the whole of a square image.

Patches: Sun et al., "On the Diversity and Realism of Distilled Dataset" (RDED), CVPR 2024. Pictures that are tiled of f x f crops
have their f columns and their f rows of tiles put into another order, before the crop; the last tile takes what f leaves over.

A strategy is ``LOW``, ``LOW_flip`` or ``LOW_flip_patchesF``: ``0.08_flip`` for SRe2L, ``0.5_flip_patches2`` for RDED of factor 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn.functional import one_hot

from attar.augment.grid import rows, take
from attar.errors import UsageError

Params = Mapping[str, torch.Tensor]

TRIES = 10
RATIO = 4 / 3
"""The widest box, width / height; the tallest is its inverse."""


def parse(strategy: str) -> tuple[float, bool, int] | None:
    """(smallest share of the area, mirror, tiles a side) of a strategy; None for ``none`` or an empty string.

    Raises:
        UsageError: no share in (0, 1], an unknown operation.
    """
    if strategy.lower() in ("", "none"):
        return None
    low, *ops = strategy.split("_")
    patches = [op.removeprefix("patches") for op in ops if op.startswith("patches")]
    share = _number(low)
    good = 0 < share <= 1 and set(ops) <= {"flip", *(f"patches{p}" for p in patches)} and len(set(ops)) == len(ops)
    if not good or len(patches) > 1 or not all(p.isdigit() and int(p) for p in patches):
        raise UsageError(
            f"augmentation 'rrc:{strategy}' is not understood; write the smallest share of the area in (0, 1], then flip "
            "and patchesF where wanted, as in rrc:0.08_flip or rrc:0.5_flip_patches2"
        )
    return share, "flip" in ops, int(patches[0]) if patches else 1


def draw(strategy: str, n: int, generator: torch.Generator, *, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Parameters for n images, on the generator's device.

    Args:
        size: (H, W).

    Returns:
        box int64 [n, 4] (top, left, height, width); where the strategy has them mirror bool [n], and down int64 [n, H] and
        across int64 [n, W], the order of rows and of columns after the patches moved. Empty for ``none``.
    """
    found = parse(strategy)
    if found is None:
        return {}
    low, flip, patches = found
    params = {"box": _boxes(low, n, generator, size)}
    if flip:
        params["mirror"] = torch.rand(n, generator=generator, device=generator.device) < 0.5
    if patches > 1:
        params["across"] = _order(size[1], patches, n, generator)
        params["down"] = _order(size[0], patches, n, generator)
    return params


def augment(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Patches, crop, mirror; free of branches on data, differentiable in x: [B, C, H, W] -> [B, C, H, W]."""
    if "down" in params:
        x = take(x, params["down"], params["across"])
    x = resized(x, params["box"])
    return torch.where(rows(params["mirror"]), x.flip(3), x) if "mirror" in params else x


def resized(x: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Each box, resized to the whole image by bilinear interpolation that does not look beyond the box.

    Args:
        x: [B, C, H, W]. box: int64 [B, 4] (top, left, height, width).
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    top, left, height, width = box.unbind(1)
    down, across = (_weights(n, a, b, wide) for n, a, b in zip(x.shape[2:], (top, left), (height, width)))
    with torch.autocast(x.device.type, enabled=False):  # images are not rounded
        return (down[:, None] @ x.to(wide) @ across[:, None].mT).to(x.dtype)


def _weights(side: int, start: torch.Tensor, length: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What every new pixel takes of the old ones of a side: int64 [B], [B] -> [B, side, side], rows of sum 1."""
    new = torch.arange(side, device=start.device, dtype=dtype) + 0.5
    at = (new * (length.to(dtype) / side)[:, None] - 0.5).clamp(min=0)  # [B, side], within the box
    last = (length - 1)[:, None]
    low = torch.minimum(at.floor().long(), last)
    high = torch.minimum(low + 1, last)
    part = (at - low)[..., None]
    first, second = (one_hot(start[:, None] + place, side).to(dtype) for place in (low, high))
    return first * (1 - part) + second * part


def _boxes(low: float, n: int, generator: torch.Generator, size: tuple[int, int]) -> torch.Tensor:
    """The first of ten boxes that fits the image, for each of n: int64 [n, 4]."""
    h, w = size

    def uniform(a: float, b: float, *shape: int) -> torch.Tensor:
        return a + (b - a) * torch.rand(n, *shape, generator=generator, device=generator.device)

    area = h * w * uniform(low, 1, TRIES)
    ratio = uniform(-math.log(RATIO), math.log(RATIO), TRIES).exp()
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], 2).round().long()  # [n, TRIES, 2] height, width
    fits = ((sides > 0) & (sides <= torch.tensor(size, device=sides.device))).all(2)
    first = sides[torch.arange(n, device=sides.device), fits.int().argmax(1)]
    whole = torch.tensor(_central(h, w), device=sides.device)
    corner = (uniform(0, 1, 2) * (torch.tensor(size, device=sides.device) - first + 1)).long()
    middle = ((torch.tensor(size, device=sides.device) - whole) // 2).expand(n, 2)
    found = fits.any(1)[:, None]
    return torch.cat([torch.where(found, corner, middle), torch.where(found, first, whole)], 1)


def _central(h: int, w: int) -> tuple[int, int]:
    """Height and width of the largest box of a ratio in the range."""
    return min(h, round(w * RATIO)), min(w, round(h * RATIO))


def _order(side: int, patches: int, n: int, generator: torch.Generator) -> torch.Tensor:
    """Pixels of a side after its strips moved to random places: int64 [n, side]."""
    pixel = torch.arange(side, device=generator.device)
    strip = (pixel // max(1, side // patches)).clamp(max=patches - 1)
    place = torch.rand(n, patches, generator=generator, device=generator.device).argsort(1)
    return (place[:, strip] * side + pixel).argsort(1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
