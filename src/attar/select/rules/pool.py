"""What a rule sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from attar.errors import UsageError
from attar.seeds import Seeds
from attar.select.hashed import keys, smallest
from attar.select.pick import Picks, in_turn


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """The n examples out of which a rule picks: a class, or all. In the order of their ids.

    Args:
        score: float64 [n], finite; high = keep.
        ids: int64 [n], ascending.
        labels: int64 [n], or None where there are none.
        seeds: of the run, the same for every pool.
        signals: what else is known of the examples, by name, n rows each (``confidence`` [n], ``features`` [n, D] ...).
        hard: float64 [n], high = hard, where wrong labels are; None where the method does not know.
    """

    score: torch.Tensor
    ids: torch.Tensor
    labels: torch.Tensor | None = None
    seeds: Seeds = field(default_factory=Seeds)
    signals: Mapping[str, torch.Tensor] = field(default_factory=dict)
    hard: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.score)

    def ranking(self) -> torch.Tensor:
        """Places from the highest score to the lowest, ties to the lower id: int64 [n]."""
        return self.score.argsort(descending=True, stable=True)

    def without_hardest(self, count: int, rule: str, setting: str) -> torch.Tensor:
        """Places of all but the hardest, from the highest score to the lowest: int64 [n - count].

        Args:
            count: how many are left out; of equal ones those of lower id. rule, setting: for the message.

        Raises:
            UsageError: the method does not know what is hard.
        """
        if not count:
            return self.ranking()
        if self.hard is None:
            raise UsageError(
                f"rule '{rule}' leaves out the hardest examples, but this method's score does not tell which these are; "
                f"give {rule}:{setting}=0, or signals with a column confidence where it takes signals"
            )
        out = torch.zeros(len(self), dtype=torch.bool)
        out[self.hard.argsort(descending=True, stable=True)[:count]] = True
        ranking = self.ranking()
        return ranking[~out[ranking]]

    def signal(self, name: str, rule: str) -> torch.Tensor:
        """One of the signals.

        Raises:
            UsageError: the method has none of that name.
        """
        if name not in self.signals:
            raise UsageError(
                f"rule '{rule}' needs the {name} of every example, which this method has not, and no file of signals gave as "
                "a column of finite numbers; use rule=top"
            )
        return self.signals[name]

    def some(self, places: torch.Tensor, k: int) -> torch.Tensor:
        """Chance by hash: k of some places; int64 [n'] -> int64 [k], nested in k."""
        if not k:
            return places[:0]
        return places[smallest(keys(self.ids[places].numpy(), self.seeds.number("rule")), k)]

    def alternating(self, chosen: list[torch.Tensor]) -> Picks:
        """The picks of several strata: first the first of each, then the second of each, with their scores as gains."""
        places = torch.cat(chosen)[in_turn([len(places) for places in chosen])]
        return Picks(places, self.score[places])
