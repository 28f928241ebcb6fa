"""CutMix: a box of every image is replaced by the same box of another, and the labels are mixed by area.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019, in the form
that IDC, SRe2L and RDED share: one box and one permutation for a whole batch,

    share ~ Beta(1, 1) = U[0, 1];  box of the sides 2 * (int(side * sqrt(1 - share)) // 2), centred on any pixel

cut off at the borders. Labels are mixed by the area that is left of the box, not by the share that was drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

Params = Mapping[str, torch.Tensor]


def draw(n: int, generator: torch.Generator, *, size: tuple[int, int], p: float = 1.0) -> dict[str, torch.Tensor]:
    """The mixing of a batch of n images, on the generator's device.

    Args:
        size: (H, W). p: how likely the batch is mixed at all; else its box is empty.

    Returns:
        partner int64 [n] (a permutation), box int64 [4] (top, bottom, left, right; the ends are left out).
    """
    device = generator.device
    chance, share = torch.rand(2, generator=generator, device=device, dtype=torch.float64)
    sides = torch.tensor(size, device=device)
    half = (sides * (1 - share).sqrt()).long() // 2 * (chance < p)  # [2]
    centre = (torch.rand(2, generator=generator, device=device, dtype=torch.float64) * sides).long()
    ends = torch.stack([(centre - half).clamp(min=0), torch.minimum(centre + half, sides)], 1)  # [2, 2]
    return {"partner": torch.randperm(n, generator=generator, device=device), "box": ends.flatten()}


def inside(params: Params, size: tuple[int, int]) -> torch.Tensor:
    """Which pixels the box holds: bool [H, W]."""
    top, bottom, left, right = params["box"]
    i, j = (torch.arange(side, device=params["box"].device) for side in size)
    return ((i >= top) & (i < bottom))[:, None] & ((j >= left) & (j < right))


def mix(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Images [B, C, H, W] with the boxes of their partners; differentiable in x."""
    return torch.where(inside(params, (x.shape[2], x.shape[3])), x[params["partner"]], x)


def mix_labels(y: torch.Tensor, params: Params, size: tuple[int, int]) -> torch.Tensor:
    """Distributions [B, K] mixed by the area of the box in images of ``size`` (H, W)."""
    other = inside(params, size).to(y.dtype).mean()
    return y * (1 - other) + y[params["partner"]] * other
