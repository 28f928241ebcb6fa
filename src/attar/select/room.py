"""Which candidates may still be picked: each once, and of a group no more than its cap."""

from __future__ import annotations

import torch


class Room:
    """n candidates.

    Args:
        n: how many.
        groups: int64 [n], the group of each (frames of one video), or None.
        cap: how many of one group may be picked; None for any number.
    """

    def __init__(self, n: int, groups: torch.Tensor | None = None, cap: int | None = None) -> None:
        self.free = torch.ones(n, dtype=torch.bool)
        self.groups = groups if cap is not None else None
        if self.groups is not None and cap is not None:
            self.left = self.groups.bincount().clamp(max=cap)  # [G]

    @property
    def most(self) -> int:
        """How many can still be picked."""
        return int(self.free.sum()) if self.groups is None else int(self.left.sum())

    def take(self, place: int) -> None:
        """Picks one; the last that its group may give closes the group."""
        self.free[place] = False
        if self.groups is not None:
            group = self.groups[place]
            self.left[group] -= 1
            if self.left[group] == 0:
                self.free &= self.groups != group

    def along(self, order: torch.Tensor, k: int) -> torch.Tensor:
        """The first k of an order of places that may be picked: int64 [n] -> [k], or fewer where no more may be."""
        if self.groups is None:
            picks = order[self.free[order]][:k]
            self.free[picks] = False
            return picks
        picks = []
        for place in order.tolist():
            if len(picks) == k:
                break
            if self.free[place]:
                self.take(place)
                picks.append(place)
        return torch.tensor(picks, dtype=torch.int64)
