"""k-medians against a loop in float64, and against the best of all partitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.seeds import Seeds
from attar.select.kmedian import KMedian, medians, start


def loop(x: np.ndarray, centres: np.ndarray, rounds: int = 100) -> tuple[np.ndarray, list[int]]:
    for _ in range(rounds):
        members = [min(range(len(centres)), key=lambda j: (np.abs(p - centres[j]).sum(), j)) for p in x]
        moved = np.array(
            [
                np.median(x[[i for i, m in enumerate(members) if m == j]], axis=0) if j in members else centres[j]
                for j in range(len(centres))
            ]
        )
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres, members


def cost(x: np.ndarray, centres: np.ndarray) -> float:
    return float(np.abs(x[:, None] - centres[None]).sum(-1).min(1).sum())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 3, 12])
def test_rounds_are_the_loop(k: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(12, 2))
    expected, members = loop(x, x[:k])
    centres, ours = medians(torch.from_numpy(x), torch.from_numpy(x[:k]), 100)
    assert np.allclose(centres, expected)
    assert ours.tolist() == members


def test_it_reaches_the_best_partition_of_a_small_set() -> None:
    x = np.random.default_rng(1).normal(size=(9, 2))
    best = min(
        sum(np.abs(x[list(p)] - np.median(x[list(p)], axis=0)).sum() for p in (s, sorted({*range(9)} - {*s})))
        for r in range(1, 5)
        for s in itertools.combinations(range(9), r)
    )
    t = torch.from_numpy(x)
    found = [cost(x, medians(t, start(t, 2, Seeds(s)), 100)[0].numpy()) for s in range(20)]
    assert min(found) == pytest.approx(best)
    assert all(f >= best - 1e-9 for f in found)


def test_starts_are_distinct_rows_while_there_are_some() -> None:
    x = torch.tensor([[0.0], [0.0], [5.0], [5.0], [9.0]])
    for seed in range(10):
        assert sorted(start(x, 3, Seeds(seed)).flatten().tolist()) == [0.0, 5.0, 9.0]
        assert len(start(x, 5, Seeds(seed))) == 5


def test_an_odd_example_does_not_drag_the_centre() -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    state = picked(KMedian(), labelled([0] * 5), Budget(rows=1), x)
    assert state["picked"].tolist() == [2]  # the mean is at 201, nearest to 3
    assert state["weight"].tolist() == [5]


def test_blobs_give_their_medians_and_sizes() -> None:
    x = np.concatenate([m + np.arange(c) - c // 2 for m, c in zip([0.0, 100.0, 200.0], [5, 3, 7])])[:, None]
    state = picked(KMedian(), labelled([0] * 15), Budget(rows=3), x)
    assert x[state["picked"].numpy(), 0].tolist() == [200.0, 0.0, 100.0]
    assert state["weight"].tolist() == [7, 5, 3]
    assert state["gain"].tolist() == pytest.approx([7 / 15, 5 / 15, 3 / 15])


@pytest.mark.parametrize("balanced", [True, False])
def test_edges(balanced: bool) -> None:
    check_edges(KMedian(balanced=balanced), nested=False)
    with pytest.raises(DataError, match="id 12"):
        picked(KMedian(), labelled([0] * 3, ids=[10, 11, 12]), Budget(rows=1), np.array([[0.0], [1.0], [np.nan]]))
    with pytest.raises(UsageError, match="rounds=0"):
        KMedian(rounds=0)
