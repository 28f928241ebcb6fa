"""GraNd. Mansheej Paul, Surya Ganguli and Gintare Karolina Dziugaite, Deep learning on a data diet: finding important
examples early in training, NeurIPS 2021.

An example matters early in training as much as its gradient is long: keep the longest, on average over several networks.
Here the gradient is that of the last layer, which has a closed form.

    score_i = mean over networks of || g_i ||,     || g_i || = || p_i - y_i || * sqrt(|| h_i ||^2 + 1)

Differs from official code: the paper takes all parameters, from the start or after a few epochs; the last layer alone is
what DeepCore (Guo, Zhao and Bai 2022) takes too, though it forms every gradient of K (D + 1) numbers, and after the whole
selection training. The scores keep hard and wrongly labelled examples, and lose to random where little is kept: use
``rule=top:skip=0.05`` or ``rule=ccs`` then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.gradients import GradientNorms
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, rule_of


@dataclass(frozen=True, kw_only=True)
class GraNd(Method):
    """Keeps the examples of the longest last-layer gradients. Nested with the rule top.

    ``gain`` is the score.

    Cost: ``networks`` short trainings and a forward of every image for each; N numbers a network.

    Example:
        >>> attar.select("photos/", method="grand", keep=0.5, rule="ccs:cutoff=0.1")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    net: str = "convnet"
    "The networks."
    epochs: int = 10
    "Epochs of their training; 0 takes them as they are initialised."
    networks: int = 10
    "Networks to average over, each from other first weights."
    rule: str = "top"
    "How the score becomes a choice: top, stratified or ccs, with settings as in ccs:strata=50:cutoff=0.1."

    paper: ClassVar[str] = "Paul, Ganguli and Dziugaite, Deep learning on a data diet, NeurIPS 2021"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "networks": 2}

    def __post_init__(self) -> None:
        positive(networks=self.networks)
        rule_of(self.rule, signals=())
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The lengths of the gradients of every network."""
        return tuple(GradientNorms(net=self.net, epochs=self.epochs, number=i) for i in range(self.networks))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Scores and picks."""
        score = torch.stack([finite(real, res[need.name]["norm"].double().cpu()) for need in self.needs()]).mean(0)
        return ranked(real, budget, score, rule=self.rule, balanced=self.balanced, seeds=seeds)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sum over the networks, and all that it sums."""
        return Cost(flops_per_step=float(len(real) * self.networks), memory=8.0 * len(real) * (self.networks + 1))


def finite(real: RealSet, norm: torch.Tensor) -> torch.Tensor:
    """Lengths [N] as they are.

    Raises:
        DataError: one that is NaN or infinite; names its example.
    """
    bad = torch.nonzero(~norm.isfinite()).flatten()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"the gradient of the example with id {int(real.ids[row])} (row {row} of {real.name}) is not finite, and so for "
            f"{len(bad)} of {len(norm)} examples; mend or drop it, or train for fewer epochs"
        )
    return norm
