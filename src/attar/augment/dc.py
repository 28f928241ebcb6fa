"""The augmentation of dataset condensation before DSA, used where small sets of grey images are evaluated.

Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021. Every image draws one operation of the
strategy: ``crop_scale_rotate`` for digits, ``crop_noise`` for networks with batch norm.

====== ===============================================================================================================
crop   pads 4 pixels on every side and takes a window that begins at 0 to 7; the padding is the batch's channel mean
scale  resizes both sides by factors U[.8, 1.2], nearest pixel, centred, zeros around
rotate turns by -45 to 44 whole degrees; what comes from outside is the batch's mean
noise  adds .001 times a standard normal number to every pixel
====== ===============================================================================================================

Differs from the official code: rotation is bilinear, not a cubic spline. That a batch's mean fills the corners makes
the images of a batch depend on each other, as in the official code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from attar.augment.grid import rows, shifted, take, warp
from attar.errors import UsageError, nearest

Params = Mapping[str, torch.Tensor]

OPS = ("crop", "noise", "rotate", "scale")
CROP_SCALE_ROTATE = "crop_scale_rotate"
CROP_NOISE = "crop_noise"

CROP, SCALE, ROTATE, NOISE = 4, 0.2, 45, 0.001


def parse(strategy: str) -> tuple[str, ...]:
    """The operations of a strategy such as ``crop_scale_rotate``; none for ``none`` or an empty string.

    Raises:
        UsageError: an unknown or repeated operation.
    """
    if strategy.lower() in ("", "none"):
        return ()
    ops = tuple(strategy.split("_"))
    for i, op in enumerate(ops):
        if op not in OPS:
            raise UsageError(f"augmentation 'dc:{strategy}' names the operation '{op}'; {nearest(op, OPS)}")
        if op in ops[:i]:
            raise UsageError(f"augmentation 'dc:{strategy}' names '{op}' twice; name every operation once")
    return ops


def draw(
    strategy: str, n: int, generator: torch.Generator, *, size: tuple[int, int], channels: int = 3
) -> dict[str, torch.Tensor]:
    """Parameters for n images, each with its own operation, on the generator's device.

    Args:
        size: (H, W) of the images; channels: C, or more (only noise needs it).

    Returns:
        op int64 [n] (position in OPS, -1 for none), shift int64 [n, 2] (rows, columns), sides int64 [n, 2] (height,
        width after scaling), angle [n] in radians, and noise [n, channels, H, W] where the strategy has it.
    """
    ops = parse(strategy)
    device = generator.device

    def integers(low: int, high: int, *more: int) -> torch.Tensor:  # the high end left out
        return torch.randint(low, high, (n, *more), generator=generator, device=device)

    code = torch.tensor([OPS.index(op) for op in ops] or [-1], device=device)
    stretch = 1 - SCALE + 2 * SCALE * torch.rand(n, 2, generator=generator, device=device)
    params = {
        "op": code[integers(0, len(code))],
        "shift": integers(0, 2 * CROP, 2) - CROP,
        "sides": (stretch * torch.tensor(size, device=device)).long().clamp(min=1),
        "angle": torch.deg2rad(integers(-ROTATE, ROTATE).float()),
    }
    if "noise" in ops:
        params["noise"] = NOISE * torch.randn(n, channels, *size, generator=generator, device=device)
    return params


def augment(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Applies to every image its operation; free of branches on data, differentiable in x.

    Args:
        x: [B, C, H, W].
        params: from :func:`draw`, B rows.

    Returns:
        [B, C, H, W].
    """
    mean = x.mean((0, 2, 3))[:, None, None]  # [C, 1, 1], before any image changes
    done = {
        "crop": crop(x, params["shift"], mean),
        "rotate": rotate(x, params["angle"], mean.mean()),
        "scale": scale(x, params["sides"]),
    }
    if "noise" in params:
        done["noise"] = x + params["noise"][:, : x.shape[1]].to(x.dtype)
    result = x
    for op, changed in done.items():
        result = torch.where(rows(params["op"] == OPS.index(op)), changed, result)
    return result


def crop(x: torch.Tensor, shift: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    """Output pixel (i, j) is input pixel (i + dy, j + dx), ``fill`` [C, 1, 1] outside; shift int64 [B, 2]."""
    h, w = x.shape[2:]
    return take(x, shifted(h, shift[:, 0]), shifted(w, shift[:, 1]), fill)


def scale(x: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """Resizes each image to ``sides`` int64 [B, 2] by the nearest pixel and centres it on the old frame, zeros around."""
    h, w = x.shape[2:]
    canvas = sides.amax(1).clamp(min=max(h, w))  # [B]; the resized image and the frame are both centred on it
    return take(x, _resized(h, sides[:, 0], canvas), _resized(w, sides[:, 1], canvas))


def _resized(old: int, new: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
    """Where to read ``old`` pixels after a resize to ``new`` [B], centred on ``canvas`` [B]: int64 [B, old]."""
    at = shifted(old, (canvas - old) // 2 - (canvas - new) // 2)  # pixel of the resized image, may lie outside
    source = (at * (old / new.float())[:, None]).floor().long().clamp(max=old - 1)
    return torch.where((at >= 0) & (at < new[:, None]), source, -1)


def rotate(x: torch.Tensor, angle: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    """Turns each image about its centre by ``angle`` [B], in pixels, so that squares stay squares; ``fill`` outside."""
    h, w = x.shape[2:]
    c, s = angle.cos(), angle.sin()  # [B] each
    matrix = torch.stack([torch.stack([c, -s * (h / w)], 1), torch.stack([s * (w / h), c], 1)], 1)  # [B, 2, 2]
    return warp(x - fill, matrix) + fill
