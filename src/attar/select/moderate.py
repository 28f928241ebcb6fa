"""Moderate coreset. Xiaobo Xia, Jiale Liu, Jun Yu, Xu Shen, Bo Han and Tongliang Liu, Moderate coreset: A universal method
of data selection for real-world data-efficient deep learning, ICLR 2023.

Neither the typical nor the odd: keep the examples whose distance from the middle of their class is near the median one.

    c_k  = median of each feature over class k
    d_i  = || x_i - c_y(i) ||
    keep the ranks of d in [n/2 - k/2, n/2 + k/2];  s_i = -| rank of d_i - (n - 1) / 2 |

Differs from the official code, which ranks all classes together: so do we with ``balanced=False``, else inside each class.
The middle of an even number of examples is the mean of the middle two. Ranks go outwards from the median, so that the
selection of a smaller budget comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.pick import features_of, groups, rows_of
from attar.select.rules import ranked, rule_of


@dataclass(frozen=True, kw_only=True)
class Moderate(Method):
    """Examples at the median distance from their class. Nested with the rule ``top``.

    ``gain`` is minus the number of ranks between an example and the median one.

    Cost: one pass over the features and a sort of each of them; three copies of the largest class, O(n D).

    Example:
        >>> attar.select("photos/", method="moderate", keep=0.3, features="trained")
    """

    balanced: bool = True
    "Same number of every class, ranked inside each class; else ranked over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    rule: str = "top"
    "How the score becomes a choice: top, stratified or ccs, with settings as in ccs:strata=50:cutoff=0.1."

    paper: ClassVar[str] = "Xia, Liu, Yu, Shen, Han and Liu, Moderate coreset, ICLR 2023"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        rule_of(self.rule, signals=())
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Scores and picks; nothing random with the rule ``top``."""
        distance, score = torch.zeros(len(real)), torch.zeros(len(real))
        for rows in groups(real, True):
            if len(rows):
                distance[rows] = from_median(features_of(real, res, rows)).float().cpu()
        for rows in groups(real, self.balanced):
            score[rows] = moderation(distance[rows])
        return ranked(real, budget, score, rule=self.rule, balanced=self.balanced, seeds=seeds, hard=distance)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks, those nearest to the median distance first."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort and a difference; the largest class, its sorted copy and their places, and the scores of all."""
        n, width = max(len(g) for g in groups(real, True)), self.needs()[0].width(real)
        return Cost(flops_per_step=20.0 * len(real) * width, memory=16.0 * n * width + 32.0 * len(real))


def from_median(features: torch.Tensor) -> torch.Tensor:
    """The distance of every row from the median of each feature: float [n, D] -> [n]."""
    ordered, n = features.sort(dim=0).values, len(features)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2  # [D]
    return torch.linalg.vector_norm(features - middle, dim=1)


def moderation(distance: torch.Tensor) -> torch.Tensor:
    """Minus the ranks between each distance and the middle one, ties to the lower place: float [n] -> float32 [n]."""
    rank = distance.argsort(stable=True).argsort()
    return -(rank - (len(distance) - 1) / 2).abs()
