"""What every selector shares: which rows a rule sees, how many it picks, and the order in which the picks are kept.

A rule is a plain function on one group of rows; it knows nothing of budgets, classes or files. :func:`pick` calls it once
for each class (balanced) or once for the whole set, and lines the picks up so that the first rows are a selection too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from attar.budget import Budget
from attar.errors import DataError
from attar.execute.precision import full
from attar.method import Resources, Rows, State
from attar.real.realset import RealSet

JUDGED = "judged."
"""How what is known of all N examples is named in the state, beside the picks."""
LARGEST = 1e18
"""Longest feature vector whose squared distances float32 can hold."""


class Picks(NamedTuple):
    """What a rule picked out of the n rows of one group.

    Args:
        places: int64 [k], positions in the group, in pick order, unique.
        gain: [k], what each pick added; its meaning is the rule's.
        weight: [k], how much each pick counts in training; None for 1 each.
        score: [n], by which the rule ordered the group, high = keep; None where it has no such thing.
    """

    places: torch.Tensor
    gain: torch.Tensor
    weight: torch.Tensor | None = None
    score: torch.Tensor | None = None


Rule = Callable[[torch.Tensor, int, int], Picks]
"""(rows int64 [n] of the real set, how many to pick, number of the group) -> picks."""


def pick(real: RealSet, budget: Budget, rule: Rule, *, balanced: bool) -> State:
    """Applies a rule to every group and orders the picks by their rank in the group, then by group.

    All first picks come first, then all second picks: where the rule is greedy, the first rows of a selection are the
    selection of a smaller budget (for ``ipc``: the first K * ipc rows).

    Args:
        real: N examples.
        budget: how many to pick in all; exact.
        rule: sees the rows of a group in the order of their ids, so that no result depends on the order of the set.
        balanced: one group per class, else one group of all rows.

    Returns:
        ``picked`` int64 [M], ``weight`` float32 [M], ``gain`` float32 [M]; where the rule tells scores, ``judged.score``
        float32 [N] too, NaN in the groups of which nothing is picked.

    Raises:
        DataError: the budget is larger than the set or than a class.
    """
    parts: list[State] = []
    judged: State = {}
    for number, (rows, k) in enumerate(zip(groups(real, balanced), counts(real, budget, balanced))):
        if k:
            with full(real.device):  # half precision is for networks: distances and gains are of float32 numbers
                picks = rule(rows, k, number)
            parts.append(_part(rows, picks))
            if picks.score is not None:
                score = judged.setdefault(JUDGED + "score", torch.full((len(real),), torch.nan))
                score[rows] = picks.score.float().cpu()
    order = in_turn([len(part["picked"]) for part in parts])
    return judged | {name: torch.cat([part[name] for part in parts])[order] for name in ("picked", "weight", "gain")}


def in_turn(sizes: Sequence[int]) -> torch.Tensor:
    """An order of parts that follow each other: the first of each, then the second of each: int64 [sum of sizes]."""
    return torch.cat([torch.arange(n) for n in sizes]).argsort(stable=True)


def groups(real: RealSet, balanced: bool) -> list[torch.Tensor]:
    """The rows of each class, or all rows as one group; int64 [n] each, in the order of their ids."""
    whole = balanced and real.sizes
    return [rows[real.ids[rows].argsort()] for rows in (real.classes if whole else (torch.arange(len(real)),))]


def counts(real: RealSet, budget: Budget, balanced: bool) -> list[int]:
    """How many to pick in each of :func:`groups`."""
    sizes = real.sizes or [len(real)]
    if balanced:
        return budget.counts(sizes, balanced=True, example_bytes=real.example_bytes, names=real.class_names)
    total = budget.total(sizes, real.example_bytes)
    if total > len(real):
        raise DataError(f"{budget} asks for {total} examples but there are {len(real)}; lower it")
    return [total]


def features_of(real: RealSet, res: Resources, rows: torch.Tensor) -> torch.Tensor:
    """The features of some rows from the resource ``features``: int64 [n] -> [n, D], a copy.

    Raises:
        DataError: a feature that is NaN, infinite, or so large that its square is.
    """
    stored = res["features"]["features"]  # [N, D]
    features = stored[rows.to(stored.device)]
    length = torch.linalg.vector_norm(features, dim=1)
    bad = torch.nonzero(~(length < LARGEST)).flatten()  # not <: NaN too
    if len(bad):
        row = int(rows[bad[0]])
        raise DataError(
            f"the features of the example with id {int(real.ids[row])} (row {row} of {real.name}) are not finite or "
            f"beyond {LARGEST:g}, and so for {len(bad)} of {len(rows)} examples; mend or drop it, or use other features"
        )
    return features


def rows_of(state: State, recipe: dict[str, Any] | None = None) -> Rows:
    """The state of :func:`pick` as rows, with the gains and scores beside them, and what training on them must know."""
    return Rows(
        picked=state["picked"],
        weight=state["weight"],
        recipe=recipe or {},
        extra={"gain": state["gain"]},
        judged={name.removeprefix(JUDGED): value for name, value in state.items() if name.startswith(JUDGED)},
    )


def _part(rows: torch.Tensor, picks: Picks) -> State:
    """The picks of one group as rows of the real set."""
    places = picks.places.cpu()
    weight = torch.ones(len(places)) if picks.weight is None else picks.weight
    return {"picked": rows[places], "weight": weight.float().cpu(), "gain": picks.gain.float().cpu()}
