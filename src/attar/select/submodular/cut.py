"""Graph cut: near to everything, far from each other.

    F(S) = lam sum_{i in V, j in S} s_ij - sum_{i, j in S} s_ij
    gain(e) = lam sum_i s_ie - s_ee - 2 sum_{j in S} s_je = z_e . (lam sum_i z_i - z_e - 2 sum_{j in S} z_j)

with s_ij = z_i . z_j (:mod:`attar.select.submodular.similarity`): a gain is one product of D numbers, and no similarity of
two examples is ever computed.
"""

from __future__ import annotations

import torch


class Cut:
    """Submodular for s >= 0; monotone for lam >= 2, since a gain is then lam/2 times 2 sum_i s_ie less part of it."""

    def __init__(self, z: torch.Tensor, lam: float) -> None:
        """Nothing is picked; z: float [n, D], lam > 0."""
        self.z = z
        everything = z.sum(0, dtype=torch.float64)  # [D]
        self.alone = lam * (z @ everything.to(z.dtype)).double() - z.square().sum(1).double()  # [n]
        self.picked = torch.zeros_like(everything)  # sum of the picks, float64 [D]

    def __len__(self) -> int:
        return len(self.z)

    def bounds(self) -> torch.Tensor:
        """The gains of the first pick, [n]."""
        return self.alone

    def gains(self, places: torch.Tensor) -> torch.Tensor:
        """int64 [b] -> float64 [b]."""
        places = places.to(self.z.device)
        z = self.z if len(places) == len(self.z) else self.z[places]  # all of them are ascending: no copy
        return self.alone[places] - 2 * (z @ self.picked.to(z.dtype)).double()

    def add(self, place: int) -> None:
        """Adds a pick to the sum."""
        self.picked += self.z[place]
