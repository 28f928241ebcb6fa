"""Facility location. Kai Wei, Rishabh Iyer and Jeff Bilmes, Submodularity in data subset selection and active learning,
ICML 2015; greedy by Minoux 1978 and Mirzasoleiman et al. 2015 (:mod:`attar.select.greedy`).

Every example is served by the kept one that is most like it; keep those that serve all best. Each pick adds what it serves
better than the picks before it, so the picks of a smaller budget come first (but for the stochastic optimiser).

    F(S)    = sum over i of max over j in S of s_ij        s_ij = 1/2 + 1/2 cos(x_i, x_j)
    gain(e) = sum over i of max(0, s_ie - c_i),            c_i = max over j in S of s_ij

The similarities of a group are computed once, in one matrix product, where n^2 numbers fit into ``memory``; else block by
block each time they are looked at, and never stored. In bfloat16 a similarity is rounded by at most 2^-9 of itself, gains are
still added up in float32; F of 1,000 picks out of 10,000 was lower by less than 1e-4.

Differs from official code: DeepCore (Guo, Zhao and Bai 2022) sums the gains of more than one batch from the first batch
alone, samples (n / k) ln(1 / 0.9) examples a step in its stochastic greedy, which is near to random, and returns sorted
places; apricot (Schreiber, Bilmes and Noble 2020) always allocates n^2 float64 numbers. Here blocks add up, eps is 0.01,
and the order of the picks is kept.
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
from attar.select.submodular.facility import Facility
from attar.select.submodular.similarity import BLOCK, CONVENTION, Cosine, known, stored, table_bytes


@dataclass(frozen=True, kw_only=True)
class FacilityLocation(Method):
    """Keeps those that serve all others best. Nested: greedy picks in order (not with ``optimiser=stochastic``).

    ``gain`` is what each pick added to F; exact and lazy gains never grow.

    Cost: n^2 D multiply-adds for the similarities of a group of n, once where they fit into ``memory``; n similarities for
    each gain looked at, n + a few M of them when lazy.

    Example:
        >>> attar.select("photos/", method="facility-location", ipc=10, features="trained")
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    optimiser: str = "lazy"
    "How picks are found: lazy (the picks of exact, much faster), exact, or stochastic (the best of random samples)."
    eps: float = 0.01
    "Accuracy of the stochastic optimiser, which looks at (n / M) ln(1 / eps) examples a pick."
    memory: float = 2.0
    "GiB that the similarities of one group may take; larger groups are computed block by block instead."
    similarities: str = "float32"
    "float32, or bfloat16: half the memory and up to twice as fast, and other picks among those that are as good to 1e-3."

    paper: ClassVar[str] = "Wei, Iyer and Bilmes, Submodularity in data subset selection and active learning, ICML 2015"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once
        check_optimiser(self.optimiser, self.eps)
        positive(memory=self.memory)
        known(self.similarities)

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; random for the stochastic optimiser alone."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            cosine = Cosine(features_of(real, res, rows).to(real.device), self.similarities)
            f = Facility(stored(cosine, self.memory * 2**30, self.similarities))
            return Picks(*maximise(f, k, optimiser=self.optimiser, eps=self.eps, seeds=seeds.at("group", group)))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state, {"similarity": CONVENTION})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """The similarities once, and 16 rows of them a pick; two copies of a group's features, or its similarities."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        flops = sum(2.0 * m * m * width + 48.0 * m * k for m, k in zip(n, counts(real, budget, self.balanced)))
        table = table_bytes(max(n), self.memory * 2**30, self.similarities)
        return Cost(flops_per_step=flops, memory=8.0 * max(n) * width + table + 4.0 * min(BLOCK, max(n) ** 2))
