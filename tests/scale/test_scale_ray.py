"""The same on a Ray cluster of two nodes, of which one is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scale_kit import content, rows, select, written

from attar.cli.main import run
from attar.scale import cluster


def test_two_nodes_write_what_one_worker_writes_though_one_of_them_is_lost(
    ray_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "in", rows(), shards=5)
    settings: dict[str, Any] = {"m": {"epochs": 1}}
    select(source, tmp_path / "local", "el2n", {"rows": 60}, **settings)
    lost: list[str] = []
    plain = cluster.Cluster.run

    def losing(self: cluster.Cluster, step: str, units: Any) -> Iterator[int]:
        for unit in plain(self, step, units):
            if step == "el2n.0000" and not lost:
                node = next(iter(ray_nodes.worker_nodes))
                ray_nodes.remove_node(node, allow_graceful=False)
                lost.append(step)
            yield unit

    monkeypatch.setattr(cluster.Cluster, "run", losing)
    manifest = select(source, tmp_path / "ray", "el2n", {"rows": 60}, on="ray", workers=2, **settings)
    assert lost
    assert content(tmp_path / "ray") == content(tmp_path / "local")
    assert manifest["workers"]["on"] == "ray" and manifest["memory"]["peak"] > 0


def test_errors_of_tasks_arrive_as_sentences(ray_nodes: Any, tmp_path: Path) -> None:
    from attar.errors import DataError

    found = rows(n=60)
    found["embedding"][7, 0] = float("nan")
    with pytest.raises(DataError, match=r"part-0.parquet, row 7"):
        select(written(tmp_path / "in", found), tmp_path / "out", "kcenter", {"rows": 5}, on="ray", workers=1)


def test_without_ray_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    source = written(tmp_path / "in", rows(n=60))
    words = ["--method", "random", "--rows", "5", "--on", "ray", "--out", str(tmp_path / "out")]
    assert run(["select", str(source), *words]) == 2
    assert "pip install 'attar[ray]'" in capfd.readouterr().err
