"""EL2N. Mansheej Paul, Surya Ganguli and Gintare Karolina Dziugaite, Deep learning on a data diet: Finding important
examples early in training, NeurIPS 2021, arXiv 2107.07075.

How wrong a network is about an example early in training tells how much the example will matter: keep those with the
largest error, a mean over several networks.

    score_i = mean over runs and chosen epochs of || softmax(z_i) - onehot(y_i) ||

Differs from other code: the sum of the first ten epochs of one run (CCS) is ``at=1,2,3,4,5,6,7,8,9,10`` and ``runs=1`` here,
the mean of all epochs ``at=all``. The authors evaluate the network after the epoch; here the logits are those that each batch
had in that epoch, in the view that is chosen. Their networks learn for 200 epochs, of which these are the first 10 or 20; here
the training ends there, so that its learning rate has fallen by ``at=last``: ``epochs=200`` and ``at=20`` is the authors'
early network, at ten times the cost. Images are learned as they are, where the authors crop and mirror them. Their offset is
``rule=top:skip=0.1``.

With ``rule=top`` the highest scores are kept; in published tables that falls below random where little is kept.
``ccs:cutoff=0.3`` leaves the hardest 30 % out and covers all other difficulties, ``stratified`` covers the whole ranking,
``beta`` moves to easy examples as fewer are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from attar.budget import Budget
from attar.errors import UsageError
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.dynamics import dynamics
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, ranking_cost, rule_of
from attar.select.scores import dynamics as scores
from attar.select.signals import seen


@dataclass(frozen=True, kw_only=True)
class EL2N(Method):
    """Keeps the examples of which a network was most wrong, early in training.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of ``runs`` networks, a forward more in the view eval; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="el2n", keep=0.3, signals="el2n.parquet")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    at: str = "last"
    "Epochs whose error counts: last, all, or numbers from 1 as in 10,15,20."
    signals: str = ""
    "File (.parquet, .npz, .npy) with el2n; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 20
    "Epochs of its training."
    lr: float = 0.01
    "Learning rate of its training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of its training."
    runs: int = 10
    "Independent trainings whose signals are averaged; the authors ask for ten at least."
    view: str = "eval"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."

    paper: ClassVar[str] = "Paul, Ganguli and Dziugaite, Deep learning on a data diet, NeurIPS 2021"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10, "runs": 2}

    def __post_init__(self) -> None:
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The runs, where no signals are given."""
        training = {"net": self.net, "epochs": self.epochs, "lr": self.lr, "batch": self.batch, "view": self.view}
        return () if self.signals else dynamics(self.runs, **training, chosen=chosen(self.at, self.epochs))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = ("el2n",)
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.el2n(known)
        return ranked(real, budget, score, rule=self.rule, balanced=self.balanced, seeds=seeds, signals=known)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)


def chosen(at: str, epochs: int) -> tuple[int, ...]:
    """The epochs that ``at`` names, from 1; none for all.

    Raises:
        UsageError: neither last, all, nor a list of whole numbers.
    """
    if at in ("last", "all"):
        return (epochs,) if at == "last" else ()
    parts = [part.strip() for part in at.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f"at={at} is neither last, all nor epochs as in 10,15,20")
    return tuple(sorted({int(part) for part in parts}))
