"""Similarities between the examples of a group, row by row: stored once where they fit, else computed block by block.

The convention of all methods here, which is also what their recipes name:

    s_ij = 1/2 + 1/2 cos(x_i, x_j)      in [0, 1]

An example whose features are all 0 has no direction: its product with any other, and with itself, counts as 0, so s = 1/2.
With z = [x / || x ||, 1] / sqrt(2) a similarity is a product of two vectors, s_ij = z_i . z_j, and sums of similarities
are products with a sum of vectors: no table of n x n numbers is needed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Protocol

import torch

from attar.errors import UsageError, nearest
from attar.execute.compile import fast, on
from attar.execute.products import product

CONVENTION = "0.5 + 0.5 cosine"
"""How the convention is named in recipes."""
BLOCK = 1 << 20
"""Similarities in one block of a reduction: 4 MB, which caches hold."""
STRIP = 1024
"""Rows of one matrix product while a table is filled."""
KINDS = ("float32", "bfloat16")
"""What similarities may be computed and stored in."""


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

    def __init__(self, features: torch.Tensor, kind: str = "float32") -> None:
        """Takes float [n, D], finite, any lengths; keeps a lifted copy [n, D + 1].

        Args:
            features: of the examples.
            kind: ``bfloat16`` rounds the vectors and their products to it; ``float32`` leaves them as they are.
        """
        z = lifted(features)
        self.z = z.bfloat16() if kind == "bfloat16" else z

    def __len__(self) -> int:
        return len(self.z)

    @property
    def device(self) -> torch.device:
        """Where they are computed."""
        return self.z.device

    def rows(self, places: torch.Tensor, columns: slice) -> torch.Tensor:
        """[b, c]; 2 b c D operations."""
        return product(self.z[places], self.z[columns])

    def sums(self) -> torch.Tensor:
        """[n]; one product with the sum of all vectors, O(n D); all pairs in bfloat16."""
        if self.z.dtype == torch.bfloat16:  # rounded products can add up to more than this product
            return whole_sums(self)
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
        return whole_sums(self) if self.s.dtype == torch.bfloat16 else self.s.sum(1).double()


def known(kind: str) -> None:
    """Refuses what similarities cannot be stored in.

    Raises:
        UsageError: names what can be.
    """
    if kind not in KINDS:
        raise UsageError(f"similarities '{kind}' are unknown; {nearest(kind, KINDS)}")


def table_bytes(n: int, room: float, kind: str = "float32") -> float:
    """Bytes of the table of n examples where it fits into ``room``, else 0: it is not made then."""
    size = (2.0 if kind == "bfloat16" else 4.0) * n**2
    return size if size <= room else 0.0


def stored(source: Similarity, room: float, kind: str = "float32") -> Similarity:
    """The similarities as a table where it fits into ``room`` bytes, else as they are."""
    return Table(source) if table_bytes(len(source), room, kind) else source


def whole_sums(similarity: Similarity) -> torch.Tensor:
    """sum_i s_ij for every j by a look at all pairs: float64 [n]."""
    everyone = torch.arange(len(similarity), device=similarity.device)
    return reduced(similarity, everyone, torch.zeros(len(everyone), device=similarity.device), _as_they_are)


def _as_they_are(s: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    return s


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

    Compiled, rows of a table are read once, where the plain way writes and reads them four times.

    Returns:
        float64 [b].
    """
    places = places.to(similarity.device)
    if isinstance(similarity, Table) and on():
        return fast(_at_once(epilogue), varied=True)(similarity.s, places, level).double()
    total = torch.zeros(len(places), dtype=torch.float64, device=similarity.device)
    for rows, columns in _tiles(len(places), len(similarity), block):
        part = epilogue(similarity.rows(places[rows], columns), level[columns])
        total[rows] += part.sum(1, dtype=torch.promote_types(part.dtype, torch.float32))
    return total


@lru_cache(maxsize=8)
def _at_once(epilogue: Epilogue) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """The reduction of whole rows of a table; one function for an epilogue, so that it is compiled once."""

    def total(s: torch.Tensor, places: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        part = epilogue(s.index_select(0, places), level)
        return part.sum(1, dtype=torch.promote_types(part.dtype, torch.float32))

    return total


def _tiles(rows: int, columns: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Covers rows x columns, each number once, by tiles of at most ``block`` numbers."""
    tall = max(1, min(rows, int(block**0.5)))
    wide = max(1, block // tall)
    for top in range(0, rows, tall):
        for left in range(0, columns, wide):
            yield slice(top, min(top + tall, rows)), slice(left, min(left + wide, columns))
