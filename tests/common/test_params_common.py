"""Every method that can say what its set is made of passes every check with each of these."""

from __future__ import annotations

import dataclasses

import pytest

import attar.testing
from attar import registry
from attar.params.table import TABLE
from attar.testing.trial import method_of

CLOSELY = {"tiles": ("dm", "dc", "dsa"), "frequency": ("dm", "dc", "dsa"), "bases": ("dm",), "memory": ("dm",)}
"""Methods that pass all checks; the others pass those that look at the tensors."""
LARGE = ("bases",)
"""What does not fit one image of 64 pixels a class, with which some checks work; these pass the others."""
SLOW = "loss_decreases"
"""Many second-order steps with many decoded images; DM does it for all."""
FEW = (
    "source_unchanged",
    "exact_budget",
    "labels_and_weights",
    "one_row_per_class",
    "any_shape",
    "uneven_classes",
    "several_budgets",
)
"""Checks with one image a class."""
OTHERS = (
    "same_seed_same_bytes",
    "exact_budget",
    "labels_and_weights",
    "loss_is_pure",
    "float64_agrees",
    "artifact_opens",
)
SMALL = {"tiles": "tiles", "frequency": "frequency:share=0.2", "bases": "bases:styles=2", "memory": "memory"}
"""Settings that fit the toys: eight pixels a side."""


def able() -> list[str]:
    """Names of the methods with the setting."""
    made = [e.name for e in registry.METHODS if e.verb == "distill"]
    return [n for n in made if "params" in {f.name for f in dataclasses.fields(registry.find(n))}]


def checks(name: str, params: str) -> list[str]:
    """The checks of a method with something that its set is made of."""
    known = attar.testing.checks_for(method_of(name)) if name in CLOSELY.get(params, ()) else list(OTHERS)
    known = [c for c in known if params not in LARGE or c not in FEW]
    return [c for c in known if name == "dm" or c != SLOW]


MADE_OF = [params for params in TABLE if params != "pixels"]
PAIRS = [(n, SMALL[params], check) for n in able() for params in MADE_OF for check in checks(n, params)]


@pytest.mark.parametrize(("name", "params", "check"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_method_passes_with_what_its_set_is_made_of(name: str, params: str, check: str) -> None:
    attar.testing.CHECKS[check](dataclasses.replace(method_of(name), params=params))
