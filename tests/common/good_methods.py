"""Pixel means: an example that nobody published. Tests, of two methods that do everything right.

Move the kept images of each class towards the mean of a random batch of its real ones:

    loss = sum_k || mean_i real_ki - mean_j kept_kj ||^2

Cost: K batch images a step. Differs from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from attar.budget import Budget
from attar.match.means import class_means
from attar.method import Batch, Cost, Method, Resources, Rows, State
from attar.optim import Opt
from attar.params import pixels
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.pick import Picks, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class Means(Method):
    """Kept images whose mean is that of the class."""

    steps: int = 100
    "Updates of the kept images."
    batch: int = 32
    "Real images per class and step."
    lr: float = 0.2
    "Learning rate of the kept images."

    paper: ClassVar[str] = "Tests. Pixel means. 2000"

    @property
    def learn(self) -> dict[str, Opt]:
        return {"image": Opt(lr=self.lr)}

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        return pixels.start(real, budget, seeds, kind="real")

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        index = real.sample(self.batch, seeds.generator("real"))  # [K, B]
        return {"target": real.draw(index.flatten()).unflatten(0, index.shape).mean(1).flatten(1)}  # [K, C H W]

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        mean = class_means(state["image"].flatten(1), state["label"], len(batch["target"]))
        return (mean - batch["target"]).square().sum()

    def finish(self, state: State, res: Resources) -> Rows:
        return Rows(columns={"image": state["image"], "label": state["label"]}, recipe={"protocol": "dc"})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        kept, drawn = budget.total(real.sizes, real.example_bytes), real.n_classes * self.batch
        size = real.example_bytes
        return Cost(flops_per_step=2.0 * size * (drawn + 3 * kept), memory=4.0 * size * (3 * drawn + 3 * kept))


@dataclass(frozen=True, kw_only=True)
class First(Method):
    """The examples with the lowest ids of each class."""

    balanced: bool = True
    "Same number of every class."

    paper: ClassVar[str] = "Tests. Pixel means. 2000"
    kind: ClassVar[str] = "select"

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        return pick(real, budget, lambda rows, k, group: Picks(torch.arange(k), torch.zeros(k)), balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        kept = budget.total(real.sizes, real.example_bytes)
        return Cost(flops_per_step=len(real), memory=8.0 * len(real) + 64.0 * kept)
