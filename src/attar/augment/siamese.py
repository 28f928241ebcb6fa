"""DSA: differentiable siamese augmentation.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021. The same random
transformation meets the real and the synthetic images of a class, and gradients pass through it.

Every row draws its parameters, and one operation of the strategy is applied to it:

====== =================================================================================================
flip   mirrors the width, with probability 1/2
scale  samples on a grid stretched by sx, sy ~ U[1/1.2, 1.2] about the centre, zeros outside
rotate samples on a grid turned by U[-15, 15] degrees, zeros outside
crop   shifts by whole pixels dy, dx in [-k, k], k = int(.125 side + .5), zeros outside
cutout zeros a square of side int(.5 side + .5) centred anywhere, cut off at the borders
color  brightness x + b, b ~ U[-.5, .5]; then saturation (x - m) s + m, m the mean over channels, s ~ U[0, 2];
       then contrast (x - m) t + m, m the mean of the image, t ~ U[.5, 1.5]
====== =================================================================================================

The parameters are tensors with one row for every image. For siamese use, draw one row for every class and index it by
the labels of a batch: ``augment(x, {name: v[labels] for name, v in params.items()})``. The official code draws one
operation for a whole call where it trains networks (``one_op=True``), and measures grids from edge to edge
(``align_corners=False``); copies of it in later papers differ in the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from attar.augment.grid import rows, shifted, take, warp
from attar.errors import UsageError, nearest

Params = Mapping[str, torch.Tensor]

OPS = ("color", "crop", "cutout", "flip", "rotate", "scale")
COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE = "color_crop_cutout_flip_scale_rotate"
"""The published strategy for natural images and clothes."""
COLOR_CROP_CUTOUT_SCALE_ROTATE = "color_crop_cutout_scale_rotate"
"""The published strategy for digits, which a mirror would spoil."""

SCALE, ROTATE, CROP, CUTOUT = 1.2, 15.0, 0.125, 0.5
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5


def parse(strategy: str) -> tuple[str, ...]:
    """The operations of a strategy such as ``color_crop_flip``; none for ``none`` or an empty string.

    Raises:
        UsageError: an unknown or repeated operation.
    """
    if strategy.lower() in ("", "none"):
        return ()
    ops = tuple(strategy.split("_"))
    for i, op in enumerate(ops):
        if op not in OPS:
            raise UsageError(f"augmentation '{strategy}' names the operation '{op}'; {nearest(op, OPS)}")
        if op in ops[:i]:
            raise UsageError(f"augmentation '{strategy}' names '{op}' twice; name every operation once")
    return ops


def draw(
    strategy: str, n: int, generator: torch.Generator, *, size: tuple[int, int], one_op: bool
) -> dict[str, torch.Tensor]:
    """Parameters for n rows, on the generator's device.

    Args:
        strategy: operations joined by ``_``; each is as likely as the others.
        size: (H, W) of the images that they will be applied to.
        one_op: one operation for all rows, each with its own parameters; else every row draws its own operation.

    Returns:
        op int64 [n] (position in OPS, -1 for none), mirror bool [n], grow [n, 2] (x, y), angle [n] in radians,
        shift int64 [n, 2] (rows, columns), corner int64 [n, 2] (top, left of the cutout square, may lie outside),
        tone [n, 3] (brightness offset, saturation factor, contrast factor).
    """
    ops = parse(strategy)
    device = generator.device

    def uniform(low: float, high: float, *more: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, *more, generator=generator, device=device)

    def integers(low: int, high: int) -> torch.Tensor:  # both ends included
        return torch.randint(low, high + 1, (n,), generator=generator, device=device)

    code = torch.tensor([OPS.index(op) for op in ops] or [-1], device=device)
    pick = torch.randint(len(code), (1 if one_op else n,), generator=generator, device=device)
    reach = [int(side * CROP + 0.5) for side in size]
    hole = [_hole(side) for side in size]
    last = [side - cut % 2 for side, cut in zip(size, hole)]  # an even square may be centred on the far edge
    return {
        "op": code[pick].expand(n).clone(),
        "mirror": uniform(0, 1) < 0.5,
        "grow": uniform(1 / SCALE, SCALE, 2),
        "angle": torch.deg2rad(uniform(-ROTATE, ROTATE)),
        "shift": torch.stack([integers(-k, k) for k in reach], 1),
        "corner": torch.stack([integers(0, end) - cut // 2 for end, cut in zip(last, hole)], 1),
        "tone": torch.stack(
            [
                uniform(-BRIGHTNESS / 2, BRIGHTNESS / 2),
                uniform(0, SATURATION),
                uniform(CONTRAST, CONTRAST + 1),
            ],
            1,
        ),
    }


def augment(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Applies to every row its operation; a row is untouched, to the bit, by the operations of the others.

    Free of generators and of branches on data: it compiles, runs under ``vmap`` and is differentiable in x.

    Args:
        x: [B, C, H, W].
        params: from :func:`draw`, B rows.

    Returns:
        [B, C, H, W].
    """
    on = {op: params["op"] == code for code, op in enumerate(OPS)}  # bool [B] each
    # Every operation reads x itself: in a chain, a compiler would work out each step anew at every pixel that is read.
    matrix = torch.where(on["rotate"][:, None, None], turned(params), stretched(params))
    result = torch.where(rows(on["rotate"] | on["scale"]), warp(x, matrix), x)
    for op in ("color", "crop", "cutout", "flip"):
        result = torch.where(rows(on[op]), APPLY[op](x, params), result)
    return result


