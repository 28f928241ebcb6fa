"""Dyn-Unc. Muyang He, Shuo Yang, Tiejun Huang and Bo Zhao, Large-scale dataset pruning with dynamic uncertainty, CVPR 2024
Workshops, arXiv 2306.05175.

An example whose probability stays high is learned, one whose probability stays low will not be: keep those whose probability
still moves, by its spread in a sliding window of epochs.

    U_k = sqrt( sum over j < J of (p_y(k + j) - mean)^2 / (J - 1) ),  score_i = mean over k < K - J of U_k

Differs from the official code, which writes the probabilities of every epoch as text, multiplies by ten, and does not update
an entry whose probability has rounded to 0; here a ring of J numbers an example. The last window is left out, as there.
Images are learned as they are, where the authors crop and mirror them.

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
from attar.errors import UsageError
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.dynamics import dynamics
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, ranking_cost, rule_of
from attar.select.scores import dynamics as scores
from attar.select.signals import seen


@dataclass(frozen=True, kw_only=True)
class DynUnc(Method):
    """Keeps the examples whose probability of the label varies most in a sliding window.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of ``runs`` networks, a forward more in the view eval; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="dyn-unc", keep=0.75)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    window: int = 10
    "Epochs of the window, J."
    signals: str = ""
    "File (.parquet, .npz, .npy) with dyn_unc; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 30
    "Epochs of its training (90 to 300 in the paper); more than the window."
    lr: float = 0.01
    "Learning rate of its training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of its training."
    runs: int = 1
    "Independent trainings whose signals are averaged."
    view: str = "eval"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."

    paper: ClassVar[str] = (
        "He, Yang, Huang and Zhao, Large-scale dataset pruning with dynamic uncertainty, CVPR 2024 Workshops"
    )
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10, "window": 5}

    def __post_init__(self) -> None:
        positive(window=self.window)
        if self.epochs <= self.window:
            raise UsageError(f"epochs={self.epochs} are not more than window={self.window}; raise --epochs")
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The runs, where no signals are given."""
        training = {"net": self.net, "epochs": self.epochs, "lr": self.lr, "batch": self.batch, "view": self.view}
        return () if self.signals else dynamics(self.runs, **training, window=self.window)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = ("dyn_unc",)
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.dyn_unc(known)
        how = {"rule": self.rule, "balanced": self.balanced, "seeds": seeds}
        return ranked(real, budget, score, **how, signals=known, hard=scores.doubt(known))

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
