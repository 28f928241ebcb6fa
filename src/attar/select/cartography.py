"""Dataset cartography. Swabha Swayamdipta, Roy Schwartz, Nicholas Lourie, Yizhong Wang, Hannaneh Hajishirzi, Noah A. Smith
and Yejin Choi, Dataset cartography: Mapping and diagnosing datasets with training dynamics, EMNLP 2020, arXiv 2009.10795.

Over the epochs of a training the probability of the label has a mean and a spread: high mean, easy to learn; low mean, hard or
mislabelled; large spread, ambiguous. Keep the ambiguous, or another end of the map.

    confidence_i = mean over t of p_y(t),  variability_i = sqrt(mean over t of (p_y(t) - confidence_i)^2)

Differs from other code: the authors' keeps the logits of every epoch in files and sorts them afterwards; here two numbers an
example by Welford's update. Their optional correction of the variance for few epochs is left out: it changes no order.

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
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.resources.dynamics import dynamics
from attar.seeds import Seeds
from attar.select.pick import rows_of
from attar.select.rules import ranked, ranking_cost, rule_of
from attar.select.scores import dynamics as scores
from attar.select.signals import seen


@dataclass(frozen=True, kw_only=True)
class Cartography(Method):
    """Keeps one end of the map of confidence, variability and correctness: by default the ambiguous examples.

    ``gain`` is the score of each pick. Nested with ``rule=top``.

    Cost: the training of ``runs`` networks; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="cartography", keep=0.33, metric="confidence")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "top"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    metric: str = "variability"
    "Coordinate: variability, confidence or correctness."
    direction: str = "auto"
    "Which end is kept: auto (high variability, low confidence, low correctness), high or low."
    signals: str = ""
    "File (.parquet, .npz, .npy) with what metric names; columns: those of the set; empty: a network is trained."
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

    paper: ClassVar[str] = "Swayamdipta et al. Dataset cartography, EMNLP 2020"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32", "epochs": 10}

    def __post_init__(self) -> None:
        scores.known(self.metric, tuple(scores.METRICS), "metric")
        scores.known(self.direction, ("auto", "high", "low"), "direction")
        rule_of(self.rule)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[Any, ...]:
        """The runs, where no signals are given."""
        training = {"net": self.net, "epochs": self.epochs, "lr": self.lr, "batch": self.batch, "view": self.view}
        return () if self.signals else dynamics(self.runs, **training)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = (self.metric,)
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.cartography(known, self.metric, self.direction)
        how = {"rule": self.rule, "balanced": self.balanced, "seeds": seeds}
        return ranked(real, budget, score, **how, signals=known, hard=scores.doubt(known))

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
