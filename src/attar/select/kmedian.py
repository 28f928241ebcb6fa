"""k-medians. Paul Bradley, Olvi Mangasarian and Nick Street, Clustering via concave minimization, NIPS 1996.

k-means whose centres are medians: sums of distances along the axes in place of squares, so that a few odd examples do not
drag a centre away. The real example nearest to each centre is kept; with ``weighted`` it
counts by the size of its cluster.

    centres = argmin over c of sum_i min_j | x_i - c_j |_1,   c_j = median of each feature over cluster j
    pick_j  = the unpicked example nearest to c_j;   weight_j = |cluster j|

The start is drawn as in k-means++ (Arthur and Vassilvitskii, SODA 2007) with a chance in proportion to the distance, not
its square. Large clusters come first. Not nested: the clusters of another k are others.

Differs from the paper, which leaves the start open. A cluster that loses all of its examples keeps its centre.
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
from attar.select.clusters import prototypes
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class KMedian(Method):
    """The real example nearest to each cluster median, on request weighted by cluster size. Not nested in the budget.

    ``gain`` is the share of the group that the pick's cluster holds.

    Cost: O(n M D) a round for groups of n, at most ``rounds`` of them; three copies of one group's features, O(n D).

    Example:
        >>> attar.select("photos/", method="kmedian", ipc=10, features="random")
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

    weighted: bool = False
    "Whether each pick counts by the size of its cluster in training; else all count alike."

    paper: ClassVar[str] = "Bradley, Mangasarian and Street, Clustering via concave minimization, NIPS 1996"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(rounds=self.rounds)
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = features_of(real, res, rows)  # [n, D]
            centres, members = medians(x, start(x, k, seeds.at("kmedian", group)), self.rounds)
            return prototypes(x, centres, members.bincount(minlength=k), metric="manhattan")

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks, those of large clusters first."""
        if self.weighted:
            return rows_of(state, {"weighted": True})
        return rows_of({**state, "weight": torch.ones_like(state["weight"])})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """All rounds, two operations a number each, and a pass to find the picks; copies of the largest group, a tile."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        kept = counts(real, budget, self.balanced)
        picks = sum(size * k for size, k in zip(n, kept))
        tile = 4.0 * min(max(n), pairs.BLOCK) * min(max(kept), pairs.BLOCK)
        memory = 4.0 * width * (2.5 * max(n) + max(kept)) + tile
        return Cost(flops_per_step=3.0 * (self.rounds + 2) * picks * width, memory=memory)


def start(x: torch.Tensor, k: int, seeds: Seeds) -> torch.Tensor:
    """First centres: each next one a row drawn in proportion to its distance from those before: [n, D] -> [k, D].

    Where all distances are 0, the row with the lowest place that is not drawn yet.
    """
    random = seeds.numpy("start")
    near = torch.full((len(x),), torch.inf, dtype=torch.float64)
    taken = torch.zeros(len(x), dtype=torch.bool)
    drawn: list[int] = []
    for _ in range(k):
        chance = near if drawn else torch.ones(len(x), dtype=torch.float64)
        total = chance.cumsum(0)
        if total[-1] > 0:
            i = int(torch.searchsorted(total, random.random() * float(total[-1]), right=True).clamp(max=len(x) - 1))
        else:
            i = int((~taken).int().argmax())
        drawn.append(i)
        taken[i] = True
        near = torch.minimum(near, pairs.distances(x, x[i][None], metric="manhattan")[:, 0].double().cpu())
    return x[torch.tensor(drawn)]


def medians(x: torch.Tensor, centres: torch.Tensor, rounds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Assigns and takes medians until nothing changes.

    Args:
        x: float [n, D]. centres: float [k, D], the start.
        rounds: most iterations.

    Returns:
        centres [k, D] and the nearest of them for every row int64 [n], ties to the lower.
    """
    members = pairs.lowest(x, centres, metric="manhattan")[0]
    for _ in range(rounds):
        centres = torch.stack([_median(x[members == j], old) for j, old in enumerate(centres)])
        before, members = members, pairs.lowest(x, centres, metric="manhattan")[0]
        if torch.equal(before, members):
            break
    return centres, members


def _median(x: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    """The median of each feature, the mean of the middle two where n is even: [n, D] -> [D]."""
    if not len(x):
        return otherwise
    ordered = x.sort(dim=0).values
    return (ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2
