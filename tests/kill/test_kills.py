"""The contract: kill it at any instant, run the same command again, get the same bits, and nothing stale."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from trials import Bench, Tally, at_every_point, at_random

RANDOM = (
    "distill dm",
    "distill dm, ipc 1 and 2",
    "select herding, trained features",
    "evaluate by two renames",
    "evaluate by a crew",
    "experts by a crew",
    "small mtt",
    "small el2n",
)


@pytest.mark.parametrize("name", RANDOM)
def test_kills_at_random_instants(bench: Callable[..., Bench], name: str) -> None:
    tally, rng = Tally(), random.Random(name)
    while tally.late < 5:
        at_random(bench(name), rng, tally)
    assert tally.good, tally.facts()


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("distill dm", "kill"),
        ("distill dm", "ENOSPC"),
        ("evaluate", "kill"),
        ("evaluate", "EACCES"),
        ("cache of decoded pictures", "kill"),
        ("cache of decoded pictures", "ENOSPC"),
        ("cache of decoded pictures, damaged", "kill"),
        ("cache of decoded pictures, damaged", "EACCES"),
    ],
)
def test_a_fault_at_every_point(bench: Callable[..., Bench], name: str, act: str) -> None:
    short, tally = bench(name, shorter=True), Tally()
    at_every_point(short, act, tally)
    assert tally.good, tally.facts()
    assert tally.trials == len(short.trail) > 20
    assert tally.kills == (tally.trials if act == "kill" else 0)


def test_every_kind_of_write_is_a_point(bench: Callable[..., Bench]) -> None:
    """A write that goes past the hook would go past the tests above."""
    dm = bench("distill dm", shorter=True).trail
    for point in (
        ("create", "lock"),
        ("rename", "plan.json"),
        ("write", "log.jsonl"),
        ("rename", "state-000000001.safetensors"),
        ("remove", "state-000000001.safetensors"),
        ("write", "train.parquet"),
        ("rename", "set"),
        ("remove", "set.attar-run"),
    ):
        assert point in dm
    cache = bench("cache of decoded pictures", shorter=True).trail
    assert cache.count(("write", "pixels.u8")) >= 3, "each block of pixels"
    evaluate = bench("evaluate", shorter=True).trail
    assert ("create", "set.attar-lock") in evaluate and ("remove", "set") in evaluate
