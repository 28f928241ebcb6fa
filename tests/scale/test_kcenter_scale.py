"""k-center in rounds beside the same rounds by plain loops, and one part beside the method in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scale_kit import kept_ids, rows, select, written

from attar import chance
from attar.errors import UsageError
from attar.scale import scatter
from attar.scale.kcenter import KCenter, rounds
from attar.scale.shards import Columns, Shard
from attar.scale.work import Job
from attar.select.kcenter import central, farthest_first

pytestmark = pytest.mark.usefixtures("here")


def greedy(x: np.ndarray, k: int, point: np.ndarray) -> list[int]:
    """Farthest first by the definition: float64 [n, D]."""
    distance = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    picks = [int(((x - point) ** 2).sum(1).argmin())]
    while len(picks) < k:
        near = distance[:, picks].min(1)
        near[picks] = -1
        picks.append(int(near.argmax()))
    return picks


def ranked(out: Path) -> list[int]:
    """Ids of the picks in their order."""
    found = pq.read_table(out / "scores.parquet").to_pydict()
    return [i for _, i in sorted((r, i) for r, i in zip(found["rank"], found["id"]) if r is not None)]


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_picks_are_those_of_two_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 200 * 4)
    found = rows()
    select(written(tmp_path / "in", found), tmp_path / "out", "kcenter", {"rows": 25}, m={"share": share})
    order = np.argsort(found["id"])
    ids, x = found["id"][order], found["embedding"][order].astype(np.float64)
    part = chance.keys(ids, chance.number(0, "part")) % np.uint64(3)
    union = [p for m in range(3) for p in _inside(x, np.flatnonzero(part == m), int(np.ceil(25 * share)))]
    union = np.sort(np.array(union))
    picks = union[greedy(x[union], 25, x.mean(0))]
    assert ranked(tmp_path / "out") == ids[picks].tolist()
    assert kept_ids(tmp_path / "out") == set(ids[picks].tolist())


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_picks_that_are_too_many_for_one_union_are_united_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Fifteen parts, whose picks are united two and three at a time, and again, each union from the mean of its rows."""
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 40 * 4)
    monkeypatch.setattr("attar.scale.blocks.BLOCK", 4 * 16)
    monkeypatch.setattr("attar.scale.kcenter.UNION", 75 * 4)
    found = rows()
    select(written(tmp_path / "in", found), tmp_path / "out", "kcenter", {"rows": 25}, m={"share": share})
    order = np.argsort(found["id"])
    ids, x = found["id"][order], found["embedding"][order].astype(np.float64)
    parts = -(-600 // scatter.chunk_rows(4))
    part = (chance.keys(ids, chance.number(0, "part")) % np.uint64(parts)).astype(np.int64)
    # rows that each stands for, and its picks
    sets = [
        (np.flatnonzero(part == m), _inside(x, np.flatnonzero(part == m), math.ceil(25 * share))) for m in range(parts)
    ]
    each, levels = min(math.ceil(25 * share), -(-600 // parts)), 1
    while len(sets) > 1:
        after = -(-len(sets) // max(2, 75 // each))
        groups = [sets[g * len(sets) // after : (g + 1) * len(sets) // after] for g in range(after)]
        sets = [_united(x, group, 25) for group in groups]
        each, levels = 25, levels + 1
    assert levels >= 3
    assert ranked(tmp_path / "out") == ids[np.array(sets[0][1])].tolist()


def _united(x: np.ndarray, group: list[tuple[np.ndarray, list[int]]], k: int) -> tuple[np.ndarray, list[int]]:
    rows, union = np.concatenate([r for r, _ in group]), np.sort(np.concatenate([p for _, p in group]))
    return rows, union[greedy(x[union], min(k, len(union)), x[rows].mean(0))].tolist()


def _inside(x: np.ndarray, rows: np.ndarray, k: int) -> list[int]:
    return rows[greedy(x[rows], min(k, len(rows)), x[rows].mean(0))].tolist()


def test_one_part_is_the_method_in_memory(tmp_path: Path) -> None:
    found = rows()
    found["embedding"][300:] = found["embedding"][:300]  # every row has its twin
    out = tmp_path / "out"
    select(written(tmp_path / "in", found), out, "kcenter", {"rows": 310})
    order = np.argsort(found["id"])
    x = torch.from_numpy(found["embedding"][order])
    picks, gain = farthest_first(x, 310, central(x))
    assert ranked(out)[:300] == found["id"][order][picks.numpy()].tolist()[:300]
    scores = pq.read_table(out / "scores.parquet").to_pydict()
    mine = [s for _, s in sorted((r, s) for r, s in zip(scores["rank"], scores["score"]) if r is not None)]
    assert np.allclose(mine, gain.numpy(), atol=1e-5)
    assert mine[300:] == [0.0] * 10


def test_picks_do_not_see_how_rows_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 200 * 4)
    found, mixed = rows(), np.random.default_rng(3).permutation(600)
    select(written(tmp_path / "a", found), tmp_path / "out-a", "kcenter", {"rows": 25})
    other = written(tmp_path / "b", {k: v[mixed] for k, v in found.items()}, shards=5, group=33)
    select(other, tmp_path / "out-b", "kcenter", {"rows": 25})
    assert ranked(tmp_path / "out-a") == ranked(tmp_path / "out-b")


def test_too_small_a_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 200 * 4)
    with pytest.raises(UsageError, match="leaves 24 picks of round 1 for the 25"):
        select(written(tmp_path / "in", rows()), tmp_path / "out", "kcenter", {"rows": 25}, m={"share": 0.3})


def test_classes_are_refused_before_any_work(tmp_path: Path, here: list[tuple[str, int]]) -> None:
    source = written(tmp_path / "in", rows())
    amounts: list[tuple[dict[str, int], bool]] = [({"ipc": 2}, False), ({"rows": 6}, True)]
    for amount, balanced in amounts:
        with pytest.raises(UsageError, match="no --balanced"):
            select(source, tmp_path / "out", "kcenter", amount, balanced=balanced)
    assert not here


def test_the_estimate_counts_the_shards_once() -> None:
    class Counted(tuple):
        looks = 0

        def __iter__(self) -> Iterator[Shard]:
            Counted.looks += 1
            return super().__iter__()

    shards = Counted(Shard(f"{i}.parquet", 1, 10**6, "", 0) for i in range(1000))
    facts: dict[str, Any] = {
        "method": "kcenter",
        "settings": {"share": 1.0},
        "budget": {},
        "balanced": False,
        "seed": 0,
    }
    job = Job(**facts, columns=Columns(), shards=shards, pieces=(), width=512, moments=False)
    parts = -(-(10**9) // (2**22 // 512))
    united = 2**24 // (100 * 512)
    assert rounds(job, 100) == [parts, -(-parts // united), 2, 1]
    wanted = 4 * 4 * 2**22 + 8 * 512 + united * 100 * (16 * 512 + 32)
    assert KCenter().worker_bytes(job, 0, 100) == wanted
    assert Counted.looks == 1
