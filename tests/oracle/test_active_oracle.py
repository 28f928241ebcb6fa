"""Queries of active learning against plain loops in float64, and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attar.select import queries
from attar.select.room import Room


def probabilities(n: int, k: int, seed: int = 0) -> torch.Tensor:
    """float64 [n, K], some rows sure, uniform or equal."""
    g = torch.Generator().manual_seed(seed)
    p = (3 * torch.randn(n, k, generator=g, dtype=torch.float64)).softmax(1)
    p[0] = torch.eye(k, dtype=torch.float64)[0]
    p[1] = 1 / k
    p[3] = p[2]
    return p


def plain_entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_scores_are_those_of_plain_loops(k: int) -> None:
    p = probabilities(9, k)
    rows = p.tolist()
    top = [[*sorted(r, reverse=True), 0.0] for r in rows]
    wanted = {
        "least_confidence": [1 - t[0] for t in top],
        "entropy": [plain_entropy(r) for r in rows],
        "margin": [-(t[0] - t[1]) for t in top],
    }
    for name, values in wanted.items():
        assert getattr(queries, name)(p).tolist() == pytest.approx(values, abs=1e-14), name


def test_bald_is_what_the_networks_disagree_about() -> None:
    p = torch.stack([probabilities(7, 4, seed) for seed in range(3)])  # [E, n, K]
    wanted = []
    for i in range(7):
        mean = [sum(float(p[e, i, c]) for e in range(3)) / 3 for c in range(4)]
        wanted.append(plain_entropy(mean) - sum(plain_entropy(p[e, i].tolist()) for e in range(3)) / 3)
    found = queries.bald(p)
    assert found.tolist() == pytest.approx(wanted, abs=1e-14)
    assert found[0] == pytest.approx(0) and found[1] == pytest.approx(0)  # all sure of one class; all know nothing
    unsure = torch.full((1, 1, 2), 0.5, dtype=torch.float64)
    split = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    assert float(queries.bald(split)) == pytest.approx(math.log(2))
    assert float(queries.bald(unsure)) == pytest.approx(0)


def test_the_most_unsure_are_asked_and_ties_go_to_the_lower_place() -> None:
    score = torch.tensor([0.2, 0.9, 0.5, 0.9, 0.5])
    places, found = queries.highest(score, 4, Room(5))
    assert places.tolist() == [1, 3, 2, 4] and found.tolist() == score[places].tolist()


def plain_cover(x: np.ndarray, centres: np.ndarray, k: int) -> list[int]:
    """Every distance again at every pick."""
    picks: list[int] = []
    for _ in range(k):
        kept = [*centres, *(x[i] for i in picks)]
        near = [min(math.dist(v, c) for c in kept) if i not in picks else -1.0 for i, v in enumerate(x)]
        picks.append(max(range(len(x)), key=lambda i: (near[i], -i)))
    return picks


@pytest.mark.parametrize("k", [1, 6, 12])
def test_kcenter_asks_for_what_is_farthest_from_the_labelled(k: int) -> None:
    random = np.random.default_rng(3)
    x, centres = random.standard_normal((12, 3)), random.standard_normal((2, 3))
    x[4] = x[5]
    x[6] = centres[1]
    places, gains = queries.cover(torch.from_numpy(x), torch.from_numpy(centres), k, Room(12))
    assert places.tolist() == plain_cover(x, centres, k)
    assert bool((gains.diff() <= 0).all())


def plain_spread(g: np.ndarray, k: int, generator: torch.Generator) -> list[int]:
    """k-means++ on rows that are written out, with one uniform number a pick."""
    picks = [max(range(len(g)), key=lambda i: (float(g[i] @ g[i]), -i))]
    while len(picks) < k:
        near = [0.0 if i in picks else min(float(((v - g[j]) ** 2).sum()) for j in picks) for i, v in enumerate(g)]
        u = float(torch.rand((), dtype=torch.float64, generator=generator))
        if sum(near) <= 0:
            picks.append(next(i for i in range(len(g)) if i not in picks))
            continue
        total, reached = u * sum(near), 0.0
        for i, d in enumerate(near):
            reached += d
            if reached > total:
                picks.append(i)
                break
    return picks


@pytest.mark.parametrize("seed", range(5))
def test_badge_on_factors_is_badge_on_written_products(seed: int) -> None:
    p = probabilities(20, 4, seed)
    h = torch.randn(20, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a = queries.surprise(p)
    g = (a[:, :, None] * h[:, None, :]).flatten(1).numpy()  # [n, K D]
    generator = torch.Generator().manual_seed(seed)
    places, gains = queries.spread(a, h, 8, Room(20), generator)
    assert places.tolist() == plain_spread(g, 8, torch.Generator().manual_seed(seed))
    for t in range(1, 8):
        near = min(float(((g[places[t]] - g[j]) ** 2).sum()) for j in places[:t].tolist())
        assert float(gains[t]) == pytest.approx(near, rel=1e-9)


def test_surprise_is_the_gradient_for_the_likeliest_class() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.5, 0.5, 0.0]])
    assert torch.allclose(queries.surprise(p), torch.tensor([[0.2, -0.5, 0.3], [-0.5, 0.5, 0.0]]))


def test_badge_meets_twins_zeros_and_the_end_of_the_pool() -> None:
    a = torch.tensor([[0.5, -0.5]] * 3 + [[0.0, 0.0]] * 2, dtype=torch.float64)
    h = torch.tensor([[3.0, 1 / 3]] * 3 + [[1.0, 1.0]] * 2, dtype=torch.float64)
    places, gains = queries.spread(a, h, 5, Room(5), torch.Generator().manual_seed(0))
    assert sorted(places.tolist()) == [0, 1, 2, 3, 4] and places[0] == 0 and places[1] in (3, 4)
    assert gains[2:].tolist() == [0, 0, 0]  # twins are at exactly 0
    nothing = torch.zeros(4, 2, dtype=torch.float64)
    assert queries.spread(nothing, nothing, 4, Room(4), torch.Generator())[0].tolist() == [0, 1, 2, 3]


def test_no_rule_takes_more_of_a_group_than_its_cap() -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    x = torch.arange(6.0, dtype=torch.float64)[:, None]
    for places in (
        queries.highest(-x[:, 0], 4, Room(6, groups, 2))[0],
        queries.cover(x, x[:1], 4, Room(6, groups, 2))[0],
        queries.spread(torch.ones(6, 1, dtype=torch.float64), x, 4, Room(6, groups, 2), torch.Generator())[0],
    ):
        assert int(groups[places].bincount().max()) <= 2 and len(set(places.tolist())) == 4
    assert queries.highest(-x[:, 0], 4, Room(6, groups, 2))[0].tolist() == [0, 1, 3, 4]
    assert Room(6, groups, 2).most == 5 and Room(6).most == 6
    assert Room(6, groups, 1).along(torch.arange(6), 6).tolist() == [0, 3, 5]
