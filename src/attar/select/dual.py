"""DUAL. Yeseul Cho, Baekrok Shin, Changmin Kang and Chulhee Yun, Lightweight dataset pruning without full training via
example difficulty and prediction uncertainty, ICML 2025, arXiv 2502.06905.

Uncertainty alone (Dyn-Unc) is seen only late in training; multiplied by difficulty it can be read after a few epochs. What is
kept is drawn with a chance that moves from uncertain to easy examples as fewer are kept.

    score_i = mean over k <= T - J of  std(p_y(k .. k + J - 1)) (1 - mean(p_y(k .. k + J - 1)))
    chance_i = score_i Beta(mean p_y; a, b) / sum,  a and b by the share kept (see the rule beta)

Differs from the official code, which multiplies the spread by ten, keeps the probabilities of all epochs, and draws from
numpy's global generator; the chance of an example is the same. As there, the first T of 200 epochs are watched; but their
images are not transformed, where the authors crop and mirror them.

With ``rule=beta`` (``cd`` 5.5 on CIFAR-10, 4 on CIFAR-100, 11 on ImageNet in the paper) chance decides; ``rule=top``
keeps the highest scores, the paper's DUAL without sampling.
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
class DUAL(Method):
    """Draws examples that are uncertain and not too hard, easier ones as fewer are kept. Not nested.

    ``gain`` is the score of each pick.

    Cost: the training of ``runs`` networks; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="dual", keep=0.2, rule="beta:cd=4")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "beta"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    window: int = 10
    "Epochs of the window, J."
    signals: str = ""
    "File (.parquet, .npz, .npy) with dual (and confidence for beta); columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 30
    "Epochs of its training, T."
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

    paper: ClassVar[str] = "Cho, Shin, Kang and Yun, Lightweight dataset pruning without full training, ICML 2025"
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
        return () if self.signals else dynamics(self.runs, **training, window=self.window)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        names = ("dual",)
        known = seen(real, res, self.signals, self.runs, names)
        score = scores.dual(known)
        how = {"rule": self.rule, "balanced": self.balanced, "seeds": seeds}
        return ranked(real, budget, score, **how, signals=known, hard=scores.doubt(known))

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A sort."""
        return ranking_cost(real)
