"""Least squares without negative weights, on a set of atoms that grows by one at a time.

    minimise over w >= 0    E(w) = || b - sum_j w_j g_j ||^2 + ridge * || w ||^2

Charles Lawson and Richard Hanson, Solving least squares problems, 1974: weights are either free, and solve the normal
equations, or held at 0, where freeing them would raise the error. Only products of atoms are needed. The Cholesky factor of
the free ones grows with each, and is made anew where one is taken out.
"""

from __future__ import annotations

import torch

NOTHING = 1e-10
"""Share of the largest < g_j, b > that counts as 0."""


class Fit:
    """The weights of the atoms so far, float64."""

    def __init__(self, most: int, ridge: float) -> None:
        """No atoms yet; at most ``most``, ridge > 0."""
        self.ridge, self.count, self.free = ridge, 0, list[int]()
        self.gram = torch.zeros(most, most, dtype=torch.float64)  # with the ridge on its diagonal
        self.target = torch.zeros(most, dtype=torch.float64)  # < g_j, b >
        self.weight = torch.zeros(most, dtype=torch.float64)
        self.factor = torch.zeros(most, most, dtype=torch.float64)  # lower, of the free atoms in the order of ``free``

    @property
    def explained(self) -> float:
        """|| b ||^2 - E(w); at the best weights that is < w, target >."""
        return float(self.weight @ self.target)

    def add(self, products: torch.Tensor, target: float) -> None:
        """One more atom, and the best weights of all.

        Args:
            products: float64 [count + 1], with the atoms before it and with itself.
            target: its product with b.
        """
        new, self.count = self.count, self.count + 1
        self.gram[new, : self.count] = products
        self.gram[: self.count, new] = products
        self.gram[new, new] += self.ridge
        self.target[new] = target
        for _ in range(3 * self.count):  # each round lowers the error; the limit is for rounding alone
            best = self._worth_freeing()
            if best is None:
                return
            self._enter(best)
            self._solve()

    def _worth_freeing(self) -> int | None:
        """The held atom whose weight, freed, would lower the error the most."""
        slope = self.target[: self.count] - self.gram[: self.count, : self.count] @ self.weight[: self.count]
        slope[self.free] = -torch.inf
        best = int(slope.argmax())
        return best if float(slope[best]) > NOTHING * float(self.target.abs().max()) else None

    def _enter(self, atom: int) -> None:
        """Frees an atom: one more row of the factor, O(free^2)."""
        m = len(self.free)
        column = self.gram[self.free, atom][:, None]  # [m, 1]
        row = torch.linalg.solve_triangular(self.factor[:m, :m], column, upper=False)[:, 0]
        left = float(self.gram[atom, atom] - row @ row)
        self.factor[m, :m] = row
        self.factor[m, m] = max(left, 1e-15 * float(self.gram[atom, atom])) ** 0.5
        self.free.append(atom)

    def _solve(self) -> None:
        """The best weights of the free atoms; goes only as far as no weight becomes negative, and holds those that would."""
        while self.free:
            m, old = len(self.free), self.weight[self.free]
            new = torch.cholesky_solve(self.target[self.free][:, None], self.factor[:m, :m])[:, 0]
            below = new <= 0
            if not below.any():
                self.weight[self.free] = new
                return
            share = torch.where(below, old / (old - new).clamp_min(1e-300), torch.inf)  # of the way until it is 0
            new = old + float(share.min()) * (new - old)
            stays = (new > 0) & (share > share.min())
            self.weight[self.free] = torch.where(stays, new, 0)
            self.free = [atom for atom, kept in zip(self.free, stays.tolist()) if kept]
            self._refactor()

    def _refactor(self) -> None:
        m = len(self.free)
        self.factor[:m, :m] = torch.linalg.cholesky(self.gram[self.free][:, self.free])
