"""Where a selection cut its scores: the edge between kept and dropped examples, and who stands next to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

CHANCE = ("stratified", "beta")
"""Rules that draw by chance at every score, so that an edge means nothing."""


@dataclass(frozen=True)
class Mark:
    """An edge in the scores, the same for all classes or between ``low`` and ``high``.

    Args:
        upper: whether what lies above it was dropped.
    """

    low: float
    high: float
    upper: bool = False


@dataclass(frozen=True, eq=False)
class Cut:
    """What the scores tell.

    Args:
        marks: the lower edge, then the upper one, where they are.
        kept, dropped: int64 places, those nearest to an edge first.
    """

    marks: tuple[Mark, ...]
    kept: torch.Tensor
    dropped: torch.Tensor


def cut(score: torch.Tensor, kept: torch.Tensor, labels: torch.Tensor | None, rule: str = "") -> Cut:
    """The edges of a selection by scores, high = keep.

    A group has a lower edge where no dropped score lies between its lowest and its highest kept one, and an upper edge where
    scores above its highest kept one were dropped (an offset, a cutoff).

    Args:
        score: float [N]; what is not finite takes no part.
        kept: bool [N].
        labels: int64 [N] where every class was cut by itself, else None.
        rule: how the scores became a choice; one that draws by chance has no edges.
    """
    near = {True: torch.full((len(score),), torch.inf), False: torch.full((len(score),), torch.inf)}
    found: dict[bool, list[float]] = {False: [], True: []}
    for group in () if rule.partition(":")[0] in CHANCE else _groups(score, labels):
        mine, others = group[kept[group]], group[~kept[group]]
        edges = _edges(score[mine], score[others])
        for upper, (edge, _) in edges.items():
            found[upper].append(edge)
        if edges:
            upper, (edge, other) = next(iter(edges.items()))
            side = others[score[others] >= other if upper else score[others] <= other]
            for places, kind in ((mine, True), (side, False)):
                near[kind][places] = (score[places] - (edge + other) / 2).abs()
    marks = tuple(Mark(min(v), max(v), upper) for upper, v in found.items() if v)
    return Cut(marks, *(_nearest(near[side]) for side in (True, False)))


def _groups(score: torch.Tensor, labels: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """The places of every class with a score, or of all examples: int64 [n] each, ascending."""
    known = torch.nonzero(torch.isfinite(score)).flatten()
    if labels is None:
        return (known,)
    known = known[labels[known].argsort(stable=True)]
    return known.split(labels[known].unique_consecutive(return_counts=True)[1].tolist())


def _edges(kept: torch.Tensor, dropped: torch.Tensor) -> dict[bool, tuple[float, float]]:
    """upper -> (outermost kept score, nearest dropped one) of one group; the lower edge first."""
    if not len(kept) or not len(dropped):
        return {}
    low, high = float(kept.min()), float(kept.max())
    below = dropped[dropped <= low]
    above = dropped[(dropped >= high) & (dropped > low)]
    found = {}
    if len(below) and len(below) + len(above) == len(dropped):
        found[False] = (low, float(below.max()))
    if len(above):
        found[True] = (high, float(above.min()))
    return found


def _nearest(away: torch.Tensor) -> torch.Tensor:
    """Places by distance, ties to the lower place; those without one are left out."""
    order = away.argsort(stable=True)
    return order[torch.isfinite(away[order])]
