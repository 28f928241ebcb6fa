"""KNN-Shapley. Ruoxi Jia, David Dao, Boxin Wang, Frances Ann Hubis, Nezihe Merve Gurel, Bo Li, Ce Zhang, Costas Spanos and
Dawn Song, Efficient task-specific data valuation for nearest neighbor algorithms, VLDB 2019, arXiv 1908.08619.

What is an example worth to a classifier by its nearest neighbours? Its Shapley value, the mean of what it adds to the
accuracy over all subsets of the others, has a closed form: sort the n examples by distance from a validation point, then

    m_i = 1 where the label of the i-th nearest is that of the point, else 0
    s_n = m_n min(K, n) / (K n)
    s_i = s_(i+1) + (m_i - m_(i+1)) / K  min(K, i) / i

for the utility v(S) = (1 / K) sum of m over the min(K, |S|) nearest in S; the value is the mean over validation points.

The set is cut into two halves by chance, and points of each are the validation of the other: every example has a value, and
none is its own neighbour. Differs from common code, which takes a validation set apart, of which nothing can be kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError
from attar.execute import pairs
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.hashed import keys, smallest
from attar.select.pick import features_of, groups, rows_of
from attar.select.rules import ranked, rule_of

POINTS = 64
"""Validation points whose distances are held at once."""


@dataclass(frozen=True, kw_only=True)
class KNNShapley(Method):
    """The most valuable to a classifier by nearest neighbours. Nested with the rule ``top``.

    ``gain`` is the Shapley value; wrong labels have negative ones.

    Cost: O(N (D + log N)) a validation point; a copy of the features, 64 rows of distances.

    Example:
        >>> attar.select("photos/", method="knn-shapley", keep=0.8, features="trained")
    """

    balanced: bool = True
    "Same number of every class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    neighbours: int = 5
    "K, neighbours that vote."
    validation: int = 1000
    "Validation points of each half, at most."
    rule: str = "top"
    "How the score becomes a choice: top, stratified or ccs, with settings as in ccs:strata=50:cutoff=0.1."

    paper: ClassVar[str] = (
        "Jia et al., Efficient task-specific data valuation for nearest neighbor algorithms, VLDB 2019"
    )
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(neighbours=self.neighbours, validation=self.validation)
        rule_of(self.rule, signals=())
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Values and picks.

        Raises:
            DataError: a set without classes.
        """
        if not real.n_classes:
            raise DataError(f"{real.name} has no classes for neighbours to vote on; use another method")
        (rows,) = groups(real, False)
        rows = rows[smallest(keys(real.ids[rows].numpy(), seeds.number("halves")), len(rows))]  # in the order of chance
        x, labels = features_of(real, res, rows), real.labels[rows]
        middle, value = -(-len(rows) // 2), torch.zeros(len(real), dtype=torch.float64)
        for own, other in ((slice(0, middle), slice(middle, None)), (slice(middle, None), slice(0, middle))):
            points, answers = x[other][: self.validation], labels[other][: self.validation]
            value[rows[own]] = shapley(x[own], labels[own], points, answers, self.neighbours)
        return ranked(real, budget, value, rule=self.rule, balanced=self.balanced, seeds=seeds, hard=-value)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks by falling value."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """Differences to all validation points; the features, and some rows of distances with their orders."""
        n, width = len(real), self.needs()[0].width(real)
        points = min(self.validation, -(-n // 2))
        held = 40.0 * min(points, POINTS) * n / 2
        return Cost(flops_per_step=n * points * (3.0 * width + 40), memory=4.0 * n * width + held)


def shapley(x: torch.Tensor, labels: torch.Tensor, points: torch.Tensor, answers: torch.Tensor, k: int) -> torch.Tensor:
    """The mean Shapley value of every example over validation points: float64 [n]; zeros where there is none.

    Args:
        x: float [n, D]. labels: int64 [n].
        points: float [v, D]. answers: int64 [v].
        k: neighbours that vote.
    """
    n = len(x)
    total = torch.zeros(n, dtype=torch.float64)
    if not n or not len(points):
        return total
    place = torch.arange(1, n, dtype=torch.float64)  # [n - 1], i from 1
    factor = place.clamp(max=k) / place / k
    for some, answer in zip(points.split(POINTS), answers.split(POINTS)):
        order = pairs.distances(some, x).cpu().argsort(dim=1, stable=True)  # [b, n]
        match = (labels[order] == answer[:, None]).double()
        last = match[:, -1:] * min(k, n) / (k * n)
        steps = (match[:, :-1] - match[:, 1:]) * factor  # s_i - s_(i+1)
        value = torch.cat([steps, last], 1).flip(1).cumsum(1).flip(1)
        total.scatter_add_(0, order.flatten(), value.flatten())
    return total / len(points)
