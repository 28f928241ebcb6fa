"""Calls that meet: a second one while the first works, results and shards that change meanwhile, and work that was cut short."""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from scale_kit import Here, Told, content, rows, select, written

from attar.errors import DataError, ResourceError
from attar.io import atomic
from attar.scale import local, output, semdedup, spent
from attar.scale import run as running
from attar.scale.kcenter import KCenter
from attar.scale.parts import Parts
from attar.scale.stage import Stage
from attar.scale.work import Job, Work

RANDOM: tuple[str, dict[str, Any]] = ("random", {"rows": 50})


@pytest.mark.usefixtures("here")
def test_a_second_call_is_refused_and_leaves_the_first_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder, work = written(tmp_path / "in", rows()), tmp_path / "out.attar-run", Here.run
    select(source, tmp_path / "alone", *RANDOM)
    asked: list[str] = []

    def meanwhile(self: Here, step: str, units: Sequence[int]) -> Iterator[int]:
        if not asked:  # nothing is finished yet
            before = sorted(folder.rglob("*"))
            with pytest.raises(ResourceError, match="in use by another run"):
                select(source, tmp_path / "out", *RANDOM)
            assert before == sorted(folder.rglob("*")) and len(before) == 3  # the lock, the job and its folder
        asked.append(step)
        yield from work(self, step, units)

    monkeypatch.setattr(Here, "run", meanwhile)
    select(source, tmp_path / "out", *RANDOM)
    assert asked == ["survey", "keep"]
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    assert not folder.exists()


