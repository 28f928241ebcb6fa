"""The memory bound of a selection from shards: how many workers fit, and a watch that stops what takes more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scale_kit import Told

from attar.errors import ResourceError
from attar.scale import local, memory


def until(true: Callable[[], bool]) -> None:
    """Waits, a second at most."""
    end = time.monotonic() + 1
    while not true():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.001)


def test_as_many_workers_as_fit() -> None:
    assert [memory.fitting(b, parent=100, worker=300, asked=8) for b in (400, 999, 1000)] == [1, 2, 3]
    assert memory.fitting(10_000, parent=100, worker=300, asked=2) == 2
    with pytest.raises(ResourceError, match="is too small"):
        memory.fitting(399, parent=100, worker=300, asked=1)


def test_a_watch_remembers_that_the_bound_was_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [400]
    monkeypatch.setattr(memory, "resident", lambda pid: held[0])
    with memory.Watch(1000, lambda: [1, 2], pause=0.001) as watch:
        until(lambda: watch.peak == 800)
        watch.check()
        held[0] = 600
        until(lambda: watch.alarm)
        held[0] = 1
        with pytest.raises(ResourceError, match=r"more than --memory of .* finished parts are kept"):
            watch.check()


def test_a_run_past_its_bound_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "Process", Told)
    with local.Local(tmp_path, 1, 10**12) as workers:
        workers.watch.alarm = True
        with pytest.raises(ResourceError, match="more than --memory"):
            list(workers.run("first", range(3)))
