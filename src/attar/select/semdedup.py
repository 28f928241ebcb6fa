"""SemDeDup. Amro Abbas, Kushal Tirumala, Daniel Simig, Surya Ganguli and Ari Morcos, SemDeDup: Data-efficient learning at
web-scale through semantic deduplication, 2023, arXiv 2303.09540.

Examples with nearly the same meaning are kept once. Similar examples share a cluster, so that they are only looked for
there; in each cluster the examples stand in an order, and one goes where it is too similar to one before it.

    order   by cosine distance from the centre, falling (hard: the odd one stays), rising (easy), or by chance
    M_j     = max over i before j in its cluster of cos(x_i, x_j)
    drop j where M_j > threshold;  for a budget of k, the threshold that leaves k: keep the k with the smallest M_j

Differs from the official code: distances are searched in tiles and not as a matrix of a whole cluster; clusters have about
``per_cluster`` examples each in place of a number of clusters for one data set. As there, an example goes also when the one that
it resembles has gone itself, so that of a long chain the first alone remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError, nearest
from attar.execute import pairs
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.clusters import partition
from attar.select.hashed import keys, smallest
from attar.select.pick import Picks, features_of, groups, pick, rows_of

STAYS = ("hard", "easy", "random")


@dataclass(frozen=True, kw_only=True)
class SemDeDup(Method):
    """Drops the nearest duplicates first. Nested in the budget.

    ``gain`` is 1 - M, the cosine distance from the nearest example before; 2 for the first of a cluster.

    Cost: O(n c D) a round of k-means with c clusters, then n ``per_cluster`` distances; four copies of a group, O(n D).

    Example:
        >>> attar.select("photos/", method="semdedup", keep=0.5, features="trained")
    """

    balanced: bool = False
    "Same number of every class, duplicates looked for inside each class; else one pool, as in the paper."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    per_cluster: int = 1000
    "Examples of a cluster, on average."
    stays: str = "hard"
    "Which of some duplicates stays: hard (far from the centre), easy (near to it) or random."
    threshold: float | None = None
    "Cosine similarity above which an example is a duplicate that never stays; by default the budget decides alone."
    rounds: int = 100
    "Most iterations of k-means."

    paper: ClassVar[str] = "Abbas, Tirumala, Simig, Ganguli and Morcos, SemDeDup, 2023"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(per_cluster=self.per_cluster, rounds=self.rounds)
        if self.stays not in STAYS:
            raise UsageError(f"stays '{self.stays}' is unknown; {nearest(self.stays, STAYS)}")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UsageError(f"threshold={self.threshold} is not a cosine in [-1, 1]; try threshold=0.95")
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks.

        Raises:
            DataError: the threshold leaves fewer than the budget asks for.
        """

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = pairs.unit(features_of(real, res, rows))  # [n, D]
            c = -(-len(x) // self.per_cluster)
            seed = seeds.number("kmeans", group) % 2**32 if c > 1 else 0  # one cluster is not left to chance
            centres, members = partition(x, c, seed, rounds=self.rounds)
            chance = self._chance(real, rows, seeds)
            apart = novelty(x, [_ordered(x, centres, members, c, self.stays, chance) for c in range(len(centres))])
            self._enough(apart, k)
            places = apart.argsort(descending=True, stable=True)[:k]
            return Picks(places, apart[places], score=apart)

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks, those least like any before them first."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """k-means and the search in clusters; the features of the largest group, of length 1 too, and those of a cluster."""
        n, width = max(len(g) for g in groups(real, self.balanced)), self.needs()[0].width(real)
        c, own = -(-n // self.per_cluster), min(n, self.per_cluster)
        tile = 9.0 * min(own, pairs.BLOCK) ** 2
        flops = (4.0 * self.rounds * c + 3.0 * own) * len(real) * width
        return Cost(flops_per_step=flops, memory=8.0 * n * width + 8.0 * own * width + tile)

    def _chance(self, real: RealSet, rows: torch.Tensor, seeds: Seeds) -> torch.Tensor | None:
        """The rank of every row by chance, int64 [n], where chance orders a cluster."""
        if self.stays != "random":
            return None
        return smallest(keys(real.ids[rows].numpy(), seeds.number("order")), len(rows)).argsort()

    def _enough(self, apart: torch.Tensor, k: int) -> None:
        """Refuses a budget that needs duplicates."""
        if self.threshold is None:
            return
        left = int((apart >= 1 - self.threshold).sum())
        if left < k:
            raise DataError(
                f"{k} of {len(apart)} examples are asked for but {left} are no duplicates at threshold={self.threshold}; "
                "lower the budget or raise the threshold"
            )


def novelty(x: torch.Tensor, ordered: list[torch.Tensor]) -> torch.Tensor:
    """The cosine distance of every row from the nearest one before it in its cluster; 2 for the first: float [n].

    Args:
        x: float [n, D], of length 1.
        ordered: the places of each cluster in its order; together all n.
    """
    apart = x.new_empty(len(x))
    for places in ordered:
        apart[places] = pairs.earlier(x[places], metric="cosine").clamp(max=2)
    return apart.cpu()


def _ordered(
    x: torch.Tensor, centres: torch.Tensor, members: torch.Tensor, c: int, stays: str, chance: torch.Tensor | None
) -> torch.Tensor:
    """The places of a cluster in the order in which they claim to stay, ties to the lower: int64 [m]."""
    places = torch.nonzero(members == c).flatten()
    if chance is not None:
        return places[chance[places].argsort()]
    far = pairs.distances(x[places], centres[c][None], metric="cosine")[:, 0].cpu()
    return places[far.argsort(descending=stays == "hard", stable=True)]
