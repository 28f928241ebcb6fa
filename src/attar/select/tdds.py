"""TDDS. Xin Zhang, Jiawei Du, Yunsong Li, Weiying Xie and Joey Tianyi Zhou, Spanning training progress: Temporal dual-depth
scoring (TDDS) for enhanced dataset pruning, CVPR 2024, arXiv 2311.13613.

How far the predicted distribution of an example moves from epoch to epoch tells what it gives to the training (first depth);
keep those whose contribution varies within a window (second depth), late windows counting most.

    kl_t = sum over c of | q_c(t) (log q_c(t) - log q_c(t - 1)) |,   v_k = || kl - mean kl ||  over the J - 1 of window k
    score_i = sum over k of a (1 - a)^(T - J - k) v_k,   a = 0.9

Differs from the official code, which keeps the logits of all epochs (460 GB on ImageNet); the sum is an exponential moving
average that starts at 0, so that one distribution and J - 1 numbers an example are enough, and the same numbers come out.
As there, the first T of 200 epochs are watched; but their images are not transformed, where the authors crop and mirror them.

With ``rule=top`` the highest scores are kept; in published tables that falls below random where little is kept.
``ccs:cutoff=0.3`` leaves the hardest 30 % out, those of least confidence, and covers all other scores, ``stratified`` covers
the whole ranking,
``beta`` moves to easy examples as fewer are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.dynamics import dynamics
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, ranking_cost, rule_of
from attar.select.scores import dynamics as scores
from attar.select.signals import seen


@dataclass(frozen=True, kw_only=True)
class TDDS(Method):
    """Keeps the examples whose contribution to the training varies most, late windows counting most.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of ``runs`` networks; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="tdds", keep=0.1)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    window: int = 10
    "Epochs of the window, J; the authors choose it, and the epochs, for each amount."
    signals: str = ""
    "File (.parquet, .npz, .npy) with tdds; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 30
    "Epochs of its training whose distributions are compared, T."
    course: int = 200
    "Epochs over which its learning rate would fall to 0; the first of them are watched. 0: as many as are trained."
    lr: float = 0.01
    "Learning rate of its training, falling along a cosine."
    batch: int = 256
    "Largest batch of its training."
    runs: int = 1
    "Independent trainings whose signals are averaged."
    view: str = "train"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."

    paper: ClassVar[str] = (
        "Zhang, Du, Li, Xie and Zhou, Spanning training progress: Temporal dual-depth scoring, CVPR 2024"
    )
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10, "window": 5}

    def __post_init__(self) -> None:
        positive(window=self.window)
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The runs, where no signals are given."""
        training = {"net": self.net, "epochs": self.epochs, "course": self.course, "lr": self.lr, "batch": self.batch}
        training |= {"view": self.view}
        return () if self.signals else dynamics(self.runs, **training, window=self.window, distributions=True)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = ("tdds",)
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.tdds(known)
        how = {"rule": self.rule, "balanced": self.balanced, "seeds": seeds}
        return ranked(real, budget, score, **how, signals=known, hard=scores.doubt(known))

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
