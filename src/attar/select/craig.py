"""CRAIG. Baharan Mirzasoleiman, Jeff Bilmes and Jure Leskovec, Coresets for data-efficient training of machine learning
models, ICML 2020.

A weighted subset whose gradient is near the gradient of all: let every example be represented by the kept one of the most
similar gradient, and weigh a kept example by how many it represents. What is left over is at most the sum of the distances,
and making that small is facility location.

    || sum_i g_i - sum_{j in S} w_j g_j ||  <=  sum_i min_{j in S} || g_i - g_j ||
    F(S) = sum_i max_{j in S} (const - || g_i - g_j ||),      w_j = how many i have j as their nearest

with last-layer gradients g_i = (p_i - y_i) (x) [h_i, 1], whose distances come from products of their factors.

Differs from official code: the weights of DeepCore (Guo, Zhao and Bai 2022) start from one, so that they sum to n + k, and it
fills n x n zeros where classes are not kept apart; CORDS (Killamsetty et al. 2021) shuffles the rows of the similarities
against the examples, takes squared distances and expands them to n x n x K (D + 1) numbers. Here the weights sum to exactly n
in each group, and n^2 numbers are stored only where they fit into ``memory``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.gradients import Gradients
from attar.seeds import Seeds
from attar.select.factored import Factors, distances, factors_of, norms
from attar.select.greedy import check_optimiser, maximise
from attar.select.pick import Picks, counts, groups, pick, rows_of
from attar.select.submodular.facility import Facility
from attar.select.submodular.similarity import BLOCK, STRIP, stored, table_bytes, whole_sums


@dataclass(frozen=True, kw_only=True)
class CRAIG(Method):
    """Keeps examples whose weighted gradients stand for all gradients. The picks are nested, their weights are not.

    ``gain`` is what each pick takes off the sum of distances (the first: off ``const`` each); ``weight`` is how many
    examples it stands for, itself among them, and training uses it.

    Cost: a training, two forwards of every image; then n^2 (K + D) multiply-adds for a group of n, once where its distances
    fit into ``memory``.

    Example:
        >>> attar.select("photos/", method="craig", ipc=10)
    """

    balanced: bool = True
    "Same number of every class, picked inside each class; else one pool over all classes."
    net: str = "convnet"
    "The network whose gradients are compared."
    epochs: int = 10
    "Epochs of its training; 0 takes it as it is initialised."
    optimiser: str = "lazy"
    "How picks are found: lazy (the picks of exact, much faster), exact, or stochastic (the best of random samples)."
    eps: float = 0.01
    "Accuracy of the stochastic optimiser, which looks at (n / M) ln(1 / eps) examples a pick."
    memory: float = 2.0
    "GiB that the distances of one group may take; larger groups are computed block by block instead."

    paper: ClassVar[str] = "Mirzasoleiman, Bilmes and Leskovec, Coresets for data-efficient training, ICML 2020"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"
    quick: ClassVar[Mapping[str, Any]] = {"net": "convnet:width=32"}

    def __post_init__(self) -> None:
        self.needs()  # refuses impossible training at once
        check_optimiser(self.optimiser, self.eps)
        positive(memory=self.memory)

    def needs(self) -> tuple[Any, ...]:
        """The gradients."""
        return (Gradients(net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks and weights; random for the stochastic optimiser alone."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = factors_of(real, res, rows)
            f = Facility(stored(Closeness(x), self.memory * 2**30))
            places, gain = maximise(f, k, optimiser=self.optimiser, eps=self.eps, seeds=seeds.at("group", group))
            return Picks(places, gain, represented(x, places))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks in order; training weighs them."""
        return rows_of(state, {"weighted": True, "similarity": "const - distance of last-layer gradients"})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """The distances once, and 16 rows of them a pick; a group's factors and distances, with what a block of them takes."""
        n, width = [len(g) for g in groups(real, self.balanced)], real.n_classes + self.needs()[0].width(real)
        flops = sum(2.0 * m * m * width + 48.0 * m * k for m, k in zip(n, counts(real, budget, self.balanced)))
        table = table_bytes(max(n), self.memory * 2**30)
        block = 16.0 * min(max(BLOCK, max(n) * STRIP), max(n) ** 2)
        return Cost(flops_per_step=flops, memory=8.0 * max(n) * width + table + block)


class Closeness:
    """const - || g_i - g_j || with the least const that needs no look at the pairs: twice the longest gradient.

    Another const changes no pick, as each example is represented by one pick whatever they are.
    """

    def __init__(self, x: Factors) -> None:
        self.x, self.const = x, 2 * norms(x).max()

    def __len__(self) -> int:
        return len(self.x.a)

    @property
    def device(self) -> torch.device:
        """Where the factors are."""
        return self.x.a.device

    def rows(self, places: torch.Tensor, columns: slice) -> torch.Tensor:
        """int64 [b] -> [b, c], not below 0; an example is at distance 0 from itself, whatever rounding says."""
        apart = distances(self.x.at(places), self.x.at(columns))
        itself = places[:, None] == torch.arange(len(self), device=self.device)[columns]
        return apart.masked_fill_(itself, 0).neg_().add_(self.const).clamp_min_(0)

    def sums(self) -> torch.Tensor:
        """float64 [n]; looks at all pairs."""
        return whole_sums(self)


def represented(x: Factors, places: torch.Tensor) -> torch.Tensor:
    """How many of n examples each of k picks stands for: the nearest pick of each, ties to the earlier; picks for themselves.

    Args:
        x: the gradients of all n.
        places: int64 [k], unique.

    Returns:
        int64 [k], each at least 1, the sum exactly n.
    """
    kept = x.at(places.to(x.a.device))
    strips = [slice(i, i + STRIP) for i in range(0, len(x.a), STRIP)]
    owner = torch.cat([distances(x.at(strip), kept).argmin(1) for strip in strips]).cpu()  # [n]
    owner[places] = torch.arange(len(places))
    return owner.bincount(minlength=len(places))
