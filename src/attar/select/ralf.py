"""Graph density. Sandra Ebert, Mario Fritz and Bernt Schiele, RALF: A reinforced active learning formulation for object
class recognition, CVPR 2012.

An example with many close neighbours stands for many. Pick the densest; as its neighbours are then spoken for, lower them.

    w_ij  = exp(-gamma |x_i - x_j|_1)  where one is among the k nearest of the other
    g_i   = mean over its edges of w_ij
    next  = argmax of g;    g_j = g_j - g_next  for every neighbour j

Differs from the paper, whose RALF goes on to mix this with the uncertainty of a classifier by a learned policy: the density
sampler stands alone here, as it is mostly used. Differs from the code of google/active-learning: once the densities left
are negative, subtracting one there raises the neighbours, and late picks clump; here it lowers nothing (``clamp``). That
code sets the picked back one by one at every step, which is quadratic; here a heap finds the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.graph import Graph
from attar.seeds import Seeds
from attar.select.pick import Picks, groups, pick, rows_of
from attar.select.suppress import edges_of, summed, suppress


@dataclass(frozen=True, kw_only=True)
class RALF(Method):
    """Densest first, with suppression of the neighbours. Nested: greedy picks in order.

    ``gain`` is the density that was left to a pick when it was picked.

    Cost: the graph (every pair once, by blocks); then O((n + M k) log n). 8 N k bytes.

    Example:
        >>> attar.select("photos/", method="ralf", ipc=10, features="trained")
    """

    balanced: bool = True
    "Same number of every class, neighbours inside each class; else one pool over all classes."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    neighbours: int = 10
    "Nearest neighbours of each example."
    gamma: float | None = None
    "How fast the weight falls with distance; by default one over the number of features."
    clamp: bool = True
    "A pick of negative density leaves its neighbours as they are."
    search: str = "exact"
    "How neighbours are found: exact, or approximate (needs faiss)."

    paper: ClassVar[str] = "Ebert, Fritz and Schiele, RALF: a reinforced active learning formulation, CVPR 2012"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(neighbours=self.neighbours, gamma=self.gamma)
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The graph."""
        return (
            Graph(
                k=self.neighbours,
                metric="manhattan",
                within=self.balanced,
                search=self.search,
                source=self.features,
                net=self.net,
                epochs=self.epochs,
            ),
        )

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks; nothing random."""
        gamma = self.gamma or 1 / res["features"]["features"].shape[1]

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            edges = edges_of(res["graph"], rows)
            density = summed(edges, np.exp(-gamma * edges.length)) / np.diff(edges.start).clip(min=1)  # [n]
            return Picks(*suppress(density, edges, np.ones(len(edges.to)), k, clamp=self.clamp))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A few operations an edge; the neighbours of the largest group, twice."""
        n = max((len(g) for g in groups(real, self.balanced)), default=0)
        return Cost(
            flops_per_step=8.0 * len(real) * self.neighbours, memory=30.0 * n * self.neighbours + 8.0 * len(real)
        )
