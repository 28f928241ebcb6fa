"""Facility location: every example is served by the most similar pick.

F(S) = sum_i max_{j in S} s_ij        gain(e) = sum_i max(0, s_ie - c_i),   c_i = max_{j in S} s_ij
"""

from __future__ import annotations

import torch

from attar.select.submodular.similarity import BLOCK, Similarity, reduced


class Facility:
    """Monotone and submodular for s >= 0. A gain costs n similarities; n numbers are remembered."""

    def __init__(self, similarity: Similarity, *, block: int = BLOCK) -> None:
        """Nothing is picked, c = 0."""
        self.similarity, self.block = similarity, block
        self.covered = torch.zeros(len(similarity), device=similarity.device)  # c, [n]

    def __len__(self) -> int:
        return len(self.similarity)

    def bounds(self) -> torch.Tensor:
        """sum_i s_ie, [n]."""
        return self.similarity.sums()

    def gains(self, places: torch.Tensor) -> torch.Tensor:
        """int64 [b] -> float64 [b]."""
        return reduced(self.similarity, places, self.covered, _above, self.block)

    def add(self, place: int) -> None:
        """c_i = max(c_i, s_i,place)."""
        row = self.similarity.rows(torch.tensor([place], device=self.similarity.device), slice(None))[0]
        self.covered = torch.maximum(self.covered.to(row.dtype), row)


def _above(s: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """max(0, s - c) in place: [c, m], [m] -> [c, m]."""
    return s.sub_(covered).clamp_min_(0)
