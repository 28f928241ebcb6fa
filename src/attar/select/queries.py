"""What active learning asks next: how unsure a network is of each candidate, and rules that also look at how they differ.

Letters: n candidates, E networks, K classes, D features. Scores: high = ask. Ties go to the lower place.

    least-confidence   1 - max_c p_c                                         Lewis and Gale 1994
    entropy            - sum_c p_c ln p_c                                    Shannon 1948
    margin             - (largest p - second largest p)                      Scheffer, Decomain and Wrobel 2001
    bald               H(mean_e p_e) - mean_e H(p_e)                         Houlsby et al. 2011; Gal, Islam and Ghahramani 2017
    kcenter            distance to the nearest labelled or picked example    Sener and Savarese 2018
    badge              k-means++ over (p - onehot(argmax p)) x h             Ash et al. 2020
"""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot

from attar.execute import pairs
from attar.select.room import Room

TWIN = 1e-12
"""Squared distances below this share of the squared lengths are rounding: the two are the same."""


def least_confidence(p: torch.Tensor) -> torch.Tensor:
    """1 - max p: [n, K] -> [n]."""
    return 1 - p.max(1).values


def entropy(p: torch.Tensor) -> torch.Tensor:
    """- sum p ln p, with 0 ln 0 = 0: [..., K] -> [...]."""
    return torch.special.entr(p).sum(-1)


def margin(p: torch.Tensor) -> torch.Tensor:
    """Minus the gap between the two likeliest classes: [n, K] -> [n]; of one class, minus its probability."""
    best = p.topk(min(2, p.shape[1]), dim=1).values
    return best[:, 1:].sum(1) - best[:, 0]


def bald(p: torch.Tensor) -> torch.Tensor:
    """What the answer would tell about which network is right: [E, n, K] -> [n]."""
    return entropy(p.mean(0)) - entropy(p).mean(0)


def highest(score: torch.Tensor, k: int, room: Room) -> tuple[torch.Tensor, torch.Tensor]:
    """The k highest that there is room for: float [n] -> places int64 [k] and their scores."""
    places = room.along(score.argsort(descending=True, stable=True), k)
    return places, score[places]


def cover(features: torch.Tensor, centres: torch.Tensor, k: int, room: Room) -> tuple[torch.Tensor, torch.Tensor]:
    """Farthest first from what is labelled: each pick is the farthest from all labelled and picked ones.

    Args:
        features: float [n, D], finite. centres: float [m, D], the labelled ones, m >= 1.

    Returns:
        places int64 [k]; and the distance of each to the nearest labelled or earlier one.
    """
    near = pairs.lowest(features, centres)[1]  # [n]
    places, gains = torch.empty(k, dtype=torch.int64), torch.empty(k, dtype=near.dtype)
    for t in range(k):
        j = int(near.masked_fill(~room.free, -1.0).argmax())
        places[t], gains[t] = j, near[j]
        room.take(j)
        near = torch.minimum(near, pairs.to_point(features, features[j]))
    return places, gains


def surprise(p: torch.Tensor) -> torch.Tensor:
    """p - onehot(argmax p): the gradient for the logits, were the likeliest class right; [n, K] -> [n, K]."""
    return p - one_hot(p.argmax(1), p.shape[1]).to(p.dtype)


def spread(
    a: torch.Tensor, h: torch.Tensor, k: int, room: Room, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """k-means++ over the outer products a_i x h_i, which are never made (Arthur and Vassilvitskii 2007).

        | a_i x h_i - a_j x h_j |^2 = |a_i|^2 |h_i|^2 + |a_j|^2 |h_j|^2 - 2 (a_i . a_j) (h_i . h_j)

    The first pick is the longest; each other is drawn with a chance in proportion to its squared distance to the nearest
    earlier pick. Where all that are left are twins of picks, the lowest place is taken.

    Args:
        a: float64 [n, K]. h: float64 [n, D].
        generator: on the CPU; one number a pick but the first.

    Returns:
        places int64 [k]; and the squared distance of each to the nearest earlier pick (of the first, its squared length).

    Cost: O(n (K + D)) a pick.
    """
    length = a.square().sum(1) * h.square().sum(1)  # [n]
    near, mass = length, length
    places, gains = torch.empty(k, dtype=torch.int64), torch.empty(k, dtype=a.dtype)
    for t in range(k):
        j = int(mass.masked_fill(~room.free, -1.0).argmax()) if t == 0 else _drawn(near, room.free, generator)
        places[t], gains[t] = j, near[j]
        room.take(j)
        both = length + length[j]
        d = both - 2 * (a @ a[j]) * (h @ h[j])
        d = d.masked_fill(d <= TWIN * both, 0.0)
        near = d if t == 0 else torch.minimum(near, d)
    return places, gains


def _drawn(near: torch.Tensor, free: torch.Tensor, generator: torch.Generator) -> int:
    """A free place, with a chance in proportion to ``near``: [n], bool [n] -> int."""
    u = torch.rand((), dtype=torch.float64, generator=generator)
    mass = near.masked_fill(~free, 0.0).cumsum(0).cpu()  # [n]
    if not mass[-1] > 0:
        return int(free.nonzero()[0])
    return int(torch.searchsorted(mass, u * mass[-1], right=True).clamp(max=int((mass < mass[-1]).sum())))
