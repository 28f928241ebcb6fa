"""Distances of many pairs, a block at a time: an array of all n x n of them is never held.

Each reduction here goes over tiles of ``BLOCK`` x ``BLOCK`` distances and keeps what it needs of each: the smallest, or the k
smallest. Results do not depend on the size of the tiles, and ties go to the lower place.

Distances are sums of differences, not norms less a product: twins are at exactly 0, and large means cost no digits.

    euclidean   || x - y ||
    manhattan   sum_d | x_d - y_d |
    cosine      1 - cos(x, y) = || x / |x| - y / |y| ||^2 / 2      (a zero vector stays zero: 0 from another, 1/2 from the rest)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn.functional import normalize

from attar.errors import UsageError, nearest
from attar.execute.compile import fast, on
from attar.execute.precision import full
from attar.execute.products import precise, product

BLOCK = 1024
"""Rows and columns of one tile of distances."""
FEW = 32
"""Rows whose candidates are held at once."""
WIDE = 4
"""Tiles beside each other that are searched for candidates at once."""
METRICS = ("euclidean", "manhattan", "cosine")


def known(metric: str) -> None:
    """Refuses a metric that is none.

    Raises:
        UsageError: names the nearest.
    """
    if metric not in METRICS:
        raise UsageError(f"metric '{metric}' is unknown; {nearest(metric, METRICS)}")


def tiles(
    x: torch.Tensor, y: torch.Tensor, *, metric: str = "euclidean", block: int | None = None
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """All distances, tile by tile, those of the same rows one after the other from left to right.

    Args:
        x: float [a, D]. y: float [b, D]; both finite.
        block: rows and columns of a tile, :data:`BLOCK` where left out.

    Yields:
        First row, first column, distances [rows, columns].
    """
    known(metric)
    step = block or BLOCK
    for i in range(0, len(x), step):
        for j in range(0, len(y), step):
            yield i, j, distances(x[i : i + step], y[j : j + step], metric=metric)


def distances(x: torch.Tensor, y: torch.Tensor, *, metric: str = "euclidean") -> torch.Tensor:
    """One tile: float [..., a, D], [..., b, D] -> [..., a, b]."""
    if metric == "cosine":
        x, y = unit(x), unit(y)
    d = torch.cdist(x, y, p=1.0 if metric == "manhattan" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")
    return d.square_().div_(2) if metric == "cosine" else d


def to_point(x: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """|| x_i - point || for every row, exactly 0 for equal rows: float [n, D], [D] -> [n]; one pass, no copy.

    Compiled, the pass is as fast as the memory; cdist, which stands for it else, reaches a third of that.
    """
    if on():
        return fast(_to_point, varied=True)(x, point)
    return torch.cdist(x, point[None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]


def _to_point(x: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    return (x - point).square().sum(1).sqrt()


def unit(x: torch.Tensor) -> torch.Tensor:
    """Every row at length 1, zero rows as they are: float [..., D] -> [..., D]."""
    return normalize(x, dim=-1, eps=torch.finfo(x.dtype).tiny)


def closest(
    x: torch.Tensor,
    y: torch.Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    own: torch.Tensor | None = None,
    block: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k nearest of y for every x.

    Where y is large, candidates are found by a matrix product and only these are compared as above; rows for which the
    rounding of the product could have hidden a neighbour are searched in full, so that the result is the same.

    Args:
        x: float [a, D]. y: float [b, D]; both finite.
        k: how many, at least 1.
        own: int64 [a], a place of y that is not counted for each x (itself); -1 for none.

    Returns:
        Places int64 [a, k] by rising distance, ties by place, and distances [a, k]; where there are fewer, -1 and infinity.
    """
    known(metric)
    if not _by_product(x, y, k, metric):
        return searched(x, y, k, metric=metric, own=own, block=block)
    u, v = (unit(x), unit(y)) if metric == "cosine" else (x, y)
    with full(x.device):  # whose rounding is reckoned with
        candidates = _candidates(u, v, wide(k), own, block or BLOCK)
    places, near, sure = _filtered(x, y, *candidates, k, metric)
    rest = torch.nonzero(~sure).flatten()
    if len(rest):
        some = None if own is None else own[rest]
        places[rest], near[rest] = searched(x[rest], y, k, metric=metric, own=some, block=block)
    return places, near


