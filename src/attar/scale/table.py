"""The methods for shards on one page, and the steps that their units run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from attar.errors import UsageError, nearest
from attar.scale import census, output
from attar.scale.el2n import EL2N
from attar.scale.kcenter import KCenter
from attar.scale.random import Random
from attar.scale.score import Score
from attar.scale.semdedup import SemDeDup
from attar.scale.work import SURVEY, Work

Task = Callable[[Work, str, int], tuple[dict[str, np.ndarray], dict[str, Any]]]
"""(work, step, unit) -> arrays and facts of the unit's part."""

METHODS: dict[str, tuple[type, str]] = {
    "random": (Random, "random rows, the baseline to beat"),
    "score": (Score, "by a score column, with a rule"),
    "el2n": (EL2N, "by the error of a linear head, averaged over its epochs, with a rule"),
    "kcenter": (KCenter, "farthest-first cover, in rounds"),
    "semdedup": (SemDeDup, "without rows that are nearly the same as another"),
}
"""Name -> class and one line."""


def find(name: str) -> type:
    """The class of a method.

    Raises:
        UsageError: an unknown name; names the nearest.
    """
    if name not in METHODS:
        raise UsageError(f"there is no method '{name}' for shards; {nearest(name, METHODS)}")
    return METHODS[name][0]


def task(step: str) -> Task:
    """What a unit of a step runs; ``el2n.003`` is a step of ``el2n``."""
    return _tasks()[step.partition(".")[0]]


def keep(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The last step: the kept rows of a piece."""
    return output.keep(work, unit, find(work.job.method).score)


def _tasks() -> dict[str, Task]:
    own = {name: run for kind, _ in METHODS.values() for name, run in getattr(kind, "tasks", {}).items()}
    return {SURVEY: census.survey, output.KEEP: keep, **own}
