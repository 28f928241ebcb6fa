"""Saturated coverage: similarity to the picks counts up to a limit, beyond which an example is covered well enough.

F(S) = sum_i min(C_i(S), alpha C_i(V)),    C_i(S) = sum_{j in S} s_ij
gain(e) = sum_i min(s_ie, r_i),            r_i = max(0, alpha C_i(V) - C_i(S)), what is open still
"""

from __future__ import annotations

import torch

from attar.select.submodular.similarity import BLOCK, Similarity, reduced


class Saturated:
    """Monotone and submodular for s >= 0. A gain costs n similarities; n numbers are remembered."""

    def __init__(self, similarity: Similarity, alpha: float, *, block: int = BLOCK) -> None:
        """Nothing is picked; ``alpha`` in (0, 1] is the share of an example's similarities at which it is covered."""
        self.similarity, self.block = similarity, block
        self.open = alpha * similarity.sums()  # r before it is cut off at 0, float64 [n]: many small ones are taken off

    def __len__(self) -> int:
        return len(self.similarity)

    def bounds(self) -> torch.Tensor:
        """sum_i s_ie, [n]: the limits can only lower it."""
        return self.similarity.sums()

    def gains(self, places: torch.Tensor) -> torch.Tensor:
        """int64 [b] -> float64 [b]."""
        return reduced(self.similarity, places, self.open.clamp_min(0), _open, self.block)

    def add(self, place: int) -> None:
        """Takes the similarities of a pick off what is open."""
        row = self.similarity.rows(torch.tensor([place], device=self.open.device), slice(None))[0]
        self.open -= row


def _open(s: torch.Tensor, open_: torch.Tensor) -> torch.Tensor:
    """min(s, r) in place: [c, m], [m] -> [c, m]."""
    return torch.minimum(s, open_.to(s.dtype), out=s)
