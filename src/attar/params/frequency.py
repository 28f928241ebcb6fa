"""Frequencies: the images of a class share a few frequencies, and only their amplitudes are kept.

Shin, Shin, Moon, "Frequency Domain-based Dataset Distillation" (FreD), NeurIPS 2023, arXiv 2311.08819. Of a class's images the
variance sits in few coefficients of the cosine transform. Those that explain most of it are kept, the others are zero, so that
the bytes of one image hold 1 / share of them:

    x = R^T (M_k * F) S,      R_uy = a_u cos(pi (2 y + 1) u / (2 H)),  a_0 = sqrt(1/H), else sqrt(2/H);   S alike for columns
    M_k = the share of frequencies (u, v) with the largest sum over channels of Var_i (R real_ki S^T)_uv

A budget pays for the amplitudes, four bytes each, and for every class's mask, a bit for every frequency.

Not as in the official code: the mask is counted; it is found from real images of the class (up to 1000), where that takes the
first kept images, and mean over channels; ties go to the lower frequency. The transform is orthonormal, so that rates are those
of pixels (theirs is scaled, with a rate of 1e6 for DM). A class with too few examples repeats them.

Where a class varies is not where it differs from others: of digits of 8 x 8 pixels, class means of 4 frequencies recognise
0.12 of the test images, of 16 0.61, of 32 0.82.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attar.budget import Budget
from attar.errors import UsageError
from attar.method import State
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import RealSet
from attar.seeds import Seeds

LOOKED_AT = 1000
"""Real images of a class at most whose variance is taken."""


@dataclass(frozen=True, kw_only=True)
class Frequency:
    """The amplitudes of the frequencies that explain most of a class's variance."""

    share: float = 0.0625
    "Kept part of the frequencies of every channel: 64 of 1024 in the official code for CIFAR-10 with DM; small images want more."

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share={self.share} is not in (0, 1]; the official code takes 0.0625 for CIFAR-10")

    def kept(self, h: int, w: int) -> int:
        """Frequencies of every channel that are kept, one at least."""
        return max(1, round(self.share * h * w))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
        """``frequency`` [M, C, F], where each stands ``place`` int64 [K, F], ``label`` [M] and the transform's two matrices."""
        asked = pixels.asked(real, budget, kind=kind)
        c, h, w = real.shape
        counts = self.counts(real.shape, asked)
        label = pixels.labels(counts)
        place = places(real, self.kept(h, w), seeds)
        if kind == "noise":
            amplitude = torch.randn(len(label), c, place.shape[1], generator=seeds.generator("start"))
        else:
            image = real.draw(pixels.drawn(real, counts, seeds)).cpu()
            amplitude = transform(image).flatten(2).gather(2, place[label, None].expand(-1, c, -1))
        turn = {"rows": cosines(h), "columns": cosines(w)}
        return {"frequency": amplitude, "place": place, "label": label, "asked": pixels.labels(asked), **turn}

    def learn(self, opt: Opt) -> dict[str, Opt]:
        """The amplitudes move as pixels would: the transform keeps lengths."""
        return {"frequency": opt}

    def decode(self, state: State) -> torch.Tensor:
        """[M, C, H, W], the inverse transform of the amplitudes at the places of their class."""
        amplitude, rows, columns = state["frequency"], state["rows"], state["columns"]
        (m, c, _), h, w = amplitude.shape, len(rows), len(columns)
        index = state["place"][state["label"], None].expand(-1, c, -1)  # [M, C, F]
        whole = amplitude.new_zeros(m, c, h * w).scatter(2, index, amplitude).unflatten(2, (h, w))
        return rows.T @ whole @ columns

    def stored(self, state: State) -> State:
        """The amplitudes, and the masks of the classes that have images as bits: uint8 [K, ceil(H W / 8)]."""
        if not self._masked(len(state["rows"]) * len(state["columns"])):
            return {"frequency": state["frequency"]}
        return {
            "frequency": state["frequency"],
            "mask": bits(state["place"][state["label"].unique()], len(state["rows"]) * len(state["columns"])),
        }

    def _masked(self, places: int) -> bool:
        """Whether a mask tells anything: not where all frequencies are kept."""
        return round(self.share * places) < places

    def counts(self, shape: tuple[int, int, int], asked: Sequence[int]) -> list[int]:
        """As many of every class as its bytes hold beside its mask."""
        c, h, w = shape
        mask = math.ceil(h * w / 8) if self._masked(h * w) else 0
        each, one = 4 * c * h * w, 4 * c * self.kept(h, w)
        found = [(n * each - mask) // one if n else 0 for n in asked]
        if any(n and not m for n, m in zip(asked, found)):
            raise UsageError(
                f"an image of {each} bytes cannot hold a mask of {mask} bytes and {one} bytes of amplitudes; "
                f"lower frequency:share={self.share} or raise --ipc"
            )
        return found


def places(real: RealSet, kept: int, seeds: Seeds) -> torch.Tensor:
    """The frequencies of every class that explain most of its variance, in rising order: int64 [K, F] out of H W.

    Args:
        kept: F.
    """
    h, w = real.shape[1:]
    u, v = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    low_first = torch.argsort((u + v).flatten(), stable=True)
    found = []
    for k, members in enumerate(real.classes):
        some = torch.randperm(len(members), generator=seeds.generator("variance", k))[:LOOKED_AT].sort().values
        variance = _variance(real, members[some]).flatten()
        order = low_first[torch.argsort(variance[low_first], descending=True, stable=True)]
        found.append(order[:kept].sort().values)
    return torch.stack(found)


def _variance(real: RealSet, index: torch.Tensor) -> torch.Tensor:
    """Variance of each coefficient over some images, summed over the channels: float64 [H, W]; zeros for no image."""
    total = square = torch.zeros(real.shape, dtype=torch.float64)
    for part in index.split(256):
        f = transform(real.draw(part).cpu().to(torch.float64))
        total, square = total + f.sum(0), square + f.square().sum(0)
    n = max(1, len(index))
    return (square / n - (total / n).square()).clamp(min=0).sum(0)


def transform(x: torch.Tensor) -> torch.Tensor:
    """The orthonormal cosine transform (DCT-II) of images: [M, C, H, W] -> [M, C, H, W]."""
    h, w = x.shape[2:]
    return cosines(h).to(x) @ x @ cosines(w).to(x).T


def cosines(n: int) -> torch.Tensor:
    """The matrix of the orthonormal transform, one frequency a row: float32 [n, n], rounded from float64."""
    u = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(torch.pi * (2 * u + 1) * u[:, None] / (2 * n)) * math.sqrt(2 / n)
    waves[0] /= math.sqrt(2)
    return waves.to(torch.float32)


def bits(place: torch.Tensor, n: int) -> torch.Tensor:
    """Positions as masks of n bits, the first in the highest bit of the first byte: int64 [K, F] -> uint8 [K, ceil(n / 8)]."""
    mask = torch.zeros(len(place), 8 * math.ceil(n / 8), dtype=torch.int64, device=place.device).scatter(1, place, 1)
    weight = 2 ** torch.arange(7, -1, -1, device=place.device)
    return (mask.unflatten(1, (-1, 8)) * weight).sum(2).to(torch.uint8)
