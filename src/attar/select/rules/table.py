"""The rules on one page, and how one is named."""

from __future__ import annotations

import functools
from collections.abc import Callable
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


def rule_of(text: str) -> Rule:
    """The rule that a spec names.

    Args:
        text: ``top``, ``ccs:strata=50:cutoff=0.1`` ...

    Raises:
        UsageError: an unknown name, setting or value; names the nearest.
    """
    name, *items = text.split(":")
    if name not in TABLE:
        raise UsageError(f"there is no rule '{name}'; {nearest(name, TABLE)}")
    function = TABLE[name][0]
    settings: dict[str, Any] = spec.given(f"rule '{name}'", spec.settings_of(function, ("pool", "k", "return")), items)
    rule = functools.partial(function, **settings)
    rule(TRIAL, 1)  # refuses impossible values before any work
    return rule


def names() -> list[tuple[str, str]]:
    """(name, one line) of every rule."""
    return [(name, line) for name, (_, line) in TABLE.items()]
