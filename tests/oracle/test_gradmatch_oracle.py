"""GradMatch against explicit least squares without negative weights (scipy), on gradients that are really formed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import attar.testing.trial as trial
from attar.budget import Budget
from attar.errors import UsageError
from attar.seeds import Seeds
from attar.select.factored import Factors
from attar.select.gradmatch import GradMatch, pursue
from attar.select.nonnegative import Fit
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"


def gradients(n: int, seed: int = 0, k: int = 3, d: int = 4, shift: float = 0.0) -> tuple[Factors, np.ndarray]:
    """Random factors, two of them twins and one 0; and [n, K (D + 1)]."""
    rng = np.random.default_rng(seed)
    a, h = rng.normal(size=(n, k)) + shift, rng.normal(size=(n, d)) + shift
    if n > 5:
        a[4], h[4], a[2] = a[1], h[1], 0
    g = np.stack([np.outer(x, np.append(y, 1)).ravel() for x, y in zip(a, h)])
    return Factors(torch.from_numpy(a), torch.from_numpy(h)), g


def best(g: np.ndarray, picks: list[int], ridge: float) -> tuple[np.ndarray, float]:
    """The weights >= 0 of some atoms that minimise E, and E: the ridge as further rows of the problem."""
    b = g.sum(0)
    atoms = np.vstack([g[picks].T, ridge**0.5 * np.eye(len(picks))])
    w, error = nnls(atoms, np.append(b, np.zeros(len(picks))))
    return w, error**2


@pytest.mark.parametrize("ridge", [0.5, 1e-3, 30.0])
@pytest.mark.parametrize("shift", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_picks_weights_and_gains_are_those_of_explicit_pursuit(seed: int, shift: float, ridge: float) -> None:
    x, g = gradients(25, seed, shift=shift)
    b, picks = g.sum(0), list[int]()
    found = pursue(x, 12, ridge=ridge)
    w, error = np.zeros(0), float(b @ b)
    for t, place in enumerate(found.places.tolist()):
        missing = g @ (b - w @ g[picks])
        missing[picks] = -np.inf
        if missing.max() <= 1e-8 * abs(g @ b).max():
            assert (found.gain[t:] == 0).all() and (found.weight[t:] == 0).all()  # type: ignore[index]
            break
        assert missing[place] >= missing.max() - 1e-8
        picks.append(place)
        w, now = best(g, picks, ridge)
        assert now <= error + 1e-9
        assert float(found.gain[t]) == pytest.approx(error - now, rel=1e-6, abs=1e-6)
        error = now
    assert found.weight is not None
    assert np.allclose(found.weight[: len(picks)], w, atol=1e-7)
    assert len(set(found.places.tolist())) == 12


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Atoms [n, d] that point at and away from each other, b [d], and a ridge."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 15)), int(rng.integers(1, 9))
    return rng.normal(size=(n, d)) + rng.normal(size=d), 3 * rng.normal(size=d), float(10 ** rng.uniform(-4, 1))


def test_without_the_constraint_weights_would_be_negative() -> None:
    """Else the next test would pass without it."""
    plain = [np.linalg.solve(a @ a.T + ridge * np.eye(len(a)), a @ b).min() for a, b, ridge in map(problem, range(20))]
    assert sum(w < -1e-2 for w in plain) >= 10


@pytest.mark.parametrize("seed", range(20))
def test_weights_without_negatives_are_the_optimum(seed: int) -> None:
    """Some are held, freed and held again."""
    atoms, b, ridge = problem(seed)
    n = len(atoms)
    fit = Fit(n, ridge)
    for t in range(n):
        fit.add(torch.from_numpy(atoms[: t + 1] @ atoms[t]), float(atoms[t] @ b))
        wide = np.vstack([atoms[: t + 1].T, ridge**0.5 * np.eye(t + 1)])
        w, error = nnls(wide, np.append(b, np.zeros(t + 1)))
        assert np.allclose(fit.weight[: t + 1], w, atol=1e-6)
        assert b @ b - fit.explained == pytest.approx(error**2, abs=1e-8)


def test_orthonormal_atoms_are_taken_by_size() -> None:
    """a = e_i, h = 0: the gradients are unit vectors, twice the first, so that b = (2, 1, 1, ...)."""
    a = torch.eye(5, dtype=torch.float64)[[3, 3, 0, 1, 2, 4]]
    found = pursue(Factors(a, torch.zeros(6, 1, dtype=torch.float64)), 5, ridge=1e-9)
    assert found.places.tolist() == [0, 2, 3, 4, 5]
    assert found.weight is not None and np.allclose(found.weight, [2, 1, 1, 1, 1], atol=1e-6)
    assert np.allclose(found.gain, [4, 1, 1, 1, 1], atol=1e-6)


def test_the_rest_of_the_budget_weighs_nothing_and_points_least_away() -> None:
    a = torch.tensor([[1.0], [3.0], [-2.0], [-1.0]], dtype=torch.float64)
    found = pursue(Factors(a, torch.zeros(4, 1, dtype=torch.float64)), 4, ridge=1e-12)
    assert found.places.tolist()[0] == 1 and found.weight is not None
    assert np.allclose(found.weight, [1 / 3, 0, 0, 0], atol=1e-9)
    assert sorted(found.places.tolist()) == [0, 1, 2, 3]


def test_where_nothing_is_to_be_matched_all_weigh_the_same() -> None:
    for a in (torch.zeros(5, 2), torch.tensor([[1.0, 0], [-1.0, 0], [0, 2.0], [0, -2.0]])):
        found = pursue(Factors(a.double(), torch.zeros(len(a), 3, dtype=torch.float64)), 3, ridge=0.5)
        assert found.places.tolist() == [0, 1, 2] and found.weight is not None
        assert np.allclose(found.weight, len(a) / 3)


def test_picks_are_nested() -> None:
    x, _ = gradients(30, 5)
    whole = pursue(x, 20, ridge=0.5).places.tolist()
    for k in range(1, 20):
        assert pursue(x, k, ridge=0.5).places.tolist()[:k] == whole[:k]


def test_it_is_nearer_than_chance() -> None:
    x, g = gradients(60, 7, shift=0.5)
    found = pursue(x, 6, ridge=0.5)
    error = best(g, found.places.tolist(), 0.5)[1]
    rng = np.random.default_rng(0)
    chance = [best(g, rng.permutation(60)[:6].tolist(), 0.5)[1] for _ in range(50)]
    assert error < np.quantile(chance, 0.1)


@pytest.mark.parametrize("balanced", [True, False])
def test_the_method_matches_each_group(balanced: bool) -> None:
    real = toy((9, 14, 5))
    method = GradMatch(net=NET, epochs=1, balanced=balanced)
    state = method.init(real, Budget(rows=12), Seeds(), trial.resources(method, real))
    picked = state["picked"].tolist()
    assert len(set(picked)) == 12
    assert (state["weight"] >= 0).all() and state["weight"].sum() > 0
    if balanced:
        for k, size in enumerate((9, 14, 5)):  # gradients of one class are alike: each pick stands for n / k
            part = state["weight"][real.labels[state["picked"]] == k]
            assert float(part.sum()) == pytest.approx(size, rel=0.3)
    assert method.finish(state, {}).recipe == {"weighted": True}


@pytest.mark.parametrize("k", [1, 4, 6])
def test_one_class(k: int) -> None:
    """All gradients are 0."""
    real, method = toy((6,)), GradMatch(net=NET, epochs=0)
    state = method.init(real, Budget(rows=k), Seeds(), trial.resources(method, real))
    assert state["picked"].tolist() == list(range(k))
    assert torch.allclose(state["weight"], torch.full((k,), 6 / k))


def test_a_ridge_of_nothing_is_refused() -> None:
    for ridge in (0.0, -1.0):
        with pytest.raises(UsageError, match="ridge"):
            GradMatch(ridge=ridge)
