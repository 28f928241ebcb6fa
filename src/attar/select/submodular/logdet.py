"""Log-determinant: picks span as large a volume as possible.

    F(S) = log det(S_SS + ridge I) - |S| log ridge
    gain(e) = log(r_e / ridge),    r_e = s_ee + ridge - || c_e ||^2

where c_e solves L c_e = s_Se for the Cholesky factor L of the picks' matrix: r_e is what the picks leave unexplained of e.
Each pick adds one number to every c (Chen, Zhang and Zhou, NeurIPS 2018), so all gains are known at any time.
"""

from __future__ import annotations

import torch

EPS = 1e-3
"""Part of the ridge below which what is left unexplained is rounding."""


class LogDet:
    """Submodular; monotone for any ridge in this form, as F is log det(I + S_SS / ridge)."""

    def __init__(self, z: torch.Tensor, ridge: float, k: int) -> None:
        """Nothing is picked; z: float [n, D] with s_ij = z_i . z_j, ridge > 0, k: most picks."""
        self.z, self.ridge, self.done = z, ridge, 0
        self.left = z.square().sum(1).double() + ridge  # r, float64 [n]
        self.columns = z.new_empty(k, len(z), dtype=torch.float64)  # c transposed, [k, n]; float32 loses small ridges

    def __len__(self) -> int:
        return len(self.z)

    def bounds(self) -> torch.Tensor:
        """The gains of the first pick, [n]."""
        return (self.left / self.ridge).log()

    def gains(self, places: torch.Tensor) -> torch.Tensor:
        """int64 [b] -> float64 [b]; never below 0, which only rounding could reach."""
        return (self.left[places.to(self.left.device)] / self.ridge).clamp_min(1).log()

    def add(self, place: int) -> None:
        """One more number of every c: O(n (D + picks))."""
        before = self.columns[: self.done]  # [t, n]
        row = (self.z @ self.z[place]).double()  # [n]
        row -= before.T @ before[:, place]
        row /= float(self.left[place].clamp_min(EPS * self.ridge)) ** 0.5
        self.columns[self.done] = row
        self.left -= row.square()
        self.done += 1
