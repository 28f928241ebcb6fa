"""Herding. Max Welling, Herding dynamical weights to learn, ICML 2009; per class on network features in Rebuffi,
Kolesnikov, Sperl and Lampert, iCaRL: Incremental classifier and representation learning, CVPR 2017.

Keep the mean of what is kept close to the mean of everything: each pick repairs what the picks so far have left over.
Greedy, without replacement, so the picks of a smaller budget come first.

    mu  = mean of x
    j_t = argmin over unpicked j of || t mu - sum of x_s picked so far - x_j ||^2
        = argmin of || s + y_j ||      with y = x - mu,  s = sum of y picked so far

Centred features keep the sum small where mu is large: no digits are lost to the difference of two large vectors.

Differs from official code: DeepCore (Guo, Zhao and Bai 2022) takes the argmax of the distance and so picks the point that
repairs the least; its published herding figures carry that error. iCaRL drops the norm term, which L2-normalised features
make constant (``normalise``), and may draw a point again, which it then skips; here a picked point is not drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from attar.budget import Budget
from attar.execute.pairs import to_point
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class Herding(Method):
    """Keeps the running mean of the picks next to the mean of the class. Nested: greedy picks in order.

    ``gain`` is the distance of the mean of the picks so far from the mean of the group, after each pick.

    Cost: one distance of every example a pick, O(n M D) for groups of n; a copy of one group's features, O(n D).

    Example:
        >>> attar.select("photos/", method="herding", ipc=10, features="trained")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    normalise: bool = False
    "Scale features to length 1 first, as iCaRL does."

    paper: ClassVar[str] = "Welling, Herding dynamical weights to learn, ICML 2009"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; nothing random."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = features_of(real, res, rows)  # [n, D]
            x = normalize(x, out=x) if self.normalise else x
            return Picks(*follow(x.sub_(x.mean(0)), k))  # in place: the features are a copy, and a second is as large

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sum, a product and a sum for every number of the group at every pick; a copy of the largest group's features."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        picks = sum(size * k for size, k in zip(n, counts(real, budget, self.balanced)))
        return Cost(flops_per_step=3.0 * picks * width, memory=4.0 * max(n) * width)


def herd(features: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy picks whose running mean follows the mean of all.

    Args:
        features: float [n, D], finite.
        k: picks, 1 to n.

    Returns:
        picks int64 [k], unique, ties to the lower place; and || mean of the first t picks - mean of all || for each t, [k].
    """
    return follow(features - features.mean(0), k)


def follow(y: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`herd` for features whose mean is 0, of which no copy is made: float [n, D]."""
    picked = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    total = torch.zeros(y.shape[1], dtype=torch.float64, device=y.device)  # [D]
    picks = torch.empty(k, dtype=torch.int64)
    gains = torch.empty(k, dtype=torch.float64)
    for t in range(k):
        left = to_point(y, -total.to(y.dtype))  # [n]
        picks[t] = j = int(left.masked_fill_(picked, torch.inf).argmin())
        picked[j] = True
        total += y[j]
        gains[t] = torch.linalg.vector_norm(total) / (t + 1)
    return picks, gains
