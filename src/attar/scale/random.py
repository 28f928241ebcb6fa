"""Uniform random selection from shards: the control beside every other result.

Every row gets a key that is a hash of the seed and its id; of each group the rows with the smallest keys are kept.

    key_i = mix(seed + (id_i + 1) * g);    keep the k smallest

A key needs neither the other rows nor their order: the choice is the same on one worker or a thousand, however the rows are
cut into shards, and that of k contains that of every smaller k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attar import chance
from attar.scale import rules
from attar.scale.stage import Stage
from attar.scale.work import Job, Work


@dataclass(frozen=True, kw_only=True)
class Random:
    """Uniform without replacement, nested in the budget, of all rows or of each class. The score of a row is 1 - key / 2^64.

    Cost: one pass over ids and labels; no features are read.
    """

    features: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    moments: ClassVar[bool] = False
    balances: ClassVar[bool] = True
    paper: ClassVar[str] = "uniform random sampling"

    def worker_bytes(self, job: Job, classes: int, k: int) -> float:
        """Nothing beside the reading."""
        return 0.0

    def caller_bytes(self, job: Job, classes: int) -> float:
        """Nothing beside the counts of a threshold."""
        return 0.0

    def choose(self, stage: Stage, sizes: list[int], k: list[int]) -> rules.Arrays:
        """A threshold of the hash for each group."""
        return rules.by_chance(stage.work, k)

    @staticmethod
    def score(work: Work, unit: int) -> np.ndarray:
        """High where the key is small: float32 [rows]."""
        return (1 - chance.keys(work.ids(unit), work.seed("rule")) / 2.0**64).astype(np.float32)
