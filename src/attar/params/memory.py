"""Memory: a few small bases are shared by all classes, and every image is an address that mixes them.

Deng, Russakovsky, "Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks", NeurIPS 2022,
arXiv 2206.02916. What classes have in common is stored once, in the bases; an image costs one number for each of them:

    x_i = 1 / sqrt(C H W) sum_p A_ip up(b_p),      b_p [C, ceil(H / smaller), ceil(W / smaller)], enlarged bilinearly

Addresses are soft: any numbers, of either sign. The rows of A that belong to one class are its addressing matrices (in the
paper's letters, y^T A_i of the i-th). A budget pays for both: P C h w floats of bases and P for each image. The bases take
``share`` of it, 0.4 being the official 16 bases for CIFAR-10 at one image per class, with 115 images of each class; more
images per class then buy more bases and not more images, up to C h w bases, which span all there is.

Not as in the official code: the objective is the method's own (there: back-propagation through 150 steps of training with
momentum, which is another choice than what a set is made of, and 1e-4 times the squared addresses), and sees all images. The
factor 1 / sqrt(C H W) keeps lengths, so that addresses move at the rate of pixels. The first memory comes from real images
(there: Xavier's noise): as many as shall be decoded are averaged to the size of a base; the bases are the directions in which
they are longest (leading right singular vectors) and the addresses what the images are there: no bases of this size and number
are nearer to them. A class with too few examples repeats them. With start noise, bases are standard normal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import State
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bases that all classes share, and for every image the address that mixes them."""

    share: float = 0.4
    "Part of the bytes that the bases take; the addresses have the rest."
    smaller: int = 2
    "How many times smaller than an image a base is, a side."
    lr: float = 0.1
    "Learning rate of the bases, as a multiple of the addresses', which move as pixels would; every image pulls at a base."

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"share={self.share} is not in (0, 1); the official settings for CIFAR-10 amount to 0.4")
        if self.smaller < 1:
            raise UsageError(f"smaller={self.smaller} must be a whole number of at least 1; the official code takes 2")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr={self.lr} must be a positive number")

    def base(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of a base for images of C x H x W."""
        c, h, w = shape
        return c, math.ceil(h / self.smaller), math.ceil(w / self.smaller)

    def bases(self, shape: tuple[int, int, int], asked: Sequence[int]) -> int:
        """P: as many as their share of the bytes holds, one at least, and no more than a base has numbers."""
        one = math.prod(self.base(shape))
        return min(one, max(1, math.floor(self.share * sum(asked) * math.prod(shape) / one)))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
        """``base`` [P, C, h, w], ``address`` [M, P], ``label`` [M] and the two matrices that enlarge a base."""
        asked = pixels.asked(real, budget, kind=kind)
        counts, p = self.counts(real.shape, asked), self.bases(real.shape, asked)
        label, (c, h, w) = pixels.labels(counts), self.base(real.shape)
        if kind == "noise":
            base = torch.randn(p, c, h, w, generator=seeds.generator("start"))
            address = torch.randn(len(label), p, generator=seeds.generator("address"))
            address *= math.sqrt(math.prod(real.shape) / p)
        else:
            small = reduced(real, pixels.drawn(real, counts, seeds), (h, w))  # [M, C h w]
            directions = longest(small, p)  # [P, C h w]
            base = math.sqrt(c * h * w) * directions.unflatten(1, (c, h, w))
            address = math.sqrt(math.prod(real.shape) / (c * h * w)) * small @ directions.T
        turn = {"rows": enlarging(h, real.shape[1]), "columns": enlarging(w, real.shape[2])}
        return {"base": base, "address": address, "label": label, "asked": pixels.labels(asked), **turn}

    def learn(self, opt: Opt) -> dict[str, Opt]:
        """Addresses move as pixels would, bases at a rate of their own."""
        return {"base": dataclasses.replace(opt, lr=opt.lr * self.lr), "address": opt}

    def decode(self, state: State) -> torch.Tensor:
        """[M, C, H, W]: bases are enlarged, then mixed."""
        enlarged = state["rows"] @ state["base"] @ state["columns"].T  # [P, C, H, W]
        x = state["address"] @ enlarged.flatten(1) / math.sqrt(enlarged[0].numel())  # [M, C H W]
        return x.unflatten(1, enlarged.shape[1:])

    def stored(self, state: State) -> State:
        """The bases and the addresses."""
        return {name: state[name] for name in ("base", "address")}

    def counts(self, shape: tuple[int, int, int], asked: Sequence[int]) -> list[int]:
        """As many addresses as the bases leave room for, in proportion to what is asked of a class."""
        whole, total = math.prod(shape), sum(asked)
        p, one = self.bases(shape, asked), math.prod(self.base(shape))
        room = total * whole - p * one
        found = [n * room // (total * p) if n else 0 for n in asked]
        if any(n and m < 1 for n, m in zip(asked, found)):
            raise UsageError(
                f"{p} bases take {4 * p * one} of the {4 * total * whole} bytes of {total} images, which leaves no address "
                f"for some class; lower memory:share={self.share} or raise --ipc"
            )
        return found


def reduced(real: RealSet, index: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Real images averaged to h x w pixels: positions int64 [M] -> [M, C h w].

    Raises:
        DataError: a pixel that is not finite.
    """
    x = torch.cat([adaptive_avg_pool2d(real.draw(part), size).cpu() for part in index.split(256)]).flatten(1)
    sick = index[~x.isfinite().all(1)]
    if len(sick):
        raise DataError(f"row {int(real.ids[sick[0]])} of {real.name} holds a NaN or an infinity; remove it or mend it")
    return x


def longest(x: torch.Tensor, count: int) -> torch.Tensor:
    """Orthonormal directions in which vectors are longest, together: [M, D] -> [count, D], count <= D.

    Where there are fewer vectors than directions, the others are orthogonal to all.
    """
    lack = max(0, count - len(x))
    x = torch.cat([x, x.new_zeros(lack, x.shape[1])]).to(torch.float64)
    return torch.linalg.svd(x, full_matrices=False).Vh[:count].to(torch.float32).contiguous()


def enlarging(small: int, large: int) -> torch.Tensor:
    """The matrix that enlarges a column of pixels linearly: [large, small]; rows sum to 1; rounded from float64."""
    each = torch.eye(small, dtype=torch.float64)[None]
    return interpolate(each, size=large, mode="linear", align_corners=False)[0].T.to(torch.float32).contiguous()
