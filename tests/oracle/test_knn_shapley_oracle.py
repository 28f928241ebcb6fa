"""KNN-Shapley: the recursion against the definition over all subsets."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.select import knn_shapley
from attar.select.knn_shapley import KNNShapley, shapley


def utility(subset: tuple[int, ...], x: np.ndarray, y: np.ndarray, point: np.ndarray, answer: int, k: int) -> float:
    near = sorted(subset, key=lambda i: (((x[i] - point) ** 2).sum(), i))[:k]
    return sum(y[i] == answer for i in near) / k


def defined(x: np.ndarray, y: np.ndarray, points: np.ndarray, answers: np.ndarray, k: int) -> list[float]:
    """The Shapley value of every example from its definition; 2^n subsets."""
    n, values = len(x), []
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        total = 0.0
        for r in range(n):
            for s in itertools.combinations(rest, r):
                weight = math.factorial(r) * math.factorial(n - r - 1) / math.factorial(n)
                for p, a in zip(points, answers):
                    total += weight * (utility((*s, i), x, y, p, a, k) - utility(s, x, y, p, a, k))
        values.append(total / len(points))
    return values


@pytest.mark.parametrize("k", [1, 2, 5, 8, 11])  # also more neighbours than examples
@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_the_recursion_is_the_definition(n: int, k: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    x, points = rng.normal(size=(n, 2)), rng.normal(size=(3, 2))
    if kind == "ties":
        x, points = rng.integers(0, 2, (n, 2)).astype(float), rng.integers(0, 2, (3, 2)).astype(float)
    y, answers = rng.integers(0, 2, n), rng.integers(0, 2, 3)
    found = shapley(*(torch.from_numpy(v) for v in (x, y, points, answers)), k)
    assert np.allclose(found, defined(x, y, points, answers, k), atol=1e-12)


def test_values_share_out_the_accuracy_and_blocks_of_points_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, points = rng.normal(size=(60, 3)), rng.normal(size=(12, 3))
    y, answers = rng.integers(0, 3, 60), rng.integers(0, 3, 12)
    tensors = [torch.from_numpy(v) for v in (x, y, points, answers)]
    whole = shapley(*tensors, 5)
    everything = np.mean([utility(tuple(range(60)), x, y, p, a, 5) for p, a in zip(points, answers)])
    assert float(whole.sum()) == pytest.approx(everything)
    monkeypatch.setattr(knn_shapley, "POINTS", 8)  # 12 points are 1.5 blocks
    assert torch.allclose(shapley(*tensors, 5), whole, atol=1e-12)


def test_nothing_to_learn_from_is_worth_nothing() -> None:
    none, no = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)
    assert shapley(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), none, no, 5).tolist() == [0, 0, 0]
    assert len(shapley(none, no, torch.ones(3, 2), torch.zeros(3, dtype=torch.int64), 5)) == 0


def test_wrong_labels_come_last() -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 40)
    x = np.eye(2)[y] * 4 + rng.normal(size=(80, 2)) * 0.5
    wrong = rng.permutation(80)[:8]
    given = y.copy()
    given[wrong] = 1 - given[wrong]
    method = KNNShapley(balanced=False, neighbours=5)
    order = picked(method, labelled(given.tolist()), Budget(rows=80), x)["picked"].tolist()
    assert set(order[-8:]) == set(wrong.tolist())


def test_every_example_is_valued_by_the_other_half() -> None:
    """Two examples, one in each half: of one class each is worth 1/K, of two classes nothing."""
    x = np.array([[0.0], [1.0]])
    same = picked(KNNShapley(neighbours=1), labelled([0, 0]), Budget(rows=2), x)
    assert same["gain"].tolist() == [1, 1]
    other = picked(KNNShapley(neighbours=1), labelled([0, 1]), Budget(rows=2), x)
    assert other["gain"].tolist() == [0, 0]


def test_edges() -> None:
    for balanced in (True, False):
        check_edges(KNNShapley(balanced=balanced, neighbours=2), nested=True)
    with pytest.raises(DataError, match="no classes"):
        picked(KNNShapley(), labelled([0] * 4, classes=0), Budget(rows=1), np.eye(4))
    with pytest.raises(DataError, match="id 12"):
        picked(KNNShapley(), labelled([0] * 3, ids=[10, 11, 12]), Budget(rows=1), np.array([[0.0], [1.0], [np.nan]]))
    with pytest.raises(UsageError):
        KNNShapley(neighbours=0)


def test_rules_leave_out_the_worthless() -> None:
    """A cutoff drops wrong labels, which have the lowest values, and keeps the most valuable."""
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 40)
    x = np.eye(2)[y] * 4 + rng.normal(size=(80, 2)) * 0.5
    wrong = rng.permutation(80)[:8]
    given = y.copy()
    given[wrong] = 1 - given[wrong]
    for rule in ("ccs:strata=5:cutoff=0.1", "top:skip=0.1"):
        method = KNNShapley(balanced=False, neighbours=5, rule=rule)
        kept = picked(method, labelled(given.tolist()), Budget(rows=60), x)["picked"].tolist()
        assert not set(kept) & set(wrong.tolist())
