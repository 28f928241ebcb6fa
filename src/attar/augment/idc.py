"""The augmentation of IDC, which DREAM, NCFM and DiM took over: mirror and colour always, one movement drawn.

Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022. The operations and their ranges
are those of :mod:`attar.augment.siamese`; what differs is how many of them meet an image. In this order:

- ``flip`` and ``color``, each always where the strategy names it (a mirror with probability 1/2 for each image);
- one of ``crop``, ``rotate`` and ``scale``, drawn for the whole batch, every image with its own parameters;
- ``cutout``, always where the strategy names it. Networks that are trained with cutmix go without.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from attar.augment import siamese
from attar.augment.grid import rows, warp

Params = Mapping[str, torch.Tensor]

COLOR_CROP_FLIP_SCALE_ROTATE = "color_crop_flip_scale_rotate"
"""The published strategy of networks that are trained with cutmix."""
COLOR_CROP_SCALE_ROTATE = "color_crop_scale_rotate"
"""The same for digits, which a mirror would spoil."""

MOVES = ("crop", "rotate", "scale")
ALWAYS = {"flip": "mirror", "color": "tone", "cutout": "corner"}
"""Operation -> its parameter; a strategy without the operation draws parameters without it."""


def draw(strategy: str, n: int, generator: torch.Generator, *, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Parameters for n images, on the generator's device.

    Args:
        strategy: operations joined by ``_``.
        size: (H, W).

    Returns:
        As :func:`attar.augment.siamese.draw`, where ``op`` is the movement; mirror, tone and corner only where the strategy
        has flip, color and cutout.

    Raises:
        UsageError: an unknown or repeated operation.
    """
    ops = siamese.parse(strategy)
    moves = "_".join(op for op in ops if op in MOVES)
    params = siamese.draw(moves, n, generator, size=size, one_op=True)
    left_out = {name for op, name in ALWAYS.items() if op not in ops}
    return {name: value for name, value in params.items() if name not in left_out}


def draw_by_class(
    strategy: str, classes: int, generator: torch.Generator, *, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """Parameters for K classes whose images share one row each, as in siamese use: every class draws its own movement."""
    some = [draw(strategy, 1, generator, size=size) for _ in range(classes)]
    return {name: torch.cat([row[name] for row in some]) for name in some[0]}


def augment_by_class(x: torch.Tensor, params: Params) -> torch.Tensor:
    """As :func:`augment` for images in equal blocks by class: [K, B, C, H, W] -> [K, B, C, H, W].

    The movements are read on the host, so this is for what is drawn and not for a loss.

    Args:
        params: from :func:`draw_by_class`, K rows.
    """
    parts = []
    for k, images in enumerate(x):
        row = {name: v[k].expand(len(images), *v.shape[1:]) for name, v in params.items()}
        parts.append(augment_one(images, siamese.common_op(row), row))
    return torch.stack(parts)


def augment(x: torch.Tensor, params: Params) -> torch.Tensor:
    """Mirror, colour, the movement of each row, cutout; free of branches on data, differentiable in x.

    Args:
        x: [B, C, H, W].
        params: from :func:`draw`, B rows.

    Returns:
        [B, C, H, W].
    """
    x = _before(x, params)
    on = {op: params["op"] == siamese.OPS.index(op) for op in MOVES}  # bool [B] each
    matrix = torch.where(on["rotate"][:, None, None], siamese.turned(params), siamese.stretched(params))
    moved = torch.where(rows(on["rotate"] | on["scale"]), warp(x, matrix), x)
    return _after(torch.where(rows(on["crop"]), siamese.crop(x, params), moved), params)


def augment_one(x: torch.Tensor, op: str, params: Params) -> torch.Tensor:
    """As :func:`augment` where the caller knows the movement of all rows: only that one is computed."""
    return _after(siamese.augment_one(_before(x, params), op, params), params)


def _before(x: torch.Tensor, params: Params) -> torch.Tensor:
    x = siamese.flip(x, params) if "mirror" in params else x
    return siamese.color(x, params) if "tone" in params else x


def _after(x: torch.Tensor, params: Params) -> torch.Tensor:
    return siamese.cutout(x, params) if "corner" in params else x
