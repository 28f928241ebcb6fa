"""From the scores of a whole set to the state of a selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from attar.budget import Budget
from attar.errors import DataError
from attar.method import Cost, State
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.pick import JUDGED, Picks, pick
from attar.select.rules.pool import Pool
from attar.select.rules.table import rule_of


def ranked(
    real: RealSet,
    budget: Budget,
    score: torch.Tensor,
    *,
    rule: str,
    balanced: bool,
    seeds: Seeds,
    signals: Mapping[str, torch.Tensor] | None = None,
    hard: torch.Tensor | Literal["score"] | None = "score",
) -> State:
    """Applies a rule to the scores of every class, or of all examples.

    Args:
        real: N examples.
        budget: how many to pick in all; exact.
        score: [N], high = keep.
        rule: a spec, as ``top`` or ``ccs:cutoff=0.3`` (:mod:`attar.select.rules.table`).
        balanced: one pool per class, else one pool of all examples.
        seeds: for rules that draw.
        signals: further facts of every example that a rule may want, N rows each.
        hard: [N], high = hard, for rules that leave out the hardest; ``score`` where it is that, None where nothing tells.

    Returns:
        The state of :func:`attar.select.pick.pick`; ``gain`` is the score of each pick. ``judged.score`` and those signals that
        are one number an example stand beside it, float32 [N].

    Raises:
        DataError: a score that is NaN or infinite, or too large a budget.
        UsageError: an unknown rule, or one that wants what is not there.
    """
    choose = rule_of(rule)
    score = finite(real, score)
    labels, known = real.labels if real.n_classes else None, signals or {}
    difficulty = score if isinstance(hard, str) else None if hard is None else finite(real, hard)

    def of_group(rows: torch.Tensor, k: int, group: int) -> Picks:
        pool = Pool(
            score=score[rows],
            ids=real.ids[rows],
            labels=None if labels is None else labels[rows],
            seeds=seeds,
            signals={name: value[rows.to(value.device)] for name, value in known.items()},
            hard=None if difficulty is None else difficulty[rows],
        )
        return choose(pool, k)

    told = {name: value for name, value in known.items() if value.ndim == 1} | {"score": score}
    state = pick(real, budget, of_group, balanced=balanced)
    return state | {JUDGED + name: value.float().cpu() for name, value in told.items()}


def finite(real: RealSet, score: torch.Tensor) -> torch.Tensor:
    """The scores in float64 on the CPU: [N] -> [N].

    Raises:
        DataError: one is NaN or infinite; names its row.
    """
    bad = torch.nonzero(~torch.isfinite(score)).flatten()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"the score of the example with id {int(real.ids[row])} (row {row} of {real.name}) is {float(score[row])}, "
            f"and so for {len(bad)} of {len(real)} examples; mend or drop it"
        )
    return score.double().cpu()


def ranking_cost(real: RealSet, per_example: float = 96.0) -> Cost:
    """An estimate for a score and a ranking: some words an example."""
    return Cost(flops_per_step=64.0 * len(real), memory=per_example * len(real))