def searched(
    x: torch.Tensor,
    y: torch.Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    own: torch.Tensor | None = None,
    block: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`closest` by comparing every pair."""
    places = torch.full((len(x), k), -1, dtype=torch.int64, device=x.device)
    near = x.new_full((len(x), k), torch.inf)
    for i, j, d in tiles(x, y, metric=metric, block=block):
        rows = slice(i, i + len(d))
        if own is not None:
            _hide(d, own[rows] - j)
        here = torch.arange(j, j + d.shape[1], device=x.device).expand(d.shape)
        best, order = torch.cat([near[rows], d], 1).sort(dim=1, stable=True)  # what stands to the left wins a tie
        near[rows] = best[:, :k]
        places[rows] = torch.cat([places[rows], here], 1).gather(1, order[:, :k])
    return places.masked_fill_(near.isinf(), -1), near


def _by_product(x: torch.Tensor, y: torch.Tensor, k: int, metric: str) -> bool:
    """Whether a matrix product finds candidates whose rounding can be reckoned with, and y is large enough for it."""
    return x.device.type == "cpu" and precise() and metric != "manhattan" and len(y) >= 4 * wide(k)


def wide(k: int) -> int:
    """Candidates for k neighbours."""
    return 2 * k + 16


def _candidates(
    x: torch.Tensor, y: torch.Tensor, m: int, own: torch.Tensor | None, block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The m nearest by || x ||^2 + || y ||^2 - 2 x . y, and what no other place can be nearer than.

    A product of D terms is off by at most D eps | x | | y |, norms and the shift to the mean by less than as much again.

    Returns:
        places int64 [a, m] ascending; squared distance [a] below which there is no other place, rounding taken off.
    """
    middle = y.mean(0)
    u, v = x - middle, y - middle
    uu, vv = u.square().sum(1), v.square().sum(1)
    places, edge = [], []
    for i in range(0, len(u), block):
        rows = slice(i, i + block)
        near = u.new_full((len(u[rows]), m), torch.inf)
        found = torch.zeros(near.shape, dtype=torch.int64)
        for j in range(0, len(v), WIDE * block):
            some = slice(j, j + WIDE * block)
            d = product(u[rows], v[some]).mul_(-2).add_(vv[some])  # uu is the same for all of a row
            if own is not None:
                _hide(d, own[rows] - j)
            near, found = _nearer(near, found, d, j)
        places.append(found.sort(dim=1).values)
        edge.append(near.max(1).values + uu[rows])
    off = 2 * (x.shape[1] + 16) * torch.finfo(x.dtype).eps * (uu.sqrt() + vv.max().sqrt()).square()
    return torch.cat(places), torch.cat(edge) - off


def _nearer(near: torch.Tensor, found: torch.Tensor, d: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The m nearest so far and those of another tile, which seldom has more than a few that are nearer than the m-th.

    Args:
        near: [B, m], infinity where there is none yet. found: int64 [B, m], their places. d: [B, c], of places from ``first`` on.

    Returns:
        near and found, in no order.
    """
    m = near.shape[1]
    row, column = (d < near.max(1, keepdim=True).values).nonzero(as_tuple=True)
    count = row.bincount(minlength=len(d))
    most = int(count.max())
    if 4 * most > d.shape[1]:  # as in the first tile
        near, at = torch.cat([near, d], 1).topk(m, dim=1, largest=False)
        here = torch.arange(first, first + d.shape[1]).expand(d.shape)
        return near, torch.cat([found, here], 1).gather(1, at)
    slot = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
    better, where = d.new_full((len(d), most), torch.inf), found.new_zeros(len(d), most)
    better[row, slot], where[row, slot] = d[row, column], column + first
    near, at = torch.cat([near, better], 1).topk(m, dim=1, largest=False)
    return near, torch.cat([found, where], 1).gather(1, at)


def _filtered(
    x: torch.Tensor, y: torch.Tensor, places: torch.Tensor, edge: torch.Tensor, k: int, metric: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The k nearest of the candidates, and for which rows these are surely the k nearest of all.

    Args:
        x: float [a, D]. y: float [b, D]. places: int64 [a, m] ascending. edge: [a], of :func:`_candidates`.

    Returns:
        places [a, k], distances [a, k], bool [a].
    """
    d = torch.cat([distances(s[:, None], y[p], metric=metric)[:, 0] for s, p in zip(x.split(FEW), places.split(FEW))])
    near, order = d.sort(dim=1, stable=True)
    last = near[:, k - 1] * 2 if metric == "cosine" else near[:, k - 1].square()
    slack = 1 + 4 * (x.shape[1] + 16) * torch.finfo(x.dtype).eps
    return places.gather(1, order[:, :k]), near[:, :k].contiguous(), last * slack < edge


def lowest(
    x: torch.Tensor, y: torch.Tensor, *, metric: str = "euclidean", block: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest of y for every x: places int64 [a], ties to the lower, and distances [a]. Arguments of :func:`closest`."""
    known(metric)
    if _by_product(x, y, 1, metric):
        places, near = closest(x, y, 1, metric=metric, block=block)
        return places[:, 0], near[:, 0]
    places = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    near = x.new_full((len(x),), torch.inf)
    for i, j, d in tiles(x, y, metric=metric, block=block):
        rows = slice(i, i + len(d))
        least, at = d.min(1)
        better = least < near[rows]  # not <=: an earlier tile wins a tie
        near[rows] = torch.where(better, least, near[rows])
        places[rows] = torch.where(better, at + j, places[rows])
    return places, near


def earlier(x: torch.Tensor, *, metric: str = "cosine", block: int | None = None) -> torch.Tensor:
    """The distance of every row to the nearest row before it, infinity for the first: float [n, D] -> [n]."""
    near = x.new_full((len(x),), torch.inf)
    for i, j, d in tiles(x, x, metric=metric, block=block):
        if j < i + len(d):
            row = torch.arange(i, i + len(d), device=x.device)[:, None]
            later = torch.arange(j, j + d.shape[1], device=x.device) >= row
            rows = slice(i, i + len(d))
            near[rows] = torch.minimum(near[rows], d.masked_fill_(later, torch.inf).min(1).values)
    return near


def _hide(d: torch.Tensor, column: torch.Tensor) -> None:
    """Sets one distance of each row to infinity where its column is in the tile; changes ``d``."""
    inside = torch.nonzero((column >= 0) & (column < d.shape[1])).flatten()
    d[inside, column[inside]] = torch.inf
