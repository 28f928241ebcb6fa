"""Prototypes. Ben Sorscher, Robert Geirhos, Shashank Shekhar, Surya Ganguli and Ari Morcos, Beyond neural scaling laws:
Beating power law scaling via data pruning, NeurIPS 2022, arXiv 2206.14486.

An example is easy where it resembles a prototype, hard where it resembles none. Keep the hard ones where data are plenty,
the easy ones where they are scarce. Labels are not needed.

    c_1 ... c_p = k-means of x / |x|
    s_i = min over j of 1 - cos(x_i, c_j)        (or from the mean of its class: ``by=class``)

Differs from the paper: its features are those of a self-supervised network (SwAV) trained on all of ImageNet; here they are
those that are asked for. Classes are kept in balance (the paper keeps half of it, as pruning unbalances them);
``balanced=False`` does not.
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
from attar.select.pick import features_of, groups, rows_of
from attar.select.rules import ranked, rule_of

PREFER, BY = ("hard", "easy"), ("kmeans", "class")


@dataclass(frozen=True, kw_only=True)
class Prototype(Method):
    """Far from every prototype (hard), or near to one (easy). Nested with the rule ``top``.

    ``gain`` is the cosine distance from the nearest prototype, negative where the easy are kept.

    Cost: O(N p D) a round of k-means, at most ``rounds`` of them; four copies of the features, O(N D).

    Example:
        >>> attar.select("photos/", method="prototype", keep=0.7, features="trained")
    """

    balanced: bool = True
    "Same number of every class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    prefer: str = "hard"
    "Keep the hard examples or the easy ones."
    by: str = "kmeans"
    "Prototypes: kmeans (without labels), or class (the mean of each class)."
    prototypes: int | None = None
    "How many for kmeans; by default the number of classes, at least 10."
    rounds: int = 100
    "Most iterations of k-means."
    rule: str = "top"
    "How the score becomes a choice: top, stratified or ccs, with settings as in ccs:strata=50:cutoff=0.1."

    paper: ClassVar[str] = "Sorscher, Geirhos, Shekhar, Ganguli and Morcos, Beyond neural scaling laws, NeurIPS 2022"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(prototypes=self.prototypes, rounds=self.rounds)
        for name, table in (("prefer", PREFER), ("by", BY)):
            if getattr(self, name) not in table:
                raise UsageError(f"{name} '{getattr(self, name)}' is unknown; {nearest(getattr(self, name), table)}")
        rule_of(self.rule, signals=())
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Scores and picks."""
        (rows,) = groups(real, False)
        x = pairs.unit(features_of(real, res, rows))  # [N, D]
        score = torch.zeros(len(real))
        score[rows] = self._distance(real, x, rows, seeds).cpu()
        signed = -score if self.prefer == "easy" else score
        return ranked(real, budget, signed, rule=self.rule, balanced=self.balanced, seeds=seeds, hard=score)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks by falling score."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """All rounds of k-means, a product and a sum each; the features as they are, of length 1, and a tile of them."""
        n, width, p = len(real), self.needs()[0].width(real), self._count(real)
        tile = 4.0 * min(n, pairs.BLOCK) * (width + p)
        return Cost(flops_per_step=4.0 * self.rounds * n * p * width, memory=8.0 * n * width + tile)

    def _count(self, real: RealSet) -> int:
        return min(self.prototypes or max(real.n_classes, 10), len(real))

    def _distance(self, real: RealSet, x: torch.Tensor, rows: torch.Tensor, seeds: Seeds) -> torch.Tensor:
        """From the nearest prototype, or from the mean of the own class: [N, D] -> [N]."""
        if self.by == "class":
            return from_class(x, _labels(real)[rows])
        seed = seeds.number("kmeans") % 2**32
        centres, _ = partition(x, self._count(real), seed, rounds=self.rounds)
        return pairs.lowest(x, centres, metric="cosine")[1]


def from_class(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cosine distance of every row from the mean of its class: float [n, D], int64 [n] -> [n]."""
    found = x.new_zeros(len(x))
    for k in labels.unique():
        own = labels == k
        found[own] = pairs.distances(x[own], x[own].mean(0, keepdim=True), metric="cosine")[:, 0]
    return found


def _labels(real: RealSet) -> torch.Tensor:
    if not real.n_classes:
        raise DataError(f"{real.name} has no classes to be prototypes; use by=kmeans")
    return real.labels
