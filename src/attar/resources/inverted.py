"""Approximate neighbours by an inverted index (library faiss): every vector is filed under the nearest of some centres, and
only the lists of the centres nearest to a query are searched. Josef Sivic and Andrew Zisserman, Video Google, ICCV 2003;
Hervé Jégou, Matthijs Douze and Cordelia Schmid, Product quantization for nearest neighbor search, IEEE TPAMI 2011.

How many lists (``probes``) is not asked of the user but found: on a sample whose neighbours are searched exactly, probes are
doubled until the share that is found reaches what is wanted with two standard errors to spare, or all lists are searched.

A graph of links (HNSW) was measured beside it: 1,000,000 x 64 took more than 13 minutes on one thread, and several threads give
other links in every run; lists are the same whatever the threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from attar.errors import ResourceError
from attar.execute import pairs

QUERIES = 1000
"""Examples whose neighbours are searched exactly, at most."""
TRAINED = 64
"""Vectors a centre that the centres are fitted to."""
ROUNDS = 10
"""Rounds of k-means."""


class Inverted:
    """An index of n vectors.

    Args:
        x: float32 [n, D], finite. k: neighbours. metric: of :mod:`attar.execute.pairs`.
        recall: the share of the k nearest that is wanted, in (0, 1].
        seed: of the centres and of the sample.
    """

    def __init__(self, x: torch.Tensor, k: int, *, metric: str, recall: float, seed: int) -> None:
        self.x, self.k, self.metric = x, k, metric
        self.library = library()
        self.y = (pairs.unit(x) if metric == "cosine" else x).contiguous().numpy()
        self.index = self._filed(seed)
        self.index.nprobe = self.probes = self._probes(recall, seed)

    def _filed(self, seed: int) -> Any:
        """All vectors under about 2 sqrt(n) centres."""
        faiss, (n, width) = self.library, self.y.shape
        kind = faiss.METRIC_L1 if self.metric == "manhattan" else faiss.METRIC_L2
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, centres(n), kind)
        how = index.cp
        how.seed, how.niter, how.max_points_per_centroid, how.min_points_per_centroid = seed % 2**31, ROUNDS, TRAINED, 1
        with self._threads(1):  # rounding of the centres would follow the number of threads
            index.train(self.y)
        with self._threads(torch.get_num_threads()):
            index.add(self.y)
        return index

    def _probes(self, recall: float, seed: int) -> int:
        """The least power of two at which the sample's recall suffices."""
        g = torch.Generator().manual_seed(seed)
        some = torch.randperm(len(self.x), generator=g)[:QUERIES]
        near = pairs.closest(self.x[some], self.x, self.k, metric=self.metric, own=some)[1]  # [Q, k]
        wanted = near.isfinite().sum(1).clamp(min=1)
        kth = near.masked_fill(near.isinf(), 0).max(1, keepdim=True).values
        probes = 1
        while probes < self.index.nlist:
            self.index.nprobe = probes
            places, far = self.nearest(some)
            share = ((places >= 0) & (far <= kth * (1 + 1e-5))).sum(1) / wanted  # the last bits may differ
            spare = 2 * float(share.std()) / len(some) ** 0.5 if len(some) > 1 else 0.0
            if float(share.mean()) - spare >= recall:
                break
            probes = min(2 * probes, self.index.nlist)
        return probes

    def nearest(self, some: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The k nearest of all but itself that the lists hold, by rising distance, then by place.

        Args:
            some: int64 [B], places of the queries.

        Returns:
            Places int64 [B, k], -1 where there are fewer, and distances [B, k], infinity there; computed as exact search does.
        """
        with self._threads(torch.get_num_threads()):
            found = self.index.search(self.y[some.numpy()], min(self.k + 1, len(self.y)))[1]
        return self._ordered(some, torch.from_numpy(np.sort(found, axis=1)))

    def _ordered(self, some: torch.Tensor, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Found places [B, c], ascending, by rising distance; itself dropped."""
        k = self.k
        places, near = torch.full((len(some), k), -1), torch.full((len(some), k), torch.inf)
        for i in range(0, len(some), pairs.FEW):
            here, there = some[i : i + pairs.FEW, None], found[i : i + pairs.FEW]
            d = pairs.distances(self.x[here], self.x[there.clamp(min=0)], metric=self.metric)[:, 0]  # [B, c]
            d, order = d.masked_fill_((there < 0) | (there == here), torch.inf).sort(dim=1, stable=True)
            d, order = d[:, :k], order[:, :k]
            places[i : i + pairs.FEW, : d.shape[1]] = there.gather(1, order).masked_fill_(d.isinf(), -1)
            near[i : i + pairs.FEW, : d.shape[1]] = d
        return places, near

    @contextmanager
    def _threads(self, n: int) -> Iterator[None]:
        """The library's number of threads inside the block."""
        before = self.library.omp_get_max_threads()
        self.library.omp_set_num_threads(n)
        try:
            yield
        finally:
            self.library.omp_set_num_threads(before)


def centres(n: int) -> int:
    """Lists for n vectors: finding them and searching them cost alike."""
    return max(1, min(n, int(2 * n**0.5)))


def library() -> Any:
    """The library of approximate search.

    Raises:
        ResourceError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as e:
        raise ResourceError(
            f"approximate neighbours need faiss, which cannot be imported ({e}); pip install 'attar[ann]', or use "
            "search=exact"
        ) from e