def test_what_another_call_finished_while_this_one_waited_is_found(
    tmp_path: Path, here: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, lock = written(tmp_path / "in", rows()), running.lock

    @contextlib.contextmanager
    def late(path: Path, what: str) -> Iterator[None]:
        monkeypatch.setattr(running, "lock", lock)
        select(source, tmp_path / "out", *RANDOM)
        with lock(path, what):
            yield

    monkeypatch.setattr(running, "lock", late)
    assert select(source, tmp_path / "out", *RANDOM)["kept"]["rows"] == 50
    assert Counter(here).most_common(1)[0][1] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


def test_a_finished_selection_is_found_where_nothing_can_be_written(
    tmp_path: Path, here: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "in", rows())
    made, done = select(source, tmp_path / "out", *RANDOM), len(here)

    def refused(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(running, "lock", refused)
    assert select(source, tmp_path / "out", *RANDOM) == made and len(here) == done
    (tmp_path / "out" / "scores.parquet").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"scores\.parquet"):
        select(source, tmp_path / "out", *RANDOM)


def test_what_cannot_fit_is_refused_before_all_reading(
    tmp_path: Path, here: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, asked = written(tmp_path / "in", rows()), []

    def worker_bytes(self: KCenter, job: Job, classes: int, k: int) -> float:
        asked.append((classes, k))
        return 1e12

    monkeypatch.setattr(KCenter, "worker_bytes", worker_bytes)
    with pytest.raises(ResourceError, match=r"one worker needs 100.... MB"):
        select(source, tmp_path / "out", "kcenter", {"keep": 0.5})
    assert asked == [(0, 300)] and not here
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_step_that_lets_fewer_work_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Process", Told)
    with local.Local(tmp_path, 3, 10**12) as workers:
        assert sorted(workers.run("first", range(6))) == list(range(6))
        three: list[Any] = list(workers.processes)
        workers.workers = 1
        before = three[0].done
        assert sorted(workers.run("second", range(4))) == list(range(4))
        assert [p.ended for p in three] == [False, True, True]
        assert workers.processes == three[:1] and three[0].done == before + 4
        workers.workers = 2
        assert sorted(workers.run("third", range(4))) == list(range(4))
        assert len(workers.processes) == 2


@pytest.mark.usefixtures("here")
def test_a_full_disk_is_not_called_a_damaged_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(what: str, path: Path) -> None:
        if what == "write" and ".parquet" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    source = written(tmp_path / "in", rows())
    monkeypatch.setattr(atomic, "fault", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        select(source, tmp_path / "out", *RANDOM)
    monkeypatch.setattr(atomic, "fault", None)
    assert select(source, tmp_path / "out", *RANDOM)["kept"]["rows"] == 50


@pytest.mark.usefixtures("here")
def test_a_shard_that_changes_after_it_was_surveyed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, work = written(tmp_path / "in", rows()), Here.run

    def changing(self: Here, step: str, units: Sequence[int]) -> Iterator[int]:
        if step == "keep":
            monkeypatch.setattr(Here, "run", work)
            path = source / "part-1.parquet"
            pq.write_table(pq.read_table(path).slice(0, 150), path, row_group_size=70)
        yield from work(self, step, units)

    monkeypatch.setattr(Here, "run", changing)
    with pytest.raises(DataError, match=r"part-1.parquet was changed while it was read; run the same command again"):
        select(source, tmp_path / "out", *RANDOM)
    select(source, tmp_path / "out", *RANDOM)
    select(source, tmp_path / "anew", *RANDOM)
    assert content(tmp_path / "out") == content(tmp_path / "anew")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("more", [-1, 1])
def test_a_shard_with_other_rows_is_refused_where_the_system_tells_no_times(tmp_path: Path, more: int) -> None:
    names = [str(written(tmp_path / "in", rows()) / "part-0.parquet")]
    (shard,), (piece, *_), _, _ = running.shards.survey(names, running.Columns())
    assert sum(map(len, output.wanted(shard, piece, np.ones(piece.rows, bool), 16))) == piece.rows
    with pytest.raises(DataError, match="has other rows than when it was surveyed"):
        list(output.wanted(shard, piece, np.ones(piece.rows + more, bool), 16))


def cut(at: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the work before a unit, once."""
    work = Here.run

    def ending(self: Here, step: str, units: Sequence[int]) -> Iterator[int]:
        for unit in units:
            if (step, unit) == at:
                monkeypatch.setattr(Here, "run", work)
                raise KeyboardInterrupt
            yield from work(self, step, [unit])

    monkeypatch.setattr(Here, "run", ending)


@pytest.mark.parametrize("at", [("el2n.0000", 2), ("el2n.0001", 0), ("el2n.0002", 5), ("el2n.0003", 0), ("keep", 1)])
def test_epochs_go_on_from_the_parts_that_are_left(
    tmp_path: Path, at: tuple[str, int], here: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "in", rows())
    select(source, tmp_path / "whole", "el2n", {"rows": 50}, m={"epochs": 3})
    here.clear()
    cut(at, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        select(source, tmp_path / "out", "el2n", {"rows": 50}, m={"epochs": 3})
    there = sorted(p.name for p in (tmp_path / "out.attar-run").glob("job-*/el2n.*"))
    last = 3 if at[0] == "keep" else int(at[0][-1])
    assert there == [f"el2n.{e:04d}" for e in range(max(0, last - (at[0] != "keep")), last + 1)]
    select(source, tmp_path / "out", "el2n", {"rows": 50}, m={"epochs": 3})
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(here) == len(set(here)) and at in here, "a finished unit was done again"


def test_the_last_epoch_has_no_gradient(
    tmp_path: Path, here: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "in", rows())
    cut(("keep", 0), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        select(source, tmp_path / "out", "el2n", {"rows": 50}, m={"epochs": 2})
    (part,) = (tmp_path / "out.attar-run").glob("job-*/el2n.0002/000001.part")
    with safe_open(part, framework="np") as file:
        assert file.keys() == ["errors"]
    assert ("el2n.0002", 1) in here


@pytest.mark.usefixtures("here")
def test_what_the_calling_process_needs_beside_the_counts_is_in_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, room, seen = written(tmp_path / "in", rows()), Stage.room, []

    def told(self: Stage, worker: float, parent: float) -> None:
        seen.append(parent)
        room(self, worker, parent)

    monkeypatch.setattr(Stage, "room", told)
    select(source, tmp_path / "a", "semdedup", {"rows": 50}, m={"clusters": 8})
    assert max(seen) == running.COUNTING + 40 * 8 * 4
    select(source, tmp_path / "b", "el2n", {"rows": 50}, m={"epochs": 1})
    assert max(seen) == running.COUNTING + 48 * 5 * 3 + 48 * 5**2


def test_scores_of_a_piece_are_assembled_once(
    tmp_path: Path, here: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    of_piece = semdedup.scatter.of_piece

    def counted(work: Work, step: str, groups: int, unit: int) -> np.ndarray:
        asked.append(unit)
        return of_piece(work, step, groups, unit)

    monkeypatch.setattr(semdedup.scatter, "of_piece", counted)
    select(written(tmp_path / "in", rows()), tmp_path / "out", "semdedup", {"rows": 50}, m={"clusters": 8})
    assert sorted(asked) == sorted(unit for step, unit in here if step == "survey")


@pytest.mark.usefixtures("here")
def test_a_part_opens_the_file_of_each_piece_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.scale.scatter.CHUNK", 200 * 4)
    looks: Counter[tuple[str, int]] = Counter()
    opened = Parts.opened

    def counted(self: Parts, step: str, unit: int) -> contextlib.AbstractContextManager[Any]:
        looks[step, unit] += 1
        return opened(self, step, unit)

    monkeypatch.setattr(Parts, "opened", counted)
    select(written(tmp_path / "in", rows()), tmp_path / "out", "kcenter", {"rows": 25})
    assert {n for (step, unit), n in looks.items() if step == "scatter" and unit >= 0} == {
        3
    }  # one for each of the parts


@pytest.mark.usefixtures("here")
def test_parts_without_rows_have_no_picks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.scale.kcenter.parts_of", lambda job: 40)
    found = rows(n=20)
    manifest = select(written(tmp_path / "in", found, group=5), tmp_path / "out", "kcenter", {"rows": 6})
    assert manifest["kept"]["rows"] == 6


class Killed(BaseException):
    """Ends a call."""


@pytest.mark.parametrize("killed", [True, False])
def test_the_manifest_tells_what_all_calls_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: list[tuple[str, int]], killed: bool
) -> None:
    """Of a call that was killed what it noted last; of one that ended by an error all."""
    source, out, plain = written(tmp_path / "in", rows()), tmp_path / "out", Here.run

    def slow(self: Here, step: str, units: Sequence[int]) -> Iterator[int]:
        for unit in plain(self, step, units):
            time.sleep(0.1)
            if (step, unit) == ("el2n.0002", 1):
                raise Killed
            yield unit

    monkeypatch.setattr(spent, "EVERY", 0.0 if killed else 1e9)
    with pytest.raises(Killed), monkeypatch.context() as patch:
        patch.setattr(Here, "run", slow)
        if killed:
            patch.setattr(spent.Spent, "whatever_happens", lambda self: contextlib.nullcontext())
        select(source, out, "el2n", {"rows": 60}, m={"epochs": 3})
    (path,) = (tmp_path / "out.attar-run").glob("job-*/spent.json")
    before, units = json.loads(path.read_text()), len(here) - 1
    assert 0 < 0.1 * units < before["mapped"] <= before["seconds"]
    manifest = select(source, out, "el2n", {"rows": 60}, m={"epochs": 3})
    assert before["mapped"] < manifest["workers"]["seconds"] <= manifest["seconds"]
    assert before["seconds"] < manifest["seconds"]
