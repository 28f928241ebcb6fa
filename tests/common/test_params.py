"""Every method that can say what its set is made of passes every check with each of these."""

from __future__ import annotations

import dataclasses

import pytest

import attar.testing
from attar import registry
from attar.params.table import TABLE
from attar.testing.trial import method_of

CLOSELY = ("dm", "dc", "dsa")
"""Methods that pass all checks with everything; the others pass those that look at the tensors."""
OTHERS = (
    "same_seed_same_bytes",
    "exact_budget",
    "labels_and_weights",
    "loss_is_pure",
    "float64_agrees",
    "artifact_opens",
)
SMALL = {"tiles": "tiles"}
"""Settings that fit the toys: eight pixels a side."""


def able() -> list[str]:
    """Names of the methods with the setting."""
    made = [e.name for e in registry.METHODS if e.verb == "distill"]
    return [n for n in made if "params" in {f.name for f in dataclasses.fields(registry.find(n))}]


PAIRS = [
    (name, SMALL[params], check)
    for name in able()
    for params in TABLE
    if params != "pixels"
    for check in (attar.testing.checks_for(method_of(name)) if name in CLOSELY else OTHERS)
]


@pytest.mark.parametrize(("name", "params", "check"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_method_passes_with_what_its_set_is_made_of(name: str, params: str, check: str) -> None:
    attar.testing.CHECKS[check](dataclasses.replace(method_of(name), params=params))
