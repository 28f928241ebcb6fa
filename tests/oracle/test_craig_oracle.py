"""CRAIG against brute force on gradients that are really formed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attar.testing.trial as trial
from attar.budget import Budget
from attar.method import State
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.craig import CRAIG, Closeness, represented
from attar.select.factored import Factors, factors_of
from attar.select.greedy import maximise
from attar.select.submodular.facility import Facility
from attar.select.submodular.similarity import Table
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"


def gradients(n: int, seed: int = 0, k: int = 3, d: int = 4) -> tuple[Factors, np.ndarray]:
    """Random factors, two of them twins and one 0; and [n, K (D + 1)]."""
    rng = np.random.default_rng(seed)
    a, h = rng.normal(size=(n, k)), rng.normal(size=(n, d))
    if n > 5:
        a[4], h[4], a[2] = a[1], h[1], 0
    g = np.stack([np.outer(x, np.append(y, 1)).ravel() for x, y in zip(a, h)])
    return Factors(torch.from_numpy(a), torch.from_numpy(h)), g


def apart(g: np.ndarray) -> np.ndarray:
    return np.array([[np.linalg.norm(x - y) for y in g] for x in g])


@pytest.mark.parametrize("optimiser", ["exact", "lazy"])
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_pick_lowers_the_sum_of_distances_most(seed: int, table: bool, optimiser: str) -> None:
    x, g = gradients(15, seed)
    d, closeness = apart(g), Closeness(x)
    f = Facility(Table(closeness) if table else closeness, block=40)
    places, gain = maximise(f, 12, optimiser=optimiser)
    picks: list[int] = []
    for t, place in enumerate(places.tolist()):
        left = {j: d[:, [*picks, j]].min(1).sum() for j in range(15) if j not in picks}
        assert left[place] <= min(left.values()) + 1e-6  # twins are at 0 only to the square root of the precision
        if t:
            assert d[:, picks].min(1).sum() - left[place] == pytest.approx(float(gain[t]), abs=1e-5)
        picks.append(place)


def test_sums_look_at_all_pairs() -> None:
    x, g = gradients(15)
    wanted = 2 * np.linalg.norm(g, axis=1).max() - apart(g)
    assert (wanted >= 0).all()
    assert np.allclose(Closeness(x).sums(), wanted.sum(0), atol=1e-5)


@pytest.mark.parametrize("n", [1, 9, 1500])
def test_weights_count_the_nearest_and_sum_to_n(n: int) -> None:
    """1500 are one strip and a half; nothing is counted twice, and the picks count themselves once."""
    x, g = gradients(n)
    places = torch.from_numpy(np.random.default_rng(1).permutation(n)[: max(1, n // 3)])
    weight = represented(x, places)
    assert int(weight.sum()) == n and int(weight.min()) >= 1
    owner = np.array([np.argmin([np.linalg.norm(v - g[p]) for p in places.tolist()]) for v in g])
    owner[places.numpy()] = np.arange(len(places))
    assert weight.tolist() == np.bincount(owner, minlength=len(places)).tolist()


def test_twins_that_are_both_kept_weigh_one_each_at_least() -> None:
    x = Factors(torch.ones(6, 2), torch.ones(6, 3))
    assert represented(x, torch.tensor([4, 1])).tolist() == [5, 1]


def test_the_weighted_gradient_is_within_the_bound() -> None:
    x, g = gradients(40, 3)
    places, _ = maximise(Facility(Closeness(x)), 10)
    weight = represented(x, places).numpy()
    left = np.linalg.norm(g.sum(0) - weight @ g[places.numpy()])
    assert left <= apart(g)[:, places.numpy()].min(1).sum() + 1e-9


@pytest.fixture(scope="module")
def chosen() -> tuple[RealSet, State, State]:
    real = toy((9, 14, 5))
    method = CRAIG(net=NET, epochs=1)
    res = trial.resources(method, real)
    pool = CRAIG(net=NET, epochs=1, balanced=False)
    return real, method.init(real, Budget(ipc=4), Seeds(), res), pool.init(real, Budget(rows=12), Seeds(), res)


def test_the_weights_of_every_class_sum_to_its_size(chosen: tuple[RealSet, State, State]) -> None:
    real, state, pool = chosen
    for k, size in enumerate((9, 14, 5)):
        assert float(state["weight"][real.labels[state["picked"]] == k].sum()) == size
    assert float(pool["weight"].sum()) == 28
    assert CRAIG().finish(state, {}).recipe["weighted"] is True


def test_classes_are_chosen_apart(chosen: tuple[RealSet, State, State]) -> None:
    real, state, _ = chosen
    res = trial.resources(CRAIG(net=NET, epochs=1), real)
    rows = real.classes[1]
    x = factors_of(real, res, rows)
    g = np.stack([np.outer(a, np.append(h, 1)).ravel() for a, h in zip(x.a.double().numpy(), x.h.double().numpy())])
    d, picks = apart(g), list[int]()
    for _ in range(4):
        left = {j: d[:, [*picks, j]].min(1).sum() for j in range(14) if j not in picks}
        picks.append(min(left, key=lambda j: left[j]))
    assert state["picked"][real.labels[state["picked"]] == 1].tolist() == rows[picks].tolist()


@pytest.mark.parametrize("optimiser", ["exact", "lazy", "stochastic"])
def test_one_class_and_everything(optimiser: str) -> None:
    """Of one class all gradients are 0: picks by id, weights still sum to n."""
    real, method = toy((6,)), CRAIG(net=NET, epochs=0, optimiser=optimiser)
    res = trial.resources(method, real)
    state = method.init(real, Budget(rows=6), Seeds(), res)
    assert sorted(state["picked"].tolist()) == list(range(6)) and state["weight"].tolist() == [1] * 6
    few = method.init(real, Budget(rows=2), Seeds(), res)
    assert float(few["weight"].sum()) == 6
    if optimiser != "stochastic":
        assert few["picked"].tolist() == [0, 1]
