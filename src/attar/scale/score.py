"""Selection by a score that is there already, in a column of the shards.

Whatever gave the score - a classifier of quality, a similarity of picture and caption, a loss - the rule decides what to do
with it: ``top`` keeps the highest, ``ccs`` covers all ranges of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attar.scale import rules
from attar.scale.stage import Stage
from attar.scale.work import SURVEY, Job, Work


@dataclass(frozen=True, kw_only=True)
class Score:
    """A rule on the column that ``--score-column`` names; high = keep.

    Cost: one pass over ids, labels and scores; no features are read.
    """

    rule: str = "top"
    "How a score becomes a choice: top, top:skip=0.05, ccs, ccs:strata=50:cutoff=0.1."

    features: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    moments: ClassVar[bool] = False
    balances: ClassVar[bool] = True
    paper: ClassVar[str] = "a score column"

    def __post_init__(self) -> None:
        rules.read(self.rule)

    def worker_bytes(self, job: Job, classes: int, k: int) -> float:
        """Nothing beside the reading."""
        return 0.0

    def caller_bytes(self, job: Job, classes: int) -> float:
        """Nothing beside the counts of a threshold."""
        return 0.0

    def choose(self, stage: Stage, sizes: list[int], k: list[int]) -> rules.Arrays:
        """The numbers of the rule."""
        return rules.plan(stage.work, self.rule, self.score, sizes, k)

    @staticmethod
    def score(work: Work, unit: int) -> np.ndarray:
        """The column: float64 [rows]."""
        return work.parts.one(SURVEY, unit, "score")