def augment_one(x: torch.Tensor, op: str, params: Params) -> torch.Tensor:
    """As :func:`augment` where the caller knows that all rows have the operation ``op``: only that one is computed."""
    return APPLY[op](x, params) if op != "none" else x


def augment_by_class(x: torch.Tensor, params: Params) -> torch.Tensor:
    """As :func:`augment` for images in equal blocks by class, each with the one row of its class: a sixth of the work.

    The operations are read on the host, so this is for what is drawn and not for a loss.

    Args:
        x: [K, B, C, H, W].
        params: from :func:`draw`, K rows.

    Returns:
        [K, B, C, H, W].
    """
    codes = params["op"].tolist()
    parts = []
    for k, images in enumerate(x):
        row = {name: v[k].expand(len(images), *v.shape[1:]) for name, v in params.items()}
        parts.append(augment_one(images, OPS[codes[k]] if codes[k] >= 0 else "none", row))
    return torch.stack(parts)


def common_op(params: Params) -> str:
    """The operation of parameters drawn with ``one_op=True``, read on the host; ``none`` where there is none."""
    code = int(params["op"][0])
    return OPS[code] if code >= 0 else "none"


def flip(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Mirrors the rows [C, H, W] that ``mirror`` marks."""
    return torch.where(rows(params["mirror"]), x.flip(3), x)


def scale(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Samples at (sx x, sy y): a factor above 1 shrinks the picture."""
    return warp(x, stretched(params))


def rotate(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Samples at (x cos a - y sin a, x sin a + y cos a) in coordinates that run from -1 to 1 on both sides."""
    return warp(x, turned(params))


def stretched(params: Params) -> torch.Tensor:
    """The matrices [B, 2, 2] of :func:`scale`."""
    return torch.diag_embed(params["grow"])


def turned(params: Params) -> torch.Tensor:
    """The matrices [B, 2, 2] of :func:`rotate`."""
    c, s = params["angle"].cos(), params["angle"].sin()  # [B] each
    return torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)


def crop(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Output pixel (i, j) is input pixel (i + dy, j + dx), zero outside."""
    h, w = x.shape[2:]
    return take(x, shifted(h, params["shift"][:, 0]), shifted(w, params["shift"][:, 1]))


def cutout(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Zeros the square whose top left corner is ``corner``."""
    height, width = (_covered(x.shape[2 + axis], params["corner"][:, axis]) for axis in (0, 1))  # [B, H], [B, W]
    return torch.where((height[:, :, None] & width[:, None, :])[:, None], 0, x)


def color(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Brightness, then saturation, then contrast."""
    brightness, saturation, contrast = (rows(t.to(x.dtype)) for t in params["tone"].unbind(1))
    x = x + brightness
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * saturation + grey
    level = x.mean((1, 2, 3), keepdim=True)
    return (x - level) * contrast + level


APPLY: dict[str, Callable[[torch.Tensor, Params], torch.Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "rotate": rotate,
    "scale": scale,
}


def _hole(side: int) -> int:
    return int(side * CUTOUT + 0.5)


def _covered(side: int, start: torch.Tensor) -> torch.Tensor:
    """Which of ``side`` pixels a hole covers that begins at ``start``: int64 [B] -> bool [B, side]."""
    offset = shifted(side, -start)
    return (offset >= 0) & (offset < _hole(side))
