"""The graph of nearest neighbours: for every real example the k examples whose features are nearest.

Exact search compares blocks of rows and is resumed after any block. Approximate search builds an index (Malkov and
Yashunin, Efficient and robust approximate nearest neighbor search using hierarchical navigable small world graphs, IEEE
TPAMI 2020; library faiss), one class or the whole set a step, and measures what it misses.

    recall = the share of the k nearest that were found, over at most 1,000 random examples
             (found: not farther than the k-th nearest, so that ties count)
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, ResourceError, UsageError, nearest
from attar.execute import pairs
from attar.method import Batch, Cost, Descend, Resources, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.resources.resource import Resource
from attar.seeds import Seeds

SEARCHES = ("exact", "approximate")
ROWS = 1024
"""Rows of one step of exact search."""
SOME = 64
"""Examples whose found neighbours are held at once."""
QUERIES = 1000
"""Examples whose neighbours are searched exactly to measure recall."""
LINKS, BUILD = 32, 128
"""Links of a node of the index, and the width of the search when it is built."""


@dataclass(frozen=True, kw_only=True)
class Graph(Resource):
    """k nearest neighbours: ``ids`` int32 [N, k] (rows of the real set), ``distances`` float32 [N, k], ``recall`` [1].

    Nearest first, ties by id, itself left out. Where there are fewer than k others, ids are -1 and distances 0.

    Cost: exact, a distance of every pair, 3 N^2 D at most; approximate, about N log N of them. 8 N k bytes, one tile of
    distances, one copy of a group's features.
    """

    k: int = 10
    "Neighbours of every example."
    metric: str = "euclidean"
    "euclidean, manhattan or cosine."
    within: bool = False
    "Neighbours of the same class alone."
    search: str = "exact"
    "exact, or approximate (needs faiss)."
    source: str = "pixels"
    "pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."

    name: ClassVar[str] = "graph"

    def __post_init__(self) -> None:
        positive(k=self.k)
        pairs.known(self.metric)
        if self.search not in SEARCHES:
            raise UsageError(f"search '{self.search}' is unknown; {nearest(self.search, SEARCHES)}")
        features = Features(source=self.source, net=self.net, epochs=self.epochs)
        object.__setattr__(self, "net", features.net)  # cleared where they do not concern the source
        object.__setattr__(self, "epochs", features.epochs)

    def needs(self) -> tuple[Features, ...]:
        """The features."""
        return (Features(source=self.source, net=self.net or "convnet", epochs=self.epochs or 10),)

    def length(self, real: RealSet) -> int:
        """A block of rows a step; approximate: a group a step, and one that measures recall."""
        if self.search == "approximate":
            return len(parts(real, self.within)) + 1
        return sum(-(-len(rows) // ROWS) for rows in parts(real, self.within))

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Room for all rows; refuses features that are not finite.

        Raises:
            DataError: names the first row.
            ResourceError: approximate search without faiss.
        """
        if self.search == "approximate":
            library()
        bad = torch.nonzero(~res["features"]["features"].isfinite().all(1)).flatten()
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"the features of the example with id {int(real.ids[row])} (row {row} of {real.name}) are not finite, "
                f"and so for {len(bad)} of {len(real)} examples; mend or drop it, or use other features"
            )
        return {
            "ids": torch.full((len(real), self.k), -1, dtype=torch.int32),
            "distances": torch.zeros(len(real), self.k),
            "recall": torch.ones(1),
        }

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """The neighbours of one block: ``rows`` [B], ``ids`` [B, k], ``distances`` [B, k]; or the queries of recall."""
        groups = parts(real, self.within)
        if self.search == "approximate":
            return self._approximate(real, groups, seeds, res, step)
        for rows in groups:
            steps = -(-len(rows) // ROWS)
            if step < steps:
                return self._exact(res, rows, torch.arange(step * ROWS, min(step * ROWS + ROWS, len(rows))))
            step -= steps
        raise AssertionError("a step beyond the length")

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """Writes the block into its rows, or the recall."""
        if "kth" in batch:
            found, kth = state["distances"][batch["rows"]], batch["kth"]
            counted = (state["ids"][batch["rows"]] >= 0) & (found <= kth * (1 + 1e-5))  # the last bits may differ
            state["recall"][0] = counted.sum() / batch["wanted"].sum().clamp(min=1)
            return state
        state["ids"][batch["rows"]] = batch["ids"].int()
        state["distances"][batch["rows"]] = batch["distances"].float()
        return state

    def finish(self, state: State, res: Resources) -> State:
        """All of it."""
        return dict(state)

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """A block against its group; the neighbours, a tile with its sort, some copies of the largest group, candidates."""
        width, largest = self.needs()[0].width(real), max(len(rows) for rows in parts(real, self.within))
        block = min(ROWS, largest)
        tile = 32.0 * block * (min(pairs.WIDE * pairs.BLOCK, largest) + self.k)
        kept, held = 8.0 * len(real) * self.k, 4 * largest + pairs.FEW * pairs.wide(self.k)
        return Cost(flops_per_step=3.0 * block * largest * width, memory=kept + tile + 4.0 * width * held)

    def _exact(self, res: Resources, rows: torch.Tensor, some: torch.Tensor) -> Batch:
        """Searches ``some`` places [B] of a group of rows [n] in the whole group."""
        x = res["features"]["features"][rows]  # [n, D]
        places, near = pairs.closest(x[some], x, self.k, metric=self.metric, own=some)
        absent = places < 0
        ids = rows[places.clamp(min=0)].masked_fill_(absent, -1)
        return {"rows": rows[some], "ids": ids, "distances": near.masked_fill_(absent, 0.0)}

    def _approximate(self, real: RealSet, groups: list[torch.Tensor], seeds: Seeds, res: Resources, step: int) -> Batch:
        """One group by the index; at the last step the distances of the k-th nearest of the queries."""
        if step < len(groups):
            return self._indexed(res, groups[step])
        chosen = torch.randperm(len(real), generator=seeds.generator("recall"))[:QUERIES]
        found = []
        for rows in groups:
            some = torch.nonzero(torch.isin(rows, chosen)).flatten()
            if len(some):
                found.append(self._exact(res, rows, some))
        there = torch.cat([b["ids"] for b in found]) >= 0  # [Q, k]
        kth = torch.cat([b["distances"] for b in found]).max(1, keepdim=True).values  # [Q, 1]
        return {"rows": torch.cat([b["rows"] for b in found]), "kth": kth, "wanted": there}

    def _indexed(self, res: Resources, rows: torch.Tensor) -> Batch:
        """Neighbours in a group [n] by an index; distances are computed again as exact search does."""
        faiss, x = library(), res["features"]["features"][rows].float()  # [n, D]
        y = (pairs.unit(x) if self.metric == "cosine" else x).contiguous().numpy()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # several link the nodes in the order in which they happen to come
        try:
            index = faiss.IndexHNSWFlat(
                y.shape[1], LINKS, faiss.METRIC_L1 if self.metric == "manhattan" else faiss.METRIC_L2
            )
            index.hnsw.efConstruction, index.hnsw.efSearch = BUILD, max(BUILD, 4 * self.k)
            index.add(y)
            found = torch.from_numpy(index.search(y, min(self.k + 1, len(y)))[1])  # [n, <= k + 1], itself among them
        finally:
            faiss.omp_set_num_threads(threads)
        return self._ordered(x, rows, found)

    def _ordered(self, x: torch.Tensor, rows: torch.Tensor, found: torch.Tensor) -> Batch:
        """Found places [n, c] by rising distance, then by place, itself dropped."""
        n, k = len(rows), self.k
        found = found.sort(dim=1).values  # by place, so that the stable sort below breaks ties by it
        ids, near = torch.full((n, k), -1), torch.zeros(n, k)
        for i in range(0, n, SOME):
            places, here = found[i : i + SOME], torch.arange(i, min(i + SOME, n))[:, None]
            d = pairs.distances(x[here], x[places.clamp(min=0)], metric=self.metric)[:, 0]  # [B, c]
            d, order = d.masked_fill_((places < 0) | (places == here), torch.inf).sort(dim=1, stable=True)
            d, order = d[:, :k], order[:, :k]
            absent = d.isinf()
            ids[i : i + SOME, : d.shape[1]] = rows[places.gather(1, order).clamp(min=0)].masked_fill_(absent, -1)
            near[i : i + SOME, : d.shape[1]] = d.masked_fill_(absent, 0.0)
        return {"rows": rows, "ids": ids, "distances": near}


@lru_cache(maxsize=4)
def parts(real: RealSet, within: bool) -> list[torch.Tensor]:
    """Rows that can be neighbours of each other, in the order of their ids: of each class, or all; int64 [n] each."""
    whole = within and real.n_classes
    kinds = real.classes if whole else (torch.arange(len(real)),)
    return [rows[real.ids[rows].argsort()] for rows in kinds if len(rows)]


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
