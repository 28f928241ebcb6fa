"""Moderate coreset and prototypes against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.select.moderate import Moderate, moderation
from attar.select.prototype import Prototype

LABELS = [0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1]


def outwards(d: list[float]) -> list[int]:
    """Places by the distance of their rank from the middle rank, ties to the lower place."""
    rank = {i: r for r, i in enumerate(sorted(range(len(d)), key=lambda i: (d[i], i)))}
    return sorted(range(len(d)), key=lambda i: (abs(rank[i] - (len(d) - 1) / 2), i))


@pytest.mark.parametrize("seed", range(5))
def test_moderate_is_the_loop(seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(11, 3)).astype(np.float32).astype(float), np.array(LABELS)
    d = [float(np.linalg.norm(x[i] - np.median(x[y == y[i]], axis=0))) for i in range(11)]
    pool = picked(Moderate(balanced=False), labelled(LABELS), Budget(rows=11), x)["picked"].tolist()
    assert pool == outwards(d)
    state = picked(Moderate(), labelled(LABELS), Budget(rows=6), x)["picked"].tolist()
    for k in (0, 1):
        rows = np.nonzero(y == k)[0].tolist()
        assert [i for i in state if y[i] == k] == [rows[p] for p in outwards([d[i] for i in rows])][:3]


def test_the_window_of_quantiles_is_kept() -> None:
    """The k kept are those of the ranks around the median, as many below as above."""
    d = torch.arange(9.0)
    kept = moderation(d).argsort(descending=True, stable=True)[:5]
    assert sorted(kept.tolist()) == [2, 3, 4, 5, 6]
    assert moderation(d).tolist() == [-4, -3, -2, -1, 0, -1, -2, -3, -4]


def test_the_middle_of_a_class_is_its_own_and_not_dragged_by_an_odd_example() -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    state = picked(Moderate(), labelled([0] * 5), Budget(rows=5), x)  # from 2: 2 1 0 1 998, the median is 1
    assert state["picked"].tolist() == [3, 0, 1, 2, 4]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("prefer", ["hard", "easy"])
def test_class_prototypes_are_the_loop(prefer: str) -> None:
    x, y = np.random.default_rng(0).normal(size=(11, 3)), np.array(LABELS)
    u = unit(x)
    d = []
    for i in range(11):
        c = u[y == y[i]].mean(0)
        d.append(1 - u[i] @ c / np.linalg.norm(c))
    order = sorted(range(11), key=lambda i: -d[i] if prefer == "hard" else d[i])
    method = Prototype(by="class", prefer=prefer, balanced=False)
    state = picked(method, labelled(LABELS), Budget(rows=11), x)
    assert state["picked"].tolist() == order
    assert np.allclose(state["gain"].abs(), [d[i] for i in order], atol=1e-6)


def test_kmeans_prototypes_are_the_best_directions_of_all_starts() -> None:
    """Two bundles of directions of any length: the distance is from the mean direction of the own bundle."""
    rng = np.random.default_rng(1)
    bundle = np.repeat([0, 1], 10)
    u = unit(np.eye(3)[bundle] + 0.1 * rng.normal(size=(20, 3)))
    x = u * rng.uniform(0.1, 50, size=(20, 1))
    d = [1 - u[i] @ unit(u[bundle == bundle[i]].mean(0, keepdims=True))[0] for i in range(20)]
    state = picked(Prototype(prototypes=2, balanced=False), labelled([0] * 20), Budget(rows=20), x)
    assert state["picked"].tolist() == sorted(range(20), key=lambda i: -d[i])
    assert np.allclose(state["gain"], sorted(d, reverse=True), atol=1e-5)


def test_the_odd_one_is_hard_and_not_easy() -> None:
    x = np.concatenate([np.ones((9, 2)) + 0.01 * np.arange(9)[:, None] * [1, -1], [[-1.0, 1.0]]])
    for prefer, first in (("hard", True), ("easy", False)):
        method = Prototype(prototypes=1, prefer=prefer)
        order = picked(method, labelled([0] * 10), Budget(rows=10), x)["picked"].tolist()
        assert (order[0] == 9) is first
        assert (order[-1] == 9) is not first


@pytest.mark.parametrize("balanced", [True, False])
def test_edges(balanced: bool) -> None:
    check_edges(Moderate(balanced=balanced), nested=True)
    check_edges(Prototype(balanced=balanced, prototypes=2), nested=True)
    check_edges(Prototype(balanced=balanced, by="class", prefer="easy"), nested=True)


def test_bad_input_is_refused() -> None:
    x = np.ones((4, 2))
    x[2, 0] = np.nan
    for method in (Moderate(), Prototype()):
        with pytest.raises(DataError, match="id 12"):
            picked(method, labelled([0] * 4, ids=[10, 11, 12, 13]), Budget(rows=1), x)
    with pytest.raises(DataError, match="no classes"):
        picked(Prototype(by="class"), labelled([0] * 4, classes=0), Budget(rows=1), np.eye(4))
    for wrong in ({"prefer": "har"}, {"by": "label"}, {"prototypes": 0}, {"rule": "tp"}):
        with pytest.raises(UsageError):
            Prototype(**wrong)  # type: ignore[arg-type]
