"""Log-determinant. Laming Chen, Guoxin Zhang and Eric Zhou, Fast greedy MAP inference for determinantal point process to
improve recommendation diversity, NeurIPS 2018.

Keep examples that span as large a volume as possible: each pick is the one that those before it explain the least.
Greedy: the picks of a smaller budget come first.

    F(S)    = log det(I + S_SS / ridge),                     s_ij = 1/2 + 1/2 cos(x_i, x_j)
    gain(e) = log(r_e / ridge),   r_e = s_ee + ridge - s_eS (S_SS + ridge I)^-1 s_Se

The residual r of every example is kept up to date with one new number of a Cholesky factor a pick, so all gains are known
at any time: there is nothing for a lazy or a sampling optimiser to save.

Differs from official code: DeepCore (Guo, Zhao and Bai 2022) returns s_eS S_SS^-1 s_Se alone, which is largest for what is
explained best: the sign is wrong and s_ee is missing. Chen et al. stop where the plain determinant reaches 0, that is after
as many picks as there are dimensions; the ridge goes on, and never gives less than 0 for a further example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.greedy import exact
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of
from attar.select.submodular.logdet import LogDet as Volume
from attar.select.submodular.similarity import CONVENTION, lifted


@dataclass(frozen=True, kw_only=True)
class LogDet(Method):
    """Keeps examples that do not explain each other. Nested: greedy picks in order.

    ``gain`` is what each pick added to F; gains never grow.

    Cost: O(n M D + n M^2) for groups of n; 8 n M bytes for the Cholesky factor and two copies of one group's features.

    Example:
        >>> attar.select("photos/", method="log-det", ipc=10, features="trained")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    ridge: float = 0.01
    "What an example is taken to have of its own; the smaller, the less a near twin of a kept example adds."

    paper: ClassVar[str] = (
        "Chen, Zhang and Zhou, Fast greedy MAP inference for determinantal point process, NeurIPS 2018"
    )
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once
        positive(ridge=self.ridge)

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; nothing random."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            return Picks(*exact(Volume(lifted(features_of(real, res, rows).to(real.device)), self.ridge, k), k))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state, {"similarity": CONVENTION})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """One product with the features and one with the factor a pick; features and factor of the largest group."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        both = list(zip(n, counts(real, budget, self.balanced)))
        flops = sum(2.0 * m * k * width + 1.0 * m * k * k for m, k in both)
        return Cost(flops_per_step=flops, memory=8.0 * max(n) * width + 8.0 * max(m * k for m, k in both))
