"""Area under the margin. Geoff Pleiss, Tianyi Zhang, Ethan Elenberg and Kilian Weinberger, Identifying mislabeled data using
the area under the margin ranking, NeurIPS 2020, arXiv 2001.10528.

The margin of the label over the strongest other class, averaged over the training, is low where other examples pull against
the label: hard or mislabelled ones. Keep the lowest, or leave out the very lowest by the rule.

    score_i = - mean over epochs t of ( z_y(t) - max over c != y of z_c(t) )

Differs from other code: the package of the authors keeps a record of every example and update and writes a table; here one
number an example. CCS takes the margin of probabilities, which is ``margin=probability``. The code that came with DUAL starts
the sum anew in every epoch, so that its column named AUM is the margin of the last epoch. Images are learned as they are, where
the authors crop and mirror them.

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
class AUM(Method):
    """Keeps the examples with the smallest mean margin. Mislabelled ones come first: ``rule=top:skip=0.05`` leaves them out.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of ``runs`` networks; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="aum", keep=0.3, rule="top:skip=0.05")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    margin: str = "logit"
    "Margin of: logit (as the paper) or probability (as CCS)."
    signals: str = ""
    "File (.parquet, .npz, .npy) with aum, or aum_probability; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 30
    "Epochs of its training."
    lr: float = 0.01
    "Learning rate of its training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of its training."
    runs: int = 1
    "Independent trainings whose signals are averaged."
    view: str = "train"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."

    paper: ClassVar[str] = (
        "Pleiss et al. Identifying mislabeled data using the area under the margin ranking, NeurIPS 2020"
    )
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10}

    def __post_init__(self) -> None:
        scores.known(self.margin, tuple(scores.MARGINS), "margin")
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The runs, where no signals are given."""
        training = {"net": self.net, "epochs": self.epochs, "lr": self.lr, "batch": self.batch, "view": self.view}
        return () if self.signals else dynamics(self.runs, **training)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = (scores.MARGINS[self.margin],)
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.aum(known, self.margin)
        return ranked(real, budget, score, rule=self.rule, balanced=self.balanced, seeds=seeds, signals=known)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
