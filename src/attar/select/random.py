"""Uniform random selection: the control beside every other result.

Every example gets a key that is a hash of the seed and its id; the examples with the smallest keys are kept.

    key_i = mix(seed + (id_i + 1) * g)      g = 2^64 / golden ratio, mix = the finaliser of splitmix64
    picks = the k smallest keys of each class, smallest first

The hash: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014. It is one to one on 64 bits,
so that different ids never tie. A key needs neither the other examples nor their order: the choice is the same
read at once or in parts, for a permuted set, and that of k contains that of every smaller k. (Selection from shards has a
seed of its own, and so another choice than this one of the same rows, on any number of workers.)

Differs from common code, which shuffles positions with a generator: there the choice changes with the order of the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.hashed import keys, smallest
from attar.select.pick import Picks, pick


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Uniform without replacement, nested in the budget and independent of the order of the set.

    Cost: one pass over N ids; 16 bytes an example.

    Example:
        >>> attar.select("photos/", method="random", ipc=10)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."

    paper: ClassVar[str] = "uniform random sampling"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks. The same keys serve every class and the pool."""
        seed = seeds.number("random")

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            return Picks(smallest(keys(real.ids[rows].numpy(), seed), k), torch.zeros(k))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks; chance has no gains to report."""
        return Rows(picked=state["picked"], weight=state["weight"])

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A few integer operations and two words per example."""
        return Cost(flops_per_step=8.0 * len(real), memory=16.0 * len(real))
