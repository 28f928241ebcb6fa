"""The rules on one page, and how one is named."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import torch

from attar import spec
from attar.errors import UsageError, nearest
from attar.select.pick import Picks
from attar.select.rules.beta import beta
from attar.select.rules.ccs import ccs
from attar.select.rules.pool import Pool
from attar.select.rules.stratified import stratified
from attar.select.rules.top import top

Rule = Callable[[Pool, int], Picks]
"""(n examples with their scores, k) -> k picks in order."""

TABLE: dict[str, tuple[Callable[..., Picks], str]] = {
    "top": (top, "the highest scores"),
    "stratified": (stratified, "the same share of every part of the ranking"),
    "ccs": (ccs, "equal numbers of every range of scores, without the highest"),
    "beta": (beta, "chance that moves to easy examples as fewer are kept"),
}
"""Name -> function and one line; the function's keywords are the settings of a spec."""

TRIAL = Pool(
    score=torch.ones(1, dtype=torch.float64),
    ids=torch.zeros(1, dtype=torch.int64),
    labels=torch.zeros(1, dtype=torch.int64),
    signals={"confidence": torch.full((1,), 0.5), "features": torch.zeros(1, 1)},
)
"""One example with everything that a rule may ask for."""


def rule_of(text: str, signals: Collection[str] = tuple(TRIAL.signals)) -> Rule:
    """The rule that a spec names.

    Args:
        text: ``top``, ``ccs:strata=50:cutoff=0.1`` ...
        signals: what the method knows of the examples besides their scores; all where left out.

    Raises:
        UsageError: an unknown name, setting or value (names the nearest), or a rule that wants more than is known.
    """
    name, *items = text.split(":")
    if name not in TABLE:
        raise UsageError(f"there is no rule '{name}'; {nearest(name, TABLE)}")
    function = TABLE[name][0]
    settings: dict[str, Any] = spec.given(f"rule '{name}'", spec.settings_of(function, ("pool", "k", "return")), items)
    rule = functools.partial(function, **settings)
    known = {name: value for name, value in TRIAL.signals.items() if name in signals}
    rule(dataclasses.replace(TRIAL, signals=known), 1)  # refuses what is impossible before any work
    return rule


def names() -> list[tuple[str, str]]:
    """(name, one line) of every rule."""
    return [(name, line) for name, (_, line) in TABLE.items()]
