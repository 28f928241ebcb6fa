"""Random selection: the hash against whole-number arithmetic and known values, the choice against chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.budget import Budget
from attar.method import State
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.random import Random, keys, smallest


def key(i: int, seed: int) -> int:
    """One key in Python's whole numbers."""
    z = (seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_first_numbers_of_splitmix64_from_zero() -> None:
    """Published test values of the generator."""
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert keys(np.arange(3), 0).tolist() == known


@given(st.lists(st.integers(0, 2**63 - 1), unique=True, min_size=1), st.integers(0, 2**63 - 1))
def test_keys_are_those_of_whole_number_arithmetic(ids: list[int], seed: int) -> None:
    found = keys(np.array(ids, dtype=np.int64), seed).tolist()
    assert found == [key(i, seed) for i in ids]
    assert len(set(found)) == len(ids)


@given(st.lists(st.integers(0, 2**63 - 1), unique=True, min_size=1, max_size=30), st.data())
def test_the_smallest_in_order(values: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    found = smallest(np.array(values, dtype=np.uint64), k).tolist()
    assert [values[i] for i in found] == sorted(values)[:k]


def test_every_example_is_as_likely_as_any_other() -> None:
    """4 of 12 over 3000 seeds: counts of examples and of pairs by chi-square, at five standard deviations."""
    seeds, n, k = 3000, 12, 4
    hits = np.zeros((n, n))
    for run in range(seeds):
        picks = smallest(keys(np.arange(n), Seeds(run).number("random")), k).numpy()
        hits[np.ix_(picks, picks)] += 1
    single, pair = np.diag(hits), hits[np.triu_indices(n, 1)]
    for counts, p, freedom in ((single, k / n, n - 1), (pair, k * (k - 1) / (n * (n - 1)), len(pair) - 1)):
        chi = ((counts - seeds * p) ** 2 / (seeds * p)).sum()
        assert chi < freedom + 5 * np.sqrt(2 * freedom)


def test_first_picks_are_spread_over_the_order_of_the_file() -> None:
    """Neighbouring ids get unrelated keys: the picks of 10 % lie evenly in ten parts of the set."""
    picks = smallest(keys(np.arange(100_000), 7), 10_000).numpy()
    parts = np.bincount(picks // 10_000, minlength=10)
    assert ((parts - 1000) ** 2 / 1000).sum() < 9 + 5 * np.sqrt(18)
    assert abs(np.corrcoef(np.arange(10_000), picks)[0, 1]) < 0.05  # the order of picks says nothing either


def test_a_shard_at_a_time_gives_the_same_choice() -> None:
    ids = np.arange(1000)
    whole = smallest(keys(ids, 3), 50)
    shards = [ids[i::7] for i in range(7)]
    kept = np.concatenate([s[smallest(keys(s, 3), min(50, len(s))).numpy()] for s in shards])
    assert kept[smallest(keys(kept, 3), 50).numpy()].tolist() == whole.tolist()


def test_seeds_differ_and_nothing_else_decides(make_set: Callable[..., RealSet], choose: Callable[..., State]) -> None:
    real, budget = make_set([0, 1] * 50), Budget(ipc=5)
    once, again, other = (choose(Random(), real, budget, seed=s)["picked"] for s in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_pool_takes_the_same_keys(make_set: Callable[..., RealSet], choose: Callable[..., State]) -> None:
    """The pool's choice is that of the smallest keys over all classes, whatever class they are in."""
    real = make_set([0] * 30 + [1] * 10)
    picked = choose(Random(balanced=False), real, Budget(rows=12))["picked"]
    seed = Seeds(0).at("init").number("random")
    assert picked.tolist() == sorted(range(40), key=lambda i: key(i, seed))[:12]


def test_chance_reports_no_gains(make_set: Callable[..., RealSet], choose: Callable[..., State]) -> None:
    rows = Random().finish(choose(Random(), make_set([0, 1, 0]), Budget(rows=2)), {})
    assert rows.extra == {}
    assert rows.weight is not None
    assert rows.weight.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("ids", [[5, 3, 9, 2], [2**62, 1, 7, 2**40]])
def test_it_follows_ids_and_not_positions(
    ids: list[int], make_set: Callable[..., RealSet], choose: Callable[..., State]
) -> None:
    real = make_set([0] * 4, ids=ids)
    turned = real.subset(torch.tensor([2, 0, 3, 1]))
    a, b = (choose(Random(), r, Budget(rows=3))["picked"] for r in (real, turned))
    assert real.ids[a].tolist() == turned.ids[b].tolist()
