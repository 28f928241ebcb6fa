"""Density with suppression and message passing against loops over full matrices in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.select.d2 import D2, messages
from attar.select.ralf import RALF
from attar.select.suppress import Edges, suppress


def linked(d: np.ndarray, k: int) -> np.ndarray:
    """bool [n, n]: one is among the k nearest of the other, ties to the lower."""
    n = len(d)
    link = np.zeros((n, n), bool)
    for i in range(n):
        for j in sorted((j for j in range(n) if j != i), key=lambda j: (d[i, j], j))[:k]:
            link[i, j] = link[j, i] = True
    return link


def loop(value: np.ndarray, link: np.ndarray, weight: np.ndarray, k: int, clamp: bool) -> tuple[list[int], list[float]]:
    """Greedy picks by a full scan at every step."""
    v, picks, gains = value.copy(), [], []
    for _ in range(k):
        best = max((i for i in range(len(v)) if i not in picks), key=lambda i: (v[i], -i))
        picks.append(best)
        gains.append(v[best])
        for j in range(len(v)):
            if link[best, j] and j not in picks:
                v[j] -= weight[best, j] * (max(gains[-1], 0) if clamp else gains[-1])
    return picks, gains


def matrix(x: np.ndarray, p: int) -> np.ndarray:
    x = x.astype(np.float32).astype(np.float64)
    return np.array([[np.linalg.norm(a - b, ord=p) for b in x] for a in x])


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "k"), [(12, 10), (40, 3), (60, 5)])
def test_ralf_is_the_loop(n: int, k: int, seed: int, clamp: bool) -> None:
    x = np.random.default_rng(seed).normal(size=(n, 4))
    d = matrix(x, 1)
    link, w = linked(d, k), np.exp(-d / 4)
    density = np.array([w[i][link[i]].mean() for i in range(n)])
    picks, gains = loop(density, link, np.ones((n, n)), n, clamp)
    state = picked(RALF(neighbours=k, clamp=clamp), labelled([0] * n), Budget(rows=n), x)
    assert state["picked"].tolist() == picks
    assert np.allclose(state["gain"], gains, atol=1e-5)


@pytest.mark.parametrize("reverse", ["weighted", "absolute"])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_d2_is_the_loop(reverse: str, scale: bool, seed: int) -> None:
    n, k, gamma = 40, 5, 0.3
    x = np.random.default_rng(seed).normal(size=(n, 3))
    d = matrix(x, 2)
    link = linked(d, k)
    if scale:
        d = d / np.median(d[link])
    value = np.array([1 + np.exp(-d[i][link[i]]).sum() for i in range(n)])
    weight = np.exp(-gamma * d) if reverse == "weighted" else np.ones((n, n))
    picks, gains = loop(value, link, weight, n, clamp=True)
    method = D2(difficulty="uniform", neighbours=k, gamma=gamma, reverse=reverse, scale=scale)
    state = picked(method, labelled([0] * n), Budget(rows=n), x)
    assert state["picked"].tolist() == picks
    assert np.allclose(state["gain"], gains, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strata", "cutoff", "total"), [(3, 0.25, 12), (4, 0.0, 12), (1, 0.4, 20), (5, 0.5, 30)])
def test_d2_in_strata_is_the_loop_in_each(strata: int, cutoff: float, total: int, seed: int) -> None:
    """Without the hardest, as many of every stratum as it has or as the level says, first picks first."""
    n, k = 40, 3
    rng = np.random.default_rng(seed)
    x, error = rng.normal(size=(n, 3)), rng.uniform(size=n).round(2)
    order = sorted(range(n), key=lambda i: (-error[i], i))
    left = sorted(order[min(math.ceil(cutoff * n), n - total) :])
    low, high = min(error[left]), max(error[left])
    pools = [
        [i for i in left if min(strata - 1, int((error[i] - low) / (high - low) * strata)) == j] for j in range(strata)
    ]
    share = [0] * strata
    while sum(share) < total:  # one to whichever has least and still some, of equal ones to the larger
        open_ = [j for j in range(strata) if share[j] < len(pools[j])]
        share[min(open_, key=lambda j: (share[j], -len(pools[j]), j))] += 1
    found: list[tuple[int, int, int]] = []
    for rank, j in enumerate(sorted(range(strata), key=lambda j: (-len(pools[j]), j))):
        if share[j]:
            d = matrix(x[pools[j]], 2)
            link, s = linked(d, k), error[pools[j]]
            picks, _ = loop(s + (np.exp(-d) * link) @ s, link, np.exp(-0.1 * d), share[j], clamp=True)
            found += [(t, rank, pools[j][i]) for t, i in enumerate(picks)]
    watched = {"el2n": torch.from_numpy(error), "confidence": torch.full((n,), 0.5), "variability": torch.zeros(n)}
    method = D2(difficulty="el2n", neighbours=k, strata=strata, cutoff=cutoff, scale=False)
    state = picked(method, labelled([0] * n), Budget(rows=total), x, more={"dynamics-0": watched})
    assert state["picked"].tolist() == [i for *_, i in sorted(found)]


def path(n: int) -> Edges:
    """A line of n nodes with edges of length 1."""
    to = [[j for j in (i - 1, i + 1) if 0 <= j < n] for i in range(n)]
    start = np.cumsum([0, *(len(t) for t in to)])
    flat = np.array([j for t in to for j in t])
    return Edges(start, flat, np.ones(len(flat)))


def test_messages_carry_a_given_difficulty() -> None:
    """On a line of three: u = s + e^-1 of the neighbours; negative difficulties start at 0."""
    e = math.exp(-1)
    places, values = messages(np.array([1.0, 5.0, 2.0]), path(3), 3, gamma=1.0)
    u = [1 + 5 * e, 5 + 3 * e, 2 + 5 * e]
    assert places.tolist() == [1, 2, 0]
    assert values.tolist() == pytest.approx([u[1], u[2] - e * u[1], u[0] - e * u[1]])
    moved, _ = messages(np.array([-4.0, 0.0, -3.0]), path(3), 3, gamma=1.0)
    again, _ = messages(np.array([0.0, 4.0, 1.0]), path(3), 3, gamma=1.0)
    assert moved.tolist() == again.tolist()


def test_without_the_clamp_negative_picks_raise_their_neighbours_and_are_still_found() -> None:
    value = np.array([-1.0, -5.0, -6.0, -2.0])
    places, gains = suppress(value, path(4), np.ones(6), 4, clamp=False)
    picks, expected = loop(value, np.abs(np.subtract.outer(np.arange(4), np.arange(4))) == 1, np.ones((4, 4)), 4, False)
    assert places.tolist() == picks == [0, 3, 1, 2]
    assert gains.tolist() == expected
    assert suppress(value, path(4), np.ones(6), 4)[0].tolist() == [0, 3, 1, 2]
    assert suppress(np.zeros(4), path(4), np.ones(6), 4)[0].tolist() == [0, 1, 2, 3]


def test_picks_spread_over_the_blobs() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([m + rng.normal(size=(20, 2)) * 0.1 for m in (0, 5, 10)])
    for method in (RALF(neighbours=19), D2(neighbours=19, difficulty="uniform")):
        state = picked(method, labelled([0] * 60), Budget(rows=3), x)
        assert {i // 20 for i in state["picked"].tolist()} == {0, 1, 2}


@pytest.mark.parametrize("kind", [RALF, D2])
@pytest.mark.parametrize("balanced", [True, False])
def test_edges(kind: type[RALF] | type[D2], balanced: bool) -> None:
    plain = {"difficulty": "uniform"} if kind is D2 else {}
    check_edges(kind(balanced=balanced, neighbours=3, **plain), nested=True)  # type: ignore[arg-type]
    if kind is D2:  # all of one difficulty are one stratum, and shares of strata are not nested
        check_edges(D2(balanced=balanced, neighbours=3, difficulty="uniform", strata=4), nested=True)
    x = np.ones((4, 2))
    x[2, 0] = np.inf
    with pytest.raises(DataError, match="id 12"):
        picked(kind(**plain), labelled([0] * 4, ids=[10, 11, 12, 13]), Budget(rows=1), x)


def test_impossible_settings_are_refused() -> None:
    for wrong in (
        lambda: RALF(gamma=-1),
        lambda: RALF(neighbours=0),
        lambda: D2(gamma=0),
        lambda: D2(reverse="no"),
        lambda: D2(difficulty="aun", cutoff=0.1),
        lambda: D2(strata=0),
        lambda: D2(cutoff=1.0),
        lambda: D2(cutoff=0.1, difficulty="uniform"),
        lambda: D2(strata=2, search="approximate"),
    ):
        with pytest.raises(UsageError):
            wrong()
    for kind in (RALF, D2):
        with pytest.raises(UsageError, match="neighbours=0"):  # as the user wrote it
            kind(neighbours=0)


@pytest.mark.parametrize("difficulty", ["aum", "forgetting", "el2n"])
def test_d2_takes_the_difficulty_of_a_training(difficulty: str) -> None:
    """Small margins, many forgetting events (as many as epochs where nothing was learned) and large errors are hard."""
    rng = np.random.default_rng(0)
    n = 30
    x = rng.normal(size=(n, 3))
    learned = (rng.uniform(size=n) < 0.7).astype(float)
    seen = {
        "aum": rng.normal(size=n),
        "el2n": rng.uniform(size=n),
        "forgetting": rng.integers(0, 9, n).astype(float),
        "learned": learned,
        "epochs": np.full(n, 10.0),
        "confidence": np.full(n, 0.5),
        "variability": np.zeros(n),
    }
    hard = {
        "aum": seen["aum"].max() - seen["aum"],
        "el2n": seen["el2n"],
        "forgetting": seen["forgetting"] + 10 * (1 - learned),
    }[difficulty]
    d = matrix(x, 2)
    link = linked(d, 5)
    w = np.exp(-d) * link
    picks, gains = loop(hard + w @ hard, link, np.exp(-0.1 * d), n, clamp=True)
    watched = {"dynamics-0": {name: torch.from_numpy(v) for name, v in seen.items()}}
    state = picked(D2(difficulty=difficulty, scale=False), labelled([0] * n), Budget(rows=n), x, more=watched)
    assert np.allclose(state["gain"], gains, atol=1e-4)
    if difficulty != "forgetting":  # whole numbers tie, and rounding decides
        assert state["picked"].tolist() == picks
