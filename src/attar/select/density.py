"""Density-based pruning. Amro Abbas, Evgenia Rusak, Kushal Tirumala, Wieland Brendel, Kamalika Chaudhuri and Ari Morcos,
Effective pruning of web-scale datasets based on complexity of concept clusters, ICLR 2024, arXiv 2401.04578.

A cluster that is wide and far from others is complex and gets more of the budget; one that is dense and near others gets
less. In each cluster the hardest examples are kept, those farthest from its centre.

    d_inter(c) = mean of 1 - cos to the nearest ``near`` other centres,   d_intra(c) = mean of 1 - cos of its members to c
    P          = softmax over c of d_inter d_intra / tau
    n_1 ...    = argmin of || n - k P ||^2  s.t.  sum n = k,  low_c <= n_c <= size_c

The quadratic programme is a projection: n = clip(k P + mu, low, size) for the one mu whose sum is k; found exactly by
sorting the places where a part meets a bound. Whole numbers follow by largest remainder.

Differs from the official code, which calls a solver for the programme. ``low`` is ``floor`` times what a cluster would have
got by its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from attar.budget import Budget
from attar.errors import UsageError
from attar.execute import pairs
from attar.method import Cost, Method, Resources, Rows, State, positive
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds
from attar.select.clusters import from_centre, partition
from attar.select.pick import Picks, features_of, groups, pick, rows_of


@dataclass(frozen=True, kw_only=True)
class Density(Method):
    """More examples of complex clusters, the hardest of each. Not nested in the budget.

    ``gain`` is the cosine distance of a pick from the centre of its cluster; the farthest come first.

    Cost: O(n c D) a round of k-means with c clusters, at most ``rounds``; three copies of one group's features, O(n D).

    Example:
        >>> attar.select("photos/", method="density", keep=0.3, features="trained")
    """

    balanced: bool = False
    "Same number of every class, clusters inside each class; else one pool, as in the paper."
    features: str = "pixels"
    "What is compared: pixels, random (a randomly initialised network) or trained (a network trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."
    clusters: int = 100
    "Clusters of each pool; at most a tenth of its examples."
    near: int = 20
    "Nearest other centres that tell how far a cluster is from others."
    tau: float = 0.5
    "Temperature; higher: the same for every cluster."
    floor: float = 0.5
    "Least share of a cluster, as a part of what its size would give it; 0 to 1."
    rounds: int = 100
    "Most iterations of k-means."

    paper: ClassVar[str] = "Abbas, Rusak, Tirumala, Brendel, Chaudhuri and Morcos, Effective pruning, ICLR 2024"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def __post_init__(self) -> None:
        positive(clusters=self.clusters, near=self.near, tau=self.tau, rounds=self.rounds)
        if not 0 <= self.floor <= 1:
            raise UsageError(f"floor={self.floor} is not in [0, 1]; try floor=0.5")
        self.needs()  # refuses unknown features and networks at once

    def needs(self) -> tuple[Any, ...]:
        """The features."""
        return (Features(source=self.features, net=self.net, epochs=self.epochs),)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            x = pairs.unit(features_of(real, res, rows))  # [n, D]
            seed = seeds.number("kmeans", group) % 2**32
            centres, members = partition(x, clusters_of(len(x), self.clusters), seed, rounds=self.rounds)
            far = from_centre(x, centres, members, metric="cosine").double()
            share = complexity(centres, members, far, self.near, self.tau)
            return hardest(far, members, shares(share, members, k, self.floor))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks, those farthest from their centre first."""
        return rows_of(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """All rounds of k-means, a product and a sum each; the features of the largest group, as they are and of length 1."""
        n, width = max(len(g) for g in groups(real, self.balanced)), self.needs()[0].width(real)
        c = clusters_of(n, self.clusters)
        memory = 8.0 * n * width + 4.0 * c * (width + c)
        return Cost(flops_per_step=4.0 * self.rounds * len(real) * c * width, memory=memory)


def clusters_of(n: int, wanted: int) -> int:
    """How many clusters n examples are cut into: the number wanted, at most a tenth of n, at least one."""
    return max(1, min(wanted, n // 10))


def complexity(centres: torch.Tensor, members: torch.Tensor, far: torch.Tensor, near: int, tau: float) -> torch.Tensor:
    """The share of each cluster, softmax of d_inter d_intra / tau: float64 [c], 0 for empty clusters.

    Args:
        centres: float [c, D]. members: int64 [n]. far: float64 [n], from the centre.
        near: other centres that count, all where there are fewer. tau: temperature.
    """
    size = members.bincount(minlength=len(centres))
    there = torch.nonzero(size).flatten()
    intra = torch.zeros(len(size), dtype=torch.float64).index_add_(0, members, far)[there] / size[there]
    inter = torch.zeros(len(there), dtype=torch.float64)
    if len(there) > 1:
        some, m = centres[there], min(near, len(there) - 1)
        inter = pairs.closest(some, some, m, metric="cosine", own=torch.arange(len(some)))[1].double().mean(1).cpu()
    share = torch.zeros(len(size), dtype=torch.float64)
    share[there] = (inter * intra / tau).softmax(0)
    return share


def shares(share: torch.Tensor, members: torch.Tensor, k: int, floor: float) -> list[int]:
    """How many of each cluster: whole numbers that sum to k, none above the cluster's size.

    Args:
        share: float64 [c], sums to 1. members: int64 [n].
        floor: least part of what the size alone would give.
    """
    size = members.bincount(minlength=len(share)).double()
    parts = project((k * share).numpy(), (floor * k * size / len(members)).numpy(), size.numpy(), k)
    whole = np.floor(parts + 1e-9)
    left = np.lexsort((np.arange(len(parts)), whole - parts))  # the largest remainder first, ties to the lower cluster
    open_ = [int(c) for c in left if whole[c] < size[c]]
    for c in open_[: k - int(whole.sum())]:
        whole[c] += 1
    return [int(w) for w in whole]


def project(target: np.ndarray, low: np.ndarray, high: np.ndarray, total: float) -> np.ndarray:
    """The nearest point in a box whose parts sum to a total.

        argmin of || n - target ||^2  s.t.  sum n = total,  low <= n <= high
        = clip(target + mu, low, high);  the sum is piecewise linear in mu and bends where a part meets a bound

    Args:
        target, low, high: float64 [c], sum low <= total <= sum high.

    Returns:
        float64 [c].
    """
    bends = np.unique(np.concatenate([low - target, high - target]))
    sums = np.array([np.clip(target + mu, low, high).sum() for mu in bends])
    i = int(np.clip(np.searchsorted(sums, total), 1, len(bends) - 1)) if len(bends) > 1 else 0
    if i == 0 or sums[i] == sums[i - 1]:
        return np.clip(target + bends[i], low, high)
    mu = bends[i - 1] + (bends[i] - bends[i - 1]) * (total - sums[i - 1]) / (sums[i] - sums[i - 1])
    return np.clip(target + mu, low, high)


def hardest(far: torch.Tensor, members: torch.Tensor, parts: list[int]) -> Picks:
    """The farthest of each cluster, then all of them by falling distance; ties to the lower place."""
    order = far.argsort(descending=True, stable=True)
    chosen = torch.cat([order[members[order] == c][:m] for c, m in enumerate(parts)])
    places = chosen.sort().values
    places = places[far[places].argsort(descending=True, stable=True)]
    return Picks(places, far[places])
