"""Points that stand for a cloud: its Wasserstein barycentre on k points of equal mass.

Cuturi and Doucet, "Fast Computation of Wasserstein Barycenters", ICML 2014, with one measure: carry the mass of n examples to k
points at the least cost, move every point to the mean of what it got, and again. With n = k the points are the examples;
with hard plans it is k-means with clusters of one size.

The plan is that of Sinkhorn's iteration (Cuturi, NeurIPS 2013) with little entropy, so a solution to within ``BLUR`` of the
mean cost, in the memory of three n x k matrices.
"""

from __future__ import annotations

import math

import torch

from attar.execute.precision import full

BLUR = 0.005
"""Entropy of the plan in parts of the mean cost."""
ROUNDS = 10
"""Plans, and moves of the points."""
SCALINGS = 10
"""Sinkhorn's iterations at each entropy, which begins at the largest cost and is halved until it is the plan's: far examples
would take thousands of iterations at the last one alone."""
LAST, ERROR = 300, 0.005
"""Most iterations at the last entropy, which end where every example gives its mass to within this part."""


def barycentre(x: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """k points that carry an equal share of the examples each: float [n, D] -> [k, D].

    Args:
        generator: of the examples at which the points begin; with n < k each comes in turn.
    """
    if not k:
        return x[:0]
    order = torch.randperm(len(x), generator=generator)
    points = x[order[torch.arange(k) % len(x)].to(x.device)]
    with full(x.device):  # a plan of mass is no network
        for _ in range(ROUNDS):
            before, points = points, k * plan(x, points).T @ x
            if torch.allclose(points, before, rtol=1e-4):
                break
    return points


def plan(x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """How much of each example goes to each point: [n, D], [k, D] -> [n, k], with sums 1 / k of each column (to rounding)
    and 1 / n of each row (nearly).
    """
    cost = torch.cdist(x, points).square()  # [n, k]
    n, k = cost.shape
    rows, columns = cost.new_zeros(n), cost.new_zeros(k)  # what mass costs more where it is asked for
    last = BLUR * cost.mean() + torch.finfo(cost.dtype).tiny
    for halvings in reversed(range(1 + int(torch.log2(cost.max() / last).clamp(min=0).nan_to_num(0.0)))):
        blur = last * 2**halvings
        for i in range(SCALINGS if halvings else LAST):
            rows = -blur * (math.log(n) + torch.logsumexp((columns - cost) / blur, 1))
            columns = -blur * (math.log(k) + torch.logsumexp((rows[:, None] - cost) / blur, 0))
            if i % SCALINGS == SCALINGS - 1 and not halvings:
                given = torch.logsumexp((rows[:, None] + columns - cost) / blur, 1).exp()  # [n]
                if (n * given - 1).abs().max() < ERROR:
                    break
    return torch.exp((rows[:, None] + columns - cost) / last)
