"""The graph of neighbours against brute force; steps in any order; the recall of approximate search."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from attar.errors import DataError, ResourceError, UsageError
from attar.execute import pairs
from attar.execute.plan import Plan
from attar.method import State
from attar.real.realset import RealSet
from attar.resources import graph
from attar.resources.graph import Graph
from attar.resources.inverted import Inverted, centres
from attar.run import run
from attar.seeds import Seeds
from attar.testing.hooks import Alive

FAISS = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")


def a_set(n: int, classes: int = 1, ids: np.ndarray | None = None) -> RealSet:
    return RealSet(
        name="toy",
        table=pa.table({"label": (np.arange(n) % classes).astype(np.int64)}),
        images=torch.zeros(n, 1, 1, 1, dtype=torch.uint8),
        rows=torch.arange(n),
        ids=torch.arange(n) if ids is None else torch.from_numpy(ids),
        class_names=tuple(f"c{k}" for k in range(classes)),
        mean=(0.0,),
        std=(1.0,),
        fingerprint="toy",
    )


def made(spec: Graph, real: RealSet, x: np.ndarray) -> State:
    res = {"features": {"features": torch.from_numpy(x).float()}}
    return spec.finish(run(spec, real, [None], seed=0, plan=Plan(), res=res).states[0], res)  # pyright: ignore


def brute(x: np.ndarray, labels: list[int], ids: np.ndarray, k: int) -> list[list[int]]:
    """Rows by (distance, id), whole numbers so that ties are exact."""
    out = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i and labels[j] == labels[i]]
        out.append(sorted(others, key=lambda j: (((x[i] - x[j]) ** 2).sum(), ids[j]))[:k])
    return out


@pytest.mark.parametrize("k", [1, 4, 11, 12, 30])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("rows", [5, 8, 1024])  # 12 rows are 1.5 blocks of 8
def test_exact_is_brute_force_with_ties_and_twins(k: int, within: bool, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(graph, "ROWS", rows)
    monkeypatch.setattr(pairs, "BLOCK", rows)
    rng = np.random.default_rng(1)
    x, ids = rng.integers(-2, 3, size=(12, 2)).astype(float), rng.permutation(12) + 100
    x[3] = x[4] = 0
    real = a_set(12, 3, ids)
    state = made(Graph(k=k, within=within), real, x)
    labels = real.labels.tolist() if within else [0] * 12
    for i, expected in enumerate(brute(x, labels, ids, k)):
        assert state["ids"][i].tolist() == expected + [-1] * (k - len(expected))
        d = [float(np.linalg.norm(x[i] - x[j])) for j in expected] + [0.0] * (k - len(expected))
        assert np.allclose(state["distances"][i], d)
    assert state["ids"].dtype == torch.int32
    assert state["recall"].tolist() == [1.0]


def test_steps_may_come_in_any_order_and_twice(monkeypatch) -> None:
    monkeypatch.setattr(graph, "ROWS", 3)
    real, spec = a_set(10, 2), Graph(k=3, within=True)
    res = {"features": {"features": torch.randn(10, 4, generator=torch.Generator().manual_seed(0))}}
    assert spec.length(real) == 4

    def after(steps: list[int]) -> torch.Tensor:
        state = spec.init(real, None, Seeds(0), res)
        for step in steps:
            state = spec.step(state, spec.draw(real, Seeds(0), res, step), None)  # type: ignore[arg-type]
        return state["ids"]

    assert torch.equal(after([3, 1, 1, 0, 2]), after([0, 1, 2, 3]))


@FAISS
@pytest.mark.parametrize("metric", pairs.METRICS)
def test_approximate_search_says_how_much_it_found(metric: str) -> None:
    x = np.random.default_rng(0).normal(size=(300, 6))
    real = a_set(300, 2)
    exact, rough = (made(Graph(k=5, metric=metric, within=True, search=s), real, x) for s in graph.SEARCHES)
    hits = np.mean([len({*a} & {*b}) / 5 for a, b in zip(exact["ids"].tolist(), rough["ids"].tolist())])
    assert float(rough["recall"]) == pytest.approx(hits, abs=1e-6)  # 300 examples are all asked
    assert hits > 0.95
    assert torch.equal(made(Graph(k=5, metric=metric, within=True, search="approximate"), real, x)["ids"], rough["ids"])


@FAISS
def test_recall_counts_what_is_missing(monkeypatch) -> None:
    """An index that gives every second neighbour alone is reported as a half, or so."""
    x, real = np.random.default_rng(0).normal(size=(60, 3)), a_set(60)
    spec, honest = Graph(k=4, search="approximate"), Inverted._ordered

    def lossy(self, some, found):
        exact, _ = pairs.closest(self.x[some], self.x, 8, own=some)
        return honest(self, some, exact[:, [0, 2, 4, 6]].sort(1).values)  # of the four nearest two are there

    monkeypatch.setattr(Inverted, "_ordered", lossy)
    assert float(made(spec, real, x)["recall"]) == pytest.approx(0.5)


@FAISS
def test_as_many_lists_are_searched_as_the_recall_needs() -> None:
    """Scattered points lie in many lists, groups in one; all of them find everything."""
    x = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    probes = {}
    for recall in (0.5, 0.95, 1.0):
        index = Inverted(x, 5, metric="euclidean", recall=recall, seed=0)
        everyone = torch.arange(len(x))
        exact = pairs.closest(x, x, 5, own=everyone)[0]
        hits = (index.nearest(everyone)[0][..., None] == exact[:, None]).any(2).float().mean()
        assert hits >= recall - 0.02
        probes[recall] = index.probes
    assert 1 <= probes[0.5] < probes[0.95] < probes[1.0] <= centres(3000)
    groups = x[:30].repeat_interleave(100, 0) * 10 + 0.01 * x
    assert Inverted(groups, 5, metric="euclidean", recall=0.95, seed=0).probes < probes[0.95]


@FAISS
def test_a_graph_is_the_same_after_a_restart_in_the_middle(monkeypatch) -> None:
    monkeypatch.setattr(graph, "MANY", 100)
    real, spec = a_set(300), Graph(k=3, search="approximate", recall=0.6)
    res = {"features": {"features": torch.randn(300, 12, generator=torch.Generator().manual_seed(0))}}
    whole = [spec.draw(real, Seeds(4).at("step", t), res, t)["ids"] for t in range(3)]
    graph._HELD.clear()
    assert torch.equal(spec.draw(real, Seeds(4).at("step", 2), res, 2)["ids"], whole[2])
    assert spec.length(real) == 4


@FAISS
def test_fewer_others_than_neighbours() -> None:
    state = made(Graph(k=5, search="approximate"), a_set(3), np.eye(3))
    assert (state["ids"][:, 2:] == -1).all() and (state["ids"][:, :2] >= 0).all()
    assert state["recall"].tolist() == [1.0]


def test_without_the_library_one_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ResourceError, match="pip install 'attar\\[ann\\]'"):
        made(Graph(search="approximate"), a_set(3), np.eye(3))


def test_bad_input_is_refused() -> None:
    with pytest.raises(UsageError, match="k=0"):
        Graph(k=0)
    with pytest.raises(UsageError, match="did you mean 'exact'"):
        Graph(search="exac")
    x = np.eye(3)
    x[1, 1] = np.nan
    with pytest.raises(DataError, match="id 8 "):
        made(Graph(), a_set(3, ids=np.array([7, 8, 9])), x)


def test_settings_that_do_not_concern_the_features_do_not_change_it() -> None:
    assert Graph() == Graph(net="convnet:width=8", epochs=3)
    assert Graph(source="random") != Graph(source="random", net="convnet:width=8")


def test_the_estimate_of_memory_is_near_what_a_step_holds() -> None:
    n, spec = 700, Graph(k=5)
    real = RealSet(
        name="toy",
        table=pa.table({"label": np.zeros(n, dtype=np.int64)}),
        images=torch.zeros(n, 1, 16, 16, dtype=torch.uint8),
        rows=torch.arange(n),
        ids=torch.arange(n),
        class_names=("a",),
        mean=(0.0,),
        std=(1.0,),
    )
    res = {"features": {"features": torch.randn(n, 256, generator=torch.Generator().manual_seed(0))}}
    with Alive() as alive:
        state = spec.init(real, None, Seeds(0), res)
        spec.step(state, spec.draw(real, Seeds(0), res, 0), None)  # type: ignore[arg-type]
    assert 0.5 * alive.most <= spec.cost(real).memory <= 4 * alive.most
