"""Least confidence. David Lewis and William Gale, A sequential algorithm for training text classifiers, SIGIR 1994.

Keep the examples of whose own best guess a trained network is least sure.

    score_i = 1 - max over c of p_c,   p = softmax(z_i) in evaluation mode

Differs from common code: DeepCore (Guo, Zhao and Bai 2022) turns the order around where classes are not balanced and so
keeps the surest examples, and takes the largest
logit in place of the largest probability, which changes with any constant that is added to all logits. Here the score is
oriented once.

With ``rule=top`` the highest scores are kept; in published tables that falls below random where little is kept.
``ccs:cutoff=0.3`` leaves the hardest 30 % out and covers all other difficulties, ``stratified`` covers the whole ranking,
``beta`` moves to easy examples as fewer are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.outputs import Outputs
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, ranking_cost, rule_of
from attar.select.scores import dynamics as scores
from attar.select.signals import given


@dataclass(frozen=True, kw_only=True)
class LeastConfidence(Method):
    """Keeps the examples whose most probable class is least probable.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of a network and a forward of every image; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="least-confidence", keep=0.5)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    signals: str = ""
    "File (.parquet, .npz, .npy) with least_confidence; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is asked."
    epochs: int = 10
    "Epochs of its training."
    lr: float = 0.01
    "Learning rate of its training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of its training."

    paper: ClassVar[str] = "Lewis and Gale, A sequential algorithm for training text classifiers, SIGIR 1994"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32"}

    def __post_init__(self) -> None:
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """What a trained network says of every example, where no signals are given."""
        outputs = Outputs(net=self.net, epochs=self.epochs, lr=self.lr, batch=self.batch)
        return () if self.signals else (outputs,)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        seen = given(real, self.signals, ("least_confidence",)) if self.signals else res[Outputs.name]
        score = scores.least_confidence(dict(seen))
        return ranked(real, budget, score, rule=self.rule, balanced=self.balanced, seeds=seeds, signals=seen)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
