"""Bases and hallucinators: every basis passes every one of a few small shared networks, and each pair is an image.

Liu, Wang, Yang, Ye, Wang, "Dataset Distillation via Factorization" (HaBa), NeurIPS 2022, arXiv 2210.16774. What images of a set
share is stored once, in the hallucinators; what tells them apart in the bases. B bases and P hallucinators give B P images:

    x_bp = D_p * ( s_p . (E_p * b) + t_p ),      E_p a 3x3 convolution, s_p and t_p a number for every place, D_p the 3x3
                                                 transposed convolution back to the size of the image

A budget pays for all of it: P (C c 9 + C + 2 C (H - 2) (W - 2) + C C 9 + C) floats of hallucinators come first, and as many
bases as the rest holds. Grey bases (c = 1) are a third of coloured ones; a hallucinator gives them their colours.

Not as in the official code: the objective is the method's own, and sees all B P images (there: one random hallucinator for
every step of trajectory matching, and in every epoch of the evaluation). Left out: the extractor that is trained by a
contrastive loss and under which the images of one basis shall look unlike each other (cosine, weight 0.1). Learning rates
of the hallucinators are a multiple of the bases' (there: the same, of a loss that is divided by the way of an expert).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d, conv_transpose2d

from attar.budget import Budget
from attar.errors import UsageError
from attar.method import State
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import RealSet
from attar.seeds import Seeds

SIDE = 3
"""Sides of the convolutions."""
PARTS = tuple(f"style.{name}" for name in ("encoder", "encoder.bias", "scale", "shift", "decoder", "decoder.bias"))
"""The tensors of the hallucinators in a state."""


@dataclass(frozen=True, kw_only=True)
class Bases:
    """Bases of every class and hallucinators of all, each pair of which is an image."""

    styles: int = 5
    "Hallucinators P, the images of every basis."
    grey: bool = True
    "Whether bases have one channel; else those of the images."
    lr: float = 0.01
    "Learning rate of the hallucinators, as a multiple of the bases'; every image pulls at them."

    def __post_init__(self) -> None:
        if self.styles < 1:
            raise UsageError(f"styles={self.styles} must be at least 1; the paper takes 5")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr={self.lr} must be a positive number")

    def shapes(self, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
        """The tensors of P hallucinators for images of C x H x W.

        Raises:
            UsageError: images too small for the convolutions.
        """
        c, h, w = shape
        if min(h, w) < SIDE:
            raise UsageError(f"bases need images of {SIDE} x {SIDE} pixels at least, but these have {h} x {w}")
        p, inner, base = self.styles, (h - SIDE + 1, w - SIDE + 1), self.channels(c)
        return {
            "style.encoder": (p, c, base, SIDE, SIDE),
            "style.encoder.bias": (p, c),
            "style.scale": (p, c, *inner),
            "style.shift": (p, c, *inner),
            "style.decoder": (p, c, c, SIDE, SIDE),  # from the channels named first to those named second
            "style.decoder.bias": (p, c),
        }

    def channels(self, c: int) -> int:
        """Channels of a basis for images of C."""
        return 1 if self.grey else c

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
        """``basis`` [B, c, H, W], ``style.NAME`` of every hallucinator's tensor, ``label`` [B P]."""
        asked = pixels.asked(real, budget, kind=kind)
        counts = [n // self.styles for n in self.counts(real.shape, asked)]
        label = pixels.labels(counts)
        if kind == "noise":
            c, h, w = real.shape
            basis = torch.randn(len(label), self.channels(c), h, w, generator=seeds.generator("start"))
        else:
            basis = real.draw(pixels.drawn(real, counts, seeds)).cpu()
            basis = basis.mean(1, keepdim=True) if self.grey else basis
        return {
            "basis": basis.contiguous(),
            **self._first(self.shapes(real.shape), seeds),
            "label": label.repeat_interleave(self.styles),
            "asked": pixels.labels(asked),
        }

    def _first(self, shapes: dict[str, tuple[int, ...]], seeds: Seeds) -> State:
        """Convolutions as torch draws them, uniform in +-1 / sqrt(fan-in); scales of 1, shifts of 0."""
        first = {"style.scale": torch.ones(shapes["style.scale"]), "style.shift": torch.zeros(shapes["style.shift"])}
        for name in ("style.encoder", "style.decoder"):
            bound = 1 / math.sqrt(math.prod(shapes[name][2:]))
            for part in (name, f"{name}.bias"):
                drawn = torch.rand(shapes[part], generator=seeds.generator(part))
                first[part] = (2 * drawn - 1) * bound
        return {name: first[name] for name in PARTS}

    def learn(self, opt: Opt) -> dict[str, Opt]:
        """Bases move as pixels would, hallucinators at a rate of their own."""
        own = dataclasses.replace(opt, lr=opt.lr * self.lr)
        return {"basis": opt, **dict.fromkeys(PARTS, own)}

    def decode(self, state: State) -> torch.Tensor:
        """[B P, C, H, W]: all images of one basis, then those of the next."""
        b, p = state["basis"], self.styles
        f = conv2d(b, state["style.encoder"].flatten(0, 1), state["style.encoder.bias"].flatten())  # [B, P C, H-2, W-2]
        f = f * state["style.scale"].flatten(0, 1) + state["style.shift"].flatten(0, 1)
        x = conv_transpose2d(f, state["style.decoder"].flatten(0, 1), state["style.decoder.bias"].flatten(), groups=p)
        return x.unflatten(1, (p, -1)).flatten(0, 1)  # [B, P C, H, W] -> [B P, C, H, W]

    def stored(self, state: State) -> State:
        """The bases and the hallucinators."""
        return {name: state[name] for name in ("basis", *PARTS)}

    def counts(self, shape: tuple[int, int, int], asked: Sequence[int]) -> list[int]:
        """P images for each basis; bases take what the hallucinators leave, in proportion to what is asked of a class."""
        c, h, w = shape
        whole, total = c * h * w, sum(asked)
        shared = sum(math.prod(s) for s in self.shapes(shape).values())
        room, one = total * whole - shared, self.channels(c) * h * w
        found = [max(0, n * room) // (total * one) if n else 0 for n in asked]
        if any(n and not m for n, m in zip(asked, found)):
            raise UsageError(
                f"{self.styles} hallucinators take {4 * shared} of the {4 * total * whole} bytes of {total} images, which "
                f"leaves no basis for some class; raise --ipc or take fewer, as bases:styles=1"
            )
        return [n * self.styles for n in found]
