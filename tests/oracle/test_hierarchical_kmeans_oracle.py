"""Hierarchical k-means: turns against water filling from the top down, for every budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import check_edges, labelled, picked

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.execute import pairs
from attar.seeds import Seeds
from attar.select.clusters import from_centre
from attar.select.hierarchical_kmeans import HierarchicalKMeans, turns


def filled(total: int, sizes: list[int]) -> list[int]:
    """As even as the sizes allow: one by one to the child that has least and is not empty, the first of these."""
    parts = [0] * len(sizes)
    for _ in range(total):
        parts[min((i for i in range(len(sizes)) if parts[i] < sizes[i]), key=lambda i: (parts[i], i))] += 1
    return parts


def from_the_top(tree: list[torch.Tensor], first: list[int], k: int) -> set[int]:
    """The picks of k: the budget of every node divided over its children, down to the leaves."""

    def below(level: int, node: int) -> list[int]:
        return [i for i, c in enumerate(tree[level].tolist()) if c == node]

    def leaves(level: int, node: int) -> list[int]:
        return [node] if level < 0 else [p for child in below(level, node) for p in leaves(level - 1, child)]

    def take(level: int, node: int, k: int) -> list[int]:
        if level == 0:
            own = below(0, node)
            return sorted(own, key=first.index)[:k]
        children = below(level, node)
        parts = filled(k, [len(leaves(level - 1, c)) for c in children])
        return [p for c, m in zip(children, parts) for p in take(level - 1, c, m)]

    top = range(int(tree[-1].max()) + 1)
    parts = filled(k, [len(leaves(len(tree) - 1, c)) for c in top])
    return {p for c, m in zip(top, parts) for p in take(len(tree) - 1, c, m)}


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 25), levels=st.integers(1, 4), seed=st.integers(0, 999))
def test_turns_are_water_filling_for_every_budget(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree, below = [], n
    for _ in range(levels):
        clusters = int(rng.integers(1, below + 1))
        tree.append(torch.from_numpy(rng.integers(0, clusters, below)))
        below = int(tree[-1].max()) + 1  # some are empty
    first = rng.permutation(n)
    order = turns(tree, torch.from_numpy(first))
    assert sorted(order) == list(range(n))
    for k in range(1, n + 1):
        assert set(order[:k]) == from_the_top(tree, first.tolist(), k)


@pytest.mark.parametrize("take", ["nearest", "farthest"])
def test_a_leaf_gives_the_nearest_or_the_farthest_first(take: str) -> None:
    x = np.concatenate([m + np.array([0, 1, 2, 4, 8.0]) for m in (0, 1000)])[:, None]
    state = picked(HierarchicalKMeans(levels=1, fan=5, take=take), labelled([0] * 10), Budget(rows=10), x)
    far = [abs(v - (3 + 1000 * (v > 500))) for v in x[:, 0]]
    for blob in (range(5), range(5, 10)):
        wanted = sorted(blob, key=lambda i: (far[i] if take == "nearest" else -far[i], i))
        assert [i for i in state["picked"].tolist() if i in blob] == wanted
    assert state["gain"].tolist() == pytest.approx([far[i] for i in state["picked"].tolist()])


def test_what_is_rare_is_kept() -> None:
    """190 examples of one thing, 10 of another: half of a small budget each, where chance would give a twentieth."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(190, 2)), 50 + rng.normal(size=(10, 2))])
    state = picked(HierarchicalKMeans(levels=5, fan=4), labelled([0] * 200), Budget(rows=16), x)
    assert (state["picked"] >= 190).sum() >= 4


def test_the_tree_gets_smaller_by_the_fan_and_ends_at_one() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    centres, tree = HierarchicalKMeans(levels=9, fan=4)._tree(x, Seeds(0))
    assert [len(t) for t in tree] == [50, 13, 4]
    assert centres.shape == (13, 3)
    d = (x.double()[:, None] - centres.double()[tree[0]][:, None]).square().sum(-1).sqrt()[:, 0]
    assert torch.allclose(from_centre(x, centres, tree[0]).double(), d, atol=1e-6)


def test_distances_from_many_centres_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    x, centres = torch.randn(2500, 3, generator=g), torch.randn(700, 3, generator=g)
    members = torch.randint(700, (2500,), generator=g)
    calls, distances = [], pairs.distances
    monkeypatch.setattr(pairs, "distances", lambda *a, **k: (calls.append(1), distances(*a, **k))[1])
    for metric in ("euclidean", "cosine"):
        far = from_centre(x, centres, members, metric=metric)
        wanted = [float(distances(x[i : i + 1], centres[members[i]][None], metric=metric)) for i in range(0, 2500, 99)]
        assert far[::99].tolist() == wanted
    assert len(calls) == 2 * 3


def test_edges() -> None:
    for balanced in (True, False):
        for take in ("random", "farthest"):
            check_edges(HierarchicalKMeans(balanced=balanced, fan=3, take=take), nested=True)
    with pytest.raises(DataError, match="id 12"):
        x = np.array([[0.0], [1.0], [np.nan]])
        picked(HierarchicalKMeans(), labelled([0] * 3, ids=[10, 11, 12]), Budget(rows=1), x)
    for wrong in ({"fan": 1}, {"levels": 0}, {"take": "near"}):
        with pytest.raises(UsageError):
            HierarchicalKMeans(**wrong)  # type: ignore[arg-type]
