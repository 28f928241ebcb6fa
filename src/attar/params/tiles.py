"""Tiles: every stored image holds factor x factor small pictures, which are enlarged to whole images wherever they are used.

Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (IDC), ICML 2022, call it multi-formation;
IDM calls it partition and expansion. An image of C x H x W numbers is stored, factor^2 images of the same size are learned
from. A tile has the sides ceil(H / factor) and ceil(W / factor); where these do not divide the image, tiles reach over its
lower and right border and find ``fill`` there. Enlarging is bilinear, each tile by itself.

Not as in the official code: the tiles of one image stand one after the other, so that labels stay sorted; where sides do
not divide, the first tiles are laid where decoding looks for them; a class with too few examples repeats them. First tiles are
made smaller by taking the nearest pixels, as in IDC's code; IDM's takes the mean of four.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from attar.budget import Budget
from attar.errors import UsageError
from attar.method import State
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Images cut into factor x factor tiles, each enlarged to a whole image."""

    factor: int = 2
    "Tiles a side of every stored image; the papers take 3 for ImageNet."

    def __post_init__(self) -> None:
        check(self.factor)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
        """``image`` [S, C, H, W] of classes ``asked`` [S], ``label`` [S factor^2] and the grey ``fill`` [C, 1, 1]."""
        first = start(real, budget, seeds, kind=kind, factor=self.factor)
        label = first["label"].repeat_interleave(self.factor**2)
        fill = real.normalise(torch.full(real.shape, 0.5))[:, :1, :1]  # a whitening takes whole images
        return {"image": first["image"], "label": label, "asked": first["label"], "fill": fill}

    def learn(self, opt: Opt) -> dict[str, Opt]:
        """The stored images move."""
        return {"image": opt}

    def decode(self, state: State) -> torch.Tensor:
        """[S factor^2, C, H, W]."""
        return decode(state["image"], self.factor, fill=state["fill"])

    def stored(self, state: State) -> State:
        """The stored images; the grey beyond their border is that of the normalised space."""
        return {"image": state["image"]}

    def counts(self, shape: tuple[int, int, int], asked: Sequence[int]) -> list[int]:
        """factor^2 images for each that is asked for."""
        _fitting(self.factor, shape)
        return [n * self.factor**2 for n in asked]


def decode(image: torch.Tensor, factor: int, *, fill: torch.Tensor | float = 0.5) -> torch.Tensor:
    """The images that stored ones stand for: [M, C, H, W] -> [M factor^2, C, H, W]; differentiable in ``image``.

    Tiles come row by row, all of one image before those of the next: labels are ``label.repeat_interleave(factor**2)``.

    Args:
        fill: what lies beyond the border, a number or a tensor [C, 1, 1]; the default is grey for pixels in [0, 1].
    """
    if factor == 1:
        return image
    m, c, h, w = image.shape
    side, width = _tile(h, w, factor)
    lack = (0, factor * width - w, 0, factor * side - h)
    canvas = F.pad(image - fill, lack) + fill if any(lack) else image  # [M, C, f side, f width]
    parts = canvas.unflatten(3, (factor, width)).unflatten(2, (factor, side))  # [M, C, f, side, f, width]
    parts = parts.permute(0, 2, 4, 1, 3, 5).reshape(m * factor**2, c, side, width)
    return F.interpolate(parts, size=(h, w), mode="bilinear", align_corners=False)


def encode(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Images that hold others as tiles, made smaller by taking the nearest pixels: [M factor^2, C, H, W] -> [M, C, H, W].

    What does not fit at the lower and right border is cut off. The order is that of :func:`decode`.
    """
    if factor == 1:
        return image
    h, w = image.shape[2:]
    parts = F.interpolate(image, size=_tile(h, w, factor))  # [M f f, C, side, width]
    parts = parts.unflatten(0, (-1, factor, factor)).permute(0, 3, 1, 4, 2, 5)  # [M, C, f, side, f, width]
    return parts.flatten(4, 5).flatten(2, 3)[:, :, :h, :w].contiguous()


def start(real: RealSet, budget: Budget, seeds: Seeds, *, kind: str, factor: int) -> dict[str, torch.Tensor]:
    """The first stored images of a synthetic set, sorted by class: as :func:`attar.params.pixels.start`, of tiles.

    Args:
        kind: ``real`` (every tile a random real example of the class) or ``noise``.

    Returns:
        ``image`` float32 [M, C, H, W] in the normalised space and ``label`` int64 [M], M as the budget says.

    Raises:
        UsageError, DataError: as there.
    """
    check(factor)
    _fitting(factor, real.shape)
    state = pixels.start(real, budget, seeds, kind=kind)
    if kind == "noise" or factor == 1:
        return state
    counts = torch.bincount(state["label"], minlength=real.n_classes).tolist()
    picks = [
        pixels.some(members, n * factor**2, seeds.generator("tiles", k))
        for k, (members, n) in enumerate(zip(real.classes, counts))
    ]
    stored = [encode(real.draw(part).cpu(), factor) for part in torch.cat(picks).split(64 * factor**2)]
    return {"image": torch.cat(stored), "label": state["label"]}


def check(factor: int) -> None:
    """Refuses an impossible factor."""
    if factor < 1:
        raise UsageError(f"factor={factor} must be a whole number of at least 1; the paper takes 2 for small images")


def _fitting(factor: int, shape: tuple[int, int, int]) -> None:
    """Refuses a factor whose last tiles would lie beyond the border, and be images of nothing."""

    def whole(f: int) -> bool:
        return all((f - 1) * math.ceil(n / f) < n for n in shape[1:])

    if not whole(factor):
        good = next(f for f in range(factor, 0, -1) if whole(f))
        raise UsageError(
            f"factor={factor} lays whole tiles beyond the border of images of {shape[1]}x{shape[2]} pixels; take {good} or less"
        )


def stored_bytes(image: torch.Tensor) -> int:
    """Bytes of stored images [M, C, H, W] as they are, which is what a budget counts; decoding adds none."""
    return image.numel() * image.element_size()


def _tile(h: int, w: int, factor: int) -> tuple[int, int]:
    """Height and width of one tile."""
    return math.ceil(h / factor), math.ceil(w / factor)
