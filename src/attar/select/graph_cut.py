"""Graph cut. Rishabh Iyer, Ninad Khargoankar, Jeff Bilmes and Himanshu Asanani, Submodular combinatorial information
measures with applications in machine learning, ALT 2021.

Keep what is like everything, and not like what is kept already. Greedy: the picks of a smaller budget come first.

    F(S)    = lam * (sum over i in V, j in S of s_ij) - (sum over i, j in S of s_ij)      s_ij = 1/2 + 1/2 cos(x_i, x_j)
    gain(e) = lam * (sum over i of s_ie) - s_ee - 2 * (sum over j in S of s_je)

A sum of cosines is a product with a sum of unit vectors, so no similarity of two examples is ever computed.

Differs from official code: DeepCore (Guo, Zhao and Bai 2022) fills an n x n table and takes lam = 1, for which late gains
can be negative; lam = 2 is the least for which more examples are never worse. Its gain leaves out s_ee, which is the same
for all with its similarities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.greedy import check_optimiser, maximise
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of
from attar.select.submodular.cut import Cut
from attar.select.submodular.similarity import CONVENTION, lifted


@dataclass(frozen=True, kw_only=True)
class GraphCut(Method):
    """Keeps what is near to all and far from the kept. Nested: greedy picks in order (not with ``optimiser=stochastic``).

    ``gain`` is what each pick added to F.

    Cost: O(n D) for a group of n, and D multiply-adds for each gain looked at; two copies of one group's features.

    Example:
        >>> attar.select("photos/", method="graph-cut", ipc=10, features="trained")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    lam: float = 2.0
    "Weight of likeness to everything against likeness to the kept; below 2, gains can become negative."
    optimiser: str = "lazy"
    "How picks are found: lazy (the picks of exact, faster), exact, or stochastic (the best of random samples)."
    eps: float = 0.01
    "Accuracy of the stochastic optimiser, which looks at (n / M) ln(1 / eps) examples a pick."

    paper: ClassVar[str] = "Iyer, Khargoankar, Bilmes and Asanani, Submodular information measures, ALT 2021"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once
        check_optimiser(self.optimiser, self.eps)
        positive(lam=self.lam)

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; random for the stochastic optimiser alone."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            f = Cut(lifted(features_of(real, res, rows).to(real.device)), self.lam)
            return Picks(*maximise(f, k, optimiser=self.optimiser, eps=self.eps, seeds=seeds.at("group", group)))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state, {"similarity": CONVENTION})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A pass over the features, and 64 gains a pick; two copies of the largest group's features."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        flops = sum(6.0 * m * width + 128.0 * k * width for m, k in zip(n, counts(real, budget, self.balanced)))
        return Cost(flops_per_step=flops, memory=8.0 * max(n) * width)
