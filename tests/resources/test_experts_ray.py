"""Experts by the machines of a Ray cluster: the same bits, whatever is lost on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.errors import DataError, Interrupted, ResourceError
from attar.execute import cluster, crew
from attar.execute.plan import Plan
from attar.execute.progress import Silent
from attar.method import State
from attar.real.realset import RealSet
from attar.resources import build
from attar.resources.build import gather
from attar.resources.experts import experts

MakeSet = Callable[..., RealSet]
LONG = {"net": "convnet:width=4:depth=1", "epochs": 400, "batch": 16, "lr": 0.05}


class At(Silent):
    """Progress that acts once, when more than some units are over."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self.after, self.act, self.over, self.total = after, act, 0, 0

    def start(self, label: str, total: int, done: int = 0) -> None:
        self.total = total

    def advance(self, n: int = 1, **facts: float) -> None:
        before, self.over = self.over, self.over + n
        if before <= self.after < self.over:
            self.act()


def gathered(real: RealSet, count: int = 3, progress: Silent | None = None) -> dict[str, State]:
    task = type("Task", (), {"needs": lambda self: experts(count, **LONG)})()
    return gather(task, real, seed=0, plan=Plan(), progress=progress or Silent())


def alone(real: RealSet, patch: pytest.MonkeyPatch, cache: Path) -> dict[str, State]:
    with patch.context() as here:
        here.setenv("ATTAR_CACHE", str(cache))
        here.setattr(cluster, "at_hand", lambda: False)
        return gathered(real)


def same(one: dict[str, State], other: dict[str, State]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[e][k], other[e][k]) for e in one for k in one[e])


def test_a_cluster_that_loses_a_machine_trains_what_one_process_trains(
    ray_nodes: Any, tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with a cache of its own, to which the results are sent."""
    real = make_set()
    wanted = alone(real, monkeypatch, tmp_path / "alone")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    monkeypatch.setattr(crew, "done", lambda *a, **k: pytest.fail("no crew where there is a cluster"))

    def lose() -> None:
        ray_nodes.remove_node(next(iter(ray_nodes.worker_nodes)), allow_graceful=False)

    told = At(400, lose)
    found = gathered(real, progress=told)
    assert told.over > 400, "no node was lost"
    assert told.over <= told.total == 3 * 400 * 4
    assert same(found, wanted)
    assert len(list((tmp_path / "here" / "attar" / "resources").glob("expert-*"))) == 3
    ray_nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)


def test_a_signal_is_handed_on_and_the_next_call_goes_on(
    ray_nodes: Any, tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, shared = make_set(), tmp_path / "shared"
    wanted = alone(real, monkeypatch, tmp_path / "alone")
    monkeypatch.setenv("ATTAR_CACHE", str(shared))
    with pytest.raises(Interrupted, match="run the same command again"):
        gathered(real, progress=At(400, lambda: signal.raise_signal(signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert list(shared.glob("resources/expert-*.attar-run/state-*.safetensors"))
    assert same(gathered(real), wanted)


def test_a_refusal_arrives_as_a_sentence(
    ray_nodes: Any, tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="on which no expert can be trained"):
        gathered(dataclasses.replace(make_set(), class_names=("one",)))


def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the package ray is not installed")
    if ray.is_initialized():
        pytest.skip("this process has joined a cluster")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert cluster.at_hand()
    with pytest.raises(ResourceError, match=r"RAY_ADDRESS=127\.0\.0\.1:9"), cluster.joined("experts"):
        pass


def test_without_a_cluster_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not cluster.at_hand()
    assert "RAY_ADDRESS" not in os.environ


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1", "127.0.0.1:22x", "255.255.255.255:6379", "[::1]:9"])
def test_addresses_of_any_writing_are_refused_in_a_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(address: str, **how: Any) -> None:
            raise ValueError("no such address")

    monkeypatch.setattr(cluster.importlib, "import_module", lambda name: Ray)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError, match="no Ray cluster answers at RAY_ADDRESS"), cluster.joined("experts"):
        pass


def test_the_address_that_takes_jobs_is_not_that_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    assert not cluster.at_hand()


def test_a_cluster_without_what_a_task_takes_is_refused() -> None:
    class Ray:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return {"CPU": 4.0}

    cluster.require(Ray, cpus=1, gpus=0)
    with pytest.raises(ResourceError, match="has 0 GPUs, but a task takes 1"):
        cluster.require(Ray, cpus=1, gpus=1)


def test_a_machine_that_would_make_another_expert_is_refused(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept under the key of what was asked for."""
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    (task,) = experts(1, **LONG)
    real, plan = make_set(), Plan()
    wanted = {**build.identify(task, real, 0, plan), "files": {"my.py": "another hash"}}
    with pytest.raises(ResourceError, match=r"would make another expert-0: .* another file of my.py"):
        build._sent_back((real, 0, plan), (task, wanted), Silent())
    assert not list(tmp_path.rglob("expert-*"))
