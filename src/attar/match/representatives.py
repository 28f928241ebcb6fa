"""Real examples that stand for clusters of their class: what representative matching (DREAM) looks at in place of random ones."""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot

ROUNDS = 100
"""Most rounds of Lloyd's iteration."""


def representatives(features: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """The example nearest to each of k cluster centres: int64 [k], no example twice while there are others.

    Args:
        features: float [n, D]. With n <= k there is nothing to choose: every example comes, in turn.
        generator: of the centres' first places.
    """
    n = len(features)
    if not k:
        return torch.zeros(0, dtype=torch.int64, device=features.device)
    if n <= k:
        return torch.arange(k, device=features.device) % n
    return nearest(lloyd(features, k, generator), features)


def nearest(points: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The example nearest to each point that no earlier point has taken: int64 [k].

    Args:
        points: [k, D]. features: [n, D], n >= k.
    """
    gap = torch.cdist(points, features)  # [k, n]
    places = torch.empty(len(points), dtype=torch.int64, device=features.device)
    for row in range(len(points)):
        places[row] = gap[row].argmin()
        gap[:, places[row]] = torch.inf
    return places


def lloyd(features: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """Centres [k, D] of k-means from k random examples; a centre without a cluster stays where it is.

    Args:
        features: float [n, D], n >= k.
    """
    centres = features[torch.randperm(len(features), generator=generator)[:k].to(features.device)]
    for _ in range(ROUNDS):
        member = one_hot(torch.cdist(features, centres).argmin(1), k).to(features.dtype)  # [n, k]
        size = member.sum(0)[:, None]
        with torch.autocast(features.device.type, enabled=False):
            moved = torch.where(size > 0, member.T @ features / size.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
