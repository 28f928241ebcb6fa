"""Processes that die at a chosen point of :data:`attar.io.atomic.fault`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attar.io import atomic

Work = Callable[[], object]


def dying(work: Work, at: int) -> bool:
    """Runs ``work`` in a child that kills itself at its ``at``-th point, counted from 1; whether it came that far."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            atomic.fault = _Bell(at, lambda: os.kill(os.getpid(), signal.SIGKILL))
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def failing(work: Work, at: int, error: OSError) -> bool:
    """Runs ``work`` with ``error`` raised at its ``at``-th point; whether it came that far. Other errors pass through."""
    bell = _Bell(at, lambda: _raise(error))
    atomic.fault = bell
    try:
        work()
    finally:
        atomic.fault = None
    return bell.rung


class _Bell:
    """Counts points and acts at one of them."""

    def __init__(self, at: int, act: Work) -> None:
        self.left, self.act, self.rung = at, act, False

    def __call__(self, what: str, path: Path) -> None:
        self.left -= 1
        if self.left == 0:
            self.rung = True
            self.act()


def _raise(error: OSError) -> None:
    raise error


@pytest.fixture
def die() -> Callable[[Work, int], bool]:
    """See :func:`dying`."""
    return dying


@pytest.fixture
def fail() -> Iterator[Callable[[Work, int, OSError], bool]]:
    """See :func:`failing`."""
    yield failing
    atomic.fault = None


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot swap two folders in one step."""
    monkeypatch.setattr(atomic.sys, "platform", "other")


@pytest.fixture(params=["exchange", "two renames"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Systems that can swap two folders in one step, and those that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(atomic.sys, "platform", "other")
    return request.param
