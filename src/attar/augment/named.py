"""Augment: an augmentation by name, for those who train on a condensed set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from attar.augment import crops, dc, idc, siamese
from attar.errors import UsageError, nearest

Kind = Literal["none", "dsa", "dc", "idc", "rrc"]
KINDS = ("dsa", "dc", "idc", "rrc")


@dataclass(frozen=True)
class Augment:
    """An augmentation; its string is its name, ``none``, ``dsa:color_crop``, ``dc:crop_scale_rotate``, ``rrc:0.08_flip``.

    Args:
        kind: none, dsa (:mod:`attar.augment.siamese`), dc (:mod:`attar.augment.dc`), idc (:mod:`attar.augment.idc`) or rrc
            (:mod:`attar.augment.crops`).
        strategy: operations joined by ``_``.

    Example:
        >>> str(Augment.parse("color_crop"))
        'dsa:color_crop'
    """

    kind: Kind
    strategy: str

    @classmethod
    def parse(cls, text: str) -> Augment:
        """The augmentation that ``text`` names; a strategy without a kind is ``dsa``.

        Raises:
            UsageError: an unknown kind or operation.
        """
        kind, colon, strategy = text.partition(":")
        if not colon:
            kind, strategy = "dsa", text
        if kind not in KINDS:
            raise UsageError(f"there is no augmentation '{text}'; {nearest(kind, (*KINDS, 'none'))}")
        ops = {"dc": dc.parse, "rrc": crops.parse}.get(kind, siamese.parse)(strategy)
        return cls(kind, strategy) if ops else cls("none", "")

    def __str__(self) -> str:
        return "none" if self.kind == "none" else f"{self.kind}:{self.strategy}"

    def draw(
        self, n: int, generator: torch.Generator, *, size: tuple[int, int], channels: int = 3, one_op: bool = True
    ) -> dict[str, torch.Tensor]:
        """Parameters for n images, one row each, on the generator's device; empty for ``none``.

        Args:
            size: (H, W); channels: C, or more.
            one_op: for dsa, one operation for all images, as in published evaluations; dc draws one for each.
        """
        if self.kind == "none":
            return {}
        if self.kind == "dsa":
            return siamese.draw(self.strategy, n, generator, size=size, one_op=one_op)
        if self.kind == "idc":
            return idc.draw(self.strategy, n, generator, size=size)
        if self.kind == "rrc":
            return crops.draw(self.strategy, n, generator, size=size)
        return dc.draw(self.strategy, n, generator, size=size, channels=channels)

    def apply(self, x: torch.Tensor, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W] under parameters from :meth:`draw`; compiles, and runs under ``vmap``."""
        if self.kind == "none":
            return x
        return {"dsa": siamese, "dc": dc, "idc": idc, "rrc": crops}[self.kind].augment(x, params)

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draws for a batch [B, C, H, W] and applies at once, as published evaluations do.

        Equal to :meth:`draw` and :meth:`apply`, without the work for operations that were not drawn.
        """
        drawn = self.draw(len(x), generator, size=(x.shape[2], x.shape[3]), channels=x.shape[1])
        params = {name: v.to(x.device) for name, v in drawn.items()}
        if self.kind in ("dsa", "idc"):
            module = siamese if self.kind == "dsa" else idc
            return module.augment_one(x, siamese.common_op(drawn), params)
        return self.apply(x, params)


def by_name(text: str) -> Augment:
    """The same as :meth:`Augment.parse`."""
    return Augment.parse(text)
