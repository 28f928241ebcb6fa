"""Similarities between the examples of a group, row by row: stored once where they fit, else computed block by block.

The convention of all methods here, which is also what their recipes name:

    s_ij = 1/2 + 1/2 cos(x_i, x_j)      in [0, 1]

An example whose features are all 0 has no direction: its product with any other, and with itself, counts as 0, so s = 1/2.
With z = [x / || x ||, 1] / sqrt(2) a similarity is a product of two vectors, s_ij = z_i . z_j, and sums of similarities
are products with a sum of vectors: no table of n x n numbers is needed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch

CONVENTION = "0.5 + 0.5 cosine"
"""How the convention is named in recipes."""
BLOCK = 1 << 20
"""Similarities in one block of a reduction: 4 MB, which caches hold."""
STRIP = 1024
"""Rows of one matrix product while a table is filled."""


Epilogue = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""What becomes of a block of similarities before it is summed, in place: [c, m], [m] -> [c, m]."""


class Similarity(Protocol):
    """Similarities s_ij >= 0 between n examples, s_ij = s_ji."""

    def __len__(self) -> int:
        """n."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they are computed."""
        ...

    def rows(self, places: torch.Tensor, columns: slice) -> torch.Tensor:
        """s_ij for i in places and j in columns: int64 [b] -> float [b, c], the caller's own."""
        ...

    def sums(self) -> torch.Tensor:
        """sum_i s_ij for every j: float64 [n]."""
        ...


class Cosine:
    """1/2 + 1/2 cos, computed when asked for."""

    def __init__(self, features: torch.Tensor) -> None:
        """Takes float [n, D], finite, any lengths; keeps a lifted copy [n, D + 1]."""
        self.z = lifted(features)

    def __len__(self) -> int:
        return len(self.z)

    @property
    def device(self) -> torch.device:
        """Where they are computed."""
        return self.z.device

    def rows(self, places: torch.Tensor, columns: slice) -> torch.Tensor:
        """[b, c]; 2 b c D operations."""
        return self.z[places] @ self.z[columns].T

    def sums(self) -> torch.Tensor:
        """[n]; one product with the sum of all vectors, O(n D)."""
        return (self.z @ self.z.sum(0, dtype=torch.float64).to(self.z.dtype)).double()


class Table:
    """Similarities of any kind, stored: 4 n^2 bytes for float32."""

    def __init__(self, source: Similarity) -> None:
        """Computes the upper half, strip by strip, and mirrors it."""
        n = len(source)
        self.s = torch.empty(0)
        for start in range(0, n, STRIP):
            stop = min(start + STRIP, n)
            strip = source.rows(torch.arange(start, stop, device=source.device), slice(start, n))  # [b, n - start]
            if start == 0:
                self.s = strip.new_empty(n, n)
            self.s[start:stop, start:] = strip
            self.s[stop:, start:stop] = strip[:, stop - start :].T

    def __len__(self) -> int:
        return len(self.s)

    @property
    def device(self) -> torch.device:
        """Where they are stored."""
        return self.s.device

    def rows(self, places: torch.Tensor, columns: slice) -> torch.Tensor:
        """[b, c], copied."""
        return self.s[:, columns].index_select(0, places)

    def sums(self) -> torch.Tensor:
        """[n]."""
        return self.s.sum(1).double()


def stored(source: Similarity, room: float) -> Similarity:
    """The similarities as a table where it fits into ``room`` bytes, else as they are."""
    return Table(source) if 4.0 * len(source) ** 2 <= room else source


def lifted(features: torch.Tensor) -> torch.Tensor:
    """[x / || x ||, 1] / sqrt(2), so that products are similarities: float [n, D] -> [n, D + 1].

    Lengths are scaled by the largest entry first, so that neither huge nor tiny vectors lose their direction.
    """
    z = features.new_empty(len(features), features.shape[1] + 1)
    x = z[:, :-1]
    largest = torch.linalg.vector_norm(features, ord=torch.inf, dim=1, keepdim=True)  # [n, 1]
    torch.div(features, torch.where(largest > 0, largest, 1), out=x)
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x /= torch.where(length > 0, length, 1)
    z[:, -1] = 1
    return z.mul_(0.5**0.5)


def reduced(
    similarity: Similarity, places: torch.Tensor, level: torch.Tensor, epilogue: Epilogue, block: int = BLOCK
) -> torch.Tensor:
    """sum over all i of epilogue(s_ij, level_i) for each j of ``places``; never more than ``block`` similarities at once.

    Args:
        places: int64 [b].
        level: [n], what the epilogue compares with.
        epilogue: works in place: similarities [c, m], level [m] -> [c, m].
        block: similarities in one block, at least 1.

    Returns:
        float64 [b].
    """
    places = places.to(similarity.device)
    total = torch.zeros(len(places), dtype=torch.float64, device=similarity.device)
    for rows, columns in _tiles(len(places), len(similarity), block):
        part = epilogue(similarity.rows(places[rows], columns), level[columns])
        total[rows] += part.sum(1)
    return total


def _tiles(rows: int, columns: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Covers rows x columns, each number once, by tiles of at most ``block`` numbers."""
    tall = max(1, min(rows, int(block**0.5)))
    wide = max(1, block // tall)
    for top in range(0, rows, tall):
        for left in range(0, columns, wide):
            yield slice(top, min(top + tall, rows)), slice(left, min(left + wide, columns))
