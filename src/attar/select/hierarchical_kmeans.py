"""Hierarchical k-means. Huy Vo, Vasil Khalidov, Timothee Darcet and others, Automatic data curation for self-supervised
learning: A clustering-based approach, TMLR 2024, arXiv 2405.15613.

k-means puts many centres where examples are dense. Clusters of its centres are spread more evenly, and clusters of those
still more; to take the same number of each cluster from the top down takes few of what is common, more of what is rare.

    level 1   n / fan clusters of the examples;   level l   clusters of the centres of level l - 1, a fan-th as many
    top down  k_child = min(size_child, x) with the one x for which sum k_child = k of the node (water filling)
    leaves    the nearest to the centre, the farthest, or random ones

Children take turns: the order in which they give one example after the other holds every smaller budget, and its first
k are those of water filling with k. So the budget is not divided at all; the order is made once, and is nested.

Differs from the official method, which clusters each level again on points drawn from its clusters; written from the paper.
A level of more than 50,000 nodes is clustered in mini-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import UsageError, nearest
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.clusters import from_centre, partition
from attar.select.hashed import keys, smallest
from attar.select.pick import Picks, features_of, groups, pick, rows_of

TAKE = ("nearest", "farthest", "random")


@dataclass(frozen=True, kw_only=True)
class HierarchicalKMeans(Method):
    """The same number of every concept, concepts being clusters of clusters. Nested in the budget.

    ``gain`` is the distance of a pick from the centre of its leaf.

    Cost: O(n^2 D / fan) a round of the lowest k-means, at most ``rounds``; three copies of one group's features, O(n D).

    Example:
        >>> attar.select("photos/", method="hierarchical-kmeans", keep=0.3, features="trained")
    """

    balanced: bool = False
    "Same number of every class, clusters inside each class; else one pool, as in the paper."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    levels: int = 3
    "Levels of clusters; fewer where a level would be one cluster."
    fan: int = 10
    "Children of a node, on average."
    take: str = "random"
    "What a leaf gives first: nearest (to its centre), farthest or random."
    rounds: int = 50
    "Most iterations of k-means."

    paper: ClassVar[str] = "Vo et al., Automatic data curation for self-supervised learning, TMLR 2024"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(levels=self.levels, rounds=self.rounds)
        if self.fan < 2:
            raise UsageError(f"fan={self.fan} makes no level smaller than the one below; it must be at least 2")
        if self.take not in TAKE:
            raise UsageError(f"take '{self.take}' is unknown; {nearest(self.take, TAKE)}")
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = features_of(real, res, rows)  # [n, D]
            centres, tree = self._tree(x, seeds.at("kmeans", group))
            far = from_centre(x, centres, tree[0])
            first = self._first(real, rows, far, seeds)
            places = torch.tensor(turns(tree, first)[:k])
            return Picks(places, far[places])

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks as the clusters take turns."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """The lowest k-means, a product and a sum a round; the features of the largest group and its centres."""
        n, width = max(len(g) for g in groups(real, self.balanced)), self.needs()[0].width(real)
        leaves = -(-n // self.fan)
        memory = 8.0 * width * (n + leaves) + 32.0 * n  # k-means copies what it is given
        return Cost(flops_per_step=4.0 * self.rounds * len(real) * leaves * width, memory=memory)

    def _tree(self, x: torch.Tensor, seeds: Seeds) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The centres of the leaves, and for each level the cluster of each node below: int64 [n], [c1], [c2] ..."""
        leaves, below, tree = x[:0], x, []
        for level in range(self.levels):
            k = -(-len(below) // self.fan)
            below, members = partition(below, k, seeds.number(level) % 2**32, rounds=self.rounds)
            tree.append(members)
            leaves = below if level == 0 else leaves
            if k == 1:
                break
        return leaves, tree

    def _first(self, real: RealSet, rows: torch.Tensor, far: torch.Tensor, seeds: Seeds) -> torch.Tensor:
        """All places in the order in which a leaf gives its own: int64 [n]."""
        if self.take == "random":
            return smallest(keys(real.ids[rows].numpy(), seeds.number("order")), len(rows))
        return far.argsort(descending=self.take == "farthest", stable=True)


def turns(tree: list[torch.Tensor], first: torch.Tensor) -> list[int]:
    """All places in the order of water filling from the top of a tree down.

    Args:
        tree: for each level, from the leaves up, the cluster of each node below; clusters of the last hang from the root.
        first: int64 [n], all places in the order in which a leaf gives its own.
    """
    nodes = [[i] for i in range(len(first))]
    order: list[int] = first.tolist()
    for members in tree:
        above: list[list[list[int]]] = [[] for _ in range(int(members.max()) + 1)]
        for node in order:
            above[int(members[node])].append(nodes[node])
        nodes = [_alternate(children) for children in above]
        order = list(range(len(nodes)))
    return _alternate(nodes)


def _alternate(children: list[list[int]]) -> list[int]:
    """The first of each, then the second of each that has one, and so on."""
    longest = max((len(c) for c in children), default=0)
    return [c[r] for r in range(longest) for c in children if r < len(c)]
