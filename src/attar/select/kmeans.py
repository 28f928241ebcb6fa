"""k-means prototypes. Stuart Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 1982;
seeds from David Arthur and Sergei Vassilvitskii, k-means++: The advantages of careful seeding, SODA 2007.

Cut each class into k clusters and keep the real example nearest to the centre of each, with ``weighted`` by the size
of its cluster: the weighted mean of the kept is close to the mean of all, and every mode has its example.

    centres = argmin over c of sum_i min_j || x_i - c_j ||^2
    pick_j  = the unpicked example nearest to c_j;    weight_j = |cluster j|

Large clusters come first. Not nested: the clusters of another k are others.

Differs from common code: k-means of faiss trains on at most 256 examples a centre without saying so; here all examples are
used, in one go up to ``whole`` of them and in mini-batches (Sculley, Web-scale k-means clustering, WWW 2010) above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.execute import pairs
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.clusters import clusters, prototypes
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class KMeans(Method):
    """The real example nearest to each cluster centre, on request weighted by cluster size. Not nested in the budget.

    ``gain`` is the share of the group that the pick's cluster holds.

    Cost: O(n M D) a round of Lloyd's iteration for groups of n, at most ``rounds`` of them; two copies of one group's
    features, O(n D).

    Example:
        >>> attar.select("photos/", method="kmeans", ipc=10, features="random")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    rounds: int = 100
    "Most iterations."
    whole: int = 50_000
    "Groups of more examples are clustered in mini-batches."

    weighted: bool = False
    "Whether each pick counts by the size of its cluster in training; else all count alike."

    paper: ClassVar[str] = "Lloyd, Least squares quantization in PCM, IEEE Transactions on Information Theory 1982"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(rounds=self.rounds, whole=self.whole)
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = features_of(real, res, rows)  # [n, D]
            seed = seeds.number("kmeans", group) % 2**32
            return prototypes(x, *clusters(x, k, seed, rounds=self.rounds, whole=self.whole))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks, those of large clusters first."""
        if self.weighted:
            return rows_of(state, {"weighted": True})
        return rows_of({**state, "weight": torch.ones_like(state["weight"])})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """All rounds, a product and a sum each, and one pass to find the picks; two copies of the largest group."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        picks = sum(size * k for size, k in zip(n, counts(real, budget, self.balanced)))
        tile = 4.0 * min(max(n), pairs.BLOCK) * min(max(counts(real, budget, self.balanced)), pairs.BLOCK)
        return Cost(flops_per_step=(2.0 * self.rounds + 3) * picks * width, memory=8.0 * max(n) * width + tile)
