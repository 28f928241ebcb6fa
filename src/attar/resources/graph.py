"""The graph of nearest neighbours: for every real example the k examples whose features are nearest.

Exact search compares blocks of rows; approximate search asks an index (:mod:`attar.resources.inverted`) for them, and measures
at the end what it missed. Both are resumed after any block.

    recall = the share of the k nearest that were found, over at most 1,000 random examples
             (found: not farther than the k-th nearest, so that ties count)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError, nearest
from attar.execute import pairs
from attar.method import Batch, Cost, Descend, Resources, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.resources.inverted import QUERIES, Inverted, centres, library
from attar.resources.resource import Resource
from attar.seeds import Seeds

SEARCHES = ("exact", "approximate")
ROWS, MANY = 1024, 1 << 16
"""Rows of one step of exact and of approximate search."""
PROBED = 8
"""Lists that are searched for a row, in estimates."""

LONGEST = 1e18
"""Vectors of this length have squares that float32 does not hold."""


@dataclass(frozen=True, kw_only=True)
class Graph(Resource):
    """k nearest neighbours: ``ids`` int32 [N, k] (rows of the real set), ``distances`` float32 [N, k], ``recall`` [1].

    Nearest first, ties by id, itself left out. Where there are fewer than k others, ids are -1 and distances 0.

    Cost: exact, a distance of every pair, 3 N^2 D at most; approximate, about 4 N^1.5 of them, more where neighbours are hard
    to find. 8 N k bytes, one tile of distances, one copy of a group's features, approximate another.
    """

    k: int = 10
    "Neighbours of every example."
    metric: str = "euclidean"
    "euclidean, manhattan or cosine."
    within: bool = False
    "Neighbours of the same class alone."
    search: str = "exact"
    "exact, or approximate (needs faiss)."
    recall: float = 0.95
    "Share of the nearest that approximate search is to find at least."
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
        if not 0 < self.recall <= 1:
            raise UsageError(f"recall={self.recall} is a share and must be above 0 and at most 1; try 0.95")
        if self.search == "exact":
            object.__setattr__(self, "recall", 1.0)
        features = Features(source=self.source, net=self.net, epochs=self.epochs)
        object.__setattr__(self, "net", features.net)  # cleared where they do not concern the source
        object.__setattr__(self, "epochs", features.epochs)

    def needs(self) -> tuple[Features, ...]:
        """The features."""
        return (Features(source=self.source, net=self.net or "convnet", epochs=self.epochs or 10),)

    def length(self, real: RealSet) -> int:
        """A block of rows a step; approximate: larger ones, and a step that measures recall."""
        blocks = sum(-(-len(rows) // self._height) for rows in parts(real, self.within))
        return blocks + (self.search == "approximate")

    @property
    def _height(self) -> int:
        return ROWS if self.search == "exact" else MANY

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Room for all rows; refuses features that are not finite.

        Raises:
            DataError: names the first row.
            ResourceError: approximate search without faiss.
        """
        if self.search == "approximate":
            library()
        length = torch.linalg.vector_norm(res["features"]["features"].float(), dim=1)
        bad = torch.nonzero(~(length < LONGEST)).flatten()  # not >=: NaN too
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"the features of the example with id {int(real.ids[row])} (row {row} of {real.name}) are not finite "
                f"or longer than {LONGEST:g}, and so for {len(bad)} of {len(real)}; mend or drop it, or use other features"
            )
        return {
            "ids": torch.full((len(real), self.k), -1, dtype=torch.int32),
            "distances": torch.zeros(len(real), self.k),
            "recall": torch.ones(1),
        }

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """The neighbours of one block: ``rows`` [B], ``ids`` [B, k], ``distances`` [B, k]; or the queries of recall."""
        groups, height = parts(real, self.within), self._height
        for rows in groups:
            steps = -(-len(rows) // height)
            if step < steps:
                some = torch.arange(step * height, min(step * height + height, len(rows)))
                return self._exact(res, rows, some) if self.search == "exact" else self._found(res, seeds, rows, some)
            step -= steps
        return self._queries(real, groups, seeds, res)

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
        """A block against its group; the neighbours, a tile with its sort, some copies of the largest group, candidates.

        Approximate, a block against the centres and eight lists; the vectors once more in the lists.
        """
        width, largest = self.needs()[0].width(real), max(len(rows) for rows in parts(real, self.within))
        rough = self.search == "approximate"
        block = min(self._height, largest)
        seen = min(largest, centres(largest) + PROBED * largest // centres(largest)) if rough else largest
        tile = 32.0 * min(block, ROWS) * (min(pairs.WIDE * pairs.BLOCK, largest) + self.k)
        kept, held = 8.0 * len(real) * self.k, (4 + rough) * largest + pairs.FEW * pairs.wide(self.k)
        own = 32.0 * block * (self.k + 1) if rough else 0.0  # what is found of a block
        return Cost(flops_per_step=3.0 * block * seen * width, memory=kept + tile + own + 4.0 * width * held)

    def _exact(self, res: Resources, rows: torch.Tensor, some: torch.Tensor) -> Batch:
        """Searches ``some`` places [B] of a group of rows [n] in the whole group."""
        x = res["features"]["features"][rows]  # [n, D]
        places, near = pairs.closest(x[some], x, self.k, metric=self.metric, own=some)
        absent = places < 0
        ids = rows[places.clamp(min=0)].masked_fill_(absent, -1)
        return {"rows": rows[some], "ids": ids, "distances": near.masked_fill_(absent, 0.0)}

    def _found(self, res: Resources, seeds: Seeds, rows: torch.Tensor, some: torch.Tensor) -> Batch:
        """Searches ``some`` places [B] of a group of rows [n] by its index."""
        index = self._indexed(res["features"]["features"], rows, seeds)
        places, near = index.nearest(some)
        absent = places < 0
        ids = rows[places.clamp(min=0)].masked_fill_(absent, -1)
        return {"rows": rows[some], "ids": ids, "distances": near.masked_fill_(absent, 0.0)}

    def _indexed(self, features: torch.Tensor, rows: torch.Tensor, seeds: Seeds) -> Inverted:
        """The index of a group, made again for another group or after a restart: the same, whatever the step."""
        if not (_HELD and _HELD[0][:2] == (self, id(features)) and torch.equal(_HELD[0][2], rows)):
            _HELD.clear()
            seed = Seeds(seeds.run).number("index", int(rows[0]))
            index = Inverted(features[rows].float(), self.k, metric=self.metric, recall=self.recall, seed=seed)
            _HELD.append((self, id(features), rows, index, features))  # held: no other tensor takes its id meanwhile
        return _HELD[0][3]

    def _queries(self, real: RealSet, groups: list[torch.Tensor], seeds: Seeds, res: Resources) -> Batch:
        """The distances of the k-th nearest of the examples on which recall is measured."""
        _HELD.clear()
        chosen = torch.randperm(len(real), generator=seeds.generator("recall"))[:QUERIES]
        found = []
        for rows in groups:
            some = torch.nonzero(torch.isin(rows, chosen)).flatten()
            if len(some):
                found.append(self._exact(res, rows, some))
        there = torch.cat([b["ids"] for b in found]) >= 0  # [Q, k]
        kth = torch.cat([b["distances"] for b in found]).max(1, keepdim=True).values  # [Q, 1]
        return {"rows": torch.cat([b["rows"] for b in found]), "kth": kth, "wanted": there}


_HELD: list[tuple[Graph, int, torch.Tensor, Inverted, torch.Tensor]] = []
"""The index at work, if any: of which graph, features and rows."""


@lru_cache(maxsize=4)
def parts(real: RealSet, within: bool) -> list[torch.Tensor]:
    """Rows that can be neighbours of each other, in the order of their ids: of each class, or all; int64 [n] each."""
    whole = within and real.n_classes
    kinds = real.classes if whole else (torch.arange(len(real)),)
    return [rows[real.ids[rows].argsort()] for rows in kinds if len(rows)]
