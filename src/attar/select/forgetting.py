"""Forgetting events. Mariya Toneva, Alessandro Sordoni, Remi Tachet des Combes, Adam Trischler, Yoshua Bengio and Geoffrey
J. Gordon, An empirical study of example forgetting during deep neural network learning, ICLR 2019, arXiv 1812.05159.

An example that a network gets right and then wrong again sits near the boundary; one that is never forgotten can go. Count
how often each is forgotten, keep those that are forgotten most.

    score_i = number of epochs t with correct_i(t - 1) and not correct_i(t),  mean over runs

Differs from other code: what happens to examples that were never learned is a setting. They have no events, so that DeepCore
(Guo, Zhao and Bai 2022) prunes them first; the authors give them as many events as epochs. The two rankings are opposite
where labels are wrong, and so are the published results of the two at small budgets. Images are learned as they are, where the
authors crop and mirror them.

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
from attar.resources.dynamics import dynamics
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, ranking_cost, rule_of
from attar.select.scores import dynamics as scores
from attar.select.signals import seen


@dataclass(frozen=True, kw_only=True)
class Forgetting(Method):
    """Keeps the examples that were forgotten most often.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of ``runs`` networks; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="forgetting", keep=0.3, never_learned="drop")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    never_learned: str = "epochs"
    "Examples never learned: epochs (as many events as epochs, as the authors), hardest, easiest (as DeepCore) or drop (last)."
    signals: str = ""
    "File (.parquet, .npz, .npy) with forgetting, learned, epochs; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 30
    "Epochs of its training (200 in the paper)."
    lr: float = 0.01
    "Learning rate of its training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of its training."
    runs: int = 5
    "Independent trainings whose signals are averaged; five in the paper."
    view: str = "train"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."

    paper: ClassVar[str] = "Toneva et al. An empirical study of example forgetting, ICLR 2019"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10, "runs": 2}

    def __post_init__(self) -> None:
        scores.known(self.never_learned, scores.NEVER, "never_learned")
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The runs, where no signals are given."""
        training = {"net": self.net, "epochs": self.epochs, "lr": self.lr, "batch": self.batch, "view": self.view}
        return () if self.signals else dynamics(self.runs, **training)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = ("forgetting", "learned", "epochs")
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.forgetting(known, self.never_learned)
        return ranked(real, budget, score, rule=self.rule, balanced=self.balanced, seeds=seeds, signals=known)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
