"""k-center greedy. Teofilo Gonzalez, Clustering to minimize the maximum intercluster distance, Theoretical Computer
Science 1985; for training sets: Ozan Sener and Silvio Savarese, Active learning for convolutional neural networks:
A core-set approach, ICLR 2018.

Leave no example far from a kept one: pick the example that is farthest from everything picked so far.
The largest distance left over is at most twice the best that any choice of as many examples reaches.

    near_i = min over picked j of || x_i - x_j ||
    next   = argmax over i of near_i;    near_i = min(near_i, || x_i - x_next ||)

Distances are sums of squared differences, not norms less a product: the twin of a picked example is at exactly 0.

Differs from official code: DeepCore (Guo, Zhao and Bai 2022) fills a (k - 1) x n matrix of distances of which it uses only
the minimum, 400 GB for 100,000 of a million examples; here one number an example is kept. Sener and Savarese start at
random and then mend the greedy choice with a mixed integer program, which later users leave out; so it is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import UsageError, nearest
from attar.execute.pairs import to_point
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class KCenter(Method):
    """Farthest first: covers the group with balls around the picks. Nested: greedy picks in order.

    ``gain`` is the distance of a pick from the nearest earlier one, that is the radius that the earlier picks left
    over; the first pick has no earlier one and takes the second's.

    Cost: n distances a pick, O(n M D) for groups of n; a copy of one group's features, O(n D).

    Example:
        >>> attar.select("photos/", method="kcenter", rows=500, balanced=False)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    start: str = "mean"
    "First pick: mean (the example nearest to the mean) or random."

    paper: ClassVar[str] = "Sener and Savarese, Active learning for CNNs: a core-set approach, ICLR 2018"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once
        if self.start not in ("mean", "random"):
            raise UsageError(f"start '{self.start}' is unknown; {nearest(self.start, ('mean', 'random'))}")

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = features_of(real, res, rows)  # [n, D]
            first = central(x) if self.start == "mean" else seeds.number("start", group) % len(x)
            return Picks(*farthest_first(x, k, first))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A subtraction, a product and a sum for every number of the group at every pick; one copy of its features."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        picks = sum(size * k for size, k in zip(n, counts(real, budget, self.balanced)))
        return Cost(flops_per_step=3.0 * picks * width, memory=max(n) * (4.0 * width + 8))


def farthest_first(features: torch.Tensor, k: int, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy picks, each as far as possible from those before it.

    Args:
        features: float [n, D], finite.
        k: picks, 1 to n.
        first: the first pick.

    Returns:
        picks int64 [k], unique, ties to the lower place; and the distance of each to the nearest earlier pick, [k], never
        growing. The first takes the second's, or the covering radius where it is alone.
    """
    near = to_point(features, features[first])  # [n]
    picks = torch.empty(k, dtype=torch.int64)
    gains = torch.empty(k, dtype=near.dtype)
    picks[0], gains[0] = first, near.max()
    near[first] = -1  # below every distance: picked points are not picked again, even when all the rest are at 0
    for t in range(1, k):
        picks[t] = j = int(near.argmax())
        gains[t] = near[j]
        near = torch.minimum(near, to_point(features, features[j]))
        near[j] = -1
    return picks, gains


def central(features: torch.Tensor) -> int:
    """The place nearest to the mean: float [n, D] -> int; ties to the lower place."""
    return int(to_point(features, features.mean(0)).argmin())
