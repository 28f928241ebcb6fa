"""Arithmetic of gradients g_i = a_i (x) [h_i, 1] on their factors; the outer products are never formed.

    <g_i, g_j>  = (a_i . a_j) (h_i . h_j + 1)
    || g_i ||   = || a_i || sqrt(|| h_i ||^2 + 1)
    <g_i, M>    = a_i^T M [h_i, 1]

Shape letters: n and m gradients, K classes, D features; a float [n, K], h float [n, D], M float [K, D + 1].
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from attar.errors import DataError
from attar.method import Resources
from attar.real.realset import RealSet
from attar.resources.gradients import lengths, name_of, residuals
from attar.select.pick import LARGEST


class Factors(NamedTuple):
    """n gradients: ``a`` [n, K] and ``h`` [n, D]."""

    a: torch.Tensor
    h: torch.Tensor

    def at(self, places: torch.Tensor | slice) -> Factors:
        """Some of them."""
        return Factors(self.a[places], self.h[places])


def factors_of(real: RealSet, res: Resources, rows: torch.Tensor, number: int = 0) -> Factors:
    """The gradients of some rows from the resource ``gradients-NUMBER``: int64 [n] -> copies.

    Raises:
        DataError: a logit or feature that is NaN, infinite, or so large that its square is.
    """
    stored = res[name_of(number)]
    logits, hidden = stored["logits"][rows], stored["hidden"][rows]
    length = torch.linalg.vector_norm(logits, dim=1) + torch.linalg.vector_norm(hidden, dim=1)
    bad = torch.nonzero(~(length < LARGEST)).flatten()  # not >=: NaN too
    if len(bad):
        row = int(rows[bad[0]])
        raise DataError(
            f"the gradient of the example with id {int(real.ids[row])} (row {row} of {real.name}) is not finite or beyond "
            f"{LARGEST:g}, and so for {len(bad)} of {len(rows)} examples; mend or drop it, or train for fewer epochs"
        )
    return Factors(residuals(logits, real.labels[rows]).to(real.device), hidden.to(real.device))


def inner(x: Factors, y: Factors) -> torch.Tensor:
    """<g_i, g_j> of all pairs, as the product of two small Gram matrices: n and m gradients -> [n, m]."""
    return (x.a @ y.a.T) * (x.h @ y.h.T).add_(1)


def norms(x: Factors) -> torch.Tensor:
    """|| g_i ||, [n]."""
    return lengths(x.a, x.h)


def distances(x: Factors, y: Factors) -> torch.Tensor:
    """|| g_i - g_j || of all pairs, [n, m]; near twins are exact to the square root of the precision."""
    squared = norms(x).square()[:, None] + norms(y).square() - 2 * inner(x, y)
    return squared.clamp_min_(0).sqrt_()


def total(x: Factors) -> torch.Tensor:
    """The sum of all gradients as a matrix: [K, D + 1]."""
    return torch.cat([x.a.T @ x.h, x.a.sum(0)[:, None]], dim=1)


def correlation(x: Factors, m: torch.Tensor) -> torch.Tensor:
    """<g_i, M> for a matrix [K, D + 1]: [n]; one matrix product."""
    return ((x.a @ m[:, :-1]) * x.h).sum(1) + x.a @ m[:, -1]
