"""Small sets whose features are given, and what a selector picks of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from attar.budget import Budget
from attar.execute.plan import Plan
from attar.method import Method, State
from attar.real.realset import RealSet
from attar.resources.graph import Graph
from attar.resources.resource import needed
from attar.run import run
from attar.seeds import Seeds


def labelled(labels: Sequence[int], *, ids: Sequence[int] | None = None, classes: int | None = None) -> RealSet:
    """A set of 1x1 images with the given labels; K is ``classes`` or as many as the labels name."""
    n = len(labels)
    return RealSet(
        name="small",
        table=pa.table({"label": np.asarray(labels, dtype=np.int64)}),
        images=torch.zeros(n, 1, 1, 1, dtype=torch.uint8),
        rows=torch.arange(n),
        ids=torch.arange(n) if ids is None else torch.tensor(ids),
        class_names=tuple(f"c{k}" for k in range(max(labels, default=0) + 1 if classes is None else classes)),
        mean=(0.0,),
        std=(1.0,),
        fingerprint="small",
    )


def picked(
    method: Method,
    real: RealSet,
    budget: Budget,
    x: np.ndarray,
    seed: int = 0,
    more: dict[str, State] | None = None,
) -> State:
    """The state of a selector on given features [N, D] and more resources; a graph is built where it needs one."""
    res: dict[str, State] = {"features": {"features": torch.from_numpy(np.asarray(x)).float()}, **(more or {})}
    for resource in needed(method):
        if isinstance(resource, Graph):
            outcome = run(resource, real, [None], seed=seed, plan=Plan(), res=res)  # pyright: ignore[reportArgumentType]
            res["graph"] = resource.finish(outcome.states[0], res)
    return method.init(real, budget, Seeds(seed).at("init"), res)


def check_edges(method: Method, *, nested: bool) -> None:
    """What holds for every selector at the edges: k = n, one class, twins, zeros, order of rows, a broken feature."""
    rng = np.random.default_rng(0)
    labels = [0, 1, 2, 1, 0, 0, 2, 1, 1, 2, 0, 1]
    real, x = labelled(labels), rng.normal(size=(12, 3))
    for features in (x, np.zeros((12, 3)), x[[0] * 6 + [1] * 6]):
        whole = picked(method, real, Budget(rows=12), features)
        assert sorted(whole["picked"].tolist()) == list(range(12))
        for m in range(1, 12):
            some = picked(method, real, Budget(rows=m), features)["picked"].tolist()
            assert len(set(some)) == m
            assert not nested or some == whole["picked"][:m].tolist()
    assert len(picked(method, labelled([0] * 12), Budget(ipc=5), x)["picked"]) == 5
    assert picked(method, labelled([0]), Budget(rows=1), x[:1])["picked"].tolist() == [0]
    x[7] = x[3]
    turned = rng.permutation(12)
    a = picked(method, real, Budget(rows=7), x)
    b = picked(method, real.subset(torch.from_numpy(turned)), Budget(rows=7), x[turned])
    assert torch.from_numpy(turned)[b["picked"]].tolist() == a["picked"].tolist()
    assert torch.allclose(a["gain"], b["gain"], atol=1e-6)
