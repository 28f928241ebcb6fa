"""CCS. Haizhong Zheng, Rui Liu, Fan Lai and Atul Prakash, Coverage-centric coreset selection for high pruning rates, ICLR 2023,
arXiv 2210.15809.

Where little is kept, the hardest examples alone leave most of the data without a neighbour. Leave out the very hardest, which
are mostly mislabelled, and keep as many of every other difficulty, by the margin over the training.

    score_i = - mean over t of ( p_y(t) - max over c != y of p_c(t) );  strata of equal width, min(|stratum|, x) of each

Differs from the official code, which returns too few where the cutoff leaves too few, loses the hardest example where all
margins are negative, and takes the last class's size for all classes when balanced. The cutoff is tuned by the authors for each
amount (0.3 where a tenth of CIFAR-10 is kept). Images are learned as they are, where the authors crop and mirror them.

The rule's ``cutoff`` is the share of the hardest that is left out, ``strata`` how many ranges of the score are covered; with
``rule=top`` this is AUM.
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
class CCS(Method):
    """Covers all difficulties evenly but for the hardest. Nested as long as the cutoff leaves enough.

    ``gain`` is the score of each pick, less the margin.

    Cost: the training of ``runs`` networks; with ``signals`` a sort of N numbers alone.

    Example:
        >>> attar.select("photos/", method="ccs", keep=0.1, rule="ccs:cutoff=0.3")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes, as in the paper."
    rule: str = "ccs:strata=50:cutoff=0.1"
    "How the score becomes a choice: top, stratified, ccs or beta, with settings as in ccs:strata=50:cutoff=0.1."
    margin: str = "probability"
    "Margin of: probability (as the official code) or logit (as AUM)."
    signals: str = ""
    "File (.parquet, .npz, .npy) with aum_probability, or aum; columns: those of the set; empty: a network is trained."
    net: str = "convnet"
    "The network that is watched."
    epochs: int = 30
    "Epochs of its training (200 in the paper)."
    lr: float = 0.01
    "Learning rate of its training, falling to 0 along a cosine."
    batch: int = 256
    "Largest batch of its training."
    runs: int = 1
    "Independent trainings whose signals are averaged."
    view: str = "train"
    "Whose logits: train (the optimisation forward) or eval (one more in evaluation mode: other by batch norms and dropout)."

    paper: ClassVar[str] = "Zheng, Liu, Lai and Prakash, Coverage-centric coreset selection, ICLR 2023"
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
