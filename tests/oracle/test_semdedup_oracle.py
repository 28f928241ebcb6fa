"""SemDeDup against a loop in float64; planted duplicates are found, and one of each group stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.execute import pairs
from attar.select.semdedup import SemDeDup, novelty


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def loop(x: np.ndarray, stays: str) -> list[float]:
    """1 - M of every row of one cluster, from the definition; 2 for the first."""
    centre = (x / np.linalg.norm(x, axis=1, keepdims=True)).mean(0)
    far = [1 - cosine(v, centre) for v in x]
    order = sorted(range(len(x)), key=lambda i: (-far[i] if stays == "hard" else far[i], i))
    apart = [0.0] * len(x)
    for place, j in enumerate(order):
        apart[j] = 1 - max((cosine(x[i], x[j]) for i in order[:place]), default=-1.0)
    return apart


@pytest.mark.parametrize("stays", ["hard", "easy"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [5, 8, 12, 1024])  # 12 rows are 1.5 blocks of 8
def test_one_cluster_is_the_loop(stays: str, seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "BLOCK", block)
    x = np.random.default_rng(seed).normal(size=(12, 3))
    apart = loop(x, stays)
    state = picked(SemDeDup(stays=stays), labelled([0] * 12), Budget(rows=12), x)
    assert state["picked"].tolist() == sorted(range(12), key=lambda i: -apart[i])
    assert np.allclose(state["gain"], sorted(apart, reverse=True), atol=1e-6)
    chosen = [i for i in range(12) if apart[i] >= 0.1]  # the threshold that the budget stands for
    kept = picked(SemDeDup(stays=stays, threshold=0.9), labelled([0] * 12), Budget(rows=len(chosen)), x)
    assert sorted(kept["picked"].tolist()) == chosen


@pytest.mark.parametrize("stays", ["hard", "easy", "random"])
@pytest.mark.parametrize("per_cluster", [1000, 12])
def test_planted_duplicates_go_and_one_of_each_group_stays(stays: str, per_cluster: int) -> None:
    """Ten far directions, four near copies of each and of any length."""
    rng = np.random.default_rng(2)
    base = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    x = np.repeat(base, 4, axis=0) + 0.001 * rng.normal(size=(40, 10))
    x *= rng.uniform(0.1, 10, size=(40, 1))
    x = x[order := rng.permutation(40)]
    method = SemDeDup(stays=stays, per_cluster=per_cluster, threshold=0.95)
    state = picked(method, labelled([0] * 40), Budget(rows=10), x)
    assert sorted(order[i] // 4 for i in state["picked"].tolist()) == list(range(10))
    with pytest.raises(DataError, match="11 of 40 examples are asked for but 10 are no duplicates"):
        picked(method, labelled([0] * 40), Budget(rows=11), x)


def test_the_hard_one_of_a_pair_stays_or_the_easy_one() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.1], [-0.5, 1.0], [-0.5, 1.1]])
    centre = (x / np.linalg.norm(x, axis=1, keepdims=True)).mean(0)
    for stays, sign in (("hard", 1), ("easy", -1)):
        kept = picked(SemDeDup(stays=stays), labelled([0] * 4), Budget(rows=2), x)["picked"].tolist()
        for pair in ([0, 1], [2, 3]):
            wanted = min(pair, key=lambda i: sign * cosine(x[i], centre))
            assert [i for i in pair if i in kept] == [wanted]


def test_a_chain_leaves_its_first_and_tiles_do_not_matter() -> None:
    angle = torch.arange(6) * 0.1
    x = torch.stack([angle.cos(), angle.sin()], 1)
    apart = novelty(x, [torch.arange(6)])
    assert apart[0] == 2
    assert torch.allclose(apart[1:], 1 - torch.tensor(0.1).cos(), atol=1e-6)


def test_exact_copies_and_zero_vectors_are_at_zero() -> None:
    x = np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [-4.0, 3.0]])
    state = picked(SemDeDup(), labelled([0] * 5), Budget(rows=5), x)
    assert (state["gain"] == 0).sum() == 2
    assert {3, 1} >= set(state["picked"][3:].tolist())


def test_edges() -> None:
    for balanced in (True, False):
        check_edges(SemDeDup(balanced=balanced), nested=True)
        check_edges(SemDeDup(balanced=balanced, per_cluster=4, stays="random"), nested=True)
    with pytest.raises(DataError, match="id 12"):
        picked(SemDeDup(), labelled([0] * 3, ids=[10, 11, 12]), Budget(rows=1), np.array([[0.0], [1.0], [np.nan]]))
    for wrong in ({"threshold": 1.5}, {"stays": "hrd"}, {"per_cluster": 0}):
        with pytest.raises(UsageError):
            SemDeDup(**wrong)  # type: ignore[arg-type]
