"""Saturated coverage. Hui Lin and Jeff Bilmes, A class of submodular functions for document summarization, ACL 2011.

Every example is to have enough likeness among the kept, and more than enough counts for nothing: so the kept move on to
what is not covered yet. Greedy by :mod:`attar.select.greedy`.

    F(S)    = sum over i of min(C_i(S), alpha * C_i(V)),     C_i(S) = sum over j in S of s_ij
    gain(e) = sum over i of min(s_ie, max(0, alpha * C_i(V) - C_i(S)))
    s_ij    = 1/2 + 1/2 cos(x_i, x_j)

Differs from official code: apricot (Schreiber, Bilmes and Noble 2020) fixes a limit of 0.1, beyond which all gains are 0
and the rest of a large budget is arbitrary; here alpha follows the budget unless it is set. Similarities are stored only
where they fit into ``memory``, as for facility location.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.errors import UsageError
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.greedy import check_optimiser, maximise
from attar.select.pick import Picks, counts, features_of, groups, pick, rows_of
from attar.select.submodular.saturated import Saturated
from attar.select.submodular.similarity import BLOCK, CONVENTION, Cosine, stored, table_bytes


@dataclass(frozen=True, kw_only=True)
class SaturatedCoverage(Method):
    """Keeps examples until each one is covered well enough. Nested where ``alpha`` is set and the optimiser not stochastic.

    ``gain`` is what each pick added to F; exact and lazy gains never grow.

    Cost: n^2 D multiply-adds for the similarities of a group of n, once where they fit into ``memory``; n similarities for
    each gain looked at, n + a few M of them when lazy.

    Example:
        >>> attar.select("photos/", method="saturated-coverage", ipc=10, alpha=0.1)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    alpha: float | None = None
    "Share of an example's likeness to all that covers it, up to 1; none given, the share of the group that is kept."
    optimiser: str = "lazy"
    "How picks are found: lazy (the picks of exact, much faster), exact, or stochastic (the best of random samples)."
    eps: float = 0.01
    "Accuracy of the stochastic optimiser, which looks at (n / M) ln(1 / eps) examples a pick."
    memory: float = 2.0
    "GiB that the similarities of one group may take; larger groups are computed block by block instead."

    paper: ClassVar[str] = "Lin and Bilmes, A class of submodular functions for document summarization, ACL 2011"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        self.needs()  # refuses unknown features and networks at once
        check_optimiser(self.optimiser, self.eps)
        positive(memory=self.memory, alpha=self.alpha)
        if self.alpha is not None and self.alpha > 1:
            raise UsageError(f"alpha={self.alpha} is a share of all and must be at most 1; try 0.1")

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; random for the stochastic optimiser alone."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            cosine = Cosine(features_of(real, res, rows).to(real.device))
            f = Saturated(stored(cosine, self.memory * 2**30), self.alpha or k / len(rows))
            return Picks(*maximise(f, k, optimiser=self.optimiser, eps=self.eps, seeds=seeds.at("group", group)))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state, {"similarity": CONVENTION})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """The similarities once, and 16 rows of them a pick; two copies of a group's features, or its similarities."""
        n, width = [len(g) for g in groups(real, self.balanced)], self.needs()[0].width(real)
        flops = sum(2.0 * m * m * width + 32.0 * m * k for m, k in zip(n, counts(real, budget, self.balanced)))
        table = table_bytes(max(n), self.memory * 2**30)
        return Cost(flops_per_step=flops, memory=8.0 * max(n) * width + table + 4.0 * min(BLOCK, max(n) ** 2))
