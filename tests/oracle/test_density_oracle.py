"""Density-based pruning: the projection against scipy and against bisection, the rest against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.select.clusters import from_centre
from attar.select.density import Density, clusters_of, complexity, hardest, project, shares


def bisected(target: np.ndarray, low: np.ndarray, high: np.ndarray, total: float) -> np.ndarray:
    a, b = float((low - target).min()) - 1, float((high - target).max()) + 1
    for _ in range(200):
        mu = (a + b) / 2
        a, b = (mu, b) if np.clip(target + mu, low, high).sum() < total else (a, mu)
    return np.clip(target + (a + b) / 2, low, high)


@settings(deadline=None, max_examples=200)
@given(
    parts=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=7),
    where=st.floats(0, 1),
)
def test_the_projection_is_that_of_bisection(parts: list[tuple[float, int, int]], where: float) -> None:
    target = np.array([p[0] for p in parts])
    low = np.array([float(p[1]) for p in parts])
    high = low + [p[2] for p in parts]
    total = low.sum() + where * (high - low).sum()
    found = project(target, low, high, total)
    assert found.sum() == pytest.approx(total, abs=1e-6)
    assert (found >= low - 1e-9).all() and (found <= high + 1e-9).all()
    assert np.allclose(found, bisected(target, low, high, total), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_projection_solves_the_quadratic_programme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, low = rng.uniform(0, 10, 5), rng.uniform(0, 2, 5)
    high = low + rng.uniform(0, 6, 5)
    total = float(low.sum() + 0.6 * (high - low).sum())
    solved = minimize(
        lambda n: ((n - target) ** 2).sum(),
        low + 0.6 * (high - low),
        bounds=list(zip(low, high)),
        constraints={"type": "eq", "fun": lambda n: n.sum() - total},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    assert np.allclose(project(target, low, high, total), solved.x, atol=1e-4)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("near", [1, 2, 20])
def test_complexity_is_the_loop(near: int) -> None:
    rng = np.random.default_rng(0)
    x, centres, members = rng.normal(size=(30, 4)), rng.normal(size=(5, 4)), rng.integers(0, 4, size=30)
    far = [cosine(x[i], centres[members[i]]) for i in range(30)]
    products = []
    for c in range(4):  # the fifth cluster is empty
        others = sorted(cosine(centres[c], centres[o]) for o in range(4) if o != c)[:near]
        intra = np.mean([far[i] for i in range(30) if members[i] == c])
        products.append(np.mean(others) * intra / 0.3)
    expected = np.exp(products) / np.exp(products).sum()
    tensors = torch.from_numpy(centres), torch.from_numpy(members)
    ours = from_centre(torch.from_numpy(x), *tensors, metric="cosine")
    assert np.allclose(ours, far, atol=1e-12)
    assert np.allclose(complexity(*tensors, ours, near, 0.3), [*expected, 0.0], atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    keep=st.floats(0, 1),
    floor=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_whole_shares_sum_to_the_budget(sizes: list[int], keep: float, floor: float, seed: int) -> None:
    n = sum(sizes)
    k = max(1, round(keep * n))
    weight = np.random.default_rng(seed).uniform(0.01, 1, len(sizes)) * (np.array(sizes) > 0)
    members = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    parts = shares(torch.from_numpy(weight / weight.sum()), members, k, floor)
    assert sum(parts) == k
    for part, size in zip(parts, sizes):
        assert int(floor * k * size / n + 1e-9) <= part <= size


def test_the_wide_and_lonely_cluster_gets_more_and_gives_its_hardest() -> None:
    rng = np.random.default_rng(0)
    wide = np.array([0.0, 0, 1]) + 0.5 * rng.normal(size=(40, 3))
    dense = [np.array([1.0, s * 0.05, 0]) + 0.01 * rng.normal(size=(40, 3)) for s in (-1, 1)]
    x = np.concatenate([wide, *dense])
    state = picked(Density(clusters=3, near=2, tau=0.05, floor=0.0), labelled([0] * 120), Budget(rows=30), x)
    found = np.bincount(state["picked"].numpy() // 40, minlength=3)
    assert found[0] > 15
    assert (state["gain"].diff() <= 0).all()


def test_the_hardest_of_each_with_ties() -> None:
    far = torch.tensor([0.1, 0.3, 0.3, 0.2, 0.5, 0.1])
    picks = hardest(far, torch.tensor([0, 0, 0, 1, 1, 1]), [1, 2])
    assert picks.places.tolist() == [4, 1, 3]
    assert torch.equal(picks.gain, far[picks.places])


def test_edges() -> None:
    assert [clusters_of(n, 100) for n in (1, 9, 35, 5000)] == [1, 1, 3, 100]
    for balanced in (True, False):
        check_edges(Density(balanced=balanced), nested=False)
    with pytest.raises(DataError, match="id 12"):
        picked(Density(), labelled([0] * 3, ids=[10, 11, 12]), Budget(rows=1), np.array([[0.0], [1.0], [np.nan]]))
    for wrong in ({"floor": 2.0}, {"tau": 0.0}, {"near": 0}):
        with pytest.raises(UsageError):
            Density(**wrong)
