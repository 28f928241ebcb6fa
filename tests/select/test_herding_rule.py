"""Herding against greedy choice by brute force: the mean of the picks, computed from its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.budget import Budget
from attar.seeds import Seeds
from attar.select.herding import Herding, herd
from attar.testing.hooks import Alive
from attar.testing.toys import toy


def greedy(x: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    """The picks that bring the mean of the picks nearest to the mean of all, one after the other; O(n k^2 D)."""
    mu, picks, errors = x.mean(0), [], []
    for _ in range(k):
        left = [j for j in range(len(x)) if j not in picks]
        error = [float(np.linalg.norm(x[[*picks, j]].mean(0) - mu)) for j in left]
        picks.append(left[int(np.argmin(error))])
        errors.append(min(error))
    return picks, errors


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n", "width"), [(12, 2), (12, 5), (40, 3), (40, 64)])
def test_every_pick_is_the_greedy_optimum(n: int, width: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(n, width)) + 3
    picks, errors = greedy(x, n)
    ours, gains = herd(torch.from_numpy(x), n)
    assert ours.tolist()[: n - 2] == picks[: n - 2]  # the last two orders differ by rounding of errors that are 0
    assert np.allclose(gains, errors, atol=1e-12)
    single, _ = herd(torch.from_numpy(x).float(), n // 2)
    assert single.tolist() == picks[: n // 2]


def test_the_first_pick_is_the_point_nearest_to_the_mean_and_not_the_farthest() -> None:
    x = torch.tensor([[0.0], [4.0], [5.0], [6.0], [10.0]])
    assert herd(x, 1)[0].tolist() == [2]


def test_it_stays_close_to_the_mean_where_random_strays() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    _, gains = herd(torch.from_numpy(x), 30)
    chance = [
        np.mean([np.linalg.norm(x[rng.permutation(60)[:k]].mean(0) - x.mean(0)) for _ in range(200)])
        for k in range(1, 31)
    ]
    assert all(float(g) <= c for g, c in zip(gains, chance))
    assert float(gains[9]) < chance[9] / 4


def test_greedy_is_within_reach_of_the_best_subset() -> None:
    """All subsets of 12 points: greedy cannot beat the optimum, and its error is what its picks say it is."""
    x = np.random.default_rng(3).normal(size=(12, 3))
    picks, gains = herd(torch.from_numpy(x), 4)
    best = min(np.linalg.norm(x[list(s)].mean(0) - x.mean(0)) for s in itertools.combinations(range(12), 4))
    assert best - 1e-12 <= float(gains[3])
    assert float(gains[3]) == pytest.approx(np.linalg.norm(x[picks.numpy()].mean(0) - x.mean(0)), abs=1e-12)


def test_all_points_have_the_mean_of_all() -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 6)))
    picks, gains = herd(x, 30)
    assert sorted(picks.tolist()) == list(range(30))
    assert float(gains[-1]) < 1e-12


@settings(deadline=None, max_examples=60)
@given(
    points=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12),
    share=st.floats(0, 1),
)
def test_whole_numbers_with_ties_and_twins(points: list[tuple[int, int]], share: float) -> None:
    """Picks are unique, and each is among the best of its step: scores in whole numbers, so ties are exact."""
    n, k = len(points), max(1, round(share * len(points)))
    picks = herd(torch.tensor(points, dtype=torch.float64), k)[0].tolist()
    assert len(set(picks)) == k
    x, total = np.array(points, dtype=np.int64), np.zeros(2, dtype=np.int64)
    for t, p in enumerate(picks, start=1):  # n (t mu - sum - x_j), all in whole numbers
        score = {j: ((t * x.sum(0) - n * (total + x[j])) ** 2).sum() for j in range(n) if j not in picks[: t - 1]}
        assert score[p] == min(score.values())
        total += x[p]


def test_twins_and_zeros_are_picked_in_order() -> None:
    assert herd(torch.zeros(5, 3), 5)[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("change", ["shift", "scale", "turn"])
def test_it_follows_the_geometry_alone(change: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(25, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    moved = {"shift": x + 1000, "scale": x * 1e-3, "turn": x @ turn}[change]
    assert herd(torch.from_numpy(moved), 15)[0].tolist() == herd(torch.from_numpy(x), 15)[0].tolist()


def test_a_large_mean_costs_no_digits_in_float32() -> None:
    x = torch.from_numpy(np.random.default_rng(6).integers(-8, 8, size=(64, 3)).astype(np.float32))
    assert herd(x + 4096, 20)[0].tolist() == herd(x, 20)[0].tolist()


def test_a_smaller_budget_is_a_prefix() -> None:
    x = torch.from_numpy(np.random.default_rng(7).normal(size=(30, 4)))
    whole, gains = herd(x, 20)
    part, part_gains = herd(x, 7)
    assert part.tolist() == whole[:7].tolist()
    assert torch.equal(part_gains, gains[:7])


@pytest.mark.parametrize("normalise", [False, True])
def test_the_method_makes_one_copy_of_the_features_and_leaves_them_as_they_were(normalise: bool) -> None:
    real = toy((2000, 2000))
    x = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    res, before = {"features": {"features": x}}, x.clone()
    with Alive() as alive:
        state = Herding(balanced=False, normalise=normalise).init(real, Budget(rows=3), Seeds(), res)
    assert torch.equal(x, before)
    assert alive.most < 1.5 * 4 * x.numel()
    ordered = before[real.ids.argsort()]
    picks = herd(torch.nn.functional.normalize(ordered) if normalise else ordered, 3)[0]
    assert state["picked"].tolist() == real.ids.argsort()[picks].tolist()
